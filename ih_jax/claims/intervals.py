"""95% intervals over networks: of rates, of medians, and of what is pooled over heads.

Two things make networks less than independent. Heads are nested in networks, so what is pooled over
heads resamples networks. And 64 networks of 16 initial weights and 4 draws of the data share
either: there the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap") resamples initial
weights and draws, each on its own, which errs on the wide side. Where the parts that the variance
comes from have few values, its percentiles are taken further out.

A pooled number has an interval from FEWEST networks on, or values of the part that has most of
them; a median of fewer has its least and its greatest value. A part of few values that matters much
is known badly: where 9/10 of the variance are due to 4 draws, the 95% intervals of 16 x 4 networks
cover .9, those of a rate of .8 cover .78, since all networks then often agree.

Coverage of all of these is simulated in tests/claims/test_coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from ih_jax.claims.bounds import Bounds, median
from ih_jax.claims.networks import Network

RESAMPLES = 1000
SEED = 0  # of resampling: the same results give the same interval
SPREADS = 300  # resamples for the variance that a part is responsible for
FEWEST = 5  # independent networks, for an interval by resampling

Interval = tuple[float, float]


def of_rate(k: float, n: float, confidence: float = 0.95) -> Interval:
    """Interval of a rate seen in k of n: the mid-P version of Clopper and Pearson's.

    Of Wilson's, Jeffreys', the exact one and this, it alone stays near 95% for rates near 0 and 1,
    where claims live: on average .954 to .978 (64 to 5 networks), nowhere below .92; Wilson's
    falls to .84. k and n need not be whole (effective numbers of networks); n = 0: (0, 1).
    """
    if n <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2

    def end(k: float) -> float:
        """The rate at which k or more have a mid-P probability of `tail`."""
        if k <= 0:
            return 0.0
        # P(X >= k) of a binomial as a beta's distribution, which needs no whole numbers.
        low, high = 0.0, 1.0
        for _ in range(50):
            p = (low + high) / 2
            above = scipy.special.betainc(k, n - k + 1, p)
            beyond = scipy.special.betainc(k + 1, n - k, p) if k < n else 0.0
            low, high = (p, high) if (above + beyond) / 2 < tail else (low, p)
        return (low + high) / 2

    return end(k), 1 - end(n - k)


def of_share(
    outcomes: Sequence[bool | None], networks: Sequence[Network], confidence: float = 0.95
) -> Interval:
    """Interval of the rate with which something is so over networks.

    Networks that cannot tell (None) count against it at the lower end and for it at the upper. If
    they share initial weights or draws, n is the number of independent networks that would tell as
    much (`independent`), and no end is surer than if all agreed.
    """
    seen = [np.array([end if o is None else o for o in outcomes], float) for end in (False, True)]
    which = np.arange(len(networks))
    least, most = (_of_mean(each, networks, which, confidence) for each in seen)
    return least[0], most[1]


def of_rows(
    samples: Sequence[NDArray[np.float64]], networks: Sequence[Network], confidence: float = 0.95
) -> Interval:
    """Interval of the share of ones among rows of zeros and ones: of heads, nested in networks.

    As `of_share`; the heads of one network, too, share what it is like. Where all agree, or nearly,
    resampling would have no width.

    Args:
        samples: of each network, [heads] or [heads, 1].
        networks: what each shares.
        confidence: of the interval.
    """
    which = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    return _of_mean(np.concatenate([s.ravel() for s in samples]), networks, which, confidence)


def _of_mean(
    values: NDArray[np.float64],
    networks: Sequence[Network],
    which: NDArray[np.int64],
    confidence: float,
) -> Interval:
    if not len(values):
        return 0.0, 1.0
    n = independent(values, networks, which)
    low, high = of_rate(n * float(values.mean()), n, confidence)
    agreed = _if_all_agree(networks, len(values))
    surest = of_rate(agreed, agreed, confidence)[0]
    return min(low, surest), max(high, 1 - surest)


def independent(
    values: NDArray[np.float64],
    networks: Sequence[Network],
    which: NDArray[np.int64] | None = None,
) -> float:
    """How many independent networks tell as much about a mean as these that share their parts.

    The variance of the mean by the pigeonhole bootstrap's formula for crossed parts, against that
    of independent networks (a design effect: Kish 1965), with Korn and Graubard's (1998) correction
    for few values of a part. Where all values agree nothing tells how much is shared: then as many
    as the part with most values.

    Args:
        values: of each network; or of each head, [n].
        networks: what each shares.
        which: of which network each value is; None: one of each.
    """
    n, shared = len(values), shared_parts(networks)
    which = np.arange(n) if which is None else which
    if n < 2 or (not shared and n == len(networks)):
        return float(n)
    spread = float(np.mean((values - values.mean()) ** 2))
    if not spread:
        return float(_if_all_agree(networks, n))
    residual = np.bincount(which, values - values.mean(), minlength=len(networks)) / n
    parts = [np.arange(len(networks)), *shared]
    sizes = [int(part.max()) + 1 for part in parts]
    if sizes[0] < 2:
        return 1.0  # heads of one network
    alone, *due = (
        float(np.sum(np.bincount(part, residual) ** 2)) * size / (size - 1)
        for part, size in zip(parts, sizes, strict=True)
    )
    # Heads of one network may make up for each other in these; not in all.
    variance, freedom = _variance(max(alone, spread / n), due, sizes)
    wider = scipy.stats.t.ppf(0.975, freedom) / scipy.stats.t.ppf(0.975, n - 1)
    return float(np.clip(spread / variance / wider**2, min(2, n), n))


def _variance(alone: float, due: Sequence[float], sizes: Sequence[int]) -> tuple[float, float]:
    """The variance of a number over networks that share parts, and its degrees of freedom.

    Crossed parts hold what is not shared once each, so that all but one of these go; networks that
    share cannot tell more than networks do `alone`. The degrees of freedom are Satterthwaite's: as
    many as the parts that the variance comes from.

    Args:
        alone: the variance if networks shared nothing.
        due: the variance if only values of one part were drawn anew, for every part.
        sizes: of networks, and of values of every part.
    """
    if not due:
        return alone, sizes[0] - 1
    variance = max(sum(due) - alone * (len(due) - 1), alone)
    squares = sum(own**2 / (size - 1) for own, size in zip(due, sizes[1:], strict=True))
    return variance, sum(due) ** 2 / squares if squares else min(sizes[1:]) - 1


def counted(networks: Sequence[Network]) -> int:
    """How many networks there are, or values of the shared part with most of them."""
    return max((int(part.max()) + 1 for part in shared_parts(networks)), default=len(networks))


def _if_all_agree(networks: Sequence[Network], values: int) -> int:
    """As how many independent values count; heads of one network count as one."""
    return counted(networks) if values == len(networks) else len(networks)


def shared_parts(networks: Sequence[Network]) -> list[NDArray[np.int64]]:
    """Of each part that networks share (their weights, their draw): which value each has, [n]."""
    found = []
    for place in range(len(networks[0]) if networks else 0):
        labels = [str(network[place]) for network in networks]
        kinds, index = np.unique(labels, return_inverse=True)
        if 1 < len(kinds) < len(networks):
            found.append(index)
    return found


def of_median(
    values: Sequence[Bounds], networks: Sequence[Network] = (), confidence: float = 0.95
) -> Interval:
    """Interval of the median over networks; unbounded where runs were not finished.

    Order statistics, free of any distribution, interpolated between two neighbours so that it
    covers 95% (Hettmansperger and Sheather 1986). Fewer than six networks cannot reach that: then
    the least to the greatest value (93.8% for five). With shared parts, by their resampling, if one
    has FEWEST values; else the least to the greatest, too.
    """
    n = len(values)
    if not n:
        return -math.inf, math.inf
    if shared_parts(networks):
        return _of_shared_median(values, networks, confidence)
    least, greatest = np.sort([v.low for v in values]), np.sort([v.high for v in values])[::-1]
    covered = (1 - 2 * scipy.stats.binom.cdf(np.arange(n // 2 + 1), n, 0.5)).tolist()
    k = max(1, sum(each >= confidence for each in covered))
    if covered[k - 1] <= confidence or k > n // 2:
        return float(least[k - 1]), float(greatest[k - 1])
    share = (covered[k - 1] - confidence) / (covered[k - 1] - covered[k])
    share = (n - k) * share / (k + (n - 2 * k) * share)
    return _between(least[k - 1], least[k], share), _between(greatest[k - 1], greatest[k], share)


def _between(a: float, b: float, share: float) -> float:
    if math.isinf(a) or math.isinf(b):
        return float(a)
    return float(a + share * (b - a))


def _of_shared_median(
    values: Sequence[Bounds], networks: Sequence[Network], confidence: float
) -> Interval:
    lows, highs = (np.array(ends) for ends in zip(*values, strict=True))
    if counted(networks) < FEWEST:
        return float(lows.min()), float(highs.max())
    ranks = scipy.stats.rankdata(lows)  # whose variance unfinished runs do not make infinite

    def spread(counts: NDArray[np.float64]) -> float:
        return float(np.var(_medians(ranks, counts)))

    tail = _tail(networks, confidence, spread)
    counts, middle = resampled(networks), median(values)
    low = float(np.quantile(_medians(lows, counts), tail, method="nearest"))
    high = float(np.quantile(_medians(highs, counts), 1 - tail, method="nearest"))
    return min(low, middle.low), max(high, middle.high)


def _medians(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[resamples]: medians of values that are drawn so often, [resamples, networks]."""
    order = np.argsort(values)
    reached, half = np.cumsum(counts[:, order], axis=1), counts.sum(1, keepdims=True) / 2
    ends = [values[order][at.argmax(1)] for at in (reached >= half, reached > half)]
    return np.asarray(np.where(ends[0] == ends[1], ends[0], (ends[0] + ends[1]) / 2))


