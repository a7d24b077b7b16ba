"""One run of a study in words, and the arrays of many runs that share a program.

A study may have a million runs, so a run holds only its place along the axes. What it has in common
with others stands once, in a `Common`: most runs of a study differ in seeds alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ih_jax import memory
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.batches import Leaf
from ih_jax.model.params import Config
from ih_jax.sweeps.loop import Hyper, Program, RunArrays
from ih_jax.tasks.base import Task, TaskArrays


@dataclass(frozen=True, eq=False)
class Common:
    """What runs have in common that differ in nothing but numbers which a program takes as arrays.

    `own` are the settings in which they may differ: in `settings` these are of one of the runs.
    """

    clamp: Clamp
    task: Task
    settings: dict[str, Any]
    config: Config
    own: tuple[str, ...]
    axes: Mapping[str, Sequence[Any]]  # those of the study
    paired: Mapping[str, Mapping[int, Any]]  # setting -> init -> value

    @cached_property
    def program(self) -> Program:
        """What is compiled for them."""
        return Program(
            config=self.config,
            task=self.task.objective(),
            tokens=self.task.context_length,
            batch=self.task.batch,
            evaluation_sequences=self.task.evaluation_sequences,
            optimiser=self.settings["optimiser"],
            schedule=self.settings["schedule"],
            clips=self.settings["clip_norm"] is not None,
            decays=self.settings["weight_decay"] != 0,
            beta2=self.settings["beta2"],
        )

    @property
    def has_own_heads(self) -> bool:
        """Whether the last layer's heads begin with a seed of their own."""
        return self.settings["heads_seed"] is not None

    @cached_property
    def steps(self) -> int:
        """How long each of them trains."""
        return math.ceil(self.settings[self.task.unit] / self.program.unit)


@dataclass(frozen=True, eq=False, slots=True)
class RunSpec:
    """One run, in words."""

    index: int
    place: tuple[int, ...]  # along the study's axes
    common: Common

    @property
    def names(self) -> dict[str, Any]:
        """Its label along every axis."""
        axes = self.common.axes
        return {axis: axes[axis][i] for axis, i in zip(axes, self.place, strict=True)}

    def setting(self, name: str) -> Any:
        """The value of one of its settings."""
        common = self.common
        if name not in common.own:
            return common.settings[name]
        names = self.names
        return common.paired[name][names["init"]] if name in common.paired else names[name]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the run; not those of its task and its model."""
        own = {name: self.setting(name) for name in self.common.own}
        return {**self.common.settings, **own}

    @property
    def clamp(self) -> Clamp:
        """What it holds fixed."""
        return self.common.clamp

    @property
    def task(self) -> Task:
        """What it learns."""
        return self.common.task

    @property
    def config(self) -> Config:
        """Its model."""
        return self.common.config

    @property
    def steps(self) -> int:
        """How long this run trains."""
        return self.common.steps

    @property
    def program(self) -> Program:
        """What is compiled for it."""
        return self.common.program


@dataclass(frozen=True)
class Group:
    """Runs that share one program."""

    program: Program
    runs: tuple[RunSpec, ...]

    @cached_property
    def arrays(self) -> RunArrays:
        """All runs stacked, in the order of `runs`."""
        return _stacked(self.runs)


def _stacked(runs: Sequence[RunSpec]) -> RunArrays:
    """The arrays of runs of one program, along a new first axis; what all share is there once."""
    every = {id(run.common): run.common for run in runs}
    number = {key: i for i, key in enumerate(every)}
    which = np.fromiter((number[id(run.common)] for run in runs), np.int64, len(runs))
    commons = list(every.values())
    own = commons[0].own

    def column(name: str, kind: type = np.float32) -> np.ndarray:
        if name in own:
            return np.array([run.setting(name) for run in runs], kind)
        values = [each.settings[name] for each in commons]
        return np.array([np.inf if each is None else each for each in values], kind)[which]

    hyper = Hyper(
        learning_rate=column("learning_rate"),
        weight_decay=column("weight_decay"),
        clip_norm=column("clip_norm"),
        warmup_steps=column("warmup_steps"),
        decay_steps=column("decay_steps"),
        initial_scale=column("initial_scale"),
        first_learning_rate=column("first_learning_rate"),
        last_learning_rate=column("last_learning_rate"),
    )
    return RunArrays(
        init=np.array([_weights_seed(run) for run in runs], np.int32),
        order=column("order", np.int32),
        task=_stacked_tasks([each.task for each in commons], which),
        holds=Clamp.stack([run.clamp for run in runs], commons[0].config),
        hyper=hyper,
        heads=column("heads_seed", np.int32) if commons[0].has_own_heads else None,
    )


def _weights_seed(run: RunSpec) -> int:
    """The seed of a run's initial weights."""
    own = run.setting("weights_seed")
    return int(run.setting("init") if own is None else own)


def _stacked_tasks(tasks: Sequence[Task], which: np.ndarray) -> TaskArrays:
    """The arrays of the runs' tasks, those at `which` in `tasks`, along a new first axis [R, ...].

    What is one array in all tasks, such as a corpus, is not copied: its first axis has stride 0.
    """
    distinct = {id(task): task for task in tasks}
    number = {key: i for i, key in enumerate(distinct)}
    which = np.array([number[id(task)] for task in tasks])[which]

    in_order = np.array_equal(which, np.arange(len(distinct)))
    made: dict[bytes, np.ndarray] = {}

    def stack(*leaves: Leaf) -> np.ndarray:
        if all(leaf is leaves[0] for leaf in leaves):
            return np.broadcast_to(leaves[0], (len(which), *np.shape(leaves[0])))
        # Evaluation sets may be made of the arrays of training: those are there once.
        key = np.array([id(leaf) for leaf in leaves]).tobytes()
        if key not in made:
            each = np.stack(leaves)
            made[key] = each if in_order else each[which]
        return made[key]

    # Each task's data is read once.
    every = list(distinct.values())
    if len(every) > 1:
        first, last = (jax.tree.leaves(each.run_arrays()) for each in (every[0], every[-1]))
        pairs = zip(first, last, strict=True)
        own = {id(a): np.asarray(a).nbytes for a, b in pairs if a is not b}
        what = f"the data of {len(which):,} runs, which learn {len(every):,} tasks,"
        memory.check(len(which) * sum(own.values()), what)
    stacked: TaskArrays = jax.tree.map(stack, *(task.run_arrays() for task in every))
    return stacked
