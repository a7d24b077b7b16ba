"""The settings of a run and of its model: which there are, their values, and what is an axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from ih_jax import memory
from ih_jax.errors import LARGEST, UserError, given, real, unknown, whole
from ih_jax.model.params import Config
from ih_jax.sweeps.loop import Optimiser, Schedule
from ih_jax.tasks.base import Task

MOST_SEEN = 10**15  # sequences or tokens of a run
MOST_RUNS = 2_000_000  # of a study: docs/scale.md says what a million cost
MOST_KINDS = 100_000  # of runs that differ in more than numbers of training: each has a task
RUN_BYTES = 1_000  # of the description of a run in memory, and of its arrays

# The settings of one run that belong neither to its task nor to its model; the few-shot paper's
# values. A task may have others (`Task.defaults`).
RUN_SETTINGS: dict[str, Any] = {
    "init": 0,
    "weights_seed": None,  # of the initial weights; None: init
    "heads_seed": None,  # of those of the last layer's heads; None: as the others
    "order": 0,
    "sequences": 1_000_000,  # of a task that counts tokens: "tokens"
    "learning_rate": 1e-5,
    "optimiser": "adam",
    "beta2": 0.999,
    "schedule": "constant",
    "weight_decay": 0.0,
    "clip_norm": None,
    "warmup_steps": 4_000,
    "decay_steps": 1_000_000,
    "first_learning_rate": 0.0,
    "last_learning_rate": 0.0,
    "initial_scale": 1.0,
}
SEEDS = ("init", "order", "weights_seed", "heads_seed")
CHOICES = {"optimiser": get_args(Optimiser), "schedule": get_args(Schedule)}
# Those that a program takes as an array, whatever they are: runs that differ in them alone are
# described together.
OWN_SETTINGS = (
    "init",
    "order",
    "weights_seed",
    "learning_rate",
    "warmup_steps",
    "decay_steps",
    "first_learning_rate",
    "last_learning_rate",
    "initial_scale",
)
MODEL_SETTINGS = tuple(
    f.name for f in dataclasses.fields(Config) if f.name not in ("features", "labels")
)


def run_settings(task: Task) -> dict[str, Any]:
    """Settings of a run where they are not given; the horizon is in the task's unit."""
    known = {**RUN_SETTINGS, task.unit: RUN_SETTINGS["sequences"]}
    if task.unit != "sequences":
        del known["sequences"]
    return known | {k: v for k, v in task.defaults.items() if k in known}


def refuse_unknown(task: Task, name: str) -> None:
    """Raises UserError, with the nearest name, for what is no setting of run, model or task."""
    known = (*run_settings(task), *MODEL_SETTINGS, *task.settings)
    if name not in known:
        raise unknown("setting", name, known)


def is_axis(task: Task, name: str, value: Any) -> bool:
    """Whether a value is several values, each for runs of its own."""
    return name not in task.never_axes and isinstance(value, list | tuple | range | np.ndarray)


def by_network(value: Any) -> dict[int, Any] | None:
    """A setting that is {init: value}, one value for each network; None for any other value.

    Run cards have the labels of `init` as text.
    """
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(str(label).isdecimal() for label in value):
        return None
    return {int(label): plain(each) for label, each in value.items()}


def labels_of_axis(name: str, values: Any) -> list[Any]:
    """The values of an axis, as Python's own numbers. Raises UserError for none, or one twice."""
    if isinstance(values, range) and abs(values.stop - values.start) > LARGEST * abs(values.step):
        raise UserError(f"{name} is {values!r}: give fewer values")
    check_runs(len(values), f"a study of {len(values):,} values of {name}")
    labels = [plain(each) for each in values]
    if not labels or len(set(map(str, labels))) < len(labels):
        raise UserError(f"{name} is {given(labels)}: give one or more values, each once")
    return labels


def check_runs(count: int, what: str) -> None:
    """Raises UserError for more runs than a study may have, or than fit in memory.

    Args:
        count: of them.
        what: the subject of the message, such as "a study of 12 runs".
    """
    if count > MOST_RUNS:
        raise UserError(f"{what}: give at most {MOST_RUNS:,} runs, or make several studies")
    memory.check(RUN_BYTES * count, what)


def check_kinds(count: int) -> None:
    """Raises UserError for a study of too many different tasks, models and clamps."""
    if count > MOST_KINDS:
        raise UserError(
            f"a study of {count:,} different tasks, models and clamps: give at most "
            f"{MOST_KINDS:,} (seeds of weights and order are no task of their own), or make "
            "several studies"
        )


def plain(value: Any) -> Any:
    """A NumPy number as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


def check_settings(settings: Mapping[str, Any], unit: str) -> None:
    """Raises UserError for a setting of a run that is out of range; `unit` names its horizon."""
    for name, value in settings.items():
        check_setting("sequences" if name == unit else name, value, shown_as=name)


def check_setting(name: str, value: Any, shown_as: str = "") -> None:
    """Raises UserError for a value that a setting of a run may not have.

    Args:
        name: of `RUN_SETTINGS`.
        value: what is given.
        shown_as: its name in the message; empty: `name`.
    """
    shown = shown_as or name
    if name in CHOICES:
        if not isinstance(value, str) or value not in CHOICES[name]:
            raise UserError(f"{name} is {given(value)}: give one of {', '.join(CHOICES[name])}")
    elif name in SEEDS:
        if value is not None or name in ("init", "order"):
            whole(shown, value)
    elif name in ("sequences", "learning_rate", "initial_scale"):
        real(shown, value, above=0)
        if name == "sequences" and value > MOST_SEEN:
            raise UserError(f"{shown} is {given(value)}: give at most {MOST_SEEN:,}")
    elif name == "clip_norm":
        if value not in (None, math.inf):
            real(shown, value, above=0)
    elif name == "beta2":
        if real(shown, value, least=0) >= 1:
            raise UserError(f"beta2 is {value!r}: give a number from 0 up to, not including, 1")
    else:
        real(shown, value, least=0)
