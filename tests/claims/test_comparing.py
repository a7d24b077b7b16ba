"""How ours compare with a paper's numbers, by simulation; times of which some are not finished."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from populations import independent, mean
from scipy import stats

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    below,
    correlation,
    decide,
    exactly,
    in_most,
    kaplan_meier,
    log_rank,
    more_than,
    of_networks,
    pooled,
    word,
)
from ih_jax.claims.comparing import with_one, with_pooled, with_several, with_share
from ih_jax.errors import UserError


def bounds(values: np.ndarray, end: float = math.inf) -> list[Bounds]:
    """Times known up to an end."""
    return [Bounds(x, x) if x < end else Bounds(end, math.inf) for x in values]


def test_one_network_of_the_same_population_is_rarely_called_another_size() -> None:
    rng = np.random.default_rng(0)
    same = [
        with_one(bounds(rng.normal(size=64)), Bounds(x, x), "{:.2g}".format).size
        for x in rng.normal(size=800)
    ]
    assert 0.02 < same.count("other size") / 800 < 0.07
    far = [
        with_one(bounds(rng.normal(size=64)), Bounds(x, x), "{:.2g}".format).size
        for x in 4 + rng.normal(size=200)
    ]
    assert far.count("other size") > 160
    few = with_one(bounds(rng.normal(size=16)), Bounds(99, 99), "{:.2g}".format)
    assert few.size == "too few networks"  # 1 of 17 is no rarity


@pytest.mark.parametrize("end", [math.inf, 0.8])
def test_five_networks_of_the_same_population(end: float) -> None:
    rng = np.random.default_rng(1)

    def of(scale: float) -> list[str]:
        return [
            with_several(
                bounds(rng.exponential(size=16), end), bounds(scale * rng.exponential(size=5), end)
            ).size
            for _ in range(60)
        ]

    assert of(1).count("other size") <= 8  # 5%, and what chance adds
    assert of(20).count("other size") > (30 if math.isinf(end) else 5)


def test_it_is_the_test_of_mann_and_whitney_where_all_is_known() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=7), rng.normal(size=5) + 1
    ours = with_several(bounds(a), bounds(b))
    assert ours.p == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)


def test_k_of_n() -> None:
    assert with_share((14, 16), (5, 5)).size == "same size"
    assert with_share((10, 64), (5, 5)).size == "other size"
    assert with_share((1, 2), (1, 1)).size == "too few networks"


def test_a_pooled_number_is_compared_with_as_many_networks_of_ours() -> None:
    rng = np.random.default_rng(3)
    samples = [np.stack([x, x + rng.normal(size=8)], 1) for x in rng.normal(size=(40, 8))]
    assert with_pooled(correlation(), samples, (0.7, 5)).size == "same size"
    assert with_pooled(correlation(), samples, (0.1, 5)).size == "other size"
    assert with_pooled(correlation(), samples[:8], (0.1, 5)).size == "too few networks"
    flat = [np.zeros((8, 2))] * 16
    for nothing in (
        with_pooled(correlation(), flat, (0.9, 5)),
        with_pooled(correlation(), samples, (math.nan, 5)),
        with_pooled(correlation(), [], (0.9, 5)),
    ):
        assert nothing.size == "too few networks"
        assert math.isnan(nothing.p)


@pytest.mark.parametrize(("theirs", "ours"), [(1, 40), (5, 16), (5, 40)])
def test_a_pooled_number_of_the_same_population_is_rarely_called_another_size(
    theirs: int, ours: int
) -> None:
    rng = np.random.default_rng(8)

    def networks(count: int) -> list[np.ndarray]:
        return list((rng.normal(size=(count, 1)) + rng.normal(size=(count, 8)))[..., None])

    sizes = []
    for _ in range(60):
        paper = (mean(networks(theirs)), theirs)
        sizes.append(with_pooled(mean, networks(ours), paper).size)
    assert sizes.count("other size") <= 8  # 5%, and what chance adds
    assert sizes.count("too few networks") == 0
    few = with_pooled(mean, networks(16), (99.0, 1))
    assert few.size == "too few networks"  # against one network, 40


def test_numbers_that_are_the_same_are_of_one_size() -> None:
    ones, most = np.ones((8, 1)), np.array([[0.0], *[[1.0]] * 7])
    assert with_pooled(mean, [ones] * 64, (1.0, 5)).size == "same size"
    half = [ones, most] * 32
    for value in (1.0, 7 / 8):
        assert with_pooled(mean, half, (value, 1)).size == "same size"
    same = Bounds(1, 1)
    for count in (5, 64):
        assert with_several([same] * count, [same] * 5).size == "same size"
    untold = with_several([Bounds(3, math.inf)] * 64, [Bounds(2, math.inf)] * 5)
    assert untold.size == "too few networks"
    assert with_one([same] * 64, Bounds(math.nan, math.nan), str).size == "too few networks"
    assert Reported(values=(math.nan, 2.0)).bounds() == [Bounds(2, 2)]


@pytest.mark.parametrize("wrong", [{"share": (6, 5)}, {"share": (-1, 5)}, {"pooled": (0.5, 0)}])
def test_numbers_that_a_paper_cannot_have(wrong: dict[str, tuple[float, int]]) -> None:
    with pytest.raises(UserError, match="give"):
        Reported(**wrong)  # type: ignore[arg-type]


def test_medians_of_times_cover_with_unfinished_runs() -> None:
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(400):
        found = kaplan_meier(bounds(rng.exponential(size=32), 1.2))
        inside.append(found.interval[0] <= math.log(2) <= found.interval[1])
    assert 0.92 < np.mean(inside) < 0.98
    late = kaplan_meier(bounds(np.array([1.0, 5.0, 5.0, 5.0]), 2.0))
    assert math.isinf(late.median)
    assert late.reached == 1
    assert "later" in late.show()
    assert kaplan_meier(bounds(np.arange(1.0, 6.0))).median == 3
    # Between two looks: by the later one.
    assert kaplan_meier([Bounds(0, 5)] * 3 + [Bounds(9, 9)]).median == 5
    assert kaplan_meier([Bounds(10, 20)] * 5).reached == 5
    with pytest.raises(UserError, match="no times"):
        kaplan_meier([])
    for wrong in (math.nan, math.inf):
        with pytest.raises(UserError, match=r"leave out runs .* Bounds\(end, inf\)"):
            kaplan_meier([Bounds(wrong, wrong), Bounds(1, 1)])


def test_the_log_rank_test_sees_what_is_slower_and_errs_seldom() -> None:
    rng = np.random.default_rng(5)

    def p_of(scale: float) -> float:
        a, b = rng.exponential(size=16), scale * rng.exponential(size=16)
        return log_rank(bounds(a, 1.5), bounds(b, 1.5))

    assert np.mean([p_of(1) < 0.05 for _ in range(300)]) < 0.09
    assert np.mean([p_of(4) < 0.05 for _ in range(100)]) > 0.7
    assert log_rank(bounds(np.array([3.0]), 2.0), bounds(np.array([4.0]), 2.0)) == 1
    assert log_rank([Bounds(3, 3)] * 5, [Bounds(3, 3)] * 5) == 1
    assert log_rank([Bounds(1, math.inf)] * 5, [Bounds(3, 3)] * 5) == 1
    with pytest.raises(UserError, match="no times"):
        log_rank([], [Bounds(3, math.inf)])


def claim_of(*values: float, **more: object) -> Claim:
    rule = in_most("strength", of_networks(lambda s: float(s["strength"])), more_than(0.5))
    return Claim("strong", "Heads are strong.", rule, reported=Reported(values), **more)


def results(values: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"strength": ("init", values)}, {"init": 1000 + np.arange(len(values))})


def test_a_claim_is_judged_compared_and_tried_on_its_source() -> None:
    rng = np.random.default_rng(6)
    ours, theirs = rng.normal(0.8, 0.1, 64), results(rng.normal(0.8, 0.1, 8))
    paper = (0.82, 0.91, 0.80, 0.85, 0.84)
    ((_, found),) = decide([claim_of(*paper)], results(ours), theirs)
    assert found.verdict == "replicates"
    assert found.size.size == "same size"
    assert found.networks == 64
    assert found.beside["paper"].share == (5, 5)
    assert found.beside["authors' code"].verdict == "replicates"
    ((_, found),) = decide([claim_of(*paper)], results(ours - 0.2), theirs.drop_vars("strength"))
    assert found.verdict == "replicates"  # the direction is right,
    assert found.size.size == "other size"  # the number is not
    assert set(found.beside) == {"paper"}
    ((claim, found),) = decide([claim_of(kind="hypothesis")], results(ours - 0.6))
    assert word(claim, found) == "refuted"


def test_networks_that_share_weights_and_data_are_told_apart() -> None:
    both = results(np.array([0.9, 0.9, 0.9, 0.1] * 16)).assign_coords(
        weights_seed=("init", np.repeat(np.arange(16), 4)), order=("init", np.tile(range(4), 16))
    )
    ((_, found),) = decide([claim_of()], both)
    assert found.varies == ("init", "order")
    assert found.share == (48, 64)
    assert found.verdict == "too few networks"  # it is one draw of four, not 16 of 64


def test_what_is_pooled_over_heads_needs_several_networks() -> None:
    rule = pooled("r", lambda given: given, correlation())
    heads = [np.stack([np.arange(8.0), np.arange(8.0) + i], 1) for i in range(2)]
    assert rule.judge(independent(heads)).verdict == "too few networks"
    noisy = np.random.default_rng(7).normal(size=(12, 8, 2))
    noisy[..., 1] += 2 * noisy[..., 0]
    assert rule.judge(independent(list(noisy))).verdict == "replicates"
    noisy[..., 1] *= -1
    assert rule.judge(independent(list(noisy))).verdict == "fails"


def test_what_is_not_drawn_is_decided_as_it_is() -> None:
    rule = exactly("loss", lambda given: given, below(1))
    assert rule(0.5).verdict == "replicates"
    assert rule(2.0).verdict == "fails"
    assert rule(Bounds(0.5, math.inf)).verdict == "too few networks"
    assert rule(None).verdict == "too few networks"
    assert rule(math.nan).verdict == "too few networks"
    claim = Claim("a", "b", rule, reported=Reported((0.2, 1.3)))
    ((_, found),) = decide([claim], 0.5)  # type: ignore[arg-type]
    assert found.beside["paper"].verdict == "fails"
