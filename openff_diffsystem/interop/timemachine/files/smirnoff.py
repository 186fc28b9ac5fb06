"""timemachine's force-field files to and from SMIRNOFF force fields."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Mapping

from openff.toolkit import ForceField, Quantity
from openff.toolkit.typing.engines.smirnoff import ParameterHandler

from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError, UnsupportedInputError
from openff_diffsystem.interop.timemachine.conventions import CHARGE_SCALE, PROTEIN_FF, WATER_FF
from openff_diffsystem.interop.timemachine.files.file_format import ForceFieldFile, Section, base_name, checked
from openff_diffsystem.interop.timemachine.files.sections import CODECS, Codec
from openff_diffsystem.parameters.offxml import handlers_of
from openff_diffsystem.sections import SECTIONS

_LEFT_OUT = ("Constraints", "Electrostatics")
"""Sections that timemachine's files do not have: its own topologies decide about them. See docs/timemachine.md."""

_INCREMENTS = ("AM1CCC", "AM1BCCCCC")

_CHARGES = ("AM1BCC", "PrecomputedCharge", "SimpleCharge", *_INCREMENTS)

_MODELS = tuple(tag for tag in CHARGE_SECTIONS if tag != "LibraryCharges")
"""Sections that give charges to all atoms of any molecule, in SMIRNOFF's order of precedence."""


def smirnoff_sections(force_field: ForceField) -> dict[str, Section]:
    """Bonded terms and Lennard-Jones of a force field, by timemachine's names.

    Raises
    ------
    UnsupportedForceFieldError
        If a section or parameter has no counterpart.
    """
    handlers = {handler.TAGNAME: handler for handler in handlers_of(force_field)}
    known = {codec.tag for codec in CODECS} | {*_LEFT_OUT, *CHARGE_SECTIONS}
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


def _props(handler: ParameterHandler) -> dict[str, str | float] | None:
    """What timemachine's own files note about Lennard-Jones; nothing reads it. The scale of 1-4 pairs is checked."""
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
    force_field: ForceField,
    charges: str | Mapping[str, Section] | object = "am1bcc",
    *,
    protein_ff: str = PROTEIN_FF,
    water_ff: str = WATER_FF,
) -> str:
    """A force field as the text of a timemachine file.

    The file has no place for Constraints and Electrostatics.

    Parameters
    ----------
    force_field
        ``ForceField``, swapped or stock.
    charges
        What takes the place of the force field's charges: ``"am1bcc"`` or ``"precomputed"``; or sections by name, for
        example those of another file that :func:`read_timemachine` was told to ignore.
    protein_ff, water_ff
        OpenMM's force fields for the surroundings of a ligand.

    Raises
    ------
    UnsupportedForceFieldError
        If timemachine cannot represent the force field, or ``charges`` has a section that is not one of charges.
    UnsupportedInputError
        If ``charges`` is neither a name nor a mapping.
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
    template: ForceField | None = None,
    *,
    ignore: Iterable[str] = (),
    load_plugins: bool = True,
) -> ForceField:
    """A timemachine file as a SMIRNOFF ``ForceField``.

    Parameters
    ----------
    path
        The path of a file, or its content.
    template
        The ``ForceField`` that the file was made from. The result is a copy of it with the numbers of the file. Numbers
        that did not change keep their unit and text; changed ones are written in the same unit as before. Library
        charges, which timemachine's files with AM1-BCC do not have, stay as well. Without a template the result is a
        new force field: the sections of the file in MD units, and SMIRNOFF's defaults.
    ignore
        Names of timemachine's sections. Sections of the file with such a name are left out, for example
        ``("AM1CCC",)``, which SMIRNOFF cannot represent. Sections of a template that the file lacks stay as they are if
        they are named here. If the file has other charges than the template, or none, the template's charges stay only
        if the section of the file, or ``"AM1BCC"``, is named here.
    load_plugins
        Without a template: whether the handlers are ours, not the stock ones.

    Raises
    ------
    CorruptFileError
        If it is not such a file; the message names the section and the row.
    ParameterMismatchError
        If the template has other SMIRKS, a section that the file lacks, or other charges than the file.
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
            "PrecomputedCharge: SMIRNOFF has no section for charges that come with the molecules; pass "
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
                f"pass ignore=({name!r}, ...) to leave these charges out"
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


def _into_template(sections: dict[str, Section], template: ForceField, ignore: set[str]) -> ForceField:
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
    """Raise unless the template's charge models are those of the file, or the user agreed to the difference."""
    stays = f"the template's charges ({', '.join(models) or 'of the molecules'}) would stay"
    if precomputed := _of_kind(sections, "PrecomputedCharge"):
        if models:
            raise ParameterMismatchError(
                f"PrecomputedCharge: charges come with the molecules, and {stays}; pass ignore={precomputed!r} to agree"
            )
    elif am1bcc := _of_kind(sections, "AM1BCC"):
        if models != ["ToolkitAM1BCC"]:
            raise ParameterMismatchError(f"AM1BCC: {stays}; pass ignore={am1bcc!r} to agree")
    elif models and not any(_of_kind(ignore, kind) for kind in _CHARGES):
        raise ParameterMismatchError(f"the file has no charges, and {stays}; pass ignore=('AM1BCC',) to agree")


def _write_section(codec: Codec, handler: ParameterHandler, section: Section) -> None:
    present = codec.section(handler)
    if present.smirks != section.smirks:
        differences = set(present.smirks) ^ set(section.smirks)
        first = sorted(differences)[0] if differences else "the order"
        raise ParameterMismatchError(f"{codec.name} has other SMIRKS than the template's {codec.tag}: {first}")
    for parameter, new, old in zip(handler.parameters, section.params, present.params, strict=True):
        if new != old:
            codec.write(handler, parameter, new, old)


def _new_force_field(sections: dict[str, Section], load_plugins: bool) -> ForceField:
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


def _add_library_charges(force_field: ForceField, section: Section) -> None:
    handler = force_field.get_parameter_handler("LibraryCharges", {"version": SECTIONS["LibraryCharges"].version})
    for smirks, charge in zip(section.smirks, section.params, strict=True):
        value = Quantity(charge / CHARGE_SCALE, "elementary_charge")
        handler.add_parameter({"smirks": smirks, "charge1": value})
