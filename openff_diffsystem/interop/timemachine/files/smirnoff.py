"""timemachine's force-field files to and from SMIRNOFF force fields."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError, UnsupportedInputError
from openff_diffsystem.interop.timemachine.conventions import CHARGE_SCALE, PROTEIN_FF, WATER_FF
from openff_diffsystem.interop.timemachine.files.file_format import ForceFieldFile, Section, base_name, checked
from openff_diffsystem.interop.timemachine.files.sections import CODECS, Codec
from openff_diffsystem.parameters.offxml import handlers_of
from openff_diffsystem.sections import SECTIONS

_LEFT_BEHIND = ("Constraints", "Electrostatics")
"""Sections that timemachine has no place for and that its own topologies decide: see docs/timemachine.md."""

_INCREMENTS = ("AM1CCC", "AM1BCCCCC")

_CHARGES = ("AM1BCC", "PrecomputedCharge", "SimpleCharge", *_INCREMENTS)

_MODELS = tuple(tag for tag in CHARGE_SECTIONS if tag != "LibraryCharges")
"""Charge sections that cover whole molecules of any kind, in SMIRNOFF's order of precedence."""


def smirnoff_sections(force_field: Any) -> dict[str, Section]:
    """Bonded terms and Lennard-Jones of a force field, by timemachine's names.

    Raises
    ------
    UnsupportedForceFieldError
        If a section or parameter has no counterpart.
    """
    handlers = {handler.TAGNAME: handler for handler in handlers_of(force_field)}
    known = {codec.tag for codec in CODECS} | {*_LEFT_BEHIND, *CHARGE_SECTIONS}
    for tag, handler in handlers.items():
        if tag not in known and handler.parameters:
            raise UnsupportedForceFieldError(f"timemachine has no counterpart of {tag}")
    if "GBSA" in handlers:
        raise UnsupportedForceFieldError("timemachine has no counterpart of GBSA")
    sections = {}
    for codec in CODECS:
        if codec.tag in handlers:
            sections[codec.name] = codec.section(handlers[codec.tag], _props(handlers[codec.tag]))
    return sections


def _props(handler: Any) -> dict[str, Any] | None:
    """What timemachine's own files say of Lennard-Jones; nothing reads it. The scale of 1-4 pairs is checked."""
    if handler.TAGNAME != "vdW":
        return None
    if handler.potential != "Lennard-Jones-12-6" or handler.combining_rules != "Lorentz-Berthelot":
        raise UnsupportedForceFieldError(
            f"vdW: timemachine has Lennard-Jones-12-6 with Lorentz-Berthelot, not {handler.potential} with "
            f"{handler.combining_rules}"
        )
    if handler.scale14 != 0.5:
        warnings.warn(
            f"vdW has scale14 {handler.scale14}; timemachine's topologies always keep 0.5 of 1-4 interactions",
            stacklevel=4,
        )
    scales = {f"scale1{i}": float(getattr(handler, f"scale1{i}")) for i in (2, 3, 4, 5)}
    return {"combining_rules": handler.combining_rules, "method": "cutoff", "potential": handler.potential, **scales}


def to_timemachine(
    force_field: Any,
    charges: str | Mapping[str, Section] = "am1bcc",
    *,
    protein_ff: str = PROTEIN_FF,
    water_ff: str = WATER_FF,
) -> str:
    """A force field as the text of a timemachine file.

    Constraints and Electrostatics have no place in it.

    Parameters
    ----------
    force_field
        ``ForceField``, swapped or stock.
    charges
        ``"am1bcc"`` or ``"precomputed"`` for the charge section of the file, in place of those of the force field; or
        the sections themselves, by name, for example those of a file that :func:`read_timemachine` was told to ignore.
    protein_ff, water_ff
        OpenMM's force fields for the surroundings of a ligand.

    Raises
    ------
    UnsupportedForceFieldError
        If timemachine cannot represent the force field, or ``charges`` has a section of something else.
    UnsupportedInputError
        If ``charges`` is neither a name nor sections.
    """
    if isinstance(charges, str):
        named = {"am1bcc": "AM1BCC", "precomputed": "PrecomputedCharge"}
        if charges not in named:
            raise UnsupportedForceFieldError(f"charges must be one of {', '.join(named)}, not {charges!r}")
        charges = {named[charges]: Section([], [])}
    if not isinstance(charges, Mapping):
        raise UnsupportedInputError(f"charges must be a name or sections by name, got {type(charges).__name__}")
    for name in charges:
        if base_name(name) not in _CHARGES:
            raise UnsupportedForceFieldError(f"{name} is no section of charges; there are {', '.join(_CHARGES)}")
    return ForceFieldFile({**charges, **smirnoff_sections(force_field)}, protein_ff, water_ff).format()


