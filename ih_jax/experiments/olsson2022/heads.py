"""What heads do, and whether weights show it: prefix matching, copying, eigenvalues, composition.

Paper: Olsson et al. 2022, arguments 4 and 5; Elhage et al. 2021 for the measures of weights.
Command: ih-jax run olsson-heads (networks of olsson-phase-change). Expected: heads that match
prefixes also copy; the trace of the QK circuit through previous-token heads, and the eigenvalues of
the OV circuit, find the same heads without reading a token; composition forms with the heads.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ih_jax.claims import (
    Claim,
    Rule,
    correlation,
    in_most,
    of_networks,
    pooled,
    yes,
)
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.colours import colour_of
from ih_jax.experiments.olsson2022.models import INDUCTION, deep, of_models
from ih_jax.experiments.olsson2022.told_of_heads import at_the_end
from ih_jax.experiments.olsson2022.trainings import DEPTHS, SMEARED
from ih_jax.measures import circuits
from ih_jax.measures.base import measure as named
from ih_jax.model.params import Params

COMPOSED = ("2L", "3L", "2L MLP")  # models whose composition is followed over training


@named(dims=dict.fromkeys(circuits.INPUTS, ()))
def composed(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
    """A measure: the greatest Q-, K- and V-composition of two heads, above the random baseline."""
    found = circuits.qkv_composition(params)
    return {name: jnp.nanmax(scores) for name, scores in found.items()}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores of every head at the end; composition over training."""
    own = {}
    for model in models.every(found):
        trained = found[model.training]
        probe = models.sample(trained, models.LOOKED_AT)
        end = models.steps_of(trained, model)[-1:]
        seen = models.measured(trained, model, at_the_end, probe, end)
        each = seen.isel(checkpoint=0, drop=True)
        if model.name in COMPOSED:
            over = models.measured(trained, model, composed, probe)
            each["composition"] = over.to_dataarray("input").transpose("init", "checkpoint", ...)
            best = models.measured(
                trained,
                model,
                models.head_scores,
                probe,
            )
            each["best_prefix"] = models.best(best["prefix_matching"])
        own[model.name] = each
    results = models.side_by_side(own)
    return results.merge(models.curves(found, models.every(found), curve="in_context_score"))


# --- what claims read ---------------------------------------------------------------------------


def flat(seed: xr.Dataset, *names: str, above: int = 0) -> list[np.ndarray]:
    """Scores of all heads of all models, from a layer on; the same heads in each array."""
    arrays = [seed[name].isel(layer=slice(above, None)).values.ravel() for name in names]
    there = np.all([np.isfinite(each) for each in arrays], axis=0)
    return [each[there] for each in arrays]


def _columns(*names: str, above: int = 0) -> Callable[[xr.Dataset], np.ndarray]:
    """[heads, names] of one seed, of all models together."""
    return lambda seed: np.stack(flat(seed, *names, above=above), axis=1)


def _of_induction(name: str) -> Callable[[xr.Dataset], np.ndarray]:
    """[heads]: of heads that match prefixes."""

    def value(seed: xr.Dataset) -> np.ndarray:
        prefix, values = flat(seed, "prefix_matching", name)
        return values[prefix >= INDUCTION]

    return value


def _positive(samples: list[np.ndarray]) -> float:
    values = np.concatenate(samples)
    return float(np.mean(values > 0)) if values.size else float("nan")


def _median(samples: list[np.ndarray]) -> float:
    values = np.concatenate(samples)
    return float(np.median(values)) if values.size else float("nan")


def _forms_with(input: str) -> Callable[[xr.Dataset, str], bool]:
    """Whether a network's composition passes half its rise in the window, or a look beside it."""

    def value(seed: xr.Dataset, name: str) -> bool:
        window = models.window_of(seed, name, "curve")
        curve = seed["composition"].sel(model=name, input=input)
        over, rise = curve["checkpoint"].values, curve.values - curve.values[0]
        half = over[int(np.argmax(rise >= rise[-1] / 2))] if rise[-1] > 0 else np.inf
        width = over[1] - over[0]
        inside = window is not None and window.start - width <= half <= window.end + width
        return bool(inside)

    return value


def _followed(results: xr.Dataset) -> list[str]:
    return [name for name in COMPOSED if name in results["model"].values]


def _composition(name: str) -> Rule:
    return in_most("so", of_models(_followed, _forms_with(name)), yes)


