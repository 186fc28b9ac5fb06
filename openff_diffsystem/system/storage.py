"""Save and load systems: one NumPy archive of arrays and a JSON header, without pickle."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from openff_diffsystem._jax.static import StaticArray
from openff_diffsystem.exceptions import CorruptFileError, DiffSystemError
from openff_diffsystem.forms.registry import is_per_particle, required_forms
from openff_diffsystem.parameters.assignment import Assignment
from openff_diffsystem.parameters.force_field import ForceFieldParameters
from openff_diffsystem.parameters.layout import Column, NumericAttribute, ParameterLayout, SectionLayout
from openff_diffsystem.parameters.system import SectionBlocks, SystemLayout
from openff_diffsystem.potentials.periodic.scheme import EngineOptions
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.system.data import System, SystemData
from openff_diffsystem.system.forms import from_words, openmm_energies, to_words

_FORMAT = "openff-diffsystem"
_VERSION = 1


def save(system: SystemData, path: str | os.PathLike[str]) -> None:
    """Write a system to ``path``: first to a temporary file beside it, so that ``path`` is never incomplete."""
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "parameters": [_section_to_json(s) for s in system.parameter_layout.sections.values()],
        "sections": {tag: dataclasses.asdict(blocks) for tag, blocks in system.system_layout.sections.items()},
        "settings": [[*key, position] for key, position in system.system_layout.settings.items()],
        "methods": system.methods | {section: to_words(energy) for section, energy in openmm_energies(system).items()},
        "molecules": system.molecules,
        "n_atoms": system.n_atoms,
        "n_particles": system.n_particles,
        "engine_options": system.engine_options._asdict(),
    }
    order = system.system_layout.particle_order
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "theta": np.asarray(system.force_field_parameters.vector),
        "excluded_pairs": system.excluded_pairs,
        "pairs_14": system.pairs_14,
        "particle_order": None if order is None else order.array,
        "positions": system.positions,
        "box_vectors": system.box_vectors,
        "masses": system.masses,
        "openmm_particles": system.openmm_particles,
    }
    for f in dataclasses.fields(Assignment):
        arrays[f"assignment/{f.name}"] = getattr(system.assignment_map, f.name)
    for section, indices in system.term_indices.items():
        arrays[f"indices/{section}"] = indices
        for name, values in system.term_static[section].items():
            arrays[f"static/{section}/{name}"] = values
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(cls: type[System], path: str | os.PathLike[str]) -> System:
    """Read a system written by :func:`save`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If the file is damaged or was not written by this package.
    UnregisteredFormError
        If the system has a section of a form that is not registered in this process.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != _FORMAT or header["version"] != _VERSION:
            raise CorruptFileError(f"{path} is version {header['version']} of {header['format']}, not {_VERSION}")
        system = _restore(cls, header, arrays)
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError | DiffSystemError):
            raise
        raise CorruptFileError(f"{path} is damaged or was not written by openff_diffsystem: {error}") from error
    return system


def _restore(cls: type[System], header: dict[str, Any], arrays: dict[str, np.ndarray]) -> System:
    layout = ParameterLayout([_section_from_json(section) for section in header["parameters"]])
    sections = {
        tag: SectionBlocks(tuple(b["columns"]), b["start"], tuple(map(tuple, b["blocks"])), is_per_particle(tag))
        for tag, b in header["sections"].items()
    }
    held = {
        tag: form
        for tag, words in header["methods"].items()
        if (form := from_words(tag, words, sections[tag].columns, arrays[f"indices/{tag}"].shape[1]))
    }
    registered = required_forms(tag for tag in sections if tag not in held)
    settings = {(tag, name): position for tag, name, position in header["settings"]}
    static: dict[str, dict[str, np.ndarray]] = {section: {} for section in sections}
    for name, values in arrays.items():
        if name.startswith("static/"):
            _, section, key = name.split("/")
            static[section][key] = values
    if arrays["theta"].shape != (layout.size,):
        raise CorruptFileError(f"{arrays['theta'].size} values for {layout.size} parameters")
    return cls(
        force_field_parameters=ForceFieldParameters(jnp.asarray(arrays["theta"]), layout),
        assignment_map=Assignment(**{f.name: arrays[f"assignment/{f.name}"] for f in dataclasses.fields(Assignment)}),
        system_layout=SystemLayout(
            sections, settings, StaticArray(arrays["particle_order"]) if "particle_order" in arrays else None
        ),
        term_indices={section: arrays[f"indices/{section}"] for section in sections},
        term_static=static,
        excluded_pairs=arrays["excluded_pairs"],
        pairs_14=arrays["pairs_14"],
        n_atoms=header["n_atoms"],
        n_particles=header["n_particles"],
        positions=arrays.get("positions"),
        box_vectors=arrays.get("box_vectors"),
        methods={section: words for section, words in header["methods"].items() if section not in held},
        forms={section: held.get(section) or registered[section] for section in sections if section not in SECTIONS},
        molecules=tuple((smiles, copies) for smiles, copies in header["molecules"]),
        masses=arrays.get("masses"),
        engine_options=EngineOptions(**header["engine_options"]),
        openmm_particles=arrays.get("openmm_particles"),
    )


def _section_to_json(section: SectionLayout) -> dict[str, Any]:
    return {
        "tag": section.tag,
        "smirks": section.smirks,
        "ids": section.ids,
        "columns": [[list(c.attribute), c.unit, c.rows, c.start] for c in section.columns.values()],
    }


def _section_from_json(section: dict[str, Any]) -> SectionLayout:
    columns = [
        Column(NumericAttribute(*attribute), unit, None if rows is None else tuple(rows), start)
        for attribute, unit, rows, start in section["columns"]
    ]
    return SectionLayout(section["tag"], tuple(section["smirks"]), tuple(section["ids"]), {c.name: c for c in columns})
