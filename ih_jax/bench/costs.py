"""What training costs on this machine, against what the machine can do.

The machine is measured whole, in one process: as in a sweep every device steps through a block of
its own, all at once, and the peak is what all devices multiply at once. (On CPU one device of two
is no half of the machine, since all of them lend each other their threads.) Ratios are medians over
alternated pairs: the two sides take turns, so that a machine that slows down slows both.

Floating-point operations of a step (one run, 32 sequences of five tokens) are counted in two ways:
as the paper's size implies (51 MFLOP), and without the gradient to the inputs, which nobody needs
(45.6 MFLOP). Both count products of matrices only.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from ih_jax.bench.timing import (
    REPEATS,
    TOKENS,
    Matmul,
    Measure,
    Take,
    alternate,
    at_once,
    bandwidth,
    calibrated,
    fastest_matmul,
    median,
    repeated,
)
from ih_jax.errors import UserError
from ih_jax.experiments.singh2024.trainings import CLAMPS, SHORT
from ih_jax.sweeps import cards
from ih_jax.sweeps.blocks import BlockPlan, StepCost
from ih_jax.sweeps.chunk import compiler_options
from ih_jax.sweeps.loop import ALL_SETS, TRAIN_SET, State, start, step
from ih_jax.sweeps.programs import (
    CHUNK,
    SPARE,
    Compiled,
    Programs,
    chunk_arrays,
    first_state,
    memory_of,
    remember_cost,
)
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.writer import SAVE_EVERY_SECONDS, Writer
from ih_jax.tasks.fewshot import fewshot

PAPER_FLOP, HONEST_FLOP = 51e6, 45.6e6  # of a step of one run
HEADLINE = 16  # runs of the block in the ratios
STEPS = 8 * CHUNK  # of one measurement, at least; a sweep takes some 250 a call
CLOSE = 1.05  # a width is good enough at this much of the best time a run
GROWTH_CHUNKS = (10, 110)
KINDS = ("none", "mixed")  # of clamps
CACHE_SETTINGS = {
    "jax_compilation_cache_dir": None,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
FIRST_STEP = """
import sys, time
import jax
import ih_jax as ih
from ih_jax.sweeps.programs import Programs, chunk_arrays, first_state
device, width = jax.local_devices()[0], int(sys.argv[1])
compiled = Programs(ih.sweep(ih.fewshot(), init=range(width)), width).of(0, device)
block, state = first_state(compiled, range(width), device)
chunk = chunk_arrays(0, [(1, 0, False)], device)
jax.block_until_ready(compiled.advance(state, block, *chunk))
print(time.time())
"""

Json = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured, and for how long."""

    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # runs of a block
    pairs: int = 10  # of every ratio
    seconds: float = 0.3  # of one measurement, at least

    @property
    def headline(self) -> int:
        """The width of the block in the ratios: 16, or what comes next below it."""
        return max((w for w in self.widths if w <= HEADLINE), default=min(self.widths))


def effort(widths: Sequence[int], pairs: int, seconds: float = Effort.seconds) -> Effort:
    """Checked. Raises UserError for widths and pairs below 1."""
    if not widths or min(widths) < 1:
        raise UserError(f"--widths is {list(widths)}: give numbers of runs, each 1 or more")
    if pairs < 1:
        raise UserError(f"--pairs is {pairs}: give 1 or more")
    return Effort(tuple(sorted(set(widths))), pairs, seconds)


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
    say("evaluations and checkpoints")
    steps.clear()
    found |= looking(device, effort)
    cost = fit_cost(found["widths"])
    found["cost"] = {"overhead_runs": cost.overhead, "widest": cost.widest}
    found["cost"]["kept_in"] = str(remember_cost(device, cost))
    return found


def describe(devices: Sequence[jax.Device]) -> Json:
    """The machine, what runs on it, and when."""
    device = devices[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": len(devices),
        "cpu_model": cpu_model(),
        "machine": platform.platform(),
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
        "compiler_options": compiler_options(device.platform, TOKENS),
        "versions": cards.versions("ih_jax", "jax", "jaxlib"),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": cards.commit(),
    }


