"""When the runs of a study are evaluated, and when their weights are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass

from ih_jax import memory
from ih_jax.errors import UserError, real
from ih_jax.errors import given as shown
from ih_jax.sweeps.loop import ALL_SETS, TRAIN_SET

GRID_RATIO = 1.05  # of one evaluation to the next, in sequences seen
GRID_START = 1_000  # sequences seen at the first evaluation after the start
SPARSE = 10  # the other evaluation sets are looked at this much more rarely
CHECKPOINT_EVERY = 8  # evaluations
ENTRY_BYTES = 200  # of an entry while the timetable is made


@dataclass(frozen=True)
class Progress:
    """How far runs go, and in what."""

    name: str  # "sequences" or "tokens"
    a_step: int  # how many of these a step sees
    a_sequence: int  # how many of these a sequence is
    horizons: tuple[int, ...]  # steps at which runs end, in rising order

    def evaluations(self, given: Sequence[float] | None) -> list[int]:
        """Steps of evaluations, the start and every horizon among them; None: a geometric grid.

        Raises UserError for what is no progress.
        """
        if given is None:
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

    def _checked(self, given: Sequence[float], what: str) -> list[float]:
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise UserError(f"{what} is {shown(given)}: give a list of {self.name} seen")
        if isinstance(given, Sized):
            memory.check(ENTRY_BYTES * len(given), f"{what}: {len(given):,} of them")
        seen = [real(what, each, least=0) for each in given]
        if not seen:
            raise UserError(f"{what} is {shown(given)}: give {self.name} seen, one or more")
        return seen

    def _steps(self, seen: Sequence[float]) -> set[int]:
        last = self.horizons[-1] * self.a_step
        return {math.ceil(each / self.a_step) for each in seen if each <= last}


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
