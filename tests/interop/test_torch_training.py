"""What torch users build around the potential: parameters, optimisers, networks, data loaders."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import lru_cache

import jax
import numpy as np
import pytest

from openff_diffsystem.exceptions import ForkedProcessError, UnsupportedInputError
from tests.molecules import with_charges
from tests.openmm_reference import Reference

torch = pytest.importorskip("torch")


def conformers(system, n: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.tensor(system.positions + 0.01 * rng.normal(size=(n, *system.positions.shape)))


def test_optimiser_fits_torsions(ethanol, sage):
    """Energies of conformers, from torsion constants changed before, are had again, and written to an OFFXML file."""
    chosen = ethanol.force_field_parameters.select("ProperTorsions", "k*")
    x = conformers(ethanol, 8)
    potential = ethanol.to_torch_potential(trainable=chosen)
    with torch.no_grad():
        target = potential(x, chosen.replace(1.5 * potential.theta))
    optimizer = torch.optim.LBFGS(potential.parameters(), line_search_fn="strong_wolfe")
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = torch.mean((potential(x) - target) ** 2)
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(3):
        optimizer.step(closure)
    # quadratic, in fewer directions than conformers: what is left is the optimiser's tolerance
    assert losses[-1] < 1e-6 * losses[0]
    refit = potential.force_field_parameters().to_force_field(sage)
    assert refit["Bonds"].to_dict() == sage["Bonds"].to_dict()
    assert refit["ProperTorsions"].to_dict() != sage["ProperTorsions"].to_dict()


def test_module_state(ethanol, sage):
    """Parameters by name, saved and loaded, in either precision; what was not changed goes back to OFFXML as it was."""
    chosen = ethanol.force_field_parameters.select("Bonds", "k")
    potential = ethanol.to_torch_potential(trainable=chosen)
    assert [(name, tuple(p.shape)) for name, p in potential.named_parameters()] == [("theta", chosen.vector.shape)]
    assert potential.theta.dtype == torch.float64
    with torch.no_grad():
        potential.theta *= 1.1
    other = ethanol.to_torch_potential(trainable=chosen)
    other.load_state_dict(potential.state_dict())
    assert other().item() == potential().item() != ethanol.to_torch_potential()().item()
    np.testing.assert_array_equal(
        other.force_field_parameters().vector, chosen.replace(1.1 * chosen.vector).merge().vector
    )
    assert list(ethanol.to_torch_potential().parameters()) == []
    single = ethanol.to_torch_potential(trainable=ethanol.force_field_parameters).float()
    assert single.theta.dtype == torch.float32
    assert single.force_field_parameters().to_force_field(sage).to_string() == sage.to_string()
    with pytest.raises(UnsupportedInputError, match=r"trainable .* Tensor"):
        ethanol.to_torch_potential(trainable=torch.zeros(3))


def test_copies(ethanol):
    potential = ethanol.to_torch_potential(trainable=ethanol.force_field_parameters.select("Bonds"))
    x = torch.tensor(ethanol.positions)
    for again in (pickle.loads(pickle.dumps(potential)), copy.deepcopy(potential)):
        assert again(x).item() == potential(x).item()
        with torch.no_grad():
            again.theta *= 2
        assert again(x).item() != potential(x).item()


class Charges(torch.nn.Module):
    """A network from elements to charges that add up to zero."""

    def __init__(self, elements) -> None:
        super().__init__()
        self.features = torch.nn.functional.one_hot(torch.tensor(elements), 9).double()
        self.layers = torch.nn.Sequential(torch.nn.Linear(9, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()

    def forward(self) -> torch.Tensor:
        raw = self.layers(self.features)
        return raw - raw.mean()


def test_network_of_charges_down_to_its_weights(ethanol, sage):
    """Against central differences of OpenMM's energy with the network's charges, preset on the molecule.

    With a step of 1e-4 of weights of size one the truncation is some 1e-8 of the derivative, of which 1e-7 are allowed;
    rounding is 1e-16 / 1e-4 of energies of up to 1e3 kJ/mol, some 1e-9, of which 1e-8 are allowed.
    """
    from openff.toolkit import Molecule, Quantity

    molecule = Molecule(with_charges("CCO"))
    torch.manual_seed(0)
    network = Charges([atom.atomic_number for atom in molecule.atoms])
    potential = ethanol.to_torch_potential()
    potential(parameters={"Electrostatics": network()}).backward()

    def reference(flat: torch.Tensor, i: int, weight: float) -> float:
        before = flat[i].item()
        flat[i] = weight
        molecule.partial_charges = Quantity(network().detach().numpy()[:, 0], "elementary_charge")
        flat[i] = before
        system = sage.create_openmm_system(molecule.to_topology(), charge_from_molecules=[molecule])
        return Reference(system).energy(ethanol.positions)

    step, found, expected = 1e-4, [], []
    for weights in network.parameters():
        flat, gradient = weights.data.view(-1), weights.grad.numpy().ravel()
        for i in np.argsort(-np.abs(gradient))[:2]:
            up, down = (reference(flat, i, flat[i].item() + sign * step) for sign in (1, -1))
            found.append(gradient[i])
            expected.append((up - down) / (2 * step))
    assert np.count_nonzero(expected) >= 6
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


def test_network_of_charges_in_single_precision(ethanol):
    """Against double, with the same weights.

    A few roundings of 6e-8, of terms up to ten times as large as their sum: 1e-5 of the energy and of the largest
    gradient is allowed. The last bias has none: it shifts all charges, and their mean is taken off.
    """
    torch.manual_seed(0)
    double = Charges([atom.atomic_number for atom in with_charges("CCO").atoms])
    single = copy.deepcopy(double).float()
    single.features = single.features.float()
    x = torch.tensor(ethanol.positions)
    energies = []
    for network, dtype in ((double, torch.float64), (single, torch.float32)):
        potential = ethanol.to_torch_potential().to(dtype)
        energies.append(potential(x.to(dtype), parameters={"Electrostatics": network()}))
        energies[-1].backward()
    assert [energy.dtype for energy in energies] == [torch.float64, torch.float32]
    assert energies[1].item() == pytest.approx(energies[0].item(), rel=1e-5)
    largest = max(weights.grad.abs().max().item() for weights in double.parameters())
    for one, two in zip(single.parameters(), double.parameters(), strict=True):
        assert one.grad.dtype == torch.float32
        torch.testing.assert_close(one.grad.double(), two.grad, rtol=0, atol=1e-5 * largest)


class Labelled(torch.utils.data.Dataset):
    """Conformers with energies and forces, computed where they are asked for."""

    def __init__(self, potential, x) -> None:
        self.potential, self.x = potential, x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.x[i].clone().requires_grad_()
        energy = self.potential(x)
        energy.backward()
        return energy.detach(), -x.grad


def enable_x64(worker: int) -> None:
    jax.config.update("jax_enable_x64", True)


def loader(data: Labelled, context: str):
    return torch.utils.data.DataLoader(
        data, batch_size=2, num_workers=1, multiprocessing_context=context, worker_init_fn=enable_x64
    )


@lru_cache
def labelled(system) -> Labelled:
    return Labelled(system.to_torch_potential(), conformers(system, 4))


def test_data_loader_with_spawned_workers(ethanol):
    data = labelled(ethanol)
    energies, forces = zip(*(data[i] for i in range(4)), strict=True)
    found = list(loader(data, "spawn"))
    # the worker compiles by itself, for the same processor: bit for bit, but that is no promise of XLA
    torch.testing.assert_close(torch.cat([e for e, _ in found]), torch.stack(energies), rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.cat([f for _, f in found]), torch.stack(forces), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_forked_workers_say_what_to_do(ethanol):
    """A process forked from one in which jax runs would hang."""
    with pytest.raises(ForkedProcessError, match="multiprocessing_context='spawn'"):
        list(loader(labelled(ethanol), "fork"))


FORKS = """
import os, signal, sys
from openff_diffsystem import DiffSystem

def child(use):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # it would wait for threads that are not there
        try:
            use()
        except BaseException as error:
            print(type(error).__name__, flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def by_itself():
    system = DiffSystem.load(sys.argv[1])
    system.to_torch_potential()()
    print("worked", flush=True)

assert child(by_itself) == 0
system = DiffSystem.load(sys.argv[1])
for use in (
    lambda: system.to_jax_potential()(system.positions, system.force_field_parameters),
    lambda: system.to_torch_potential()(),
    lambda: system.energy_vjp(),
    lambda: system.vjp(),
    lambda: system.parameterize(),
    lambda: system.energy_terms(),
    lambda: system.evaluate_frames([system.positions]),
):
    assert child(use) == 0
"""


def test_every_evaluation_in_a_forked_child_says_what_to_do(ethanol, tmp_path):
    """The parent has read a system, and evaluated nothing: that is enough to hang a child. Before that, a child may."""
    ethanol.save(tmp_path / "ethanol.npz")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, tmp_path / "ethanol.npz"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == ["worked"] + ["ForkedProcessError"] * 7
