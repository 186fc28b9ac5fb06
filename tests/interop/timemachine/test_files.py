"""timemachine's force-field files to and from SMIRNOFF."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import sys
import types
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField

from openff_diffsystem import DiffSystem, ForceFieldParameters
from openff_diffsystem.exceptions import (
    CorruptFileError,
    MissingStackError,
    NonFiniteParameterError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.interop import timemachine as tm
from tests.molecules import with_charges
from tests.timemachine_cases import BONDED, sage200


def test_file_round_trip_is_exact():
    text = tm.to_timemachine(sage200())
    file = tm.ForceFieldFile.parse(text)
    assert file.format() == text
    new = tm.read_timemachine(file)
    assert tm.to_timemachine(new) == text
    # the same energies by construction: theta of the new force field is complete
    assert ForceFieldParameters.from_force_field(new).vector.size > 700


SHIPPED = {
    "HarmonicBond": (88, (25126484.547217082, 13.711686490590191)),
    "HarmonicAngle": (40, (21427.450923846198, 86.37035755909919)),
    "ProperTorsion": (167, (845.1418669477923, 360.58502346202846, 581.0)),
    "ImproperTorsion": (7, (49.929066666666664, 21.991148575128552, 14.0)),
    "LennardJones": (37, (10.592619926839328, 21.351124596845263)),
}
"""Of smirnoff_2_0_0_am1bcc.py at commit 2f6fe1f: patterns in each section, and the sum of each column."""


def test_sums_over_the_shipped_file():
    """The comparison number by number needs the file itself: tests/interop/timemachine/test_stock.py."""
    sections = tm.ForceFieldFile.parse(tm.to_timemachine(sage200())).sections
    for name, (count, sums) in SHIPPED.items():
        rows = sections[name].params
        terms = [term for row in rows for term in row] if name == "ProperTorsion" else rows
        assert len(rows) == count
        # units were converted by two programs: a rounding or two per number, and fsum adds none
        assert [math.fsum(column) for column in zip(*terms, strict=True)] == pytest.approx(sums, rel=1e-15)
    assert "ToolkitAM1BCC" in sage200().registered_parameter_handlers and not sections["AM1BCC"].smirks


def test_numbers_that_did_not_change_come_back_bit_for_bit():
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200()))
    assert tm.read_timemachine(file, template=sage200()).to_string() == sage200().to_string()


def test_a_refit_comes_back_as_offxml(tmp_path):
    handles = tm.Handles.from_smirnoff(sage200(), "am1bcc")
    rng = np.random.default_rng(0)
    for name in (*BONDED, "lj_handle"):
        params = getattr(handles, name).params
        moved = slice(0, 2) if name in ("pt_handle", "it_handle") else slice(None)
        params[:, moved] *= 1 + 0.01 * rng.normal(size=params[:, moved].shape)
    handles.lj_handle_intra.params[:] = handles.lj_handle.params
    handles.to_file().write(tmp_path / "refit.py")
    refit = tm.read_timemachine(tmp_path / "refit.py", template=sage200())
    refit.to_file(str(tmp_path / "refit.offxml"))
    again = tm.Handles.from_smirnoff(ForceField(str(tmp_path / "refit.offxml")), "am1bcc")
    for ours, theirs in zip(handles.ordered(), again.ordered(), strict=True):
        # a unit, an idivf or a square costs a rounding each on the way out and in
        np.testing.assert_allclose(np.asarray(theirs.params), np.asarray(ours.params), rtol=2e-15)


def test_new_force_field_parameterizes():
    new = tm.read_timemachine(tm.ForceFieldFile.parse(tm.to_timemachine(sage200())))
    # the file does not say; Sage's 0.833333 has fewer digits than SMIRNOFF's default
    new["Electrostatics"].scale14 = sage200()["Electrostatics"].scale14
    molecule = with_charges("CC(=O)NC")
    energies = []
    for force_field in (sage200(), new):
        system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
        energies.append(float(system.to_jax_potential(add_constrained_forces=True)(system.positions, None)))
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


def test_simple_charges_become_library_charges():
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200(), {"SimpleCharge": tm.Section(["[*:1]"], [0.5])}))
    new = tm.read_timemachine(file)
    charge = new["LibraryCharges"].parameters[0].charge[0].m_as("elementary_charge")
    assert charge * np.sqrt(138.935456) == pytest.approx(0.5, rel=1e-15)
    assert tm.Handles.from_file(file).q_handle_intra.params.tolist() == [0.5]


def test_numbers_of_any_kind_are_written_so_that_they_can_be_read():
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200()))
    rows = {name: list(section.params) for name, section in file.sections.items()}
    for name, convert in (("HarmonicBond", np.array), ("HarmonicAngle", list), ("LennardJones", jnp.asarray)):
        file.sections[name].params = [convert(row) for row in rows[name]]
    file.sections["ProperTorsion"].params = [np.array(terms) for terms in rows["ProperTorsion"]]
    assert {name: s.params for name, s in tm.ForceFieldFile.parse(file.format()).sections.items()} == rows
    assert tm.read_timemachine(file, template=sage200()).to_string() == sage200().to_string()
    for broken in ((jnp.asarray(np.nan), 0.15), np.array([1.0, np.inf]), [np.float32("nan"), 0.1]):
        file.sections["HarmonicBond"].params[3] = broken
        for refused in (file.format, partial(tm.read_timemachine, file), partial(tm.read_timemachine, file, sage200())):
            with pytest.raises(NonFiniteParameterError, match=r"HarmonicBond, \[.* is not a finite number"):
                refused()
    file.sections["HarmonicBond"].params[3] = (1.0, 2.0, 3.0)
    with pytest.raises(CorruptFileError, match=r"HarmonicBond, \[.* must have 2 numbers, it has 3"):
        tm.read_timemachine(file)
    file.sections["HarmonicBond"].params = rows["HarmonicBond"][:-1]
    with pytest.raises(CorruptFileError, match="HarmonicBond has 88 SMIRKS for 87 rows"):
        file.format()
    no_terms = tm.ForceFieldFile({"ProperTorsion": tm.Section(["[*:1]~[*:2]~[*:3]~[*:4]"], [[]])})
    with pytest.raises(UnsupportedForceFieldError, match="at least one term"):
        tm.read_timemachine(no_terms)


def test_handles_in_places_of_others_are_not_written():
    """Their sections would be read as those of others, or one written over the other."""
    environment, ligand = (tm.AM1CCCHandler(["[*:1]-[*:2]"], [charge], None) for charge in (0.1, 0.7))
    handles = tm.Handles.from_smirnoff(sage200(), (environment, ligand))
    with pytest.raises(UnsupportedForceFieldError, match="q_handle_intra is a AM1CCCHandler, whose section AM1CCC is"):
        handles.to_file()
    plain, intra = handles.lj_handle, handles.lj_handle_intra
    for wrong in ({"lj_handle_intra": plain}, {"lj_handle": intra}, {"lj_handle": intra, "lj_handle_intra": plain}):
        with pytest.raises(UnsupportedForceFieldError, match="lj_handle"):
            dataclasses.replace(tm.Handles.from_smirnoff(sage200(), "am1bcc"), **wrong).to_file()


def test_charges_of_a_file_are_sections_of_charges():
    for name in ("LennardJones", "LibraryCharges"):
        with pytest.raises(UnsupportedForceFieldError, match=f"{name} is no section of charges; there are AM1BCC"):
            tm.to_timemachine(sage200(), {name: tm.Section([], [])})
    with pytest.raises(UnsupportedInputError, match="got NoneType"):
        tm.to_timemachine(sage200(), None)
    text = tm.to_timemachine(sage200(), {"AM1CCC": tm.Section(["[#6:1]-[#1:2]"], [0.1])})
    assert tm.Handles.from_file(tm.ForceFieldFile.parse(text), ignore="AM1CCC").q_handle is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a Python literal"),
        ("{'HarmonicBond': ", "not a Python literal"),
        ("[1, 2]", "dictionary"),
        ("{'HarmonicBond': __import__('os').getcwd()}", "not a literal"),
        ("{'AM1BCC': {'patterns': []}, 'AM1BCC': {'patterns': []}}", "twice"),
        ("{1: 2}", "must be a string"),
        ("{'HarmonicBond': {'patterns': [['[#6:1]-[#6:2]', 1.0]]}}", "row 0 .* 2 numbers"),
        ("{'HarmonicBond': {'patterns': [['[#6:1]-[#6:2]', 1.0, 1e999]]}}", "finite"),
        ("{'HarmonicBond': {'patterns': [['[#6:1]-[#6:2]', 1.0, 'x']]}}", "finite"),
        ("{'HarmonicBond': {'pattern': []}}", "list of patterns"),
        ("{'ProperTorsion': {'patterns': [['x', [[1.0, 2.0]]]]}}", "a term is"),
        ("{'AM1BCC': {'patterns': [['x', 1.0]]}}", "no patterns"),
        ("{'WaterForcefield': 3}", "must be a name"),
        ("(" * 2000 + ")" * 2000, "not a Python literal"),
    ],
)
def test_corrupt_files_are_named(text, says, tmp_path):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(CorruptFileError, match=says) as caught:
        tm.ForceFieldFile.read(tmp_path / "broken.py")
    assert "broken.py" in str(caught.value)


def test_binary_files_are_named(tmp_path):
    (tmp_path / "broken.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFileError, match="not a text file"):
        tm.ForceFieldFile.read(tmp_path / "broken.py")


def test_what_cannot_be_represented_is_refused():
    for name in ("tip4p_fb.offxml",):
        with pytest.raises(UnsupportedForceFieldError, match="VirtualSites"):
            tm.to_timemachine(ForceField(name))
    changed = copy.deepcopy(sage200())
    changed["vdW"].scale14 = 0.4
    with pytest.warns(UserWarning, match="scale14"):
        tm.to_timemachine(changed)
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200()))
    file.sections["AM1CCC"] = tm.Section(["[#6:1]-[#1:2]"], [0.1])
    with pytest.raises(UnsupportedForceFieldError, match="ignore"):
        tm.read_timemachine(file)
    tm.read_timemachine(file, template=sage200(), ignore=("AM1CCC",))
    file.sections["HarmonicBond"].smirks[0] = "[#6:1]"
    with pytest.raises(ParameterMismatchError, match="HarmonicBond has other SMIRKS"):
        tm.read_timemachine(file, template=sage200(), ignore=("AM1CCC",))


def test_no_section_of_a_file_is_lost():
    """Charges within the ligand may be of another kind; a section of the solvent may only repeat the other."""
    section = tm.Section(["[*:1]"], [(0.3, 0.5)])
    increments = tm.Section(["[#6:1]-[#1:2]"], [0.1])
    file = tm.ForceFieldFile({"AM1BCC": tm.Section([], []), "AM1CCCIntra": increments, "LennardJones": section})
    handles = tm.Handles.from_file(file)
    assert type(handles.q_handle) is tm.AM1BCCHandler and type(handles.q_handle_intra) is tm.AM1CCCIntraHandler
    assert handles.q_handle_intra.params.tolist() == [0.1]
    assert {*handles.to_file().sections} == {*file.sections, "LennardJonesIntra"}
    file.sections["LennardJonesSolvent"] = copy.deepcopy(section)
    assert tm.Handles.from_file(file).lj_handle.params.tolist() == [[0.3, 0.5]]
    file.sections["LennardJonesSolvent"].params[0] = (0.3, 0.6)
    with pytest.raises(UnsupportedForceFieldError, match="LennardJonesSolvent"):
        tm.Handles.from_file(file)
    for sections, says in (
        ({"AM1BCC": tm.Section([], []), "AM1CCC": increments}, "AM1BCC, AM1CCC"),
        ({"AM1CCC": increments, "AM1CCCIntra": increments, "AM1BCCIntra": tm.Section([], [])}, "AM1BCCIntra, AM1CCCI"),
        ({"ForceFieldCharge": section}, "no handle for section ForceFieldCharge"),
        ({"GBSA": section}, "no handle for section GBSA"),
        ({"SimpleChargeSolvent": tm.Section(["[*:1]"], [0.0])}, "SimpleChargeSolvent"),
    ):
        with pytest.raises(UnsupportedForceFieldError, match=says):
            tm.Handles.from_file(tm.ForceFieldFile(sections))
    file = tm.ForceFieldFile({"AM1BCC": tm.Section([], []), "GBSA": section, "LennardJones": section})
    handles = tm.Handles.from_file(file, ignore=("GBSA",))
    assert handles.lj_handle.params.tolist() == [[0.3, 0.5]] and type(handles.q_handle) is tm.AM1BCCHandler


def test_a_negative_root_of_epsilon_is_refused():
    """Its square is no epsilon of SMIRNOFF: products with other atoms would change their sign."""
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200()))
    lennard_jones = file.sections["LennardJones"]
    sigma, root = lennard_jones.params[3]
    lennard_jones.params[3] = (sigma, -root)
    for template in (None, sage200()):
        with pytest.raises(UnsupportedForceFieldError, match=r"sqrt\(epsilon\) is -"):
            tm.read_timemachine(file, template=template)


def test_numbers_that_are_not_finite_are_neither_written_nor_read():
    handles = tm.Handles.from_smirnoff(sage200(), "am1bcc")
    handles.pt_handle.params[5, 1] = np.nan
    with pytest.raises(NonFiniteParameterError, match=r"ProperTorsion, \[.* nan is not a finite"):
        handles.pt_handle.serialize()
    with pytest.raises(NonFiniteParameterError, match=r"ProperTorsion, \[.* nan is not a finite"):
        handles.to_file().format()
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200()))
    bonds = file.sections["HarmonicBond"]
    bonds.params[2] = (np.float64("inf"), bonds.params[2][1])
    where = "HarmonicBond, " + re.escape(bonds.smirks[2]) + ": inf"
    for act in (
        file.format,
        lambda: tm.read_timemachine(file),
        lambda: tm.read_timemachine(file, template=sage200()),
    ):
        with pytest.raises(NonFiniteParameterError, match=where):
            act()


def test_numpys_numbers_are_written_as_numbers():
    file = tm.ForceFieldFile({"HarmonicBond": tm.Section(["[*:1]~[*:2]"], [(np.float64(1.5), np.float32(0.25))])})
    assert tm.ForceFieldFile.parse(file.format()).sections["HarmonicBond"].params == [(1.5, 0.25)]


def test_sections_that_a_file_lacks_do_not_stay_without_a_word():
    text = tm.to_timemachine(sage200())
    tags = {"HarmonicAngle": "Angles", "LennardJones": "vdW", "ProperTorsion": "ProperTorsions"}
    for name, tag in tags.items():
        file = tm.ForceFieldFile.parse(text)
        del file.sections[name]
        with pytest.raises(ParameterMismatchError, match=rf"no {name}; .*'{name}'.* template's {tag}"):
            tm.read_timemachine(file, template=sage200())
        agreed = tm.read_timemachine(file, template=sage200(), ignore=(name,))
        assert agreed.to_string() == sage200().to_string()
    template = copy.deepcopy(sage200())
    template["Angles"].parameters.clear()
    file = tm.ForceFieldFile.parse(text)
    del file.sections["HarmonicAngle"]
    tm.read_timemachine(file, template=template)


NAGL = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <NAGLCharges version="0.3" model_file="openff-gnn-am1bcc-1.0.0.pt"/>
</SMIRNOFF>"""


