"""Singh et al. 2025: the toy model is its tensors, and its graders fail on what violates them."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import xarray as xr

from ih_jax.claims import decide
from ih_jax.experiments.base import Options
from ih_jax.experiments.singh2025 import toy, toy_model
from ih_jax.experiments.singh2025.toy_model import Variant

SMALL = {"a": 3, "b": 4, "c": 2, "d": 7}
OFTEN = Variant(mu1=0.2, mu2=0.05, alpha=0.3)


def outer(*vectors: np.ndarray) -> np.ndarray:
    return reduce(np.multiply.outer, vectors)


def by_tensors(x: dict, true: dict, variant: Variant) -> tuple[float, dict]:
    """The total of one draw and its gradient, with every tensor made."""
    errors = {k: outer(*(x[n] for n in k)) - outer(*(true[n] for n in k)) for k in ("abc", "dbc")}
    first, second = (0.5 * np.mean(error**2) for error in errors.values())
    cost = outer(x["a"], x["d"])
    gradients = {name: np.zeros_like(value) for name, value in x.items()}
    weights = {"abc": second + variant.mu2, "dbc": first + variant.mu1}
    for names, error in errors.items():
        for place, name in enumerate(names):
            rest = outer(*(x[other] for other in names if other != name))
            axes = [axis for axis in range(3) if axis != place]
            own = np.tensordot(error, rest, axes=(axes, [0, 1])) / error.size
            gradients[name] += weights[names] * own
    gradients["a"] += variant.alpha * cost @ x["d"] / cost.size
    gradients["d"] += variant.alpha * x["a"] @ cost / cost.size
    total = (first + variant.mu1) * (second + variant.mu2)
    return float(total + variant.alpha * 0.5 * np.mean(cost**2)), gradients


@pytest.mark.parametrize("variant", [Variant(), OFTEN, Variant(held={"b": 1.0, "d": 0.0})])
def test_inner_products_are_the_tensors(variant: Variant) -> None:
    """200 steps have the losses of gradient descent on the tensors themselves."""
    start = toy_model.draw([0, 1], SMALL)
    ours, _ = toy_model.descend(start, toy_model.coefficients([variant], 2), 200)
    for draw in range(2):
        truth = {name: x[draw] for name, x in start.truth.items()}
        held = {name: share * truth[name] for name, share in variant.held.items()}
        x = {name: each[draw] for name, each in start.initial.items()} | held
        for step in range(201):
            total, gradients = by_tensors(x, truth, variant)
            if step % toy_model.KEPT_EVERY == 0:
                kept = ours.total[draw, step // toy_model.KEPT_EVERY]
                assert kept == pytest.approx(total, rel=1e-9, abs=1e-12)
            x = {name: each - gradients[name] for name, each in x.items()} | held


def test_draws_differ_by_seed() -> None:
    """Each vector has its size and its own numbers; seed 7 itself is tried below, to the step."""
    truth = toy_model.draw([7]).truth
    assert {name: x.shape for name, x in truth.items()} == {
        name: (1, size) for name, size in toy_model.SIZES.items()
    }
    assert not np.allclose(toy_model.draw([8]).truth["a"], truth["a"])


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    """The paper's draw and two more, of three variants, up to where the paper's is done."""
    return toy_model.run(
        {name: toy.VARIANTS[name] for name in ("paper", "no cost", "no preference")},
        [toy_model.PAPER_SEED, 0, 3],
        9_640,
    )


def test_the_paper_s_draw_ends_at_the_paper_s_step(results: xr.Dataset) -> None:
    assert toy.stopping(results) == 0
    one = results.sel(seed=toy_model.PAPER_SEED)
    assert toy.comes(one) and toy.goes(one)
    assert not toy.stays("paper")(one)
    assert toy.stays("no cost")(one) and toy.stays("no preference")(one)
    assert toy.time(one, "no preference", "second").high == np.inf


def test_claims_fail_on_mechanisms_that_change_places(results: xr.Dataset) -> None:
    one = results.sel(seed=toy_model.PAPER_SEED)
    turned = one.assign(first=one["second"], second=one["first"])
    turned["nothing"] = one["nothing"].copy(data=one["nothing"].values[::-1])
    assert toy.comes(turned) is False
    assert toy.goes(turned) is False
    late = results.copy()
    late["done"] = results["done"] + 5
    (claim, finding), *_ = decide(toy.CLAIMS[:1], late)
    assert claim.name == "the paper's draw" and finding.verdict == "fails"


def test_draws_that_learn_nothing_tell_nothing(results: xr.Dataset) -> None:
    one = results.sel(seed=toy_model.PAPER_SEED).copy()
    for mechanism in ("first", "second"):
        one[mechanism] = xr.full_like(one[mechanism], float(one["nothing"].max()))
    assert toy.comes(one) is None and toy.goes(one) is None
    assert toy.stays("no cost")(one) is None


def test_quick_takes_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(toy_model, "run", lambda variants, seeds: asked.append(list(seeds)))
    for options in (Options(quick=True), Options()):
        toy.measure(options, {})
    assert [len(seeds) for seeds in asked] == [1 + toy.QUICK_DRAWS, 1 + toy.DRAWS]
    assert all(seeds[0] == toy_model.PAPER_SEED and min(seeds[1:]) >= 1000 for seeds in asked)
