"""How much of a sweep the page shows, so that it stays small: runs, checkpoints and sequences.

Curves and scores of heads are small. Patterns are not: those of a language model of 64 tokens have
2,080 numbers per head, sequence and checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ih_jax.errors import UserError
from ih_jax.model.params import Config
from ih_jax.reports.viewer.looking import Kind

MOST_RUNS = 400  # in the table and among the curves
MOST_SCORED = 200  # checkpoints of a run, for scores
MOST_DETAILED = 128  # checkpoints of a run, for patterns
FEWEST_DETAILED = 12
SHRINKS = 0.45  # by deflation, about (measured: 0.2 to 0.5)
BASE64 = 4 / 3
SEQUENCES: dict[Kind, tuple[int, ...]] = {  # shown one by one, from best to least
    "fewshot": (8, 6, 4, 3),
    "language": (3, 2, 1),
    "other": (3, 2, 1),
}


def shown(runs: Sequence[int] | None, total: int) -> list[int]:
    """The numbers of the runs that a page shows, each once; None: the first, as many as fit.

    Raises UserError for one that a sweep of `total` runs does not have.
    """
    if runs is None:
        return list(range(min(total, MOST_RUNS)))
    if not runs:
        raise UserError("runs is empty: give one or more numbers, or leave it out")
    wrong = [run for run in runs if not 0 <= run < total]
    if wrong:
        raise UserError(f"run {wrong[0]} is out of range: the sweep has runs 0..{total - 1}")
    return list(dict.fromkeys(runs))


@dataclass(frozen=True)
class Room:
    """How much of each network is shown."""

    runs: int  # with patterns, from the first on
    checkpoints: int  # of each of them
    sequences: int


def bytes_of(kind: Kind, config: Config, T: int) -> float:
    """About how many bytes of the page one sequence of one network takes."""
    heads = config.layers * config.heads
    pairs = heads * T * (T + 1) / 2
    rest = T * (8 + heads) if kind == "language" else (2 * T + heads) * config.labels
    return (pairs + rest) * SHRINKS * BASE64


def room(kind: Kind, sizes: Sequence[float], checkpoints: int, budget: float) -> Room:
    """The most that fits: first many sequences and checkpoints, then fewer, then fewer runs.

    Args:
        kind: of the task.
        sizes: `bytes_of` each run.
        checkpoints: the most that a run has.
        budget: bytes.
    """
    wanted = max(1, min(checkpoints, MOST_DETAILED))
    few = min(wanted, FEWEST_DETAILED)
    total = float(sum(sizes))
    for sequences in SEQUENCES[kind]:
        fits = int(budget / max(total * sequences, 1e-9))
        # Fewer sequences before less than a third of the checkpoints.
        enough = wanted if kind == "fewshot" else max(few, wanted // 3)
        if fits >= enough or (sequences == SEQUENCES[kind][-1] and fits >= few):
            return Room(len(sizes), min(fits, wanted), sequences)
    least = SEQUENCES[kind][-1]
    within = np.cumsum(sizes) * least * few <= budget
    return Room(max(1, int(within.sum())), few, least)


def spread(
    steps: Sequence[int], count: int, at: Sequence[float], loss: Sequence[float]
) -> list[int]:
    """`count` of the steps, close together where the loss changes; the first and last among them.

    Half of the weight follows how far the loss has moved, half is even.

    Args:
        steps: of checkpoints, rising.
        count: how many to keep.
        at: steps of evaluations, rising.
        loss: at these; may be NaN.
    """
    if len(steps) <= count:
        return list(steps)
    even = np.linspace(0, 1, len(steps))
    known = np.isfinite(np.asarray(loss, float))
    way = even
    if known.sum() > 2:
        at_, loss_ = np.asarray(at, float)[known], np.asarray(loss, float)[known]
        own = np.interp(steps, at_, loss_)
        gone = np.concatenate([[0], np.cumsum(np.abs(np.diff(own)))])
        way = gone / gone[-1] if gone[-1] > 0 else even
    place = (even + way) / 2
    chosen = np.searchsorted(place, np.linspace(0, 1, count)).clip(0, len(steps) - 1)
    chosen[0], chosen[-1] = 0, len(steps) - 1
    return [steps[i] for i in sorted(set(chosen.tolist()))]
