"""Intervals cover as often as they say, and verdicts err as seldom as they should: simulated."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from populations import CROSSED, crossed, heads, independent, mean, nested, shared
from scipy import stats

from ih_jax.claims import (
    Bounds,
    correlation,
    in_most,
    no_difference,
    pooled,
    variance_components,
    yes,
)
from ih_jax.claims.components import Components
from ih_jax.claims.intervals import of_median, of_rate, of_rows, of_share, of_statistic
from ih_jax.claims.networks import Networks
from ih_jax.claims.rules import verdict_of

RATES = np.linspace(0.01, 0.99, 99)


def verdict_rates(rate: float, networks: int, limit: float = 0.5) -> dict[str, float]:
    """Exactly how often each verdict is given where the rate of the population is this."""
    found: dict[str, float] = {}
    for k in range(networks + 1):
        verdict = verdict_of(of_rate(k, networks), limit)
        found[verdict] = found.get(verdict, 0.0) + float(stats.binom.pmf(k, networks, rate))
    return found


@pytest.mark.parametrize("networks", [5, 8, 16, 64])
def test_the_interval_of_a_rate(networks: int) -> None:
    ends = np.array([of_rate(k, networks) for k in range(networks + 1)])
    inside = (ends[:, :1] <= RATES) & (ends[:, 1:] >= RATES)
    weight = stats.binom.pmf(np.arange(networks + 1)[:, None], networks, RATES)
    coverage = (weight * inside).sum(0)
    assert coverage.min() > 0.92
    assert 0.93 < coverage.mean() < (0.97 if networks >= 16 else 0.98)
    assert ends == pytest.approx(1 - ends[::-1, ::-1])  # yes and no are alike


@pytest.mark.parametrize("networks", [5, 16, 64])
def test_a_statement_that_is_true_in_half_of_networks_is_rarely_decided(networks: int) -> None:
    found = verdict_rates(0.5, networks)
    assert found.get("replicates", 0) < 0.04  # half of what an interval of 92% leaves out
    assert found.get("fails", 0) < 0.04


def test_the_power_of_the_verdicts() -> None:
    # True in 90% of networks: five can say so only if all agree; 16 do, and 64 without exception.
    assert verdict_rates(0.9, 5)["replicates"] == pytest.approx(0.9**5)
    assert verdict_rates(0.9, 16)["replicates"] > 0.95
    assert verdict_rates(0.83, 64)["replicates"] > 0.999
    assert verdict_rates(0.1, 16)["fails"] > 0.95
    assert sum(verdict_rates(0.9, n).get("fails", 0) for n in (5, 16, 64)) < 1e-4
    # Neither: 64 networks say that it is mixed, 5 and 16 that they are too few.
    assert verdict_rates(0.5, 64)["mixed"] > 0.9
    assert set(verdict_rates(0.5, 16)) == {"replicates", "fails", "too few networks"}
    # Against a stated rate of .8: true in 95%.
    assert verdict_rates(0.95, 64, 0.8)["replicates"] > 0.9
    assert verdict_rates(0.8, 64, 0.8).get("replicates", 0) < 0.04


@pytest.mark.parametrize(("weights", "draws"), [(0, 0), (0.5, 0), (0, 0.1), (0.3, 0.1)])
def test_the_interval_of_a_rate_of_networks_that_share_their_parts(
    weights: float, draws: float
) -> None:
    rng = np.random.default_rng(0)
    inside, naive = [], []
    for rate in (0.5, 0.8):
        for _ in range(250):
            seen = crossed(rate, weights, draws, rng)
            low, high = of_share(seen, CROSSED)
            inside.append(low <= rate <= high)
            low, high = of_rate(sum(seen), 64)
            naive.append(low <= rate <= high)
    assert 0.91 < np.mean(inside) < 0.985
    if weights >= 0.5:
        assert np.mean(naive) < 0.9  # which is why


@pytest.mark.parametrize("networks", [5, 6, 8, 16, 64])
def test_the_interval_of_a_median(networks: int) -> None:
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(1500):
        drawn = rng.exponential(size=networks)
        low, high = of_median([Bounds(x, x) for x in drawn])
        inside.append(low <= np.log(2) <= high)
    assert 0.93 < np.mean(inside) < 0.97


def test_the_interval_of_a_median_covers_where_runs_are_cut_short() -> None:
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(1000):
        drawn = rng.exponential(size=16)
        cut = [Bounds(x, x) if x < 0.9 else Bounds(0.9, np.inf) for x in drawn]  # 41% are
        low, high = of_median(cut)
        inside.append(low <= np.log(2) <= high)
    assert 0.93 < np.mean(inside) < 0.975


@pytest.mark.parametrize(
    ("keys", "weights", "draws"),
    [
        (nested(16, 4), 0.4, 0),
        (nested(16, 4), 0.9, 0),
        (nested(6, 4), 0.6, 0),
        (CROSSED, 0.4, 0.1),
        (CROSSED, 0.2, 0.4),
    ],
    ids=["nested", "of weights alone", "six weights", "crossed", "draws matter"],
)
def test_the_interval_of_a_median_and_of_a_mean_of_networks_that_share_their_parts(
    keys: list[tuple[int, int, int]], weights: float, draws: float
) -> None:
    rng = np.random.default_rng(6)
    medians, means = [], []
    for trial in range(160):
        drawn = shared(keys, weights, draws, rng)
        low, high = of_median([Bounds(x, x) for x in drawn], keys)
        assert low <= np.median(drawn) <= high
        medians.append(low <= 0 <= high)
        if trial < 60:
            low, high = of_statistic(mean, list(drawn[:, None]), keys, resamples=400)
            means.append(low <= 0 <= high)
    assert 0.9 < np.mean(medians) < 0.995  # .95, and what chance adds
    assert np.mean(means) > 0.86


def test_two_initial_weights_are_too_few_however_many_networks_have_them() -> None:
    keys, rng = nested(2, 8), np.random.default_rng(7)
    drawn = shared(keys, 0.4, 0, rng)
    assert of_statistic(mean, list(drawn[:, None]), keys) == (-np.inf, np.inf)
    values = [Bounds(x, x) for x in drawn]
    assert of_median(values, keys) == (drawn.min(), drawn.max())
    rule = no_difference("difference", lambda results: results, -9, 9)
    found = rule.judge(Networks(("init",), dict(zip(keys, values, strict=True))))
    assert found.verdict == "too few networks"
    assert "50% interval" in found.ours
    seen = [True, True, False, False] * 4  # alike in both: no variance between them is seen
    assert of_share(seen, nested(4, 4))[0] < 0.25
    assert of_share(seen, nested(2, 8)) == pytest.approx((0, 1), abs=0.05)


def test_one_network_that_differs_makes_nothing_surer() -> None:
    yes, no = [True] * 64, [False, *[True] * 63]
    assert of_share(no, CROSSED)[0] <= of_share(yes, CROSSED)[0]
    other = of_share([not seen for seen in no], CROSSED)
    assert other == pytest.approx([1 - end for end in reversed(of_share(no, CROSSED))])


@pytest.mark.parametrize("networks", [5, 16, 64])
def test_the_interval_of_a_share_of_heads(networks: int) -> None:
    rng = np.random.default_rng(8)
    keys = [(i,) for i in range(networks)]
    for alike, truth in ((0, 0.95), (0.5, 0.9), (4, 0.5)):
        inside = []
        for _ in range(200):
            own = rng.beta(truth / alike, (1 - truth) / alike, networks) if alike else truth
            samples = list((rng.random((8, networks)) < own).astype(float).T[..., None])
            low, high = of_rows(samples, keys)
            assert low <= mean(samples) <= high
            inside.append(low <= truth <= high)
        assert np.mean(inside) > 0.91
    all_ = of_rows([np.ones((8, 1))] * networks, keys)
    assert all_ == pytest.approx(of_rate(networks, networks))  # as many as there are networks
    rule = pooled("share of heads", lambda results: results, mean, 0.95)
    found = rule.judge(independent([np.ones((8, 1))] * 5))
    assert found.verdict == "too few networks"
    assert found.interval == pytest.approx(of_rate(5, 5))


def test_what_most_resamples_do_not_tell_is_not_known() -> None:
    flat, told = np.zeros((8, 2)), np.stack([np.arange(8.0)] * 2, 1)
    keys = [(i,) for i in range(16)]
    assert of_statistic(correlation(), [flat] * 15 + [told], keys) == (-np.inf, np.inf)
    assert of_statistic(mean, [told] * 4, keys[:4]) == (-np.inf, np.inf)  # four are too few


@pytest.mark.parametrize("networks", [8, 16])
def test_the_interval_of_a_correlation_over_heads(networks: int) -> None:
    rng = np.random.default_rng(3)
    inside, naive = [], []
    for _ in range(200):
        samples, truth = heads(networks, rng)
        keys = [(i,) for i in range(networks)]
        low, high = of_statistic(correlation(), samples, keys, resamples=300)
        inside.append(low <= truth <= high)
        z, spread = np.arctanh(correlation()(samples)), 1.96 / np.sqrt(8 * networks - 3)
        naive.append(np.tanh(z - spread) <= truth <= np.tanh(z + spread))
    assert 0.9 < np.mean(inside) < 0.98
    assert np.mean(naive) < np.mean(inside)


def test_no_difference_is_said_where_there_is_none_and_only_there() -> None:
    rng = np.random.default_rng(4)
    rule = no_difference("difference", lambda results: results, -0.5, 0.5)

    def verdicts(mean: float, networks: int) -> list[str]:
        return [
            rule.judge(independent(mean + rng.normal(size=networks))).verdict for _ in range(300)
        ]

    assert verdicts(0, 64).count("replicates") > 240  # the margin is 3.2 standard errors: 88%
    assert verdicts(0.5, 64).count("replicates") < 25  # at the margin: 5%
    assert verdicts(1.5, 64).count("fails") > 290
    assert verdicts(0, 5).count("replicates") < 100  # not yet
    assert verdicts(0, 3).count("too few networks") == 300


def test_hidden_networks_make_nothing_false() -> None:
    rule = in_most("later", lambda results: results, yes)
    true = rule.judge(independent([True] * 14 + [None] * 2))
    assert true.verdict == "replicates"
    assert true.share == (14, 16)
    untold = rule.judge(independent([True] * 4 + [None] * 12))
    assert untold.verdict == "too few networks"
    assert untold.interval[1] == 1
    assert "cannot tell in 12 networks" in untold.detail
    assert rule.judge(Networks(("init",), {})).verdict == "too few networks"


def components_of(weights: float, draws: float, rng: np.random.Generator) -> Components:
    table = (
        np.sqrt(weights) * rng.normal(size=(16, 1))
        + np.sqrt(draws) * rng.normal(size=(1, 4))
        + np.sqrt(1 - weights - draws) * rng.normal(size=(16, 4))
    )
    return variance_components(xr.DataArray(table, dims=("init", "draw")))


def test_variance_components_are_unbiased_and_their_intervals_cover() -> None:
    rng = np.random.default_rng(5)
    found = [components_of(0.4, 0.2, rng) for _ in range(400)]
    assert np.mean([each.variance["init"] for each in found]) == pytest.approx(0.4, abs=0.04)
    assert np.mean([each.variance["draw"] for each in found]) == pytest.approx(0.2, abs=0.04)
    assert np.mean([each.variance["rest"] for each in found]) == pytest.approx(0.4, abs=0.02)
    for part, truth in (("init", 0.5), ("draw", 1 / 3)):
        inside = [each.interval[part][0] <= truth <= each.interval[part][1] for each in found]
        assert 0.93 < np.mean(inside) < 0.97
    nothing = [components_of(0, 0.3, rng).p["init"] < 0.05 for _ in range(400)]
    assert 0.03 < np.mean(nothing) < 0.08


def test_nothing_that_varies_is_due_to_nothing() -> None:
    for same in (1.0, 0.1):
        found = variance_components(xr.DataArray(np.full((4, 3), same), dims=("init", "draw")))
        assert found.p == {"init": 1.0, "draw": 1.0}
        assert found.variance == {"init": 0.0, "draw": 0.0, "rest": 0.0}
    rows = xr.DataArray(np.repeat([[0.1], [0.2], [0.4]], 4, 1), dims=("init", "draw"))
    found = variance_components(rows)
    assert found.p["draw"] == 1
    assert found.interval["draw"] == (0, 0)
    assert found.interval["init"] == (1, 1)
