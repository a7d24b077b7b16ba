"""95% intervals over networks: of rates, of medians, and of what is pooled over heads.

Two things make networks less than independent. Heads are nested in networks, so what is pooled over
heads resamples networks. And 64 networks of 16 initial weights and 4 draws of the data share
either: there the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap") resamples initial
weights and draws, each on its own; it errs on the wide side.

Coverage of all of these is simulated in tests/claims/test_coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from ih_jax.claims.bounds import Bounds
from ih_jax.claims.networks import Network

RESAMPLES = 1000
SEED = 0  # of resampling: the same results give the same interval

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
    much (`independent`).
    """
    ends = []
    for unknown in (False, True):
        seen = np.array([unknown if outcome is None else outcome for outcome in outcomes], float)
        n = independent(seen, networks)
        k = n * float(seen.mean()) if len(seen) else 0.0
        ends.append(of_rate(k, n, confidence))
    return ends[0][0], ends[1][1]


def independent(values: NDArray[np.float64], networks: Sequence[Network]) -> float:
    """How many independent networks tell as much about a mean as these that share their parts.

    The variance of the mean by the pigeonhole bootstrap's formula for crossed parts, against that
    of independent networks (a design effect: Kish 1965), with Korn and Graubard's (1998) correction
    for few values of a part. Where all values agree nothing tells how much is shared: then as many
    as the part with most values.
    """
    n, shared = len(values), shared_parts(networks)
    if not shared:
        return float(n)
    spread = float(np.mean((values - values.mean()) ** 2))
    sizes = [int(part.max()) + 1 for part in shared]
    if not spread:
        return float(max(sizes))
    residual = (values - values.mean()) / n
    alone = float(np.sum(residual**2)) * n / (n - 1)
    due = [
        float(np.sum(np.bincount(part, residual) ** 2)) * size / (size - 1)
        for part, size in zip(shared, sizes, strict=True)
    ]
    variance = max(sum(due) - alone * (len(due) - 1), alone)
    # Satterthwaite: as many degrees of freedom as the parts that the variance comes from.
    freedom = sum(own**2 / (size - 1) for own, size in zip(due, sizes, strict=True))
    wider = scipy.stats.t.ppf(0.975, sum(due) ** 2 / freedom) / scipy.stats.t.ppf(0.975, n - 1)
    return float(np.clip(spread / variance / wider**2, 2, n))


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
    the least to the greatest value (93.8% for five). With shared parts, by their resampling.
    """
    n = len(values)
    if not n:
        return -math.inf, math.inf
    if shared_parts(networks):
        weights = resampled(networks)
        ends = []
        for side, tail in ((0, (1 - confidence) / 2), (1, (1 + confidence) / 2)):
            own = np.array([value[side] for value in values])
            order = np.argsort(own)
            reached = np.cumsum(weights[:, order], axis=1) >= weights.sum(1, keepdims=True) / 2
            ends.append(float(np.quantile(own[order][reached.argmax(1)], tail, method="nearest")))
        return ends[0], ends[1]
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


def of_statistic(
    statistic: Callable[[list[NDArray[np.float64]]], float],
    samples: Sequence[NDArray[np.float64]],
    networks: Sequence[Network],
    confidence: float = 0.95,
    resamples: int | None = None,
) -> Interval:
    """Interval of what is pooled over heads of networks, by resampling networks with all of theirs.

    Percentiles, taken further out for few networks as a t interval is (Hesterberg 2015, "expanded
    percentile"). Three networks at least; else nothing is known.
    """
    n = len(samples)
    if n < 3:
        return -math.inf, math.inf
    counts = resampled(networks, resamples)
    found = []
    for weights in counts.astype(int):
        drawn = [s for s, times in zip(samples, weights, strict=True) for _ in range(times)]
        found.append(statistic(drawn))
    known = np.asarray(found)[np.isfinite(found)]
    if len(known) < len(counts) / 2:
        return -math.inf, math.inf
    tail = (1 - confidence) / 2
    if not shared_parts(networks):
        tail = float(scipy.stats.norm.cdf(scipy.stats.t.ppf(tail, n - 1) * math.sqrt(n / (n - 1))))
    return float(np.quantile(known, tail)), float(np.quantile(known, 1 - tail))


def resampled(networks: Sequence[Network], resamples: int | None = None) -> NDArray[np.float64]:
    """[resamples, networks]: how often each network is drawn; shared parts are drawn on their own.

    Of no fixed sum where parts are shared; a sample without any network is drawn again as all.
    """
    rng = np.random.default_rng(SEED)
    resamples = resamples or RESAMPLES
    n, shared = len(networks), shared_parts(networks)
    if not shared:
        return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    weights = np.ones((resamples, n))
    for part in shared:
        size = int(part.max()) + 1
        weights *= rng.multinomial(size, np.full(size, 1 / size), size=resamples)[:, part]
    weights[weights.sum(1) == 0] = 1
    return weights
