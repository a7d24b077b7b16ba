"""Sequences that all networks are measured on, taken a few at a time.

Paper: Singh et al. 2024: every sequence that training can show, 78,400 in its setting, is the probe
of all analyses of trained networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import Array

from ih_jax.data import fewshot
from ih_jax.data.fewshot import Batch
from ih_jax.errors import UserError
from ih_jax.tasks.base import Task
from ih_jax.tasks.fewshot import FewShot

AT_ONCE = 512  # sequences; what few cores' caches hold, and enough to fill their vector lanes


def exhaustive(task: Task) -> Batch:
    """Every training sequence: class pairs x label pairs x orders (78,400 in the paper's setting).

    Raises UserError for a task whose sequences cannot be listed: not few-shot, several exemplars a
    class, noise, or not the default layout.
    """
    if not isinstance(task, FewShot):
        raise UserError("only the sequences of a few-shot task can be listed: sample a probe")
    if task.exemplars != 1 or task.layout != fewshot.Layout():
        raise UserError(
            f"{task.exemplars} exemplars a class, {task.layout}: only for one exemplar and the "
            "default layout can all sequences be listed; give a sample as probe instead"
        )
    return fewshot.exhaustive(task.source("train", "train", "train"))


def by_pieces(function: Callable[[Batch], Any], batch: Batch, at_once: int = AT_ONCE) -> Any:
    """The mean over sequences of what `function(batch)` gives, itself a mean over sequences.

    The batch is split into equal pieces of at most `at_once` sequences (where its size has such a
    divisor above a fifth of that; else it is taken whole), one after the other, so that memory does
    not grow with it.
    """
    return batch.mean_of(function, at_once, at_once // 5 + 1)


def subset(batch: Batch, every: int) -> Batch:
    """Every so-manyth sequence, where all are more than is needed.

    Orders of a context and label pairs vary fastest in `exhaustive`: give an odd number.
    """

    def some(x: Array | None) -> Array | None:
        return None if x is None else x[np.arange(0, len(x), every)]

    if batch.rows is None:
        raise UserError("a batch with a table of its own has no subset: sample fewer sequences")
    return Batch(batch.table, *map(some, (batch.rows, batch.labels, batch.classes, batch.kinds)))  # type: ignore[arg-type]
