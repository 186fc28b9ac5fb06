"""timemachine's force-field files: one Python literal, read without running it.

A dictionary from section to ``{"patterns": rows, "props": anything}``, with the names of the force fields of protein
and water. A row is a SMIRKS and its numbers; the row of a proper torsion has one list of terms in place of the numbers.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from openff_diffsystem.exceptions import CorruptFileError, NonFiniteParameterError
from openff_diffsystem.interop.timemachine.conventions import PROTEIN_FF, WATER_FF

_NAMES = {"ProteinForcefield": PROTEIN_FF, "WaterForcefield": WATER_FF}

NUMBERS_PER_ROW = {
    "HarmonicBond": 2,
    "HarmonicAngle": 2,
    "ImproperTorsion": 3,
    "LennardJones": 2,
    "GBSA": 2,
    "SimpleCharge": 1,
    "AM1CCC": 1,
    "AM1BCCCCC": 1,
}
"""How many numbers a row has, by section; the same for the environment and within the ligand."""

WITHOUT_ROWS = ("AM1BCC", "PrecomputedCharge")


@dataclass
class Section:
    """One section of a file.

    Attributes
    ----------
    smirks
        One pattern per row.
    params
        The numbers of each row: a float, a tuple of floats, or for proper torsions a list of terms. Sections that this
        package does not know may have any literals.
    props
        Anything that Python writes as a literal, or ``None``.
    """

    smirks: list[str]
    params: list[Any]
    props: object = None


@dataclass
class ForceFieldFile:
    """The content of a file.

    Attributes
    ----------
    sections
        By name, without the ending ``Handler`` of timemachine's classes.
    protein_ff, water_ff
        OpenMM's force fields for the surroundings of a ligand.
    """

    sections: dict[str, Section]
    protein_ff: str = PROTEIN_FF
    water_ff: str = WATER_FF

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ForceFieldFile:
        """Read a file.

        Raises
        ------
        CorruptFileError
            If it is not such a file; the message names the line, section or row.
        """
        path = Path(path)
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise CorruptFileError(f"{path}: not a text file ({error})") from error
        except CorruptFileError as error:
            raise CorruptFileError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, text: str) -> ForceFieldFile:
        """Read a text. Nothing in it is run. Errors are those of :meth:`read`, without the path."""
        content = _dictionary(text)
        names = {name: content.pop(name, default) for name, default in _NAMES.items()}
        for name, value in names.items():
            if not isinstance(value, str):
                raise CorruptFileError(f"{name} must be a name, it is {value!r}")
        return cls({name: _section(name, body) for name, body in content.items()}, *names.values())

    def format(self) -> str:
        """The text, one line per row. Every number is read back bit for bit.

        Raises
        ------
        NonFiniteParameterError
            If a number is NaN or infinite; the message names the section and the SMIRKS.
        CorruptFileError
            If a row does not have what its section takes.
        """
        lines = ["{"]
        for name, section in checked(self.sections).items():
            lines.append(f" {name!r}: {{'patterns': [")
            lines += [
                f"  {_row(pattern, params)!r}," for pattern, params in zip(section.smirks, section.params, strict=True)
            ]
            lines.append(" ]," if section.props is None else f" ], 'props': {section.props!r}")
            lines.append(" },")
        lines += [f" 'ProteinForcefield': {self.protein_ff!r},", f" 'WaterForcefield': {self.water_ff!r}}}"]
        return "\n".join(lines) + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a file."""
        Path(path).write_text(self.format(), encoding="utf-8")


def checked(sections: Mapping[str, Section]) -> dict[str, Section]:
    """Sections, perhaps made by hand, in the form in which files are read: Python's numbers, as many as a row takes.

    Raises
    ------
    NonFiniteParameterError
        If a number is NaN or infinite: a file cannot hold it.
    CorruptFileError
        If a row does not have what its section takes, or there are not as many rows as SMIRKS.
    """
    result = {}
    for name, section in sections.items():
        if len(section.smirks) != len(section.params):
            raise CorruptFileError(f"section {name} has {len(section.smirks)} SMIRKS for {len(section.params)} rows")
        rows = []
        for pattern, given in zip(section.smirks, section.params, strict=True):
            params = _plain(given)
            require_finite(name, pattern, params)
            kind = base_name(name)
            several = isinstance(params, tuple) or (isinstance(params, list) and kind in NUMBERS_PER_ROW)
            rows.append(_params(kind, list(params) if several else [params], f"section {name}, {pattern}"))
        result[name] = Section(list(section.smirks), rows, section.props)
    return result