def read_timemachine(
    path: str | os.PathLike[str] | ForceFieldFile,
    template: Any = None,
    *,
    ignore: Iterable[str] = (),
    load_plugins: bool = True,
) -> Any:
    """A timemachine file as a SMIRNOFF ``ForceField``.

    Parameters
    ----------
    path
        The file, or what was read of it.
    template
        The ``ForceField`` that the file descends from. The result is a copy of it with the numbers of the file: numbers
        that did not change stay as they are, with their unit and text, changed ones are written in the unit they had.
        Library charges, which timemachine's files with AM1-BCC do not hold, stay as well. Without a template, a new
        force field holds the sections of the file in MD units, and SMIRNOFF's defaults.
    ignore
        Sections, by timemachine's names, to leave behind: those of the file, for example ``("AM1CCC",)``, which
        SMIRNOFF cannot represent, and those that a template has and the file lacks, which then stay as they are.
        Charges that stay although the file has others, or none, need the name of their section too: ``("AM1BCC",)``.
    load_plugins
        Give our handlers, not the stock ones, where there is no template.

    Raises
    ------
    CorruptFileError
        If it is not such a file; the message names the section and the row.
    ParameterMismatchError
        If the template has other SMIRKS, a section that the file lacks, or charges that are not the file's.
    NonFiniteParameterError
        If a number is NaN or infinite.
    UnsupportedForceFieldError
        If SMIRNOFF has no counterpart of a section.
    """
    ignore = {ignore} if isinstance(ignore, str) else set(ignore)
    file = path if isinstance(path, ForceFieldFile) else ForceFieldFile.read(path)
    sections = {name: section for name, section in file.sections.items() if name not in ignore}
    sections = checked(sections)
    _check_sections(sections)
    if template is not None:
        return _into_template(sections, template, ignore)
    if precomputed := _of_kind(sections, "PrecomputedCharge"):
        raise UnsupportedForceFieldError(
            "PrecomputedCharge: SMIRNOFF has no section for charges that molecules bring; pass "
            f"ignore={precomputed!r}, and the molecules as charge_from_molecules wherever the force field is used"
        )
    return _new_force_field(sections, load_plugins)


def _of_kind(sections: Iterable[str], kind: str) -> tuple[str, ...]:
    return tuple(name for name in sections if base_name(name) == kind)


def _check_sections(sections: dict[str, Section]) -> None:
    codecs = {codec.name for codec in CODECS}
    for name, section in sections.items():
        kind = base_name(name)
        if kind in _INCREMENTS:
            raise UnsupportedForceFieldError(
                f"{name}: SMIRNOFF's ChargeIncrementModel knows neither AM1-BCC's aromaticity nor first matches; "
                f"pass ignore=({name!r}, ...) to leave these charges behind"
            )
        if kind not in codecs | {"AM1BCC", "PrecomputedCharge", "SimpleCharge"}:
            raise UnsupportedForceFieldError(f"SMIRNOFF has no counterpart of section {name}; pass it in ignore")
        for smirks, terms in zip(section.smirks, section.params, strict=True):
            if terms == []:
                raise UnsupportedForceFieldError(f"{name}, {smirks}: a torsion of SMIRNOFF has at least one term")
        if name != kind:
            base = sections.get(kind)
            if base is None or (base.smirks, base.params) != (section.smirks, section.params):
                raise UnsupportedForceFieldError(
                    f"{name} differs from {kind}, and SMIRNOFF has one kind of interaction; pass one of them in ignore"
                )


