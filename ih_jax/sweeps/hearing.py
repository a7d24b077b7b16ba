"""Telling a function of the user's what runs score while they train, in a thread of its own.

What the function does never holds training up: evaluations wait for it in a queue, in order, and
none is skipped. Where it computes rather than waits, it is given at most `SHARE` of the time, so
that it takes no more from training than that; it then lags behind and catches up at the end.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ih_jax.sweeps.study import Study

SHARE = 0.01  # of a core, for a function that computes
CATCH_UP = (
    0.02  # of the time that training took, in which it may catch up afterwards; or, if longer:
)
LEAST_SECONDS = 10.0  # to wait for a function that waits, for a network say
LEAST_COMPUTING = 0.5  # seconds, for a function that computes

# (study, numbers of runs, step, scores by metric [runs, evaluation sets])
OnScores = Callable[[Study, list[int], int, Mapping[str, np.ndarray]], Any]
# (numbers of runs, steps [N], scores [N, runs, sets, metrics], diverged at [runs])
Tell = Callable[[Sequence[int], Sequence[int], np.ndarray, np.ndarray], None]


@contextlib.contextmanager
def hearer(study: Study, function: OnScores | None) -> Iterator[Tell]:
    """What is told every evaluation of a block, and passes each on to the function.

    Runs past their horizon are left out, and a diverged run scores NaN. What the function raises is
    reported once, on standard error. Once training has ended it may catch up for a while; what it
    has not been told by then is counted on standard error.
    """
    if function is None:
        yield lambda runs, steps, scores, diverged: None
        return
    waiting: queue.SimpleQueue[tuple[list[int], int, np.ndarray] | None] = queue.SimpleQueue()
    ending, over = threading.Event(), threading.Event()
    began = time.monotonic()

    def work() -> None:
        reported, used, late, first = False, 0.0, 0.0, time.monotonic()
        while not over.is_set() and (given := waiting.get()) is not None:
            runs, step, scores = given
            before = time.thread_time()
            try:
                function(study, runs, step, _by_metric(study, scores))
            except BaseException as error:
                if not reported:
                    print(_said(error), file=sys.stderr)
                reported = True
            took = time.thread_time() - before
            used += took
            late += took if ending.is_set() else 0.0
            if late > max(LEAST_COMPUTING, CATCH_UP * (time.monotonic() - first)):
                over.set()
            ending.wait(used / SHARE - (time.monotonic() - first))

    # A daemon: a function that never returns does not keep the process alive.
    thread = threading.Thread(target=work, name="on_scores", daemon=True)
    thread.start()

    def tell(
        runs: Sequence[int], steps: Sequence[int], scores: np.ndarray, diverged: np.ndarray
    ) -> None:
        for step, row in zip(steps, scores, strict=True):
            kept = [i for i, run in enumerate(runs) if step <= study.runs[run].steps]
            values = row[kept].copy()
            gone = (diverged[kept] >= 0) & (diverged[kept] < step)
            values[gone] = np.nan
            if kept:
                waiting.put(([runs[i] for i in kept], step, values))

    try:
        yield tell
    finally:
        ending.set()
        waiting.put(None)
        thread.join(max(LEAST_SECONDS, CATCH_UP * (time.monotonic() - began)))
        over.set()
        left = max(0, waiting.qsize() - 1)
        if left or thread.is_alive():
            print(
                f"on_scores is too slow: training has ended, and it was not told {left} evaluations"
                " (all are in the results)",
                file=sys.stderr,
            )


def _by_metric(study: Study, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [runs, sets, metrics] by the name of the metric: [runs, sets] of each."""
    names = study.runs[0].program.task.metrics
    return {name: scores[..., i] for i, name in enumerate(names)}


def _said(error: BaseException) -> str:
    """An error of the function in one line, with where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"on_scores raised {type(error).__name__}: {error} ({where.filename}, line {where.lineno});"
        " training goes on, and further errors are not shown"
    )
