"""The records of sections agree with the toolkit, and a new section needs nothing but a record and two functions."""

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest
from openff.toolkit import ForceField, unit
from openff.toolkit.typing.engines.smirnoff import parameters as stock
from openff.toolkit.typing.engines.smirnoff.parameters import ParameterAttribute, ParameterHandler, ParameterType

from openff_diffsystem import DiffSystem
from openff_diffsystem.chemistry.matching import forward_or_reversed, last_match_wins
from openff_diffsystem.chemistry.sections import ASSIGNERS, Assigner
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.handlers import HANDLERS
from openff_diffsystem.parameters.assignment import AffineRows
from openff_diffsystem.potentials.bonded import bond_energies
from openff_diffsystem.potentials.isolated import BONDED
from openff_diffsystem.sections import SECTIONS, Section
from tests.molecules import with_charges
from tests.openmm_reference import context_of, energy_of, forces_of


def test_one_record_for_each_section_of_the_toolkit():
    assert {tag for tag, section in SECTIONS.items() if section.in_force_fields} == {*HANDLERS, "NeuralCharges"}
    assert set(ASSIGNERS) == {tag for tag, section in SECTIONS.items() if section.in_force_fields}
    assert set(BONDED) <= set(SECTIONS)


def test_attributes_are_those_of_the_toolkit():
    """What a record calls trainable, a setting or a word is an attribute of the stock handler or its parameters."""
    for tag, handler in HANDLERS.items():
        section, infotype = SECTIONS[tag], getattr(handler, "_INFOTYPE", None)
        of_parameters = set(infotype._get_parameter_attributes()) if infotype else set()
        of_handler = set(handler._get_parameter_attributes())
        assert set(section.trainable) <= of_parameters, tag
        assert {*section.settings, *section.words} <= of_handler, tag
        assert set(section.whole_numbers) <= of_parameters | of_handler, tag


def test_units_are_those_of_sage(sage, ethanol):
    layout = ethanol.force_field_parameters.layout
    for tag, section in layout.sections.items():
        for name, column in section.columns.items():
            if column.rows is not None and name in SECTIONS[tag].columns:
                assert column.unit == SECTIONS[tag].unit(name), f"{tag}/{name}"


class UreyBradleyHandler(ParameterHandler):
    """A spring between the ends of an angle."""

    class UreyBradleyType(ParameterType):
        _ELEMENT_NAME = "UreyBradley"
        k = ParameterAttribute(unit=unit.kilocalorie / unit.mole / unit.angstrom**2)
        length = ParameterAttribute(unit=unit.angstrom)

    _TAGNAME = "UreyBradleys"
    _INFOTYPE = UreyBradleyType


OFFXML = """
<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <UreyBradleys version="0.3">
    <UreyBradley smirks="[*:1]~[*:2]~[*:3]" k="10 * kilocalorie_per_mole / angstrom**2" length="2.1 * angstrom"/>
    <UreyBradley smirks="[#1:1]-[#6:2]-[#8:3]" k="22 * kilocalorie_per_mole / angstrom**2" length="1.9 * angstrom"/>
  </UreyBradleys>
</SMIRNOFF>
"""


@pytest.fixture
def urey_bradleys(monkeypatch):
    """All that the package has to be told of a section of its own: a record, an assigner, and an energy."""

    def assign(request):
        handler = request.handlers["UreyBradleys"]
        found = last_match_wins(request.molecule.rdmol, handler.parameters, forward_or_reversed)
        columns = SECTIONS["UreyBradleys"].columns
        sources = (request.layout.positions("UreyBradleys", name)[list(found.values())] for name in columns)
        return Terms(columns, index_array(list(found), 3), AffineRows.gather(*sources))

    def energy(corners, parameters, settings):
        return bond_energies([corners[0], corners[2]], parameters, settings)

    record = Section("UreyBradleys", ("k", "length"), 3, {"k": "kilojoule / mole / nanometer**2"})
    monkeypatch.setitem(SECTIONS, record.tag, record)
    monkeypatch.setitem(ASSIGNERS, record.tag, Assigner(assign))
    monkeypatch.setitem(BONDED, record.tag, energy)


def test_a_new_section_is_a_record_an_assigner_and_an_energy(urey_bradleys, tmp_path):
    """Energy, forces and dU/dtheta against OpenMM; and the way through a file, a data set and back to OFFXML."""
    force_field = ForceField(OFFXML, parameter_handler_classes=[UreyBradleyHandler])
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(force_field, molecule)
    theta, positions = system.force_field_parameters, jnp.asarray(system.positions)
    assert system.indices("UreyBradleys").shape == (13, 3)

    def context(vector):
        k = dict(zip(theta.labels, np.asarray(vector).tolist(), strict=True))
        engine, force = openmm.System(), openmm.HarmonicBondForce()
        for _ in range(system.n_atoms):
            engine.addParticle(1.0)
        elements = [atom.atomic_number for atom in molecule.atoms]
        for a, b, c in system.indices("UreyBradleys").tolist():
            special = sorted((elements[a], elements[c])) == [1, 8] and elements[b] == 6
            smirks = "[#1:1]-[#6:2]-[#8:3]" if special else "[*:1]~[*:2]~[*:3]"
            force.addBond(a, c, k[f"UreyBradleys/{smirks}/length"], k[f"UreyBradleys/{smirks}/k"])
        engine.addForce(force)
        return context_of(engine, system.positions)

    potential = system.to_jax_potential()
    energy, gradients = jax.value_and_grad(potential, argnums=(0, 1))(positions, theta)
    assert float(energy) == pytest.approx(energy_of(context(theta.vector)), rel=1e-12)
    np.testing.assert_allclose(-gradients[0], forces_of(context(theta.vector)), rtol=1e-9, atol=1e-8)
    for i in range(theta.layout.size):
        # the energy is quadratic in k and in the length, so central differences are exact but for rounding
        step = 1e-3 * theta.vector[i]
        up, down = (energy_of(context(theta.vector.at[i].add(sign * step))) for sign in (1, -1))
        assert float(gradients[1].vector[i]) == pytest.approx(float((up - down) / (2 * step)), rel=1e-9)

    system.save(tmp_path / "system.npz")
    assert float(DiffSystem.load(tmp_path / "system.npz").energy_terms()["UreyBradleys"]) == float(energy)
    batch = DiffSystem.concatenate([system, system])
    np.testing.assert_allclose(batch.potential([positions, positions]), [energy, energy], rtol=1e-12)
    refit = theta.to_vector()[1](theta.vector.at[0].multiply(2.0)).to_force_field(force_field)
    changed = refit["UreyBradleys"].parameters[0].k.m_as(unit.kilocalorie / unit.mole / unit.angstrom**2)
    assert changed == pytest.approx(20.0, rel=1e-15)


def test_stock_handlers_have_no_section_that_is_missing_here():
    """A section that a newer toolkit brings shows up here, and not as one that is ignored."""
    handlers = [
        cls
        for cls in vars(stock).values()
        if isinstance(cls, type) and issubclass(cls, ParameterHandler) and getattr(cls, "_TAGNAME", None)
    ]
    assert {cls._TAGNAME for cls in handlers} - set(SECTIONS) == set()
