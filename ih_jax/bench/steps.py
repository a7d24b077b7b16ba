"""What a step costs: of blocks of every width, against the peak and against one network alone.

Floating-point operations of a step (one run, 32 sequences of five tokens) are counted in two ways:
as the paper's size implies (51 MFLOP), and without the gradient to the inputs, which nobody needs
(45.6 MFLOP). Both count products of matrices only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from ih_jax import platforms
from ih_jax.bench.machine import TOKENS, Matmul
from ih_jax.bench.starting import fresh_cache
from ih_jax.bench.timing import (
    Effort,
    Json,
    Measure,
    Take,
    alternate,
    at_once,
    calibrated,
    median,
    repeated,
)
from ih_jax.experiments.singh2024.trainings import CLAMPS, SHORT
from ih_jax.sweeps.blocks import StepCost
from ih_jax.sweeps.chunk import compiler_options
from ih_jax.sweeps.loop import State, start, step
from ih_jax.sweeps.programs import (
    CHUNK,
    SPARE,
    Compiled,
    Programs,
    chunk_arrays,
    first_state,
    memory_of,
)
from ih_jax.sweeps.study import Study
from ih_jax.tasks.fewshot import fewshot

PAPER_FLOP, HONEST_FLOP = 51e6, 45.6e6  # of a step of one run
STEPS = 8 * CHUNK  # of one measurement, at least; a sweep takes some 250 a call
CLOSE = 1.05  # a width is good enough at this much of the best time a run
KINDS = ("none", "mixed")  # of clamps


def study_of(clamps: str, width: int) -> tuple[Study, list[int]]:
    """The paper's setting, and which of its runs stand in a block: the six clamps take turns."""
    if clamps == "none":
        return Study(fewshot(), init=range(width), sequences=SHORT), list(range(width))
    inits = math.ceil(width / len(CLAMPS))
    study = Study(fewshot(), clamp=CLAMPS, init=range(inits), sequences=SHORT)
    turns = [lane % len(CLAMPS) * inits + lane // len(CLAMPS) for lane in range(width)]
    return study, turns


def compile_both(study: Study, width: int, device: jax.Device) -> tuple[Compiled, float, float]:
    """A block's program, and the seconds until it is ready, with no cache and with a full one."""
    _ = study.groups[0].arrays  # the data is read once, and is no part of compiling

    def build() -> tuple[Compiled, float]:
        jax.clear_caches()
        began = time.perf_counter()
        return Programs(study, width).of(0, device), time.perf_counter() - began

    with fresh_cache():
        compiled, cold = build()
        _, warm = build()
    return compiled, cold, warm


def training(compiled: Compiled, members: Sequence[int], device: jax.Device, kind: int = 0) -> Take:
    """Takes of steps of a block. Every take looks `CHUNK` times at what `kind` says (0: never)."""
    block, state = first_state(compiled, members, device)
    at = 0

    def take(steps: int) -> float:
        nonlocal state, at
        ends = [at + steps * (i + 1) // CHUNK for i in range(CHUNK)]
        chunk = chunk_arrays(at, [(end, kind, False) for end in ends], device)
        jax.block_until_ready((state, chunk))
        began = time.perf_counter()
        state, scores = compiled.advance(state, block, *chunk)
        np.asarray(scores)
        jax.block_until_ready(state)
        at += steps
        return time.perf_counter() - began

    return take


def width_row(
    width: int, clamps: str, devices: Sequence[jax.Device], peak_gflops: float, seconds: float
) -> tuple[Json, Measure | None]:
    """What a block of this width costs on every device, and one step of all to measure again.

    The second is None if it does not fit.
    """
    study, members = study_of(clamps, width)
    compiled, cold, warm = compile_both(study, width, devices[0])
    row: Json = {"width": width, "clamps": clamps, "fits": True}
    row |= {"megabytes_per_run": compiled.bytes / width / 1e6}
    row |= {"compile_s_cold": cold, "compile_s_warm": warm}
    if compiled.bytes > SPARE * memory_of(devices[0]):
        return {**row, "fits": False}, None
    programs = Programs(study, width)
    takes = [training(programs.of(0, device), members, device) for device in devices]
    step_of_all = calibrated(at_once(takes), seconds, STEPS)
    a_run = median(step_of_all) / (width * len(devices))
    return {**row, **rates(a_run, study.task.batch, peak_gflops)}, step_of_all


def rates(seconds: float, batch: int, peak_gflops: float) -> Json:
    """What `seconds` a step of a run come to, when all devices are busy."""
    return {
        "ms_per_step_per_run": 1e3 * seconds,
        "sequences_per_s": batch / seconds,
        "gflops_paper_count": PAPER_FLOP / seconds / 1e9,
        "gflops_honest_count": HONEST_FLOP / seconds / 1e9,
        "fraction_of_peak_paper_count": PAPER_FLOP / seconds / 1e9 / peak_gflops,
        "fraction_of_peak_honest_count": HONEST_FLOP / seconds / 1e9 / peak_gflops,
    }


def headline(steps: dict[tuple[int, str], Measure], matmul: Matmul, effort: Effort) -> Json:
    """Medians over pairs: the block against the peak, clamps against none, wider against it."""
    width, pairs = effort.headline, effort.pairs
    block = steps[width, "none"]
    taken = alternate([matmul.measure, block], pairs)
    work = PAPER_FLOP * width * matmul.devices
    share = np.array([work / s / 1e9 / matmul.gflops(m) for m, s in taken])
    mixed = alternate([block, steps[width, "mixed"]], pairs)
    wide = [w for w in effort.widths if w >= width and (w, "none") in steps]
    each = alternate([steps[w, "none"] for w in wide], pairs) / np.array(wide)
    return {
        "width": width,
        "pairs": pairs,
        "fraction_of_peak_paper_count": float(np.median(share)),
        "fraction_of_peak_honest_count": float(np.median(share) * HONEST_FLOP / PAPER_FLOP),
        "fraction_of_peak_paper_count_of_pairs": share.tolist(),
        "mixed_over_none": float(np.median(mixed[:, 1] / mixed[:, 0])),
        "time_per_run_over_that_of_block": {
            str(w): float(np.median(each[:, i] / each[:, 0])) for i, w in enumerate(wide)
        },
    }


def baseline(block: Measure, devices: Sequence[jax.Device], effort: Effort) -> Json:
    """One network, a jitted step called from a Python loop, against a block on every device."""
    device, runs = devices[0], effort.headline * len(devices)
    study, _ = study_of("none", 1)
    program, batch = study.groups[0].program, study.task.batch
    run = jax.device_put(jax.tree.map(lambda leaf: leaf[0], study.groups[0].arrays), device)
    state = jax.jit(partial(start, program))(run)
    options: dict[str, platforms.Option] = {}
    one_step = jax.jit(partial(step, program))
    try:
        jax.block_until_ready(one_step(run, state, np.int32(0)))
    except Exception:  # XLA raises many kinds where its defaults cannot compile this
        options = compiler_options(device.platform, TOKENS)
        one_step = jax.jit(partial(step, program), compiler_options=options)

    def next_step(kept: tuple[State, int]) -> tuple[State, int]:
        return one_step(run, kept[0], np.int32(kept[1])), kept[1] + 1

    alone = calibrated(repeated(next_step, (state, 0)), effort.seconds)
    taken = alternate([alone, block], effort.pairs)
    one, many = np.median(taken, axis=0)
    return {
        "what": "one network, one jitted step a call from a Python loop",
        "compiler_options": options,
        "ms_per_step_per_run": 1e3 * float(one),
        "sequences_per_s": batch / float(one),
        "block_width": effort.headline,
        "block_sequences_per_s": batch * runs / float(many),
        "block_over_baseline": float(np.median(runs * taken[:, 0] / taken[:, 1])),
    }


def fit_cost(rows: Sequence[Json]) -> StepCost:
    """What the widths without clamps say: seconds of a step = a (runs + overhead).

    `widest` is the widest block within 5% of the best time a run. The line is fitted, with relative
    errors, to the widths up to there: beyond, caches are full and it bends.
    """
    per_run = {
        row["width"]: row["ms_per_step_per_run"]
        for row in rows
        if row["clamps"] == "none" and row["fits"]
    }
    best = min(per_run.values())
    widest = max(width for width, each in per_run.items() if each <= CLOSE * best)
    widths = np.array([width for width in per_run if width <= widest], float)
    times = np.array([width * per_run[int(width)] for width in widths])
    if len(widths) < 2:
        return StepCost(0.0, widest)
    terms = np.stack([widths, np.ones_like(widths)], axis=1) / times[:, None]
    (slope, constant), *_ = np.linalg.lstsq(terms, np.ones_like(widths))
    return StepCost(max(0.0, float(constant / slope)) if slope > 0 else 0.0, widest)