@pytest.mark.parametrize(
    ("charges", "models", "says"),
    [
        ("am1bcc", ("NAGLCharges",), "AM1BCC: .*NAGLCharges"),
        ("am1bcc", ("NAGLCharges", "ToolkitAM1BCC"), "AM1BCC: .*NAGLCharges, ToolkitAM1BCC"),
        ("am1bcc", (), "AM1BCC: .*of the molecules"),
        ("precomputed", ("ToolkitAM1BCC",), "PrecomputedCharge: .*ToolkitAM1BCC"),
        ({}, ("ToolkitAM1BCC",), "the file has no charges, .*ToolkitAM1BCC"),
        ({}, ("NAGLCharges",), "the file has no charges, .*NAGLCharges"),
    ],
)
def test_charges_of_a_template_that_are_not_the_files_need_consent(charges, models, says):
    template = ForceField("openff-2.0.0.offxml", NAGL) if "NAGLCharges" in models else copy.deepcopy(sage200())
    if "ToolkitAM1BCC" not in models:
        template.deregister_parameter_handler("ToolkitAM1BCC")
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200(), charges))
    with pytest.raises(ParameterMismatchError, match=says):
        tm.read_timemachine(file, template=template)
    name = "PrecomputedCharge" if charges == "precomputed" else "AM1BCC"
    assert tm.read_timemachine(file, template=template, ignore=(name,)).to_string() == template.to_string()
    assert tm.read_timemachine(file, template=template, ignore=name).to_string() == template.to_string()