def of_statistic(
    statistic: Callable[[list[NDArray[np.float64]]], float],
    samples: Sequence[NDArray[np.float64]],
    networks: Sequence[Network],
    confidence: float = 0.95,
    resamples: int | None = None,
) -> Interval:
    """Interval of what is pooled over heads of networks, by resampling networks with all of theirs.

    Percentiles, taken further out for few networks as a t interval is (Hesterberg 2015, "expanded
    percentile"). On fewer than FEWEST networks, or where more than a tail of the resamples give no
    number, nothing is known.
    """
    if counted(networks) < FEWEST:
        return -math.inf, math.inf

    def drawn(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        found = [
            statistic([s for s, times in zip(samples, own, strict=True) for _ in range(times)])
            for own in counts.astype(int)
        ]
        return np.asarray(found, float)

    found = drawn(resampled(networks, resamples))
    known = found[np.isfinite(found)]
    if len(known) < (1 + confidence) / 2 * len(found):
        return -math.inf, math.inf

    def spread(counts: NDArray[np.float64]) -> float:
        own = drawn(counts)
        return float(np.var(own[np.isfinite(own)])) if np.isfinite(own).any() else 0.0

    tail = _tail(networks, confidence, spread, float(np.var(known)))
    return float(np.quantile(known, tail)), float(np.quantile(known, 1 - tail))


def _tail(
    networks: Sequence[Network],
    confidence: float,
    spread: Callable[[NDArray[np.float64]], float],
    pigeonhole: float | None = None,
) -> float:
    """Which percentile of all resamples is an end of the interval.

    Args:
        networks: what each shares.
        confidence: of the interval.
        spread: the variance of the number over resamples, [resamples, networks].
        pigeonhole: that of all, if it is known.
    """
    n, shared, tail = len(networks), shared_parts(networks), (1 - confidence) / 2
    if not shared:
        reach = -scipy.stats.t.ppf(tail, n - 1) * math.sqrt(n / (n - 1))
        return float(scipy.stats.norm.sf(reach))
    parts = [np.arange(n), *shared]
    sizes = [int(part.max()) + 1 for part in parts]
    alone, *due = (
        spread(_redrawn(part, SPREADS, np.random.default_rng(SEED))) * size / (size - 1)
        for part, size in zip(parts, sizes, strict=True)
    )
    variance, freedom = _variance(alone, due, sizes)
    all_ = spread(resampled(networks)) if pigeonhole is None else pigeonhole
    reach = -scipy.stats.t.ppf(tail, freedom) * (math.sqrt(variance / all_) if all_ else 1.0)
    return min(float(scipy.stats.norm.sf(reach)), tail)


def resampled(networks: Sequence[Network], resamples: int | None = None) -> NDArray[np.float64]:
    """[resamples, networks]: how often each network is drawn; shared parts are drawn on their own.

    Of no fixed sum where parts are shared; a sample without any network is drawn again as all.
    """
    rng = np.random.default_rng(SEED)
    parts = shared_parts(networks) or [np.arange(len(networks))]
    counts = np.ones((resamples or RESAMPLES, len(networks)))
    for part in parts:
        counts *= _redrawn(part, len(counts), rng)
    counts[counts.sum(1) == 0] = 1
    return counts


def _redrawn(
    part: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """[resamples, networks]: how often the value of a part that each network has is drawn."""
    size = int(part.max()) + 1
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples)[:, part].astype(float)
