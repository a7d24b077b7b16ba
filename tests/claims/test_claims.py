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


def test_all_of_fig5b_holds_on_the_papers_times() -> None:
    assert set(verdicts(sweep()).values()) == {"holds"}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"match": 20e3}, "order of medians"),
        ({"match": 50e3}, "order in every seed"),
        ({"layer1": 160e3}, "order of medians"),  # more than half of none
        ({"copy": 330e3}, "order in every seed"),
        ({"none": 200e3}, "none / layer1+copy"),
        ({"none": 190e3}, "none / match"),
    ],
)
def test_violations_are_noticed(change: dict[str, float], broken: str) -> None:
    longer = dict.fromkeys(HORIZONS, 800_000)
    assert verdicts(sweep({**PAPER, **change}, horizons=longer))[broken] == "does not hold"


@pytest.mark.parametrize(
    ("plateaus", "broken"),
    [
        ((), "plateau: none"),
        (("none", "match"), "no plateau: match"),
        (("none", "layer1+copy"), "no plateau: layer1+copy"),
    ],
)
def test_plateaus_are_graded(plateaus: tuple[str, ...], broken: str) -> None:
    found = verdicts(sweep(plateaus=plateaus))
    assert found.pop(broken) == "does not hold"
    assert all(found[name] == "holds" for name in found if "plateau" in name)


def test_runs_cut_short_bound_their_times() -> None:
    short = {**HORIZONS, "none": 260_000}
    found = {claim.name: finding for claim, finding in decide(CLAIMS, sweep(horizons=short))}
    assert found["none / layer1+copy"].verdict == "holds"  # 260 / 28 is at least 8 already
    assert found["none / layer1+copy"].ours.startswith(">9")
    assert found["order of medians"].ours.endswith("none >256k")
    shorter = verdicts(sweep(horizons={**HORIZONS, "none": 100_000}))
    assert shorter["none / layer1+copy"] == "undecidable"
    assert shorter["plateau: none"] == "undecidable"
    assert shorter["order in every seed"] == "holds"  # none is later than layer1 for sure
    assert shorter["order of medians"] == "undecidable"  # but not for sure twice as late
    none = dict.fromkeys(HORIZONS, 10_000)
    assert set(verdicts(sweep(horizons=none)).values()) == {"undecidable"}


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
    assert "undecidable" in {verdicts(results)[name] for name in ("none / match",)}
    assert verdicts(results)["no plateau: match"] == "undecidable"


def test_a_clamp_that_was_not_run_is_undecidable() -> None:
    finding = medians_ordered(Faster("match", "lunch"))(sweep())
    assert finding.verdict == "undecidable"
    assert "'lunch'" in finding.detail


def test_one_seed_is_enough_to_run_and_too_few_for_an_interval() -> None:
    found = decide(CLAIMS, sweep(seeds=1))
    assert {finding.verdict for _, finding in found} == {"holds"}
    assert "1 seed" in found[2][1].effects["none / layer1+copy"].show()


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
