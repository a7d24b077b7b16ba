"""Do the same circuits appear in every network? Heads matched between seeds, sizes and languages.

Paper: Olsson et al. 2022, discussion ("universality") and argument 1 (all models of two layers or
more). Command: ih-jax run olsson-universality. Expected: every network of two layers or more has a
previous-token head below an induction head; which head it is differs from seed to seed; matched by
what they do, heads of two networks are alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import xarray as xr
from jax import Array
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from ih_jax.claims import (
    Claim,
    Measure,
    Networks,
    in_most,
    more_than,
    networks_of,
    yes,
)
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import INDUCTION, Model, of_models
from ih_jax.experiments.olsson2022.trainings import DEPTHS, REPEATS, SMEARED
from ih_jax.measures import heads
from ih_jax.measures.base import measure as named
from ih_jax.measures.heads import BY_HEAD
from ih_jax.model.params import Params

FEATURES = ("previous_token", "prefix_matching", "copying")  # by which heads are compared, 0 to 1
OTHER = Model("2L, repeats", "olsson_repeats", {"layers": 2, "smeared_keys": False})


@named(dims=dict.fromkeys(FEATURES, BY_HEAD))
def features(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
    """A measure: scores of every head, [L, H]; copying as the ratio, 0 to 1."""
    copied = heads.copying()(params, clamp, batch)
    return {**models.head_scores(params, clamp, batch), "copying": (copied["score"] + 1) / 2}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores of every head of every network, at the start and at the end of training."""
    own = {}
    for model in [*models.every(found), OTHER]:
        trained = found[model.training]
        probe = models.sample(trained, models.LOOKED_AT)
        steps = models.steps_of(trained, model)
        seen = models.measured(
            trained,
            model,
            features,
            probe,
            [steps[0], steps[-1]],
        )
        own[model.name] = seen.assign_coords(checkpoint=["start", "end"])
    return models.side_by_side(own)


def profile(results: xr.Dataset, model: str, init: int, at: str = "end") -> np.ndarray:
    """[L, H, 3]: what every head of a network scores."""
    own = results.sel(model=model, init=init, checkpoint=at)
    each = np.stack([own[name].values for name in FEATURES], axis=-1)
    return each[np.isfinite(each).all((1, 2))]


def alike(a: np.ndarray, b: np.ndarray, matched: bool = True) -> float:
    """1 less the mean distance of the scores of heads [L, H, 3] of two networks of one shape.

    Heads of a layer are matched one to one so that the sum of distances is least, or taken in
    their order.
    """
    distances = []
    for one, other in zip(a, b, strict=True):
        cost = np.abs(one[:, None] - other[None]).mean(-1)
        rows, columns = linear_sum_assignment(cost) if matched else (np.arange(len(cost)),) * 2
        distances.append(cost[rows, columns].mean())
    return 1 - float(np.mean(distances))


def seeds_of(results: xr.Dataset, model: str) -> list[int]:
    """The seeds with which a model was trained: fewer on the second language."""
    scores = results["prefix_matching"].sel(model=model, checkpoint="end")
    return [int(i) for i in scores["init"].values if scores.sel(init=i).notnull().any()]


def pairs(results: xr.Dataset, model: str, matched: bool = True, at: str = "end") -> np.ndarray:
    """`alike` of every two seeds, at the start or the end of training."""
    inits = seeds_of(results, model)
    return np.array(
        [
            alike(profile(results, model, a, at), profile(results, model, b, at), matched)
            for a, b in itertools.combinations(inits, 2)
        ]
    )


def _deep(results: xr.Dataset) -> list[str]:
    """Models of two layers or more, without smeared keys, that were trained."""
    some = results.expand_dims("init") if "init" not in results.dims else results
    names = [str(name) for name in results["model"].values]
    return [n for n in names if n[0] != "1" and "smeared" not in n and seeds_of(some, n)]


def _circuit(seed: xr.Dataset, name: str) -> float | bool:
    """Whether a previous-token head stands in a layer below an induction head."""
    own = seed.sel(model=name, checkpoint="end")
    previous = own["previous_token"].max("head").values
    prefix = own["prefix_matching"].max("head").values
    if np.isnan(prefix).all():
        return float("nan")  # not trained with this seed
    return any(
        previous[low] >= INDUCTION and prefix[high] >= INDUCTION
        for low, high in itertools.combinations(range(len(prefix)), 2)
    )


def _last_layer(seed: xr.Dataset, name: str) -> float | bool:
    """Whether the best induction head is in the last layer."""
    best = seed["prefix_matching"].sel(model=name, checkpoint="end").max("head").values
    best = best[np.isfinite(best)]
    return int(np.argmax(best)) == len(best) - 1 if best.size else float("nan")


def _by_model(value: Callable[[xr.Dataset, str], float]) -> Measure:
    """A measure of claims with a value for each model, over pairs of its seeds."""

    def measure(results: xr.Dataset) -> Networks:
        several = results.sizes["init"] > 1
        return networks_of(
            {n: value(results, n) if several else float("nan") for n in _deep(results)}
        )

    return measure


def _alike_more(results: xr.Dataset, name: str) -> float:
    """How much more two seeds' matched heads are alike than a network to itself untrained."""
    untrained = [
        alike(profile(results, name, i), profile(results, name, i, "start"))
        for i in seeds_of(results, name)
    ]
    return float(np.median(pairs(results, name)) - np.median(untrained))