def cpu_model() -> str:
    """As the kernel names it, where it does."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# Blocks


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
    options: dict[str, str] = {}
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


# Beside training


def looking(device: jax.Device, effort: Effort) -> dict[str, Json]:
    """Evaluations and checkpoints, as shares of a clamped run of figure 5b (200,000 sequences)."""
    width = effort.headline
    study, members = study_of("mixed", width)
    compiled = Programs(study, width).of(0, device)
    kinds = (0, TRAIN_SET, ALL_SETS)
    takes = [training(compiled, members, device, kind) for kind in kinds]
    for take in takes:
        take(CHUNK)
    taken = alternate([partial(take, CHUNK) for take in takes], effort.pairs)
    train_set, all_sets = np.median(taken[:, 1:] - taken[:, :1], axis=0) / CHUNK / width
    step_s = median(calibrated(takes[0], effort.seconds)) / width
    steps = study.runs[0].steps
    table = study.timetable(steps)
    counts = [sum(kind == k for _, kind, _ in table) for k in (TRAIN_SET, ALL_SETS)]
    kept = sum(keeps for _, _, keeps in table)
    flushes = max(1, math.ceil(steps * step_s * width / SAVE_EVERY_SECONDS))
    copy_s, flush_s = saving(study, compiled, members, device, math.ceil(kept / flushes))
    evaluating = float(counts[0] * train_set + counts[1] * all_sets)
    writing = (kept * copy_s + flushes * flush_s) / width
    whole = steps * step_s + evaluating + writing
    common = {"width": width, "sequences_of_run": SHORT, "training_s_per_run": steps * step_s}
    return {
        "evaluation": {
            **common,
            "s_per_evaluation_of_train_set": float(train_set),
            "s_per_evaluation_of_all_sets": float(all_sets),
            "evaluations_of_train_set": counts[0],
            "evaluations_of_all_sets": counts[1],
            "share_of_run": evaluating / whole,
        },
        # As if training waited for every write; in truth they go on beside it.
        "checkpoint": {
            **common,
            "s_per_checkpoint_per_run": writing / kept,
            "s_to_copy_a_block": copy_s,
            "s_to_write_a_block": flush_s,
            "checkpoints": kept,
            "writes": flushes,
            "share_of_run": writing / whole,
        },
    }


def saving(
    study: Study, compiled: Compiled, members: Sequence[int], device: jax.Device, kept: int
) -> tuple[float, float]:
    """Seconds to copy a block's weights once, and to write `kept` copies and the state to disk."""
    _, state = first_state(compiled, members, device)
    jax.block_until_ready(state)
    plan = BlockPlan(0, 0, tuple(members), tuple(range(len(members))), study.runs[0].steps)
    copies, writes = [], []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as saver:
        writer = Writer(Path(folder), plan, saver)
        for _ in range(1 + REPEATS):
            began = time.perf_counter()
            for number in range(kept):
                writer.add([(number, 0, True)], np.zeros((1, len(members), 1, 3)), state)
            copied = time.perf_counter()
            writer.flush(state, 0)
            writer.wait()
            copies.append((copied - began) / kept)
            writes.append(time.perf_counter() - copied)
    return float(np.median(copies[1:])), float(np.median(writes[1:]))


def growth(device: jax.Device, width: int = 2) -> Json:
    """How much memory the process gains while a small block trains and is looked at, briefly."""
    study = Study(fewshot(evaluation_sequences=32), init=range(width), sequences=SHORT)
    take = training(Programs(study, width).of(0, device), range(width), device, TRAIN_SET)
    sizes = {}
    for chunk in range(1, GROWTH_CHUNKS[1] + 1):
        take(CHUNK)
        if chunk in GROWTH_CHUNKS:
            sizes[chunk] = resident_megabytes()
    first, last = (sizes[chunk] for chunk in GROWTH_CHUNKS)
    return {
        "chunks": GROWTH_CHUNKS[1] - GROWTH_CHUNKS[0],
        "megabytes_at_first": first,
        "megabytes_at_last": last,
        "megabytes_grown": last - first,
    }


def resident_megabytes() -> float:
    """Of this process, now; where the kernel does not say, at its largest so far."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource  # not on every system

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


@contextlib.contextmanager
def fresh_cache() -> Iterator[Path]:
    """An empty folder of compiled programs instead of the user's."""
    before = {name: jax.config.values[name] for name in CACHE_SETTINGS}
    with tempfile.TemporaryDirectory(prefix="ih_jax-bench-") as folder:
        try:
            _use({**CACHE_SETTINGS, "jax_compilation_cache_dir": folder})
            yield Path(folder)
        finally:
            _use(before)


def _use(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def warm_start(width: int, folder: Path) -> float | None:
    """Seconds from the start of a process to the end of its block's first step.

    The first of two such processes fills the cache in `folder`, the second is timed. None where a
    second process may not use the device.
    """
    told = {name.upper(): str(value) for name, value in CACHE_SETTINGS.items()}
    told |= {"JAX_COMPILATION_CACHE_DIR": str(folder), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    took = None
    for _ in range(2):
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_STEP, str(width)],
            capture_output=True,
            text=True,
            env={**os.environ, **told},
            check=False,
        )
        if done.returncode:
            return None
        took = float(done.stdout.split()[-1]) - began
    return took


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