def test_precomputed_charges_are_the_molecules():
    """SMIRNOFF has no section for them: with a template whose charges the molecules bring they agree."""
    text = tm.to_timemachine(sage200(), "precomputed")
    file = tm.ForceFieldFile.parse(text)
    template = copy.deepcopy(sage200())
    template.deregister_parameter_handler("ToolkitAM1BCC")
    assert tm.read_timemachine(file, template=template).to_string() == template.to_string()
    with pytest.raises(UnsupportedForceFieldError, match=r"ignore=\('PrecomputedCharge',\)"):
        tm.read_timemachine(file)
    new = tm.read_timemachine(file, ignore=("PrecomputedCharge",))
    assert "ToolkitAM1BCC" not in new.registered_parameter_handlers


def test_handles_go_into_timemachines_dataclass_by_name(monkeypatch):
    """The fields of ``timemachine.ff.Forcefield`` at commit 2f6fe1f, in another order: names decide."""
    names = ("water_ff", "protein_ff", "env_bcc_handle", "lj_handle_intra", "lj_handle", "q_handle_intra", "q_handle")
    names += ("it_handle", "pt_handle", "ha_handle", "hb_handle")
    module = types.ModuleType("timemachine.ff")
    module.Forcefield = dataclasses.make_dataclass("Forcefield", names, frozen=True)
    package = types.ModuleType("timemachine")
    package.ff = module
    monkeypatch.setitem(sys.modules, "timemachine", package)
    monkeypatch.setitem(sys.modules, "timemachine.ff", module)
    made = tm.to_forcefield(sage200(), "precomputed", protein_ff="a protein", water_ff="a water")
    assert isinstance(made, module.Forcefield) and made.env_bcc_handle is None
    assert (made.protein_ff, made.water_ff) == ("a protein", "a water")
    kinds = {"hb": "HarmonicBond", "ha": "HarmonicAngle", "pt": "ProperTorsion", "it": "ImproperTorsion"}
    kinds |= {"q": "PrecomputedCharge", "lj": "LennardJones"}
    for name, kind in kinds.items():
        assert type(getattr(made, f"{name}_handle")).__name__ == f"{kind}Handler"
    for name in ("q", "lj"):
        assert type(getattr(made, f"{name}_handle_intra")).__name__ == f"{kinds[name]}IntraHandler"


def test_timemachine_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timemachine", None)
    monkeypatch.setitem(sys.modules, "timemachine.ff", None)
    with pytest.raises(MissingStackError, match="proteneer/timemachine"):
        tm.to_forcefield(sage200())
