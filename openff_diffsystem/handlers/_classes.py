"""One subclass for each stock handler. They add no state and no OFFXML attribute: files and hashes stay the same.

Each class has the name of the stock class, because openff-interchange compares the names of charge handlers.
"""

from __future__ import annotations

from openff.toolkit import Topology
from openff.toolkit.typing.engines.smirnoff import parameters as stock

from openff_diffsystem.handlers._differentiable import DifferentiableHandler
from openff_diffsystem.handlers._swap import register_swap


class ConstraintHandler(DifferentiableHandler, stock.ConstraintHandler):
    """``<Constraints>``; parameterizes to ``distance`` (nm) per constraint."""


class BondHandler(DifferentiableHandler, stock.BondHandler):
    """``<Bonds>``; parameterizes to ``k`` (kJ/mol/nm2) and ``length`` (nm) per bond."""


class AngleHandler(DifferentiableHandler, stock.AngleHandler):
    """``<Angles>``; parameterizes to ``k`` (kJ/mol/rad2) and ``angle`` (rad) per angle."""


class ProperTorsionHandler(DifferentiableHandler, stock.ProperTorsionHandler):
    """``<ProperTorsions>``; parameterizes to ``k`` (kJ/mol), ``phase`` (rad), ``idivf`` per torsion and periodicity."""


class ImproperTorsionHandler(DifferentiableHandler, stock.ImproperTorsionHandler):
    """``<ImproperTorsions>``; as proper torsions, with three rows per centre and periodicity, the centre first."""


class vdWHandler(DifferentiableHandler, stock.vdWHandler):
    """``<vdW>``; parameterizes to ``epsilon`` (kJ/mol) and ``sigma`` (nm) per atom."""


class ElectrostaticsHandler(DifferentiableHandler, stock.ElectrostaticsHandler):
    """``<Electrostatics>``; parameterizes to the ``scale14`` of each 1-4 pair."""


class LibraryChargeHandler(DifferentiableHandler, stock.LibraryChargeHandler):
    """``<LibraryCharges>``; parameterizes to ``charge`` (e) per atom."""


class ToolkitAM1BCCHandler(DifferentiableHandler, stock.ToolkitAM1BCCHandler):
    """``<ToolkitAM1BCC>``; parameterizes to ``charge`` (e) per atom; the charges are constants."""


class NAGLChargesHandler(DifferentiableHandler, stock.NAGLChargesHandler):
    """``<NAGLCharges>``; parameterizes to ``charge`` (e) per atom; the charges are constants."""


class ChargeIncrementModelHandler(DifferentiableHandler, stock.ChargeIncrementModelHandler):
    """``<ChargeIncrementModel>``; parameterizes to ``charge`` (e) per atom: base charges plus increments."""


class VirtualSiteHandler(DifferentiableHandler, stock.VirtualSiteHandler):
    """``<VirtualSites>``; parameterizes to ``distance`` (nm), ``outOfPlaneAngle``, ``inPlaneAngle`` (rad) per site."""

    def find_matches(self, entity: Topology, unique: bool = False) -> dict[tuple[int, ...], SiteMatches]:
        """As upstream, but each list of matches has a ``parameter_type``, which ``label_molecules`` reads."""
        found = super().find_matches(entity, unique=unique)
        return {atoms: SiteMatches(matches) for atoms, matches in found.items()}


class GBSAHandler(DifferentiableHandler, stock.GBSAHandler):
    """``<GBSA>``; parameterizes to ``radius`` (nm) and ``scale`` per atom."""


class SiteMatches(list):
    """The matches of one parent atom; ``label_molecules`` treats our handler's list like a single match."""

    @property
    def parameter_type(self) -> list[stock.ParameterType]:
        """The parameter of each match."""
        return [match.parameter_type for match in self]


HANDLERS: dict[str, type] = {
    cls._TAGNAME: cls
    for cls in (
        ConstraintHandler,
        BondHandler,
        AngleHandler,
        ProperTorsionHandler,
        ImproperTorsionHandler,
        vdWHandler,
        ElectrostaticsHandler,
        LibraryChargeHandler,
        ToolkitAM1BCCHandler,
        NAGLChargesHandler,
        ChargeIncrementModelHandler,
        VirtualSiteHandler,
        GBSAHandler,
    )
}
"""Our handler classes by SMIRNOFF tag."""

for _cls in HANDLERS.values():
    register_swap(_cls, getattr(stock, _cls.__name__))
