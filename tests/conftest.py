"""Both precisions are tested; references need double, so that is the default here."""

import os
import sys
from pathlib import Path

# AmberTools is found through PATH, also where the environment is not activated
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# compiling takes longer than computing; `XLA_FLAGS= make test` tests what users run
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

PROGRAMS = Path(__file__).parents[1] / ".pytest_cache" / "jax"
"""Compiled programs on disk: the workers, the processes that tests start, and the next run have them in common."""

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# shapes and types that signatures state are checked at every call; before anything imports the package
CHECKED = (
    *("units", "_jax", "forms", "parameters", "chemistry", "potentials", "system", "neural", "handlers._terms"),
    *("interop", "diffsystem"),
)
install_import_hook(
    [f"openff_diffsystem.{name}" for name in CHECKED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

jax.config.update("jax_enable_x64", True)

MEMORY_MAPS = Path("/proc/self/maps")


def pytest_sessionstart(session):
    """Forget the programs on disk once they fill a gigabyte: old versions of jax and of the package leave theirs.

    jax's own limit locks the folder and reads all of it for every program. Without a lock a program may be read that
    another process is still writing, or that a killed one left: its checksum does not fit, and jax compiles it again.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ and PROGRAMS.is_dir():
        programs = list(PROGRAMS.iterdir())
        if sum(program.stat().st_size for program in programs) > 1e9:
            for program in programs:
                program.unlink(missing_ok=True)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Each compiled program holds memory maps, and Linux allows a process 65,530 of them: XLA aborts beyond."""
    yield
    if MEMORY_MAPS.exists() and len(MEMORY_MAPS.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def canary():
    """A wrong-result bug of jax on CPU (jax issue 39103): a product and a reduction over 16,385 rows."""
    import jax.numpy as jnp
    import numpy as np

    matrix = np.random.default_rng(0).normal(size=(16385, 3, 3))
    vectors = np.random.default_rng(1).normal(size=(16385, 3))
    product = jax.jit(lambda m, v: jnp.sum(jax.vmap(jnp.matmul)(m, v) ** 2))(matrix, vectors)
    expected = (np.einsum("nij,nj->ni", matrix, vectors) ** 2).sum()
    if abs(float(product) / expected - 1) > 1e-12:
        pytest.exit(f"jax {jax.__version__} computes wrong numbers on this machine (jax issue 39103)", returncode=3)


@pytest.fixture(scope="session")
def sage():
    """Sage 2.2.1 with our handlers. Tests that change it copy it first."""
    from openff.toolkit import ForceField

    return ForceField("openff-2.2.1.offxml", load_plugins=True)


@pytest.fixture(scope="session")
def stock_sage():
    from openff.toolkit import ForceField

    return ForceField("openff-2.2.1.offxml")


@pytest.fixture(scope="session")
def ethanol(sage):
    """Ethanol with Gasteiger charges, as a system."""
    from openff_diffsystem import DiffSystem
    from tests.molecules import with_charges

    molecule = with_charges("CCO")
    return DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
