"""Imports point down: the layers of the package, and no loop anywhere. ``docs/contributing.md`` states the rule."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import openff_diffsystem

PACKAGE = Path(openff_diffsystem.__file__).parent

LAYERS = (
    ("exceptions", "sections"),
    ("units", "_jax", "forms"),
    ("parameters",),
    ("chemistry", "potentials"),
    ("system",),
    ("neural",),
    ("handlers", "interop"),
    ("diffsystem",),
    ("fit",),
)
"""From the bottom up. A layer may import the layers below it and itself."""

APART = ("chemistry", "potentials", "handlers", "interop")
"""Folders that never import their neighbour in the same layer."""

BRIDGES = ("interchange", "openmm", "timemachine")
"""Folders of ``interop`` that never import each other."""

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules() -> dict[str, Path]:
    """Every module of the package by name, without the package's own name: ``chemistry.valence``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, known: set[str]) -> list[tuple[str, str]]:
    """Modules of the package that a source text imports, anywhere in it, and the names it takes from each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(name.name, "*") for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package are absolute"
            for name in node.names:
                module = f"{node.module}.{name.name}"
                is_module = module.partition(".")[2] in known
                found.append((module if is_module else node.module, "*" if is_module else name.name))
    prefix = PACKAGE.name + "."
    return [(module.removeprefix(prefix), name) for module, name in found if module.startswith(prefix)]


def may_import(importer: str, imported: str) -> bool:
    """Whether the rule allows an import, given the names of two modules."""
    ours, theirs = importer.split("."), imported.split(".")
    if ours[0] == theirs[0]:
        bridges = {parts[1] for parts in (ours, theirs) if parts[0] == "interop" and parts[1:2] and parts[1] in BRIDGES}
        return len(bridges) < 2
    return RANK[theirs[0]] < RANK[ours[0]] or (RANK[theirs[0]] == RANK[ours[0]] and not {ours[0], theirs[0]} & {*APART})


def test_every_module_belongs_to_a_layer():
    top = {name.split(".")[0] for name in modules() if name}
    assert top <= set(RANK), f"no layer holds {top - set(RANK)}"


def test_imports_point_down():
    found = modules()
    wrong = [
        f"{importer} imports {name} from {imported}"
        for importer, path in found.items()
        if importer
        for imported, name in imports(path.read_text(), set(found))
        if not may_import(importer, imported)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_loops():
    found = modules()
    graph = {
        importer: {imported for imported, _ in imports(path.read_text(), set(found))} - {importer}
        for importer, path in found.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_few_modules_lie_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_the_rule_sees_what_it_forbids():
    """The rule itself, against imports that it has to refuse."""
    assert not may_import("chemistry.valence", "potentials.bonded")
    assert not may_import("system.data", "interop.vjp")
    assert not may_import("interop.openmm.write", "interop.interchange.read")
    assert not may_import("handlers._classes", "interop.vjp")
    assert may_import("interop.openmm.write", "interop.arrays")
    assert may_import("system.data", "parameters.layout")
    source = "if True:\n    from openff_diffsystem.system import data\n\ndef f():\n    import openff_diffsystem.units"
    assert imports(source, {"system.data", "units"}) == [("system.data", "*"), ("units", "*")]
