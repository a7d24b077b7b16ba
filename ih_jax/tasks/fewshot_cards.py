"""How a few-shot task stands on run cards, and is made again from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ih_jax.data import evaluations
from ih_jax.data.fewshot import Burst
from ih_jax.tasks.base import Task

LATER = ("label_generator", "own_labels")  # on cards where they are no default: older ones agree


def described_on_card(task: Any) -> dict[str, Any]:
    """Every field, the data by name and checksum.

    The order counts: trainings are found again by a digest of this.
    """
    of_tasks = [f.name for f in fields(Task)]
    own = [f.name for f in fields(task) if f.name not in of_tasks]
    found = {
        name: getattr(task, name)
        for name in (*own, *of_tasks)
        if name not in ("data", "mixture", "evaluation_sets")
    }
    splits = task.splits()
    train = splits["classes"]["train"].tolist(), splits["exemplars"]["train"].tolist()
    found["data"] = {
        "name": task.data.name,
        "shape": [task.data.classes, task.data.exemplars, task.data.features],
        "checksum_of_training_classes": task.data.checksum(*train),
    }
    for name in LATER:
        if found[name] == getattr(type(task), name):
            del found[name]
    found["mixture"] = [burst.described() for burst in task.mixture]
    found["evaluation_sets"] = [each.described(task.pairs) for each in task.evaluation_sets]
    return found


def settings_of(cls: Any, described: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `described_on_card` described, without the data."""
    own = {f.name for f in fields(cls)} - {"data"}
    given = {name: value for name, value in described.items() if name in own}
    given["mixture"] = tuple(Burst(**burst) for burst in described["mixture"])
    given["mixture_weights"] = tuple(described["mixture_weights"])
    given["label_pair_shares"] = tuple(described["label_pair_shares"])
    given["evaluation_sets"] = tuple(
        evaluations.of_card(each, described["pairs"]) for each in described["evaluation_sets"]
    )
    return given
