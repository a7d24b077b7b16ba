"""What the networks of an imported run score, and which of JAX's generators split its label pairs.

The split of label pairs is drawn by JAX, whose generator changed with version 0.5; config.json does
not name the version. Networks have a lower loss on the pairs that they were trained on, so that the
log tells: one of the two splits has the losses that it recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, get_args

import jax
import numpy as np
import xarray as xr

from ih_jax.data.splits import Generator
from ih_jax.interop.icl_dynamics.runs import AuthorsRun
from ih_jax.model.params import Params
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.loop import evaluate
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.fewshot_scores import METRICS

SEQUENCES = 4000  # of each evaluation set
CLEARLY = 0.5  # the one split's error is at most so much of the other's
LEAST = 0.002  # nats: and they differ by this, beyond what another sample of sequences makes


class Split(NamedTuple):
    """Which generator split the label pairs, and how that is known."""

    generator: Generator
    known: str  # in words


def evaluated(study: Sweep, checkpoints: Mapping[int, Params]) -> xr.Dataset:
    """METRICS [sequences, set] of every checkpoint of the study's only run."""
    run = jax.tree.map(lambda leaf: leaf[0], study.groups[0].arrays)
    program = dataclasses.replace(study.groups[0].program, evaluation_sequences=SEQUENCES)
    names = list(study.task.evaluation_names)
    look = jax.jit(
        lambda run, params, seen: evaluate(program, run, params, seen, range(len(names)))
    )
    values = np.stack([look(run, params, np.int32(n)) for n, params in checkpoints.items()])
    found = {metric: (("sequences", "set"), values[..., i]) for i, metric in enumerate(METRICS)}
    return xr.Dataset(found, {"sequences": list(checkpoints), "set": names})


def split_of(run: AuthorsRun, studies: Mapping[Generator, Sweep], asked: Generator | None) -> Split:
    """Which generator split the label pairs: as asked for, else as the log tells, else the old.

    `studies`: of this run, by generator.
    """
    if asked is not None:
        return Split(asked, "as asked for")
    old, new = (_training_pairs(studies[each]) for each in get_args(Generator))
    if old == new:
        return Split("old", "both generators give the same")
    if run.scores is None:
        return Split("old", "no log tells; --label-generator new takes the other")
    errors = {each: _error(study, run) for each, study in studies.items()}
    best = min(errors, key=lambda each: errors[each])
    worst = max(errors.values())
    if errors[best] <= CLEARLY * worst and worst - errors[best] >= LEAST:
        return Split(best, "told by the losses of the log")
    return Split("old", "the log does not tell; --label-generator new takes the other")


def _training_pairs(study: Sweep) -> set[tuple[int, ...]]:
    assert isinstance(study.task, FewShot)
    return set(map(tuple, study.task.splits()["label_pairs"]["train"].tolist()))


def _error(study: Sweep, run: AuthorsRun) -> float:
    """Root mean square difference of losses (nats) from the log, at the checkpoints it has."""
    assert run.scores is not None
    both = [n for n in sorted(run.checkpoints) if n in run.scores["sequences"].values]
    if not both:
        return 0.0
    ours = evaluated(study, {n: run.checkpoints[n] for n in both})["loss"]
    logged = run.scores["loss"].sel(sequences=both).reindex(set=ours["set"].values)
    return float(np.sqrt(np.nanmean((ours.values - logged.values) ** 2)))
