"""Claims hold on data that obey them, fail on data that violate them, and else say so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from made_up import PAPER, sweep

from ih_jax.claims import (
    Bounds,
    Claim,
    Finding,
    below,
    correlation,
    decide,
    every,
    has_plateau,
    in_most,
    in_order,
    learning_times,
    median,
    more_than,
    networks_of,
    no_difference,
    of_networks,
    pooled,
    ratio,
    times_as_long,
    yes,
)
from ih_jax.claims.intervals import of_median, of_rate, of_share
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

    def later(slow: Bounds, fast: Bounds) -> bool | None:
        return ratio(slow, fast).more_than(1)

    assert later(censored, early) is True
    assert later(censored, late) is None
    assert later(early, censored) is False
    assert later(late, censored) is None
    assert later(censored, censored) is None
    assert ratio(late, early).at_least(3) is True
    assert ratio(late, early).at_least(3.1) is False


def test_a_median_is_known_while_fewer_than_half_are_censored() -> None:
    known, censored = [Bounds(1, 1), Bounds(2, 2), Bounds(3, 3)], Bounds(8, INF)
    assert median([*known, censored, censored]) == (3, 3)
    assert median([*known, censored, censored, censored]) == (5.5, INF)
    assert median([censored]).show() == ">8"
    assert ratio(censored, Bounds(2, 2)) == (4, INF)
    assert ratio(Bounds(2, 2), censored).show() == "<0.25"
    assert ratio(censored, censored).show() == "unknown"


def test_ratios_and_medians_at_their_ends() -> None:
    zero, five, nothing = Bounds(0, 0), Bounds(5, 5), Bounds(math.nan, math.nan)
    assert ratio(five, zero) == (INF, INF)
    assert ratio(zero, five) == (0, 0)
    assert ratio(zero, zero) == (0, INF)
    assert not ratio(nothing, five).measured
    assert not ratio(five, nothing).measured
    assert median([Bounds(-INF, -INF), Bounds(INF, INF)]) == (-INF, INF)
    assert not median([five, nothing]).measured
    assert Bounds(-5, 3).show() == "-5 to 3"
    assert Bounds(-5, INF).show() == ">-5"
    assert Bounds(-INF, INF).show() == "unknown"


def test_a_network_that_cannot_tell_counts_for_nothing() -> None:
    untold = dict.fromkeys(range(4, 16))
    for test in (below(1.5), more_than(5), more_than(0)):
        rule = in_most("ratio", lambda results: results, test)
        found = rule.judge(networks_of({**dict.fromkeys(range(4), 2.0), **untold}))
        assert found.verdict == "too few networks"
        assert "cannot tell in 12 networks" in found.detail
    numpys = in_most("so", lambda results: results, lambda value: np.bool_(value.low == 1))
    assert numpys.judge(networks_of(dict.fromkeys(range(16), 1.0))).share == (16, 16)


def test_rules_that_cannot_decide_say_so() -> None:
    with pytest.raises(UserError, match="rate is 80: give a share"):
        in_most("so", lambda results: results, yes, rate=80)
    with pytest.raises(UserError, match="margin is 1 to -1: give the lower end first"):
        no_difference("x", lambda results: results, 1, -1)
    numbers = networks_of({0: 1.0, 1: 2.0})
    with pytest.raises(UserError, match="a pooled claim takes an array of every network"):
        pooled("r", lambda results: results, correlation()).judge(numbers)
    arrays = networks_of({0: np.ones((8, 2)), 1: np.ones((8, 2))})
    with pytest.raises(UserError, match="got arrays: give one number of each, or use pooled"):
        in_most("so", lambda results: results, yes).judge(arrays)
    twice = xr.Dataset({"v": ("init", [1.0, 2.0])}, {"init": [3, 3]})
    with pytest.raises(UserError, match=r"init is \[3, 3\]: give every network a number"):
        of_networks(lambda one: float(one["v"]))(twice)


def test_three_valued_logic() -> None:
    assert every([True, None, False]) is False
    assert every([True, None]) is None
    assert every([True, True]) is True
    assert every([]) is None


def test_networks_that_cannot_tell_widen_the_interval_of_a_rate() -> None:
    keys = [(i,) for i in range(8)]
    assert of_share([True] * 8, keys) == pytest.approx(of_rate(8, 8))
    open_, against = (of_share([True] * 4 + [other] * 4, keys) for other in (None, False))
    assert open_ == pytest.approx((against[0], 1))
    assert of_share([], []) == (0, 1)


def test_the_interval_of_a_median_is_unbounded_where_runs_were_not_finished() -> None:
    assert of_median([Bounds(x, x) for x in (1, 2, 3, 4, 5)]) == (1, 5)
    low, high = of_median([Bounds(x, x) for x in range(1, 21)])
    assert 6 < low < 7  # between the textbook's intervals for n = 20: 95.9% and 88.5%
    assert 14 < high < 15
    assert of_median([Bounds(1, 1), Bounds(2, 2), Bounds(3, INF)]) == (1, INF)
    rule = in_most("time", lambda results: results, below(10))
    found = rule.judge(networks_of({5: Bounds(1, 1), 6: Bounds(2, 2), 7: Bounds(3, INF)}))
    assert "unbounded" in found.ours
    assert found.share == (2, 3)


def test_diverged_runs_are_left_out_and_named() -> None:
    results = sweep()
    results["loss"].loc[{"clamp": "match", "init": 7}] = 9.0
    results["diverged_at"].loc[{"clamp": "match", "init": 7}] = 4e3
    longer = in_most("times as long", times_as_long("none", "match"), more_than(1))(results)
    assert longer.share == (5, 5)
    assert longer.effects["times as long, median"].networks == 5
    assert "not measured: init 7" in longer.detail
    assert in_most("so", in_order(("match", "copy")), yes)(results).share == (5, 5)
    assert in_most("so", has_plateau("match"), yes)(results).share == (0, 5)
    fig5b = {claim.name: finding for claim, finding in decide(CLAIMS, results)}
    for name in (
        "none / match",
        "the more is given, the sooner",
        "one subcircuit left: no plateau",
    ):
        assert fig5b[name].share == (5, 5)
        assert "left out, not measured: init 7" in fig5b[name].detail
    results["diverged_at"].loc[{"clamp": "match"}] = 4e3
    assert verdicts(results)["none / match"] == "too few networks"
    assert verdicts(results)["one subcircuit left: no plateau"] == "too few networks"


def test_a_clamp_that_was_not_run_is_too_little_to_judge() -> None:
    finding = in_most("so", in_order(("match", "lunch")), yes)(sweep())
    assert finding.verdict == "too few networks"
    assert finding.ours == "no network"


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


def test_a_claim_is_text_and_a_rule() -> None:
    with pytest.raises(UserError, match="name of a claim is 5: give text"):
        Claim(5, "sooner", lambda results: Finding("replicates", "1"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"unknown verdict 'holds'.*replicates"):
        Finding("holds", "1")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="decide of claim 'a' is 'sooner': give a rule"):
        Claim("a", "sooner", "sooner")  # type: ignore[arg-type]
    claim = Claim("a", "sooner", lambda results: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match="decide of claim 'a' gives None: return"):
        decide([claim], xr.Dataset())
