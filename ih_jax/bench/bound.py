"""How far a step is from the least time that its products of matrices can take on this machine.

`sweeps.arithmetic` says which operations are counted; all else is counted as nothing, so that the
bound cannot be reached. The quotient says how many times as long a step takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from ih_jax.bench.machine import Matmul
from ih_jax.bench.steps import training
from ih_jax.bench.timing import Effort, Json, Measure, alternate, at_once, calibrated
from ih_jax.data.evaluations import EVALUATION_SETS
from ih_jax.data.languages.synthetic import Repeats
from ih_jax.sweeps.arithmetic import Count, of_study
from ih_jax.sweeps.programs import CHUNK, Programs
from ih_jax.sweeps.study import Study
from ih_jax.tasks.fewshot import fewshot
from ih_jax.tasks.language import language

FEATURES = (256, 512, 1280)  # of an exemplar
MANY_LABELS = (1_600, 12_800)  # Singh et al. 2025


class Setting(NamedTuple):
    """What is measured: blocks of one width of a study made for it."""

    what: str
    study: Callable[[], Study]
    width: int


def block_of(features: int, width: int) -> Study:
    """A block of the paper's setting with random features, 50 classes."""
    table = np.random.default_rng(0).normal(size=(150, 1, features)).astype(np.float32)
    task = fewshot(table, evaluation_sequences=32, evaluation_sets=EVALUATION_SETS[:1])
    return Study(task, init=range(width), sequences=1e9, evaluate=[0], checkpoints=[0])


def many_labels(labels: int) -> Study:
    """As many classes as labels, every class with a label of its own; 512 features."""
    table = np.random.default_rng(0).normal(size=(labels, 1, 512)).astype(np.float32)
    task = fewshot(
        table,
        classes=labels,
        labels=labels,
        scheme="none",
        evaluation_sequences=32,
        evaluation_sets=EVALUATION_SETS[:1],
    )
    return Study(task, init=[0], sequences=1e9, evaluate=[0], checkpoints=[0])


def language_model() -> Study:
    """Two layers of 64 dimensions on sequences of 128 tokens, batches of 32."""
    task = language(Repeats(), batch=32, evaluation_sequences=32)
    return Study(task, init=[0], layers=2, tokens=1e9, evaluate=[0], checkpoints=[0])


def settings(width: int) -> list[Setting]:
    """Blocks of the paper's setting, then single networks that are larger."""
    found = [Setting(f"{f:,} features", partial(block_of, f, width), width) for f in FEATURES]
    found += [Setting(f"{c:,} labels", partial(many_labels, c), 1) for c in MANY_LABELS]
    return [*found, Setting("language, 128 tokens", language_model, 1)]


def bounds(
    devices: Sequence[jax.Device], matmul: Matmul, effort: Effort, say: Callable[[str], None]
) -> list[Json]:
    """The quotient to the bound in every setting."""
    found = []
    for what, make, width in settings(effort.headline):
        say(f"bound: {what}")
        study = make()
        programs = Programs(study, width)
        takes = [training(programs.of(0, each), range(width), each) for each in devices]
        step = calibrated(at_once(takes), effort.seconds, CHUNK)
        found.append({"what": what, **quotient(step, of_study(study), width, matmul, effort.pairs)})
    return found


def quotient(step: Measure, counted: Count, width: int, matmul: Matmul, pairs: int) -> Json:
    """How many times as long as its bound a step takes, all devices stepping through blocks."""
    taken = alternate([matmul.measure, step], pairs)
    runs = width * matmul.devices
    peak = np.array([matmul.gflops(seconds) for seconds, _ in taken]) * 1e9
    a_run = taken[:, 1] / runs
    of_pairs = a_run * peak / counted.needed
    return {
        "width": width,
        "pairs": pairs,
        "mflop_needed": counted.needed / 1e6,
        "mflop_of_attention": counted.attention / 1e6,
        "mflop_laid_out": counted.laid_out / 1e6,
        "peak_gflops": float(np.median(peak)) / 1e9,
        "ms_per_step_per_run": 1e3 * float(np.median(a_run)),
        "bound_ms_per_step_per_run": 1e3 * counted.needed / float(np.median(peak)),
        "quotient": float(np.median(of_pairs)),
        "quotients_of_pairs": of_pairs.tolist(),
    }
