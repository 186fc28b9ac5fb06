"""Files that earlier versions of the package wrote still load, and have OpenMM's energies.

``own_forms``: OpenMM's correction maps, custom forces and Ryckaert-Bellemans torsions, whose forms were words among the
methods. ``sites``: two TIP4P-FB waters and methanol with Sage 2.2.1. Energies are of OpenMM's Reference platform for
the Systems that the files were made from, on the day that they were written.
"""

from pathlib import Path

import pytest

from openff_diffsystem import DiffSystem

DATA = Path(__file__).parents[1] / "data"

ENERGIES = {"own_forms": 3012.817688853472, "sites": 20.48015567044295}


@pytest.mark.parametrize("name", ENERGIES)
def test_a_file_of_the_first_format(name, tmp_path):
    system = DiffSystem.load(DATA / f"{name}.format1.npz")
    assert sum(float(term) for term in system.energy_terms().values()) == pytest.approx(ENERGIES[name], rel=1e-12)
    system.save(tmp_path / "again.npz")
    again = DiffSystem.load(tmp_path / "again.npz")
    assert again.forms == system.forms and again.methods == system.methods
    assert again.system_layout == system.system_layout


def test_forms_of_forces_are_objects_once_loaded():
    system = DiffSystem.load(DATA / "own_forms.format1.npz")
    assert [*system.forms] == [section for section in system.sections if section != "RBTorsions"]
    assert system.forms["morse"].energy.text and not system.methods
