"""Which functional forms a force field asks for: the choices that are words and not numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms import pair_forms

Methods = dict[str, dict[str, str]]
"""By section and attribute, in SMIRNOFF's words."""

_ATTRIBUTES = {
    "vdW": ("potential", "combining_rules", "periodic_method", "nonperiodic_method"),
    "Electrostatics": ("periodic_potential", "nonperiodic_potential", "exception_potential"),
    "GBSA": ("gb_model", "sa_model"),
}

_PAIR_FORM_ATTRIBUTES = ("periodic_method", "nonperiodic_method")

_ALWAYS = {
    ("vdW", "potential"): ("Lennard-Jones-12-6",),
    ("vdW", "combining_rules"): ("Lorentz-Berthelot",),
    ("Electrostatics", "exception_potential"): ("Coulomb",),
}

ISOLATED = _ALWAYS | {
    ("vdW", "nonperiodic_method"): ("no-cutoff",),
    ("Electrostatics", "nonperiodic_potential"): ("Coulomb",),
}
"""What is covered without a box, by section and attribute."""

PERIODIC = _ALWAYS | {
    ("vdW", "periodic_method"): ("cutoff", "Ewald3D"),
    ("Electrostatics", "periodic_potential"): ("Ewald3D-ConductingBoundary", "reaction-field"),
}
"""What is covered in a box. OpenMM has no Coulomb interaction that is just cut off either."""

_INTERCHANGE_NAMES = {"combining_rules": "mixing_rule"}
_IMPLIED = {("vdW", "potential"): "Lennard-Jones-12-6"}
"""What collections of openff-interchange do not say because they know one potential."""

_INTERCHANGE_WORDS = {"pme": "Ewald3D", "lorentz-berthelot": "Lorentz-Berthelot"}


def methods_of_handlers(handlers: Mapping[str, Any]) -> Methods:
    """The choices of parameter handlers, by tag; those of a registered pair form are the ones it has."""
    methods = {
        section: {name: _word(getattr(handlers[section], name)) for name in names}
        for section, names in _ATTRIBUTES.items()
        if section in handlers
    }
    for form in pair_forms(handlers):
        handler = handlers[form.section]
        present = [name for name in _PAIR_FORM_ATTRIBUTES if hasattr(handler, name)]
        methods[form.section] = {name: _word(getattr(handler, name)) for name in present}
    return methods


def methods_of_interchange(interchange: Any) -> Methods:
    """The choices of the collections of an Interchange."""
    methods: Methods = {}
    for section, names in _ATTRIBUTES.items():
        if section not in interchange.collections:
            continue
        collection = interchange.collections[section]
        methods[section] = {}
        for name in names:
            value = _IMPLIED.get((section, name)) or getattr(collection, _INTERCHANGE_NAMES.get(name, name))
            methods[section][name] = _word(_INTERCHANGE_WORDS.get(value, value))
    return methods


def require(methods: Methods, covered: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
    """Raise an :class:`UnsupportedForceFieldError` that names the first choice that is not covered."""
    for (section, name), words in covered.items():
        value = methods.get(section, {}).get(name, words[0])
        if value not in words:
            raise UnsupportedForceFieldError(
                f"{section} with {name}={value!r} is not covered; covered is {' or '.join(map(repr, words))}"
            )


def _word(value: Any) -> str:
    """OFFXML's reaction field is an algebraic expression; openff-interchange calls it by name."""
    text = str(value)
    return "reaction-field" if "k_rf" in text else text
