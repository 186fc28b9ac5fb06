"""``<NeuralCharges>``: a section of our own, which replaces no stock handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openff.toolkit.typing.engines.smirnoff import parameters as stock
from openff.toolkit.utils.exceptions import IncompatibleParameterError
from packaging.version import Version

from openff_diffsystem.handlers._arguments import MoleculeLike

if TYPE_CHECKING:
    # all of these need jax, which is imported when it is first used
    import numpy as np
    from jaxtyping import Array, Float, Int

    from openff_diffsystem.neural.models.espaloma import EspalomaCharges


class NeuralChargesHandler(stock._NonbondedHandler):
    """``<NeuralCharges version="0.3" model="..."/>``; parameterizes to ``charge`` (e) per atom.

    ``model`` is ``espaloma-charge-0.0.8``, or a file that ``EspalomaCharges.save`` wrote. LibraryCharges have priority
    over this section, which has priority over all others that assign charges. openff-interchange does not know the
    section and refuses the force field with an error that names it.
    """

    _TAGNAME = "NeuralCharges"
    _DEPENDENCIES = [stock.vdWHandler, stock.ElectrostaticsHandler, stock.LibraryChargeHandler]  # noqa: RUF012
    _INFOTYPE = None
    _MAX_SUPPORTED_SECTION_VERSION = Version("0.3")
    model = stock.ParameterAttribute(converter=str)

    def check_handler_compatibility(
        self, other_handler: NeuralChargesHandler, assume_missing_is_default: bool = True
    ) -> None:
        """Raise ``IncompatibleParameterError`` if two sections that are combined name different models."""
        if self.model != other_handler.model:
            raise IncompatibleParameterError(
                f"two NeuralCharges sections with different models: {self.model!r} and {other_handler.model!r}"
            )

    @property
    def params(self) -> EspalomaCharges:
        """The model: a pytree of weights, and a source for ``openff_diffsystem.neural.lambda_module``.

        The file is read once, and again only if it has changed.

        Raises
        ------
        MissingStackError
            If expaloma is not installed.
        """
        from openff_diffsystem.neural.models.espaloma import charge_model

        return charge_model(self.model)

    def parameterize(self, molecule: MoleculeLike) -> tuple[Float[Array, "atoms 1"], Int[np.ndarray, "atoms 1"]]:
        """:meth:`partial_parameterize` with the section's own model."""
        return self.partial_parameterize(self.params, molecule)

    def partial_parameterize(
        self, params: EspalomaCharges, molecule: MoleculeLike
    ) -> tuple[Float[Array, "atoms 1"], Int[np.ndarray, "atoms 1"]]:
        """Charges of a molecule as a function of the weights, as in our other handlers.

        Parameters
        ----------
        params
            A model like ``params``; may be traced.
        molecule
            A ``Molecule``, a one-molecule ``Topology``, or an RDKit molecule with explicit hydrogens.

        Returns
        -------
        params
            ``(n_atoms, 1)``, e.
        idxs
            ``(n_atoms, 1)``, int32, not traced.

        Raises
        ------
        ChargeAssignmentError
            If the network was not trained on an element of the molecule.
        """
        import numpy as np

        from openff_diffsystem.neural.models.espaloma import espaloma_charges

        charges = espaloma_charges(params, molecule)[:, None]
        return charges, np.arange(len(charges), dtype=np.int32)[:, None]
