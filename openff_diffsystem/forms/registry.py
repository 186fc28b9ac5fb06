"""The functional forms that users have registered, in this process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from openff_diffsystem.exceptions import (
    DuplicateFormError,
    UnregisteredFormError,
    UnsupportedInputError,
)
from openff_diffsystem.forms.form import Form, PairForm, ValenceForm
from openff_diffsystem.sections import SECTIONS, section_of

_REGISTERED: dict[str, Form] = {}


def register_form(form: Form | Any) -> None:
    """Register the form of a section. Do so at the top level of the module that defines its ``ParameterHandler``.

    Every process has its own registry: spawned workers, and programs that load systems, have to import that module too.
    Registering a form again replaces it if the energy function has the same module and name, for example when a cell of
    a notebook is run again or a module is reloaded. Systems keep the form with which they were made.

    Raises
    ------
    DuplicateFormError
        If another form has that section: one with another energy function, kind, columns, number of atoms or
        section of sites. Or if the section, or that of its sites, is one of SMIRNOFF's own.
    UnsupportedInputError
        If it is not a form, or its columns are not names.
    """
    if not isinstance(form, ValenceForm | PairForm):
        raise UnsupportedInputError(f"expected a ValenceForm or a PairForm, got {type(form).__name__}")
    if isinstance(form.columns, str) or not all(isinstance(name, str) for name in form.columns):
        raise UnsupportedInputError(f"columns of {form.section} must be names of attributes, got {form.columns!r}")
    form = replace(form, columns=tuple(form.columns))
    for section in (form.section, getattr(form, "sites", None)):
        if section in SECTIONS:
            raise DuplicateFormError(f"{section} is one of SMIRNOFF's own sections")
    if _identity(_REGISTERED.setdefault(form.section, form)) != _identity(form):
        raise DuplicateFormError(f"another functional form is registered for the section {form.section}")
    _REGISTERED[form.section] = form


def _identity(form: Form) -> tuple:
    """What stays the same when the code that defines a form is run again."""
    energy = getattr(form.energy, "__qualname__", None)
    where = (form.energy.__module__, energy) if energy else form.energy
    return type(form), form.section, form.columns, getattr(form, "n_atoms", None), getattr(form, "sites", None), where


def form_of(section: str) -> Form | None:
    """The form registered for a section."""
    return _REGISTERED.get(section)


def registered_forms(sections: Iterable[str]) -> dict[str, Form]:
    """The forms registered for some sections, by section, in order."""
    return {section: _REGISTERED[section] for section in sections if section in _REGISTERED}


def required_forms(sections: Iterable[str]) -> dict[str, Form]:
    """The forms of all sections that are not built in, by section, in order.

    Raises
    ------
    UnregisteredFormError
        If one is not registered in this process, as when a file is read where nobody imported the form's module.
    """
    custom = [section for section in sections if section not in SECTIONS]
    if missing := [section for section in custom if section not in _REGISTERED]:
        raise UnregisteredFormError(
            f"no functional form is registered in this process for {', '.join(missing)}: import the module that calls "
            "openff_diffsystem.forms.register_form for it, before a system is loaded"
        )
    return registered_forms(custom)


def pair_forms(sections: Iterable[str]) -> list[PairForm]:
    """The registered forms that take the place of ``vdW`` among some sections, in order."""
    return [form for form in registered_forms(sections).values() if isinstance(form, PairForm)]


def is_per_particle(section: str) -> bool:
    """Whether the terms of a section are the particles of a system; asked only when a system is made."""
    return section_of(section).per_particle or isinstance(form_of(section), PairForm)