def require_finite(name: str, pattern: str, params: object) -> None:
    """Raise a :class:`NonFiniteParameterError` if a number of a row, or of its terms, is NaN or infinite."""
    for number in _numbers(params):
        if not math.isfinite(number):
            raise NonFiniteParameterError(f"{name}, {pattern}: {number} is not a finite number")


def _plain(params: Any) -> Any:
    """Numbers and arrays of NumPy and jax as Python's numbers and lists: the ``repr`` of others is not a literal."""
    if isinstance(params, (list, tuple)):
        return type(params)(_plain(one) for one in params)
    return params.tolist() if hasattr(params, "tolist") else params


def _numbers(params: object) -> Iterator[Real]:
    if isinstance(params, (list, tuple)):
        for one in params:
            yield from _numbers(one)
    elif isinstance(params, Real):
        yield params


def _dictionary(text: str) -> dict[str, Any]:
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise CorruptFileError(f"not a Python literal: {error}") from error
    if not isinstance(node, ast.Dict):
        raise CorruptFileError("not a dictionary of sections")
    content: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            raise CorruptFileError(f"line {value.lineno}: the name of a section must be a string")
        if key.value in content:
            raise CorruptFileError(f"line {key.lineno}: section {key.value} is there twice")
        try:
            content[key.value] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise CorruptFileError(f"section {key.value} (line {key.lineno}) is not a literal: {error}") from error
    return content


def _section(name: str, body: object) -> Section:
    if not isinstance(body, dict) or not isinstance(body.get("patterns"), (list, tuple)):
        raise CorruptFileError(f"section {name} must be a dictionary with a list of patterns")
    if unknown := set(body) - {"patterns", "props"}:
        raise CorruptFileError(f"section {name} has {', '.join(map(repr, sorted(unknown, key=repr)))} besides patterns")
    kind = base_name(name)
    section = Section([], [], body.get("props"))
    for position, row in enumerate(body["patterns"]):
        where = f"section {name}, row {position}"
        if not isinstance(row, (list, tuple)) or len(row) < 2 or not isinstance(row[0], str):
            raise CorruptFileError(f"{where} must be a SMIRKS and its numbers, it is {row!r}")
        section.smirks.append(row[0])
        section.params.append(_params(kind, list(row[1:]), f"{where} ({row[0]})"))
    if kind in WITHOUT_ROWS and section.smirks:
        raise CorruptFileError(f"section {name} takes no patterns")
    return section


def base_name(name: str) -> str:
    """The kind of a section: its name without ``Intra`` (within the ligand) or ``Solvent``."""
    return name.removesuffix("Intra").removesuffix("Solvent")


def _params(kind: str, values: list[Any], where: str) -> object:
    if kind == "ProperTorsion":
        if len(values) != 1 or not isinstance(values[0], (list, tuple)):
            raise CorruptFileError(f"{where} must have one list of terms (k, phase, periodicity)")
        # a single term may stand in place of a list of terms: timemachine ships a file with one
        terms = [values[0]] if values[0] and not isinstance(values[0][0], (list, tuple)) else values[0]
        for term in terms:
            if not isinstance(term, (list, tuple)) or len(term) != 3:
                raise CorruptFileError(f"{where}: a term is (k, phase, periodicity), not {term!r}")
            _check_numbers(term, where)
        return [tuple(map(float, term)) for term in terms]
    if kind not in NUMBERS_PER_ROW:
        return values[0] if len(values) == 1 else tuple(values)
    if len(values) != NUMBERS_PER_ROW[kind]:
        raise CorruptFileError(f"{where} must have {NUMBERS_PER_ROW[kind]} numbers, it has {len(values)}")
    _check_numbers(values, where)
    return float(values[0]) if len(values) == 1 else tuple(map(float, values))


def _check_numbers(values: Iterable[object], where: str) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise CorruptFileError(f"{where}: {value!r} is not a finite number")


def _row(smirks: str, params: object) -> tuple:
    return (smirks, *params) if isinstance(params, tuple) else (smirks, params)
