"""Whatever watches a sweep while it trains: the bar, other processes, a function of the user's."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from ih_jax.sweeps.blocks import BlockPlan
from ih_jax.sweeps.hearing import OnScores, Tell, hearer
from ih_jax.sweeps.progress import Advance, bar
from ih_jax.sweeps.study import Study


class Watch:
    """Told by the threads that train, chunk by chunk."""

    def __init__(self, study: Study) -> None:
        self.unit = study.unit
        self.losses = np.full(len(study.runs), np.nan)  # the last of each run, on its training set
        self.loss = list(study.runs[0].program.task.metrics).index("loss")
        self.seen = 0.0  # sequences or tokens, by all runs together
        self.lock = threading.Lock()
        self.advance: Advance
        self.tell: Tell

    def skip(self, plan: BlockPlan, steps: int) -> None:
        """A block has been trained so far before, or by another process."""
        self.advance(steps * len(plan.runs) * self.unit)

    def chunk(
        self,
        plan: BlockPlan,
        steps: int,
        evaluated: Sequence[int],
        scores: np.ndarray,
        diverged: np.ndarray,
    ) -> None:
        """A block has trained on.

        Args:
            plan: the block, R runs.
            steps: how many steps it has gone on.
            evaluated: the steps that it was evaluated at, N.
            scores: [N, R, sets, metrics].
            diverged: [R] the step at which a run's loss was not finite; -1: it never was.
        """
        if len(evaluated):
            self.losses[list(plan.runs)] = scores[-1, :, 0, self.loss]
        seen = steps * len(plan.runs) * self.unit
        with self.lock:
            self.seen += seen
        self.advance(seen)
        self.tell(plan.runs, evaluated, scores, diverged)


@contextlib.contextmanager
def watching(
    watch: Watch, study: Study, total: float, show: bool, on_scores: OnScores | None
) -> Iterator[None]:
    """Show and tell what the watch is told, until the end of the block.

    Args:
        watch: over the study.
        study: what trains.
        total: sequences or tokens that this process trains, by all runs together.
        show: a progress bar.
        on_scores: the user's function.
    """
    with (
        bar(show, total, study.task.unit, watch.losses) as watch.advance,
        hearer(study, on_scores) as watch.tell,
    ):
        yield
