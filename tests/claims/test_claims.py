"""Claims hold on data that obey them, fail on data that violate them, and else say so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from made_up import PAPER, sweep

from ih_jax.claims import (
    Bounds,
    Faster,
    decide,
    effect,
    every,
    learning_times,
    median,
    median_ratio,
    medians_ordered,
    plateau_in,
    rate,
    ratio,
    seeds_ordered,
)
from ih_jax.errors import UserError
from ih_jax.experiments.register import find
from ih_jax.experiments.singh2024.fig5b import CLAIMS
from ih_jax.experiments.singh2024.trainings import CLAMPS, HORIZONS

INF = math.inf


def verdicts(results: xr.Dataset) -> dict[str, str]:
    return {claim.name: finding.verdict for claim, finding in decide(CLAIMS, results)}


def test_all_of_fig5b_replicates_on_the_papers_times() -> None:
    assert set(verdicts(sweep()).values()) == {"replicates"}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"match": 20e3}, "the more is given, the sooner"),
        ({"match": 50e3}, "the more is given, the sooner"),
        ({"layer1": 340e3}, "the more is given, the sooner"),
        ({"copy": 340e3}, "the more is given, the sooner"),
        ({"none": 25e3}, "none / layer1+copy"),
        ({"none": 31e3}, "none / match"),
        ({"none": 38e3}, "none / copy"),
        ({"none": 75e3}, "none / layer1"),
        ({"none": 200e3}, "previous-token attention alone"),
    ],
)
def test_violations_are_noticed(change: dict[str, float], broken: str) -> None:
    longer = dict.fromkeys(HORIZONS, 800_000)
    assert verdicts(sweep({**PAPER, **change}, horizons=longer))[broken] == "fails"


@pytest.mark.parametrize("plateaus", [(), ("none", "match"), ("none", "layer1+copy")])
def test_plateaus_are_graded(plateaus: tuple[str, ...]) -> None:
    assert verdicts(sweep(plateaus=plateaus))["one subcircuit left: no plateau"] == "fails"


def test_runs_cut_short_bound_their_times() -> None:
    short = {**HORIZONS, "none": 260_000}
    found = {claim.name: finding for claim, finding in decide(CLAIMS, sweep(horizons=short))}
    assert found["none / layer1+copy"].verdict == "replicates"
    assert "times as long >9" in found["none / layer1+copy"].ours
    shorter = verdicts(sweep(horizons={**HORIZONS, "none": 100_000}))
    assert shorter["one subcircuit left: no plateau"] == "too few networks"
    # Without a clamp it is later than with any for sure.
    assert shorter["the more is given, the sooner"] == "replicates"
    assert shorter["previous-token attention alone"] == "too few networks"
    none = dict.fromkeys(HORIZONS, 10_000)
    assert set(verdicts(sweep(horizons=none)).values()) == {"too few networks"}


def test_censored_times_are_compared_only_where_they_can_be() -> None:
    early, late, censored = Bounds(3, 3), Bounds(9, 9), Bounds(5, INF)
    assert Faster("a", "b").holds(early, censored) is True
    assert Faster("a", "b").holds(late, censored) is None
    assert Faster("a", "b").holds(censored, early) is False
    assert Faster("a", "b").holds(censored, late) is None
    assert Faster("a", "b").holds(censored, censored) is None
    assert Faster("a", "b", by=3).holds(early, late) is True
    assert Faster("a", "b", by=3.1).holds(early, late) is False


def test_a_median_is_known_while_fewer_than_half_are_censored() -> None:
    known, censored = [Bounds(1, 1), Bounds(2, 2), Bounds(3, 3)], Bounds(8, INF)
    assert median([*known, censored, censored]) == (3, 3)
    assert median([*known, censored, censored, censored]) == (5.5, INF)
    assert median([censored]).show() == ">8"
    assert ratio(censored, Bounds(2, 2)) == (4, INF)
    assert ratio(Bounds(2, 2), censored).show() == "<0.25"
    assert ratio(censored, censored).show() == "unknown"


def test_three_valued_logic() -> None:
    assert every([True, None, False]) is False
    assert every([True, None]) is None
    assert every([True, True]) is True
    assert every([]) is None


def test_rates_and_their_intervals() -> None:
    share, interval = rate([True] * 8)
    assert share == (8, 8)
    assert interval == pytest.approx((0.025 ** (1 / 8), 1))
    share, interval = rate([True] * 4 + [None] * 4)
    _, all_against = rate([True] * 4 + [False] * 4)
    assert share == (4, 8)
    assert interval
    assert all_against
    assert interval == pytest.approx((all_against[0], 1))
    assert rate([]) == ((0, 0), None)


def test_effects_say_what_their_interval_is_worth() -> None:
    five = effect([Bounds(x, x) for x in (1, 2, 3, 4, 5)])
    assert five.interval == (1, 5)
    assert five.coverage == pytest.approx(1 - 2 / 2**5)
    six = effect([Bounds(x, x) for x in range(6)])
    assert six.interval == (0, 5)
    assert six.coverage >= 0.95
    twenty = effect([Bounds(x, x) for x in range(1, 21)])
    assert twenty.interval == (6, 15)  # the textbook's sign interval for n = 20
    assert 0.95 <= twenty.coverage < 0.97
    censored = effect([Bounds(1, 1), Bounds(2, 2), Bounds(3, INF)])
    assert censored.interval == (1, INF)
    assert "unbounded" in censored.show()


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        low, high = effect([Bounds(x, x) for x in rng.normal(size=10)]).interval
        inside += low <= 0 <= high
    assert inside / 400 > 0.95


def test_diverged_runs_are_left_out_and_named() -> None:
    results = sweep()
    results["loss"].loc[{"clamp": "match", "init": 7}] = 9.0
    results["diverged_at"].loc[{"clamp": "match", "init": 7}] = 4e3
    finding = median_ratio("none", "match", 6)(results)
    assert finding.verdict == "holds"
    assert finding.effects["none / match"].seeds == 5
    assert "diverged: match, init 7" in finding.detail
    assert seeds_ordered(Faster("match", "copy"))(results).share == (5, 5)
    assert plateau_in("match", present=False)(results).share == (5, 5)
    results["diverged_at"].loc[{"clamp": "match"}] = 4e3
    assert verdicts(results)["none / match"] == "too few networks"
    assert verdicts(results)["one subcircuit left: no plateau"] == "too few networks"


def test_a_clamp_that_was_not_run_is_undecidable() -> None:
    finding = medians_ordered(Faster("match", "lunch"))(sweep())
    assert finding.verdict == "undecidable"
    assert "'lunch'" in finding.detail


def test_clamps_that_were_not_run_are_too_few_to_judge() -> None:
    found = verdicts(sweep().sel(clamp=["none", "match"]))
    assert found.pop("none / match") == "replicates"
    assert set(found.values()) == {"too few networks"}


def test_one_network_is_enough_to_run_and_too_few_for_a_verdict() -> None:
    found = {claim.name: finding for claim, finding in decide(CLAIMS, sweep(seeds=1))}
    assert {finding.verdict for finding in found.values()} == {"too few networks"}
    assert found["the more is given, the sooner"].share == (1, 1)


def test_a_swept_setting_must_be_selected() -> None:
    rates = [1e-5, 3e-5]
    results = sweep(seeds=2).expand_dims(learning_rate=rates)
    with pytest.raises(UserError, match="learning_rate varies"):
        learning_times(results)
    assert learning_times(results.isel(learning_rate=[0])).median("match").low == pytest.approx(
        33e3, 0.1
    )


def test_fig5b_is_the_papers_six_runs() -> None:
    assert set(CLAMPS) == set(HORIZONS) == set(PAPER)
    assert len(set(CLAMPS.values())) == 6
    assert find("fig5b").claims == CLAIMS
    with pytest.raises(UserError, match="did you mean 'fig5b'"):
        find("fig5c")
