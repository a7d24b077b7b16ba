"""What is done beside training: evaluations, checkpoints, and the memory that they leave."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import numpy as np
import psutil

from ih_jax.bench.steps import study_of, training
from ih_jax.bench.timing import REPEATS, Effort, Json, alternate, calibrated, median
from ih_jax.experiments.singh2024.trainings import SHORT
from ih_jax.sweeps.blocks import BlockPlan
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.hearing import OnScores
from ih_jax.sweeps.loop import ALL_SETS, TRAIN_SET
from ih_jax.sweeps.programs import CHUNK, Compiled, Programs, first_state, workers
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.writer import SAVE_EVERY_SECONDS, Writer
from ih_jax.tasks.fewshot import fewshot

GROWTH_CHUNKS = (10, 110)
TOLD_SEQUENCES, TOLD_EVERY = 25_600, 640  # of a run, and between what a function is told
TOLD_WIDTH = 4  # of a block
COMPUTES_SECONDS = 0.1  # at each evaluation, by a function that computes


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


def telling(effort: Effort) -> Json:
    """What a function that is told every evaluation costs a whole sweep, in pairs.

    Twice: a function that notes losses, and one that would compute for as long as it is let.
    """
    count = TOLD_WIDTH * len(workers())
    task = fewshot(evaluation_sequences=32)
    often = range(0, TOLD_SEQUENCES + 1, TOLD_EVERY)
    study = Sweep(
        task, init=range(count), sequences=TOLD_SEQUENCES, evaluate=often, checkpoints=[0]
    )
    noted: list[float] = []

    def note(study: Study, runs: list[int], step: int, scores: Mapping[str, np.ndarray]) -> None:
        noted.append(float(np.nanmedian(scores["loss"])))

    def compute(study: Study, runs: list[int], step: int, scores: Mapping[str, np.ndarray]) -> None:
        until = time.thread_time() + COMPUTES_SECONDS
        while time.thread_time() < until:
            pass

    def take(on_scores: OnScores | None) -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            study.train(folder, width=TOLD_WIDTH, progress=False, on_scores=on_scores)
            return time.perf_counter() - began

    functions: tuple[OnScores | None, ...] = (None, note, compute)
    take(None)  # compiles
    taken = alternate([partial(take, each) for each in functions], effort.pairs)
    ratios = np.median(taken[:, 1:] / taken[:, :1], axis=0)
    return {
        "runs": count,
        "sequences_of_run": TOLD_SEQUENCES,
        "evaluations": len(often),
        "pairs": effort.pairs,
        "s_without": float(np.median(taken[:, 0])),
        "notes_over_without": float(ratios[0]),
        "computes_over_without": float(ratios[1]),
    }


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
    """What this process holds in memory now."""
    return psutil.Process().memory_info().rss / 1e6
