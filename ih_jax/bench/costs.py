"""Everything that `ih-jax bench` measures, in the order in which it is measured."""

from __future__ import annotations

from collections.abc import Callable

import jax

from ih_jax.bench import bound
from ih_jax.bench.beside import growth, looking, telling
from ih_jax.bench.machine import bandwidth, describe, fastest_matmul
from ih_jax.bench.starting import fresh_cache, warm_start
from ih_jax.bench.steps import KINDS, baseline, fit_cost, headline, width_row
from ih_jax.bench.timing import Effort, Json, Measure, median
from ih_jax.errors import UserError
from ih_jax.sweeps.programs import remember_cost


def measure(effort: Effort, say: Callable[[str], None] = print) -> Json:
    """Everything, as flat JSON with units in the names; `say` hears what is being measured.

    Keeps what the widths cost for later sweeps (`programs.remember_cost`).
    """
    devices = jax.local_devices()
    device = devices[0]
    found: Json = {"device": describe(devices)}
    with fresh_cache() as folder:
        # Before this process holds the accelerator, where nothing else has touched JAX yet.
        say("warm start")
        found["warm_start_s"] = warm_start(effort.headline, folder)
    say("memory growth")
    found["growth"] = growth(device)
    say("peak")
    matmul = fastest_matmul(devices, effort.seconds)
    found["peak_gflops"] = matmul.gflops(median(matmul.measure))
    found["matmul_size"] = matmul.size
    found["bandwidth_gb_per_s"] = bandwidth(devices, effort.seconds)
    steps: dict[tuple[int, str], Measure] = {}
    found["widths"] = []
    for width in effort.widths:
        for clamps in KINDS:
            say(f"width {width}, clamps {clamps}")
            row, timed = width_row(width, clamps, devices, found["peak_gflops"], effort.seconds)
            found["widths"].append(row)
            if timed is not None:
                steps[width, clamps] = timed
    if (effort.headline, "mixed") not in steps:
        raise UserError(f"a block of {effort.headline} does not fit this device: give less")
    say("ratios")
    found["headline"] = headline(steps, matmul, effort)
    found["baseline"] = baseline(steps[effort.headline, "none"], devices, effort)
    steps.clear()
    found["bounds"] = bound.bounds(devices, matmul, effort, say)
    say("evaluations and checkpoints")
    found |= looking(device, effort)
    say("a function that is told scores")
    found["on_scores"] = telling(effort)
    cost = fit_cost(found["widths"])
    found["cost"] = {"overhead_runs": cost.overhead, "widest": cost.widest}
    found["cost"]["kept_in"] = str(remember_cost(device, cost))
    return found


def measure_bounds(effort: Effort, say: Callable[[str], None] = print) -> Json:
    """How far steps are from the bound of their products, and nothing else: see `bound`."""
    devices = jax.local_devices()
    say("peak")
    matmul = fastest_matmul(devices, effort.seconds)
    return {
        "device": describe(devices),
        "peak_gflops": matmul.gflops(median(matmul.measure)),
        "matmul_size": matmul.size,
        "bounds": bound.bounds(devices, matmul, effort, say),
    }
