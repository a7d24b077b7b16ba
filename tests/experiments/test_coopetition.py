"""Singh et al. 2025: the toy model is its tensors, and graders fail on what violates them."""

from __future__ import annotations

from functools import reduce

import jax
import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.claims import decide
from ih_jax.experiments.base import Options
from ih_jax.experiments.singh2025 import (
    clamped,
    exemplars,
    grafts,
    main,
    matched,
    strategies,
    toy,
    toy_model,
    trainings,
)
from ih_jax.experiments.singh2025.toy_model import Variant

FAST = {"xla_backend_optimization_level": 0}
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


# --- The networks --------------------------------------------------------------------------------

RUNS = ("main", "matched", "icl_only", "ciwl_only", "layer 1 of main", "layer 1 of ciwl_only")
SEEN = np.arange(6) * 1000
FLIP = {  # the context comes and goes; it comes before and stays longer; late; to stay; never
    "goes": (0.5, 0.5, 0.5, 0.9, 0.3, 0.1),
    "early": (0.5, 0.9, 0.9, 0.9, 0.8, 0.7),
    "late": (0.5, 0.5, 0.5, 0.5, 0.5, 0.9),
    "stays": (0.5, 0.9, 0.9, 0.9, 0.9, 0.9),
    "never": (0.5, 0.4, 0.1, 0.0, 0.0, 0.0),
}


def scores(**flips: str) -> xr.Dataset:
    """Made-up results of six networks, all as the paper says but for these runs."""
    whole = {"main": "goes", "matched": "stays"}
    whole |= {
        "previous token given": "early",
        "match given": "early",
    }
    names = [*RUNS, *trainings.CLAMPS]
    dims = ("run", "init", "set", "sequences")
    shape = (len(names), 6, len(strategies.SETS), len(SEEN))
    coords = {"run": names, "init": range(6), "set": list(strategies.SETS), "sequences": SEEN}
    found = xr.Dataset({name: (dims, np.full(shape, 0.5)) for name in strategies.METRICS}, coords)
    for run, kind in (whole | flips).items():
        for name in ("icl", "flip_icl"):
            at = {"run": run, "set": name}
            found["eval_in_context_accuracy"].loc[at] = np.broadcast_to(FLIP[kind], (6, 6))
    found["eval_loss"].loc[{"set": "train_eval"}] = np.broadcast_to(
        [7, 2, 1, 0.5, 0.2, 0.1], (6, 6)
    )
    found["eval_accuracy"].loc[{"set": "iwl_copy_avail"}] = 0.9
    found["eval_loss"].loc[{"run": "icl_only", "set": "icl"}] = np.log(2)
    for run in ("layer 1 of main", "layer 1 of ciwl_only"):
        found["eval_loss"].loc[{"run": run, "set": "icl"}] = np.broadcast_to(
            [2, 1, 0.1, 0, 0, 0], (6, 6)
        )
    return found


SOONER = "a previous-token head brings it sooner"
PREVIOUS = "a previous-token head keeps it longer"
MATCH = "a given match keeps it longer"


def verdicts(results: xr.Dataset) -> dict[str, str]:
    return {
        claim.name: finding.verdict
        for module in (main, matched, grafts, clamped)
        for claim, finding in decide(module.CLAIMS, results)
    }


def test_networks_as_the_paper_says_replicate() -> None:
    assert set(verdicts(scores()).values()) == {"replicates"}
    assert main.tables(scores())[0].rows[0][:3] == ("main", "0.90 at 3,000", "0.10")


def test_each_figure_has_its_runs() -> None:
    of_main = ["main", *trainings.CLAMPS]
    runs = {
        matched: ["main", "matched"],
        grafts: [run for run in RUNS if run not in ("main", "matched", "ciwl_only")],
        clamped: of_main,
    }
    for module, names in runs.items():
        figure = module.draw(scores().sel(run=names))
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
        texts = {text.get_text() for each in legends if each for text in each.get_texts()}
        texts |= {axes.get_title(loc="left") for axes in figure.axes}
        assert module is matched or set(names) <= texts
    assert len(main.draw(scores()).axes) == 2