FORMS = "whether a network's greatest {}-composition above baseline passes half of its rise within "
FORMS += "its window, or a look beside it"
MECHANISM = "argument 5 (mechanistic plausibility)"
CLAIMS = (
    Claim(
        "the better it matches, the more it copies",
        "Heads that match prefixes are those that copy.",
        pooled(
            "rank correlation",
            of_networks(_columns("prefix_matching", "copying_logits", above=1)),
            correlation(ranks=True),
        ),
        paper="a cluster high in both",
        source="argument 4 (specific examples); definition of induction heads",
        estimand="rank correlation of prefix matching with copying (logits raised by what is "
        "attended to), over all heads of layer 1 and up; seeds are resampled",
        grade="strong",
    ),
    Claim(
        "what matches, copies",
        "Heads of high prefix matching raise the logit of what they attend to.",
        pooled("share", of_networks(_of_induction("copying_logits")), _positive, 0.5),
        paper="induction heads are high in both",
        source="definition of induction heads",
        estimand="share, among heads of prefix matching above 0.5, of those with a copying score "
        "above 0, which half of random heads have",
        primary=False,
        grade="strong",
    ),
    Claim(
        "weights tell matching",
        "What a head's weights say of matching (trace of the QK circuit) agrees with what it does.",
        pooled(
            "rank correlation",
            of_networks(_columns("cosine", "prefix_matching", above=1)),
            correlation(ranks=True),
        ),
        paper="agree",
        source=f"{MECHANISM}: QK eigenvalues",
        estimand="rank correlation of the trace through previous-token heads (its cosine, which "
        "compares between models) with prefix matching, layer 1 and up",
        grade="medium",
    ),
    Claim(
        "weights tell copying",
        "What they say of copying (OV eigenvalues) agrees with what it does.",
        pooled(
            "rank correlation",
            of_networks(_columns("ov", "copying_logits")),
            correlation(ranks=True),
        ),
        paper="agree",
        source=f"{MECHANISM}: OV eigenvalues",
        estimand="rank correlation of the ratio of OV eigenvalues with copying, all heads",
        grade="medium",
    ),
    Claim(
        "eigenvalues of induction heads",
        "OV eigenvalues of induction heads are positive.",
        pooled("median", of_networks(_of_induction("ov")), _median),
        paper="near 1",
        source=f"{MECHANISM}: OV eigenvalues",
        estimand="median ratio of OV eigenvalues of heads of prefix matching above 0.5",
        primary=False,
        grade="medium",
    ),
    Claim(
        "K-composition forms with them",
        "K-composition, by which induction heads are built, forms in the window.",
        _composition("K"),
        paper="forms at the same time",
        source=MECHANISM,
        estimand=FORMS.format("K"),
        grade="medium",
    ),
    *(
        Claim(
            f"{name}-composition forms with them",
            f"{name}-composition, which they do not need, forms in the window too.",
            _composition(name),
            paper="not said",
            estimand=FORMS.format(name),
            kind="hypothesis",
            primary=False,
        )
        for name in "QV"
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Per model: counts and medians over seeds, and what prefix matching alone would miss."""
    rows = []
    for name in deep(results):
        own = results.sel(model=name)
        prefix = own["prefix_matching"]
        induction = (prefix >= INDUCTION).sum(("layer", "head"))
        copying = ((own["copying_logits"] > 0) & (prefix < INDUCTION)).sum(("layer", "head"))
        previous = (own["previous_token"] >= INDUCTION).sum(("layer", "head"))
        rows.append(
            (name, *(f"{float(each.median()):.0f}" for each in (previous, induction, copying)))
        )
    header = ("model", "previous-token heads", "induction heads", "other heads that copy")
    return [Table("Heads of each kind, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Scores of every head against each other; composition over training."""
    figure = Figure(figsize=(14.5, 7.2), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    pairs = (
        ("prefix_matching", "copying", "prefix matching", "copying score (4 ratio - 1)"),
        ("prefix_matching", "copying_logits", "prefix matching", "copying (signed logits)"),
        ("cosine", "prefix_matching", "trace of QK (cosine)", "prefix matching"),
        ("ov", "copying_logits", "OV eigenvalue ratio", "copying (signed logits)"),
    )
    for each, (x, y, across, up) in zip(axes, pairs, strict=False):
        _scatter(each, results, results[x], results[y])
        each.set(xlabel=across, ylabel=up)
        tidy(each)
    for each, back in zip(axes[4:6], (1, 2), strict=True):
        _scatter(each, results, results["offset"].isel(offset_back=back), results["copying_logits"])
        each.set(xlabel=f"attention {back} back", ylabel="copying (signed logits)")
        tidy(each)
    names = [name for name in COMPOSED if name in results["model"].values]
    for name in names[:2]:
        place = axes[6 + names.index(name)]
        for colour, input in zip(("#0072B2", "#D55E00", "#009E73"), circuits.INPUTS, strict=True):
            curves(place, results["composition"].sel(model=name, input=input), colour, input)
        scaled = results["best_prefix"].sel(model=name) * 0.3
        curves(place, scaled, FAINT, "best prefix matching x 0.3", ls=":")
        tidy(place, f"{name}: greatest composition")
        over_sequences(place, "tokens seen")
        place.legend(frameon=False, fontsize=8)
    axes[4].legend(frameon=False, fontsize=8, ncols=2, markerscale=2, loc="upper center")
    return figure


def _scatter(axes: Axes, results: xr.Dataset, x: xr.DataArray, y: xr.DataArray) -> None:
    for name in (str(each) for each in results["model"].values):
        a, b = x.sel(model=name), y.sel(model=name)
        axes.plot(
            a.values.ravel(),
            b.values.ravel(),
            "o",
            ms=3,
            alpha=0.5,
            mew=0,
            color=colour_of(name),
            label=name,
            rasterized=True,
        )


experiment = Experiment(
    name="olsson-heads",
    title="What heads do, and whether their weights show it",
    paper="Olsson et al. 2022, arguments 4 and 5",
    summary="Every head of every model at the end of training: what it attends to, what it copies, "
    "and what its weights alone say about both.",
    differs="K-composition rises at once where the window begins, a little ahead of prefix "
    "matching, and overshoots with two layers, so that in two of five seeds a model has half of "
    "its rise up to .3 million tokens before the window. Q-composition is smaller and more "
    "gradual. V-composition mostly grows long before the window (two layers) or long after it "
    "(three layers, or with MLPs). So of the three it is K that belongs to induction heads. None "
    "of 288 heads that match prefixes anti-copies; the paper saw such heads in large models only. "
    "With smeared keys the trace is 0, as it should be: no previous-token head stands below.",
    trainings=(DEPTHS, SMEARED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 60.0 if options.quick else 120.0 + 20.0 * options.seeds,
)
