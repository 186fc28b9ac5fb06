"""A force field with a row for every number that a valence network emits."""

from __future__ import annotations

import copy

from openff.toolkit import ForceField

from openff_diffsystem.neural.models.valence import ANGLE_K, BOND_K
from openff_diffsystem.sections import SECTIONS

PERIODICITIES = (1, 2, 3, 4, 5, 6)


def generic_valence(force_field: ForceField) -> ForceField:
    """A copy of a force field with a row for every valence term of any molecule, for a network to fill.

    Bonds, Angles, ProperTorsions (periodicities 1 to 6, phase 0) and ImproperTorsions (all atoms with three neighbours,
    periodicities 1 to 6, phase 0, as trefoils) are replaced by sections with one parameter each. The k of all
    torsions is zero. Nonbonded sections stay as they are. Constraints that take their distance from a bond are removed,
    because a network's bond lengths would not reach them.

    Parameters
    ----------
    force_field
        With our handlers or the stock ones; the result has the same kind of handlers.
    """
    result = copy.deepcopy(force_field)
    torsion: dict[str, str | int] = {
        key: value
        for i, n in enumerate(PERIODICITIES, start=1)
        for key, value in (
            (f"k{i}", "0.0 * kilojoule_per_mole"),
            (f"phase{i}", "0.0 * degree"),
            (f"periodicity{i}", n),
        )
    }
    idivf = {f"idivf{i}": 1.0 for i, _ in enumerate(PERIODICITIES, start=1)}
    rows: dict[str, dict[str, str | float]] = {
        "Bonds": {
            "smirks": "[*:1]~[*:2]",
            "k": f"{BOND_K} * kilojoule_per_mole / nanometer**2",
            "length": "0.15 * nanometer",
        },
        "Angles": {
            "smirks": "[*:1]~[*:2]~[*:3]",
            "k": f"{ANGLE_K} * kilojoule_per_mole / radian**2",
            "angle": "109.5 * degree",
        },
        "ProperTorsions": {"smirks": "[*:1]~[*:2]~[*:3]~[*:4]", **torsion, **idivf},
        "ImproperTorsions": {
            "smirks": "[*:1]~[*X3:2](~[*:3])~[*:4]",
            **torsion,
            **{name: 3.0 for name in idivf},
        },
    }
    for section, row in rows.items():
        if section in result.registered_parameter_handlers:
            result.deregister_parameter_handler(section)
        handler = result.get_parameter_handler(section, {"version": SECTIONS[section].version})
        handler.add_parameter({**row, "id": f"generic-{section}"})
    if "Constraints" in result.registered_parameter_handlers:
        constraints = result["Constraints"].parameters
        for parameter in [one for one in constraints if one.distance is None]:
            constraints.remove(parameter)
    return result
