"""Which functional forms a force field asks for: choices that are words and not numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms.registry import pair_forms
from openff_diffsystem.sections import SECTIONS, Words

if TYPE_CHECKING:
    from openff.toolkit.typing.engines.smirnoff import ParameterHandler

Methods = dict[str, dict[str, str]]
"""By section and attribute, the words that SMIRNOFF uses."""

Covered = Mapping[tuple[str, str], tuple[str, ...]]
"""By section and attribute, the words that are covered; the first is the default."""


def covered_of(section: str, words: Mapping[str, Words], where: Literal["isolated", "periodic"]) -> Covered:
    """What is covered of one section, without a box or in one."""
    found = {(section, name): getattr(word, where) for name, word in words.items()}
    return {key: covered for key, covered in found.items() if covered is not None}


def _all_covered(where: Literal["isolated", "periodic"]) -> Covered:
    parts = [covered_of(section.tag, section.words, where) for section in SECTIONS.values()]
    return {key: covered for part in parts for key, covered in part.items()}


ISOLATED = _all_covered("isolated")
"""What is covered without a box."""

PERIODIC = _all_covered("periodic")
"""What is covered in a box."""

PAIR_FORM_WORDS = {"periodic_method": Words(periodic=("cutoff",)), "nonperiodic_method": Words(isolated=("no-cutoff",))}
"""The words that a section in place of ``vdW`` may have."""


def methods_of_handlers(handlers: Mapping[str, ParameterHandler]) -> Methods:
    """The choices of parameter handlers, by tag. A registered pair form may lack some of them."""
    methods = {
        section.tag: {name: word_of(getattr(handlers[section.tag], name)) for name in section.words}
        for section in SECTIONS.values()
        if section.words and section.tag in handlers
    }
    for form in pair_forms(handlers):
        handler = handlers[form.section]
        present = [name for name in PAIR_FORM_WORDS if hasattr(handler, name)]
        methods[form.section] = {name: word_of(getattr(handler, name)) for name in present}
    return methods


def require(methods: Methods, covered: Covered) -> None:
    """Raise an :class:`UnsupportedForceFieldError` that names the first choice that is not covered."""
    for (section, name), words in covered.items():
        value = methods.get(section, {}).get(name, words[0])
        if value not in words:
            raise UnsupportedForceFieldError(
                f"{section} with {name}={value!r} is not covered; use {' or '.join(map(repr, words))}"
            )


def word_of(value: object) -> str:
    """A choice as a word: the reaction field is an expression in OFFXML and a name in openff-interchange."""
    text = str(value)
    return "reaction-field" if "k_rf" in text else text