def _into_template(sections: dict[str, Section], template: Any, ignore: set[str]) -> Any:
    result = copy.deepcopy(template)
    handlers = {handler.TAGNAME: handler for handler in handlers_of(result)}
    if "SimpleCharge" in sections:
        raise UnsupportedForceFieldError("SimpleCharge: the template's charges are kept; pass it in ignore to agree")
    _check_charges(sections, [tag for tag in _MODELS if tag in handlers], ignore)
    for codec in CODECS:
        if codec.name in sections:
            if codec.tag not in handlers:
                raise ParameterMismatchError(f"the file has {codec.name}, the template has no {codec.tag}")
            _write_section(codec, handlers[codec.tag], sections[codec.name])
        elif codec.tag in handlers and handlers[codec.tag].parameters and codec.name not in ignore:
            raise ParameterMismatchError(
                f"the file has no {codec.name}; pass ignore=({codec.name!r}, ...) to keep the template's {codec.tag}"
            )
    return result


def _check_charges(sections: dict[str, Section], models: list[str], ignore: set[str]) -> None:
    """The template's models of charges, ``models``, have to be the file's, unless these are ignored."""
    stays = f"the template's charges ({', '.join(models) or 'of the molecules'}) would stay"
    if precomputed := _of_kind(sections, "PrecomputedCharge"):
        if models:
            raise ParameterMismatchError(
                f"PrecomputedCharge: molecules bring their charges, and {stays}; pass ignore={precomputed!r} to agree"
            )
    elif am1bcc := _of_kind(sections, "AM1BCC"):
        if models != ["ToolkitAM1BCC"]:
            raise ParameterMismatchError(f"AM1BCC: {stays}; pass ignore={am1bcc!r} to agree")
    elif models and not any(_of_kind(ignore, kind) for kind in _CHARGES):
        raise ParameterMismatchError(f"the file has no charges, and {stays}; pass ignore=('AM1BCC',) to agree")


def _write_section(codec: Codec, handler: Any, section: Section) -> None:
    present = codec.section(handler)
    if present.smirks != section.smirks:
        differences = set(present.smirks) ^ set(section.smirks)
        first = sorted(differences)[0] if differences else "the order"
        raise ParameterMismatchError(f"{codec.name} has other SMIRKS than the template's {codec.tag}: {first}")
    for parameter, new, old in zip(handler.parameters, section.params, present.params, strict=True):
        if new != old:
            codec.write(handler, parameter, new, old)


def _new_force_field(sections: dict[str, Section], load_plugins: bool) -> Any:
    from openff.toolkit import ForceField

    result = ForceField(load_plugins=load_plugins)
    for codec in CODECS:
        if codec.name in sections:
            handler = result.get_parameter_handler(codec.tag, {"version": SECTIONS[codec.tag].version})
            section = sections[codec.name]
            for smirks, params in zip(section.smirks, section.params, strict=True):
                handler.add_parameter({"smirks": smirks, **codec.attributes(params)})
    result.get_parameter_handler("Electrostatics", {"version": SECTIONS["Electrostatics"].version})
    if "AM1BCC" in sections:
        result.get_parameter_handler("ToolkitAM1BCC", {"version": SECTIONS["ToolkitAM1BCC"].version})
    if "SimpleCharge" in sections:
        _add_library_charges(result, sections["SimpleCharge"])
    return result


def _add_library_charges(force_field: Any, section: Section) -> None:
    from openff.toolkit import Quantity

    handler = force_field.get_parameter_handler("LibraryCharges", {"version": SECTIONS["LibraryCharges"].version})
    for smirks, charge in zip(section.smirks, section.params, strict=True):
        value = Quantity(charge / CHARGE_SCALE, "elementary_charge")
        handler.add_parameter({"smirks": smirks, "charge1": value})
