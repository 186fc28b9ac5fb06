"""(a) Parameters and their vector-Jacobian product, molecule by molecule, all sections together."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from openff.toolkit import ForceField

from benchmarks.molecules import drug_like
from benchmarks.timing import Row, measure, once, show
from openff_diffsystem import DiffSystem, ForceFieldParameters

SECTIONS = ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW", "Electrostatics")


def run() -> list[Row]:
    """Time 20 drug-like molecules under Sage 2.2.1."""
    force_field = ForceField("openff-2.2.1.offxml", load_plugins=True)
    warm_up, *molecules = drug_like(21)
    handlers = [force_field[tag] for tag in SECTIONS]
    params = [handler.params for handler in handlers]

    def eager(molecule) -> list:
        """As timemachine calls them: jax.vjp of each handler, nothing compiled."""
        gradients = []
        for handler, values in zip(handlers, params, strict=True):
            out, pullback, _ = jax.vjp(lambda p, h=handler: h.partial_parameterize(p, molecule), values, has_aux=True)
            gradients.append(pullback(jax.device_put(np.ones(out.shape))))
        return gradients

    eager(warm_up)
    first = [once(lambda m=molecule: eager(m)) for molecule in molecules]
    again = [measure(lambda m=molecule: eager(m), 5).best for molecule in molecules]

    layout = ForceFieldParameters.from_force_field(force_field).layout
    theta = ForceFieldParameters.from_force_field(force_field).vector
    jitted, system_level = [], []
    for molecule in molecules:

        @jax.jit
        def through_handlers(vector, cotangent, molecule=molecule):
            def every_section(vector):
                parts = [
                    handler.partial_parameterize(vector[layout.sections[handler.TAGNAME].slice], molecule)[0].ravel()
                    for handler in handlers
                ]
                return jnp.concatenate(parts)

            out, pullback = jax.vjp(every_section, vector)
            return out, pullback(cotangent)[0]

        size = sum(handler.parameterize(molecule)[0].size for handler in handlers)
        jitted.append(measure(partial(through_handlers, theta, jnp.ones(size)), 200).best)

        system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])

        @jax.jit
        def through_system(vector, cotangent, system=system):
            out, pullback = jax.vjp(lambda v: system.parameterize(v).values, vector)
            return out, pullback(cotangent)[0]

        cotangent = jnp.ones(system.system_layout.size)
        system_level.append(measure(partial(through_system, theta, cotangent), 200).best)

    def row(what: str, times: list[float], bar: float | None = None) -> Row:
        mean = float(np.mean(times))
        return Row(
            what,
            show(mean),
            "",
            "" if bar is None else f"<= {show(bar)}",
            None if bar is None else mean <= bar,
        )

    return [
        row("handlers, parameterize + VJP, first call (matching included, nothing compiled)", first),
        row("handlers, parameterize + VJP, later calls, not jitted", again),
        row("handlers, parameterize + VJP, jitted, steady state, all sections", jitted, 50e-6),
        row("DiffSystem.parameterize + VJP, jitted, steady state, all sections", system_level, 50e-6),
    ]