def _gain(results: xr.Dataset, name: str) -> float:
    """By how much two seeds are more alike with heads matched than by their numbers.

    Less what matching gains before training, when it has nothing but noise to match.
    """
    start, end = (
        np.median(pairs(results, name, at=at) - pairs(results, name, matched=False, at=at))
        for at in ("start", "end")
    )
    return float(end - start)


def _without_mlps(results: xr.Dataset) -> list[str]:
    return [name for name in _deep(results) if "MLP" not in name]


CLAIMS = (
    Claim(
        "the circuit is everywhere",
        "Every model of two layers or more has induction heads, on previous-token heads below.",
        in_most("so", of_models(_deep, _circuit), yes),
        paper="all models of two layers or more",
        source="argument 1; argument 5 (mechanistic plausibility)",
        estimand="whether a network has a previous-token head in a layer below an induction head "
        "(scores above 0.5), on bigrams and on a second language",
        grade="strong",
    ),
    Claim(
        "in the last layer",
        "In attention-only models induction heads form in the last layer.",
        in_most("so", of_models(_without_mlps, _last_layer), yes),
        paper="attention-only: last layer",
        source="model analysis table",
        estimand="whether the head of highest prefix matching is in a network's last layer",
        grade="medium",
    ),
    Claim(
        "matched heads are alike",
        "Networks of other seeds learn the same heads.",
        in_most("more alike", _by_model(_alike_more), more_than(0)),
        paper="suggested, not measured",
        source="discussion: universality",
        estimand="how alike heads of two seeds are, matched within layers by what they do, less "
        "how alike a network is to itself before training; medians over pairs, over kinds of "
        "models",
        kind="hypothesis",
    ),
    Claim(
        "their numbers say nothing",
        "Which head of a layer does what differs between seeds.",
        in_most("gain", _by_model(_gain), more_than(0)),
        paper="not said",
        estimand="how much more alike matched heads are than heads of the same number, less the "
        "same before training; medians over pairs of seeds, over kinds of models",
        kind="hypothesis",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Per model: where induction heads are, how many, and how alike the seeds are."""
    rows = []
    for name in (str(each) for each in results["model"].values):
        end = results.sel(model=name, checkpoint="end", init=seeds_of(results, name))
        prefix = end["prefix_matching"]
        by_layer = (prefix >= INDUCTION).sum("head").median("init").values
        there = prefix.notnull().any(("init", "head")).values
        counts = " ".join(f"{n:.0f}" for n in by_layer[there])
        several = results.sizes["init"] > 1
        matched = f"{np.median(pairs(results, name)):.3f}" if several else ""
        plain = f"{np.median(pairs(results, name, matched=False)):.3f}" if several else ""
        rows.append((name, counts, matched, plain))
    header = ("model", "induction heads by layer", "seeds alike, matched", "by number")
    return [Table("Heads between networks, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Every head of every network: rows are networks (models by seed), columns layers and heads."""
    names = _deep(results)
    figure = Figure(
        figsize=(12.5, 0.16 * len(names) * results.sizes["init"] + 1.8), layout="constrained"
    )
    axes = figure.subplots(1, len(FEATURES), sharey=True)
    inits = results["init"].values.tolist()
    layers, count = results.sizes["layer"], results.sizes["head"]
    for each, feature in zip(axes, FEATURES, strict=True):
        values = results[feature].sel(model=names, checkpoint="end")
        # Sorted within layers: what kinds there are, not which number they have.
        grid = np.sort(values.transpose("model", "init", "layer", "head").values, axis=-1)[
            ..., ::-1
        ]
        image = each.imshow(
            grid.reshape(len(names) * len(inits), layers * count),
            aspect="auto",
            vmin=0,
            vmax=1,
            cmap="viridis",
            interpolation="none",
        )
        for edge in range(1, layers):
            each.axvline(edge * count - 0.5, color="white", lw=1)
        for edge in range(1, len(names)):
            each.axhline(edge * len(inits) - 0.5, color="white", lw=1)
        each.set_xticks(
            [(i + 0.5) * count - 0.5 for i in range(layers)],
            [f"layer {i}" for i in range(layers)],
            fontsize=8,
        )
        tidy(each, feature.replace("_", " "))
    middle = [(i + 0.5) * len(inits) - 0.5 for i in range(len(names))]
    axes[0].set_yticks(middle, names, fontsize=8)
    figure.colorbar(image, ax=axes.tolist(), label="score (heads sorted within layers)")
    return figure


experiment = Experiment(
    name="olsson-universality",
    title="The same circuits in every network",
    paper="Olsson et al. 2022, discussion; argument 1",
    summary="Heads of all networks by what they do: over seeds, one to six layers, with and "
    "without MLPs, and on a second language (pasted spans).",
    differs="The same arrangement is found in all 50 networks on bigrams: induction heads in the "
    "last layers, a previous-token head in a layer below them. It is missing on the second "
    "language only, in three of its five seeds: on pasted spans induction heads form in all (.63 "
    "to .85), but in these three layer 0 spreads its attention over the tokens before, and no head "
    "attends to the previous one with more than .33 (olsson-repeats). In one of five networks with "
    "five layers, and two with six, the best induction head is in the last layer but one. Matching "
    "gains least with four layers (.008 and .011), where most layers have heads of one kind only "
    "and there is little to match.",
    trainings=(DEPTHS, SMEARED, REPEATS),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 40.0 if options.quick else 90.0 + 10.0 * options.seeds,
)
