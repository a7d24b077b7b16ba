"""Whether the settings of a few-shot task (`tasks.fewshot.FewShot`) fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ih_jax import memory
from ih_jax.data.evaluations import FIRST_TWO, EvaluationSet
from ih_jax.data.fewshot import Burst
from ih_jax.data.images.features import Features
from ih_jax.errors import UserError, given, real


def check_nested(task: Any) -> None:
    """Raise UserError for settings of several values that are not what they are declared as."""
    if not isinstance(task.data, Features):
        raise UserError(f"data is {given(task.data)}: make the task with ih_jax.fewshot(data)")
    if not isinstance(task.mixture, tuple) or not task.mixture:
        raise UserError(f"mixture is {given(task.mixture)}: give a tuple of one or more")
    if not all(isinstance(each, Burst) for each in task.mixture):
        raise UserError(f"mixture is {given(task.mixture)}: give objects of class Burst")
    for name in ("label_pair_shares", "mixture_weights"):
        value = getattr(task, name)
        if not isinstance(value, tuple):
            raise UserError(f"{name} is {given(value)}: give a tuple of numbers")
        if sum(real(f"{name}[{i}]", each, least=0) for i, each in enumerate(value)) <= 0:
            raise UserError(f"{name} is {given(value)}: give one number above 0 or more")


def of_split(splits: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The indices of a split; "all": of every one, in order."""
    if name in splits:
        return splits[name]
    return np.sort(np.concatenate(list(splits.values())))


def uses_label_pairs(task: Any) -> bool:
    """Whether sequences are relabelled by the task's label pairs, in training or in a set."""
    training = task.layout
    return "relabel" in training.schemes or any(
        "relabel" in each.layout(training).schemes and each.label_pairs != FIRST_TWO
        for each in task.evaluation_sets
    )


def check_labels(task: Any) -> None:
    """Raise where classes' own labels are not what training or an evaluation set needs.

    Raises:
        UserError: a set asks for own labels that the network does not know, or there are too few
            classes of other labels.
        ValueError: as `Layout` and the splits do.
    """
    splits, own, training = task.splits()["classes"], task.labels_of_classes(), task.layout
    for each in (EvaluationSet("training"), *task.evaluation_sets):
        layout = each.layout(training)
        labels = own[of_split(splits, each.classes)[: each.first_classes]]
        asked = each.scheme is not None and bool({"none", "flip"} & layout.schemes)
        if asked and len(labels) and labels.max() >= task.labels:
            raise UserError(
                f"evaluation set {each.name!r} asks for classes' own labels, which go up to "
                f"{labels.max()}, and the task has {task.labels} labels: set "
                "own_labels='modulo', draw it from the classes that train, or leave it out"
            )
        most = np.unique(labels, return_counts=True)[1].max(initial=0)
        for burst in layout.mixture:
            needed = burst.classes(layout.pairs) - 1
            if burst.other_labels and len(labels) - most < needed:
                raise UserError(
                    f"{each.name} needs {needed} classes with other labels than the query's, of "
                    f"{len(labels)} classes {most} share a label: raise labels or classes"
                )


def check_tables(task: Any) -> None:
    """Raise UserError where the features of all sets take more memory than is free."""
    splits, sets = task.splits(), (EvaluationSet("training"), *task.evaluation_sets)
    numbers = 0
    for each in sets:
        classes = of_split(splits["classes"], each.classes)[: each.first_classes]
        exemplars = of_split(splits["exemplars"], each.exemplars)[: each.first_exemplars]
        numbers += task.data.features * len(classes) * len(exemplars)
    # Read, as the program takes them, and on a device.
    memory.check(3 * 4 * numbers, f"{task.data.name}: the features of {len(sets)} sets")
