"""How things are timed: repeated until they last long enough, and side by side in turns.

A `Take` does something n times; a `Measure` is one measurement of it, calibrated to last long
enough.

The machine is measured whole, in one process: as in a sweep every device steps through a block of
its own, all at once. (On CPU one device of two is no half of the machine, since all of them lend
each other their threads.) Ratios are medians over alternated pairs: the two sides take turns, so
that a machine that slows down slows both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ih_jax import memory
from ih_jax.errors import UserError

MOST_PAIRS = 1_000
RUN_BYTES = 2_000_000  # of a run of the few-shot paper's model while it trains
REPEATS = 3  # of a measurement that is not paired
HEADLINE = 16  # runs of the block in the ratios

Json = dict[str, Any]
Take = Callable[[int], float]  # does something n times; gives the seconds of all
Measure = Callable[[], float]  # seconds of one


@dataclass(frozen=True)
class Effort:
    """How much is measured, and for how long."""

    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # runs of a block
    pairs: int = 10  # of every ratio
    seconds: float = 0.3  # of one measurement, at least

    @property
    def headline(self) -> int:
        """The width of the block in the ratios: 16, or what comes next below it."""
        return max((w for w in self.widths if w <= HEADLINE), default=min(self.widths))


def effort(widths: Sequence[int], pairs: int, seconds: float = Effort.seconds) -> Effort:
    """Checked. Raises UserError for widths and pairs below 1."""
    if not widths or min(widths) < 1:
        raise UserError(f"--widths is {list(widths)}: give numbers of runs, each 1 or more")
    if not 1 <= pairs <= MOST_PAIRS:
        raise UserError(f"--pairs is {pairs}: give 1 to {MOST_PAIRS:,}")
    memory.check(RUN_BYTES * max(widths), f"--widths: a block of {max(widths):,} runs")
    return Effort(tuple(sorted(set(widths))), pairs, seconds)


def calibrated(take: Take, seconds: float, least: int = 1) -> Measure:
    """One measurement of at least about `seconds` and `least` times, compiled and warm."""
    count = least
    take(count)
    while (took := take(count)) < 0.8 * seconds:
        count = math.ceil(count * min(10.0, 1.1 * seconds / max(took, 1e-9)))
    return lambda: take(count) / count


def median(measure: Measure, repeats: int = REPEATS) -> float:
    return float(np.median([measure() for _ in range(repeats)]))


def alternate(measures: Sequence[Measure], rounds: int) -> np.ndarray:
    """[rounds, len(measures)] seconds of one, all measures taking turns."""
    return np.array([[measure() for measure in measures] for _ in range(rounds)])


def repeated(function: Callable[[Any], Any], first: Any) -> Take:
    """Takes of a function of its own result. What it gives may be donated."""
    kept = first

    def take(count: int) -> float:
        nonlocal kept
        began = time.perf_counter()
        for _ in range(count):
            kept = function(kept)
        jax.block_until_ready(kept)
        return time.perf_counter() - began

    return take


def at_once(takes: Sequence[Take]) -> Take:
    """Takes by all devices, each in its own thread; the seconds until the last is done."""
    if len(takes) == 1:
        return takes[0]

    def take(count: int) -> float:
        with ThreadPoolExecutor(len(takes)) as pool:
            began = time.perf_counter()
            for each in [pool.submit(one, count) for one in takes]:
                each.result()
            return time.perf_counter() - began

    return take
