"""(g) timemachine's handlers and ours on 20 drug-like molecules: parameterize and VJP of all eight handlers.

Needs a checkout of proteneer/timemachine, named by the environment variable TIMEMACHINE, and what it imports. Both
sides run in one process of their own, on its default force field (Sage 2.0.0 with bond charge increments), with
the same Gasteiger charges and RDKit matching in the place of OpenEye.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.timing import Row, measure, once, show

_FILE = "timemachine/ff/params/smirnoff_2_0_0_ccc.py"


def run() -> list[Row]:
    """Time both in a process of their own; one row that says why where that is not possible."""
    checkout = Path(os.environ.get("TIMEMACHINE", "")).absolute()
    if not (checkout / _FILE).exists():
        return [Row("timemachine's handlers", "not run: TIMEMACHINE names no checkout of proteneer/timemachine")]
    # ours first: both repositories have a folder named tests
    folders = (Path(__file__).parents[1], checkout, os.environ.get("PYTHONPATH"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders if folder)}
    command = [sys.executable, "-m", "benchmarks.timemachine", str(checkout / _FILE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return [Row("timemachine's handlers", f"not run: {done.stderr.strip().splitlines()[-1]}")]
    return [Row(*fields) for fields in json.loads(done.stdout.splitlines()[-1])]


def _compare(path: Path) -> list[Row]:
    from benchmarks.molecules import drug_like
    from openff_diffsystem.interop import timemachine as tm
    from tests.upstream.timemachine_plugin import gasteiger, replace_openeye

    supported = tm.AM1CCCHandler.supported_elements
    candidates = [molecule.to_rdkit() for molecule in drug_like(40)]
    mols = [mol for mol in candidates if {atom.GetAtomicNum() for atom in mol.GetAtoms()} <= supported]
    warm_up, *mols = mols[:21]

    replace_openeye()
    from timemachine.ff import Forcefield

    tm.AM1CCCHandler.source = staticmethod(gasteiger)
    stock = Forcefield.load_from_file(path).get_ordered_handles()[:8]
    ours = tm.Handles.from_file(tm.ForceFieldFile.read(path)).ordered()
    for mol in mols[:3]:
        _check_equal(stock, ours, mol)

    their_times = _times([_stock_function(handle) for handle in stock], warm_up, mols)
    our_times = _times([_function(handle) for handle in ours], warm_up, mols)
    jitted = [measure(_jitted(ours, mol), 200).best for mol in mols]
    return [
        _row("first call of a molecule, eager; whatever jax compiles for its shapes included", "first", their_times,
             np.mean(our_times["first"]), 1 / 2),
        _row("first call of a molecule, eager; jax has compiled everything, matches and charges are new", "unknown",
             their_times, np.mean(our_times["unknown"]), 1 / 2),
        _row("later calls, ours eager as well", "again", their_times, np.mean(our_times["again"])),
        _row("later calls, ours jitted", "again", their_times, np.mean(jitted), 1 / 20),
    ]  # fmt: skip


def _row(what: str, kind: str, their_times: dict[str, list[float]], seconds: Any, bar: float | None = None) -> Row:
    stock = float(np.mean(their_times[kind]))
    ratio = float(seconds) / stock
    return Row(
        f"timemachine's eight handlers, parameterize + VJP, {what}",
        show(float(seconds)),
        f"{ratio:.2g}x of stock, {show(stock)}",
        "" if bar is None else f"<= {bar:.2g}x",
        None if bar is None else ratio <= bar,
    )


def _times(functions: list[Callable[[Any], Any]], warm_up: Any, mols: list[Any]) -> dict[str, list[float]]:
    """Seconds per molecule: as never seen, as a new molecule with shapes that jax knows, and as a known one."""
    from rdkit import Chem

    from openff_diffsystem.interop.timemachine.handles.smirks import forget

    def bare(mol: Any) -> Any:
        return Chem.Mol(mol.ToBinary(int(Chem.PropertyPickleOptions.NoProps)))

    def everything(mol: Any) -> list[Any]:
        return [function(mol) for function in functions]

    everything(bare(warm_up))
    first = [once(partial(everything, bare(mol))) for mol in mols]
    forget()
    unknown = [once(partial(everything, bare(mol))) for mol in mols]
    again = [measure(partial(everything, bare(mol)), 3).best for mol in mols]
    return {"first": first, "unknown": unknown, "again": again}


def _function(handle: Any) -> Callable[[Any], Any]:
    """Parameters and the pullback of ones."""

    def parameterize(mol: Any) -> Any:
        out, pullback, *_ = jax.vjp(partial(handle.partial_parameterize, mol=mol), handle.params, **_aux(handle))
        return out, pullback(np.ones(out.shape))

    return parameterize


def _stock_function(handle: Any) -> Callable[[Any], Any]:
    """The same; timemachine's angles raise under jax.vjp, so that only what they share with bonds is differentiated."""
    if type(handle).__name__ != "HarmonicAngleHandler":
        return _function(handle)
    from timemachine.ff.handlers.bonded import ReversibleBondHandler

    def parameterize(mol: Any) -> Any:
        out, pullback, _ = jax.vjp(
            lambda params: ReversibleBondHandler.static_parameterize(params, handle.smirks, mol),
            handle.params,
            has_aux=True,
        )
        return out, pullback(np.ones(out.shape))

    return parameterize


def _jitted(handles: tuple[Any, ...], mol: Any) -> Callable[[], Any]:
    """All handlers in one compiled function of their parameters and of cotangents."""

    def everything(params: list[Any]) -> list[Any]:
        out = [handle.partial_parameterize(p, mol) for handle, p in zip(handles, params, strict=True)]
        return [one[0] if isinstance(one, tuple) else one for one in out]

    @jax.jit
    def with_vjp(params: list[Any], cotangents: list[Any]) -> Any:
        out, pullback = jax.vjp(everything, params)
        return out, pullback(cotangents)

    params = [jax.device_put(handle.params) for handle in handles]
    cotangents = [jax.device_put(np.ones(one.shape)) for one in everything(params)]
    return partial(with_vjp, params, cotangents)


def _aux(handle: Any) -> dict[str, bool]:
    return {"has_aux": True} if "Torsion" in type(handle).__name__ or "Harmonic" in type(handle).__name__ else {}


def _check_equal(stock: tuple[Any, ...], ours: tuple[Any, ...], mol: Any) -> None:
    """What is timed gives the same numbers, up to the order of sums of charge increments."""
    for theirs, mine in zip(stock, ours, strict=True):
        for a, b in zip(*(o if isinstance(o, tuple) else (o,) for o in map(_call(mol), (theirs, mine))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def _call(mol: Any) -> Callable[[Any], Any]:
    return lambda handle: handle.parameterize(mol)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(_compare(Path(sys.argv[1]))))
