"""When the runs of a study are evaluated, and when their weights are kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from ih_jax import memory
from ih_jax.errors import UserError, real
from ih_jax.errors import given as shown
from ih_jax.sweeps.loop import ALL_SETS, TRAIN_SET
from ih_jax.tasks.base import Task

GRID_RATIO = 1.05  # of one evaluation to the next, in sequences seen
GRID_START = 1_000  # sequences seen at the first evaluation after the start
SPARSE = 10  # the other evaluation sets are looked at this much more rarely
GRID = "grid"  # what stands for the geometric grid where a list could stand
SHORT = 100_000  # sequences of a run, below which the grid would cost more than half of training
SHARE = 0.2  # of what such a run costs to train: the most that its evaluations cost
A_LOOK = 0.4  # what a sequence costs to evaluate, of what it costs to train on it
FEWEST = 200  # sequences of an evaluation set
CHECKPOINT_EVERY = 8  # evaluations
ENTRY_BYTES = 200  # of an entry while the timetable is made


@dataclass(frozen=True)
class Progress:
    """How far runs go, and in what."""

    name: str  # "sequences" or "tokens"
    a_step: int  # how many of these a step sees
    a_sequence: int  # how many of these a sequence is
    horizons: tuple[int, ...]  # steps at which runs end, in rising order

    def evaluations(self, given: Sequence[float] | str) -> list[int]:
        """Steps of evaluations, the start and every horizon among them; or the geometric `GRID`.

        Raises UserError for what is no progress.
        """
        if isinstance(given, str) and given == GRID:
            begin = GRID_START * self.a_sequence
            count = max(0, math.log(self.horizons[-1] * self.a_step / begin, GRID_RATIO))
            seen = [begin * GRID_RATIO**i for i in range(math.floor(count) + 1)]
        else:
            seen = self._checked(given, "evaluate")
        return sorted({*self._steps(seen), 0, *self.horizons})

    def checkpoints(self, given: Sequence[float] | None, evaluations: Sequence[int]) -> list[int]:
        """Steps at which weights are kept; None: every eighth evaluation, start and horizons."""
        if given is not None:
            return sorted(self._steps(self._checked(given, "checkpoints")))
        return sorted({0, *evaluations[1::CHECKPOINT_EVERY], *self.horizons})

    def _checked(self, given: Sequence[float] | str, what: str) -> list[float]:
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            grid = f', or "{GRID}"' if what == "evaluate" else ""
            raise UserError(f"{what} is {shown(given)}: give a list of {self.name} seen{grid}")
        if isinstance(given, Sized):
            memory.check(ENTRY_BYTES * len(given), f"{what}: {len(given):,} of them")
        seen = [real(what, each, least=0) for each in given]
        if not seen:
            raise UserError(f"{what} is {shown(given)}: give {self.name} seen, one or more")
        return seen

    def _steps(self, seen: Sequence[float]) -> set[int]:
        last = self.horizons[-1] * self.a_step
        return {math.ceil(each / self.a_step) for each in seen if each <= last}


def default_looks(task: Task, horizons: Any, named: Collection[str]) -> tuple[int, list[int] | str]:
    """How runs are evaluated where nothing is said: on how many sequences, and when.

    Short runs, on fewer than `SHORT` sequences: within `SHARE` of what they cost to train, or at
    start and end alone. All others: on those of the task, on the `GRID`.

    Args:
        task: what they learn. Where its `evaluation_sequences` are not its own, short runs are
            evaluated on a hundredth of those that they train on, but `FEWEST` at least.
        horizons: how far runs go, in the task's unit: a number, or {clamp name: number}.
        named: settings that the study names.

    Returns:
        The sequences of a set, and `GRID` or a list in the task's unit.
    """
    each = task.evaluation_sequences
    ends = list(horizons.values()) if isinstance(horizons, Mapping) else [horizons]
    per_sequence = task.objective().unit_per_sequence
    known = all(isinstance(end, int | float | np.number) and end > 0 for end in ends)
    if not ends or not known or max(ends) >= SHORT * per_sequence:
        return each, GRID  # or it is no horizon, which is said where runs are made
    sequences = max(ends) / per_sequence
    if each == type(task).evaluation_sequences and "evaluation_sequences" not in named:
        each = min(each, max(FEWEST, int(sequences // 100)))
    room = SHARE / A_LOOK * sequences / each  # looks at one set
    others = len(task.evaluation_names) - 1

    def cost(between: int) -> int:
        """Looks at one set, where there are so many evaluations between start and end."""
        return 2 + between + (2 + between // SPARSE) * others

    most = math.floor(max(0, math.log(max(sequences / GRID_START, 1), GRID_RATIO)))
    between = next((n for n in range(most, 0, -1) if cost(n) <= room), 0)
    ratio = (sequences / GRID_START) ** (1 / between) if between else 1.0
    seen = [0, *(GRID_START * ratio**i for i in range(between)), sequences]
    return each, [round(n * per_sequence) for n in seen]


def timetable(
    evaluations: Sequence[int], checkpoints: Sequence[int], horizons: Sequence[int], steps: int
) -> list[tuple[int, int, bool]]:
    """(step, what is evaluated, whether weights are kept), up to a horizon of `steps`."""
    found = []
    kept, place = set(checkpoints), {step: i for i, step in enumerate(evaluations)}
    for step in sorted({*place, *kept}):
        kind = 0
        if step in place:
            sparse = place[step] % SPARSE == 0
            kind = ALL_SETS if sparse or step in horizons else TRAIN_SET
        if step <= steps:
            found.append((step, kind, step in kept))
    return found