@pytest.mark.parametrize("few", ["never", "stays"])
def test_more_exemplars_more_in_context(few: str) -> None:
    both = scores(main="goes", matched=few).sel(run=["main", "matched"])
    both = both.assign_coords(run=[exemplars.MANY, exemplars.FOUR])
    ((_, finding),) = decide(exemplars.CLAIMS, both)
    assert finding.verdict == ("replicates" if few == "never" else "fails")
    assert len(exemplars.draw(both).axes) == 2


@pytest.mark.parametrize(
    ("flips", "failing"),
    [
        (
            {"main": "stays"},
            {"and goes", "and weights decide", PREVIOUS, MATCH},
        ),
        (
            {"main": "never"},
            {"in-context learning comes", "while it is there it wins", "and goes"},
        ),
        ({"matched": "goes"}, {"with the query's own exemplar it stays"}),
        ({"previous token given": "late"}, {SOONER}),
        ({"previous token given": "never"}, {SOONER, PREVIOUS}),
        ({"match given": "never"}, {MATCH}),
    ],
)
def test_statements_fail_on_networks_that_do_otherwise(flips: dict, failing: set[str]) -> None:
    found = verdicts(scores(**flips))
    assert {name for name, verdict in found.items() if verdict == "fails"} == failing


def test_statements_on_losses_fail_on_the_reverse() -> None:
    found = scores()
    losses = found["eval_loss"]
    losses.loc[{"set": "train_eval"}] = losses.sel(set="train_eval").values[..., ::-1]
    found["eval_accuracy"].loc[{"set": "pure_iwl"}] = 1.0
    new = losses.sel(set="icl").copy()
    losses.loc[{"run": "icl_only", "set": "icl"}] = new.sel(run="layer 1 of main").values
    for run in ("layer 1 of main", "layer 1 of ciwl_only"):
        losses.loc[{"run": run, "set": "icl"}] = new.sel(run="icl_only").values
    failing = {name for name, verdict in verdicts(found).items() if verdict == "fails"}
    assert failing == {
        "while the loss falls",
        "what remains needs the label in the context",
        "layer 1 of the main run is what new labels lack",
        "and so is that of in-weights learning",
    }


def test_data_that_one_strategy_alone_can_answer() -> None:
    """`icl_only` relabels every sequence; `ciwl_only` has the label and never the class."""
    given = np.random.default_rng(0).normal(size=(30, 2, 4)).astype("float32")
    options = SmallOptions(given, quick=True)
    for sweep, kinds in ((trainings.icl_only, {1, 2}), (trainings.ciwl_only, {0})):
        task = sweep(options, {}).task
        draw = jax.jit(task.sample, static_argnums=2, compiler_options=FAST)
        batch = draw(jax.random.key(0), task.source("train"), 64)
        assert set(np.unique(batch.kinds[:, :-1])) == kinds
        own = np.asarray(batch.labels == batch.classes)[:, -1]
        copies = np.asarray(batch.labels[:, :-1] == batch.labels[:, -1:]).sum(1)
        assert np.all(copies == 1)
        assert own.all() == (sweep is trainings.ciwl_only)
    grafts = trainings.grafts(options, {})
    assert len(grafts.axes["clamp"]) == 2 and grafts.task.scheme == "fresh"


class SmallOptions(Options):
    """Options of a few classes in memory."""

    def __init__(self, given: np.ndarray, **settings: bool) -> None:
        super().__init__(seeds=1, **settings)
        object.__setattr__(self, "given", given)

    def task(self, otherwise: object = None, **settings: object) -> ih.FewShot:
        return ih.fewshot(self.given, **{"classes": 20, "labels": 5, **settings})
