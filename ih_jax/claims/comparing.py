"""How ours compare with the paper's: one network of its, a few, or k of n."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from ih_jax.claims.bounds import Bounds
from ih_jax.claims.intervals import SEED

Size = Literal["same size", "other size", "too few networks"]

LEVEL = 0.05
PERMUTATIONS = 20_000  # all of them where there are no more


@dataclass(frozen=True)
class Reported:
    """Numbers of a paper that ours can be compared with, one of these.

    Args:
        values: one of each of its networks, of the same estimand as ours.
        share: (k, n): it is so in k of n networks.
        pooled: (value, n): pooled over n networks.
    """

    values: tuple[float | Bounds, ...] = ()
    share: tuple[int, int] | None = None
    pooled: tuple[float, int] | None = None

    @property
    def networks(self) -> int:
        """On how many networks the paper's evidence rests."""
        counted = self.share or self.pooled
        return int(counted[1]) if counted else len(self.values)

    def bounds(self) -> list[Bounds]:
        """The values as bounds."""
        return [v if isinstance(v, Bounds) else Bounds(float(v), float(v)) for v in self.values]


class Comparison(NamedTuple):
    """Whether the paper's numbers are such as ours give."""

    size: Size
    p: float
    said: str


def with_one(ours: Sequence[Bounds], theirs: Bounds, form: Callable[[float], str]) -> Comparison:
    """Whether the number of one network lies in the central 95% of ours.

    p is exact if it was drawn as ours were: twice the share of networks, it among them, as far out.
    With fewer than 39 of ours no number can lie outside.
    """
    below, above = _order(ours, theirs)
    n = len(ours)
    p = min(1.0, 2 * (min(n - above, n - below) + 1) / (n + 1))
    percentile = 100 * (below + (n - below - above) / 2) / n if n else math.nan
    said = f"paper {theirs.show(form)}: percentile {percentile:.0f} of ours"
    return Comparison(_size(p, 2 / (n + 1)), p, said)


def with_several(ours: Sequence[Bounds], theirs: Sequence[Bounds]) -> Comparison:
    """Whether the numbers of some networks and ours are of one distribution.

    Gehan's version of the Wilcoxon-Mann-Whitney test, which takes times that are only known to be
    later, with p by permutation (exact up to PERMUTATIONS of them).
    """
    pooled = [*ours, *theirs]
    scores = np.array([below - above for below, above in (_order(pooled, own) for own in pooled)])
    n, k = len(pooled), len(theirs)
    seen = abs(float(scores[len(ours) :].sum()))
    if math.comb(n, k) <= PERMUTATIONS:
        sums = np.array([sum(each) for each in itertools.combinations(scores.tolist(), k)])
        p = float(np.mean(np.abs(sums) >= seen - 1e-9))
        least = float(np.mean(np.abs(sums) >= np.abs(sums).max() - 1e-9))
    else:
        rng = np.random.default_rng(SEED)
        order = rng.random((PERMUTATIONS, n)).argpartition(k, axis=1)[:, :k]
        sums = np.abs(scores[order].sum(1))
        p = (int(np.sum(sums >= seen - 1e-9)) + 1) / (PERMUTATIONS + 1)
        least = 1 / math.comb(n, k)
    return Comparison(_size(p, least), p, f"{k} of the paper, {len(ours)} of ours: p = {p:.2g}")


def with_share(ours: tuple[int, int], theirs: tuple[int, int]) -> Comparison:
    """Whether k of n networks and ours are of one rate: Fisher's exact test."""

    def p_of(k: int, j: int) -> float:
        table = [[k, theirs[1] - k], [j, ours[1] - j]]
        return float(scipy.stats.fisher_exact(table).pvalue)

    p = p_of(theirs[0], ours[0])
    least = min(p_of(0, ours[1]), p_of(theirs[1], 0))
    said = f"paper {theirs[0]} of {theirs[1]}, ours {ours[0]} of {ours[1]}: p = {p:.2g}"
    return Comparison(_size(p, least), p, said)


def with_pooled(
    statistic: Callable[[list[NDArray[np.float64]]], float],
    samples: Sequence[NDArray[np.float64]],
    theirs: tuple[float, int],
) -> Comparison:
    """Whether a number pooled over n networks is such as n of ours give (drawn 2,000 times)."""
    value, n = theirs
    rng = np.random.default_rng(SEED)
    drawn = [
        statistic([samples[i] for i in rng.integers(len(samples), size=n)]) for _ in range(2000)
    ]
    below = float(np.mean(np.asarray(drawn) < value))
    p = min(1.0, 2 * min(below, 1 - below) + 1 / 2000)
    said = f"paper {value:.3g}: percentile {100 * below:.0f} of {n} of ours pooled"
    return Comparison(_size(p, 0.0 if len(samples) >= 3 * n else 1.0), p, said)


def _order(values: Sequence[Bounds], value: Bounds) -> tuple[int, int]:
    """How many of the values are for sure below, and above, this one."""
    return sum(v.high < value.low for v in values), sum(v.low > value.high for v in values)


def _size(p: float, least: float) -> Size:
    """The verdict, given the least p that these numbers of networks can have."""
    if least >= LEVEL:
        return "too few networks"
    return "other size" if p < LEVEL else "same size"
