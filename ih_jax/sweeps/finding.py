"""Finding a run of a study by its labels, and one of its checkpoints by what it had seen there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ih_jax.errors import UserError, unknown
from ih_jax.sweeps.study import Study


def number_of(study: Study, labels: Mapping[str, Any]) -> int:
    """The number of the run with these labels.

    Raises:
        UserError: there is no such axis or label, or several runs have these labels.
    """
    axes = study.axes
    for axis, label in labels.items():
        if axis not in axes:
            raise unknown("axis", axis, axes)
        known = list(map(str, axes[axis]))
        if str(label) not in known:
            raise unknown(axis, label, known)
    # Along each axis, the places that fit.
    places = [
        [i for i, each in enumerate(own) if axis not in labels or str(each) == str(labels[axis])]
        for axis, own in axes.items()
    ]
    count = math.prod(map(len, places))
    if count != 1:
        open_ = {axis: each for axis, each in axes.items() if axis not in labels}
        missing = [f"{axis} ({some(each)})" for axis, each in open_.items() if len(each) > 1]
        said = ", ".join(f"{a}={v!r}" for a, v in labels.items()) or "no labels"
        raise UserError(f"{count} runs have {said}: give one of {' and '.join(missing)} too")
    return int(np.ravel_multi_index([at[0] for at in places], study.shape))


def step_at(study: Study, run: int, seen: float, steps: Sequence[int]) -> int:
    """Of the steps at which a run was kept, the one at which it had seen so many sequences.

    Raises UserError where there is none.
    """
    step = next((each for each in steps if each * study.unit == seen), None)
    if step is None:
        raise UserError(_no_checkpoint(run, seen, steps, study))
    return step


def _no_checkpoint(run: int, seen: float, steps: Sequence[int], study: Study) -> str:
    """What to say where nothing was kept at so many sequences: the nearest that there are."""
    every = [step * study.unit for step in steps]
    near = sorted(sorted(every, key=lambda each: abs(each - seen))[:3])
    shown = ", ".join(f"{each:,}" for each in near)
    return (
        f"run {run} has no checkpoint at {seen:,} {study.task.unit}: the nearest of its "
        f"{len(every)} are at {shown} (checkpoints= of a study says where they are kept)"
    )


def some(labels: Sequence[Any], most: int = 6) -> str:
    """Labels of an axis, the middle of a long one left out."""
    each = [str(label) for label in labels]
    if len(each) > most:
        each = [*each[: most - 2], "...", each[-1], f"({len(labels)})"]
    return ", ".join(each)
