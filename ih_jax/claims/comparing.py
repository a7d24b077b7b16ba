"""How ours compare with the paper's: one network of its, a few, or k of n."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from ih_jax.claims.bounds import Bounds
from ih_jax.claims.intervals import SEED, counted, resampled
from ih_jax.claims.networks import Network
from ih_jax.errors import UserError, given

Size = Literal["same size", "other size", "too few networks"]

LEVEL = 0.05
PERMUTATIONS = 20_000  # all of them where there are no more
DRAWS = 2000  # of networks of ours, to pool


@dataclass(frozen=True)
class Reported:
    """Numbers of a paper that ours can be compared with, one of these.

    Args:
        values: one of each of its networks, of the same estimand as ours; NaN: not given.
        share: (k, n): it is so in k of n networks.
        pooled: (value, n): pooled over n networks.

    Raises:
        UserError: k of n networks, or n of them, cannot be.
    """

    values: tuple[float | Bounds, ...] = ()
    share: tuple[int, int] | None = None
    pooled: tuple[float, int] | None = None

    def __post_init__(self) -> None:
        if self.share and not 0 <= self.share[0] <= self.share[1]:
            raise UserError(f"share is {given(self.share)}: give (k, n), k of n networks")
        if self.pooled and self.pooled[1] < 1:
            raise UserError(f"pooled is {given(self.pooled)}: give (value, n), over n networks")

    @property
    def networks(self) -> int:
        """On how many networks the paper's evidence rests."""
        counted = self.share or self.pooled
        return int(counted[1]) if counted else len(self.values)

    def bounds(self) -> list[Bounds]:
        """The values that are given, as bounds."""
        found = [v if isinstance(v, Bounds) else Bounds(float(v), float(v)) for v in self.values]
        return [value for value in found if value.measured]


class Comparison(NamedTuple):
    """Whether the paper's numbers are such as ours give."""

    size: Size
    p: float
    said: str


def with_one(ours: Sequence[Bounds], theirs: Bounds, form: Callable[[float], str]) -> Comparison:
    """Whether the number of one network lies in the central 95% of ours.

    p is exact if it was drawn as ours were: twice the share of networks, it among them, as far out.
    With fewer than 40 of ours no number can lie outside. Networks that share their initial weights
    or data are taken as independent, here and in `with_several`: where these matter much, numbers
    of the same population are called another size more often than in 5% (of five against 16 x 4
    networks 7% where 9/10 of the variance are due to the 16 weights, 14% where half is due to the 4
    draws).
    """
    below, above = _order(ours, theirs)
    n = len(ours)
    if not theirs.measured:
        return Comparison("too few networks", math.nan, "paper unknown")
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
    if len({*pooled}) == 1 and pooled[0].low == pooled[0].high:
        return Comparison("same size", 1.0, f"{k} of the paper, {len(ours)} of ours: all the same")
    if math.comb(n, k) <= PERMUTATIONS:
        sums = np.array([sum(each) for each in itertools.combinations(scores.tolist(), k)])
        p = float(np.mean(np.abs(sums) >= seen - 1e-9))
        least = float(np.mean(np.abs(sums) >= np.abs(sums).max() - 1e-9))
    else:
        rng = np.random.default_rng(SEED)
        order = rng.random((PERMUTATIONS, n)).argpartition(k, axis=1)[:, :k]
        sums, ordered = np.abs(scores[order].sum(1)), np.sort(scores)
        most = max(abs(ordered[:k].sum()), abs(ordered[-k:].sum()))
        p, least = (
            (int(np.sum(sums >= out - 1e-9)) + 1) / (PERMUTATIONS + 1) for out in (seen, most)
        )
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
    networks: Sequence[Network] = (),
) -> Comparison:
    """Whether a number pooled over n networks is such as n of ours give.

    n networks are drawn from ours, which are resampled themselves each time, since they are a
    sample, too; p is widened as a t interval is. Ours must be three times as many and 15 at least;
    against one network of the paper 40, as in `with_one`.

    Args:
        statistic: of the arrays of several networks.
        samples: an array of each of ours.
        theirs: the paper's number, and n.
        networks: what each of ours shares; empty: they are independent.
    """
    value, n = theirs
    ours, keys = len(samples), list(networks) or [(i,) for i in range(len(samples))]
    found = np.asarray(list(_drawn(statistic, samples, keys, n)) if ours else [])
    found = found[np.isfinite(found)]
    if len(found) < DRAWS / 2 or math.isnan(value):
        return Comparison("too few networks", math.nan, f"paper {value:.3g}: nothing to compare")
    below, above = float(np.mean(found < value)), float(np.mean(found > value))
    p = min(1.0, 2 * (1 - max(below, above)) + 1 / DRAWS)
    freedom = counted(keys) - 1
    reach = scipy.stats.norm.isf(p / 2) * math.sqrt(freedom / (freedom + 1))
    p = float(2 * scipy.stats.t.sf(reach, freedom)) if freedom else 1.0
    least = 2 / (ours + 1) if n == 1 else 0.0 if ours >= max(3 * n, 15) else 1.0
    percentile = 100 * (below + (1 - below - above) / 2)
    said = f"paper {value:.3g}: percentile {percentile:.0f} of {n} of ours pooled"
    return Comparison(_size(p, least), max(p, least), said)


def _drawn(
    statistic: Callable[[list[NDArray[np.float64]]], float],
    samples: Sequence[NDArray[np.float64]],
    networks: Sequence[Network],
    n: int,
) -> Iterator[float]:
    """The number pooled over n of ours, again and again."""
    rng = np.random.default_rng(SEED)
    for counts in resampled(networks, DRAWS):
        chosen = rng.choice(len(samples), size=n, p=counts / counts.sum())
        yield statistic([samples[i] for i in chosen])


def _order(values: Sequence[Bounds], value: Bounds) -> tuple[int, int]:
    """How many of the values are for sure below, and above, this one."""
    return sum(v.high < value.low for v in values), sum(v.low > value.high for v in values)


def _size(p: float, least: float) -> Size:
    """The verdict, given the least p that these numbers of networks can have."""
    if least >= LEVEL:
        return "too few networks"
    return "other size" if p < LEVEL else "same size"
