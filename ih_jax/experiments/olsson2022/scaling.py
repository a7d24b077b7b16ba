"""Size: who learns faster when, and every measurement of every model on one page.

Paper: Olsson et al. 2022, "Loss derivative order inversion" and the model analysis table. Command:
ih-jax run olsson-scaling (networks of olsson-phase-change). Expected: before the window the loss of
small models falls faster in ln(tokens), after it that of large ones. (The paper's text says the
reverse in one sentence; its figure and summary say this.)
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ih_jax.claims import Claim, below, in_most, more_than, of_networks
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, HEAD_COLOURS, over_sequences, tidy
from ih_jax.experiments.olsson2022 import falls, models
from ih_jax.experiments.olsson2022.ablations_claims import AFTER
from ih_jax.experiments.olsson2022.models import deep, of_models
from ih_jax.experiments.olsson2022.told_of_heads import SCORES, at_the_end
from ih_jax.experiments.olsson2022.trainings import DEPTHS, SMEARED

EVERY, QUICK_EVERY = 8, 10  # of the checkpoints
SPIKE, OF_NOISE = 0.05, 8.0  # nats; times the noise of an evaluation


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves, and every score of every head over training, of all models."""
    every = models.every(found)
    own = {}
    for model in every:
        trained = found[model.training]
        probe = models.sample(trained, models.LOOKED_AT)
        steps = models.steps_of(trained, model, QUICK_EVERY if options.quick else EVERY)
        seen = models.measured(trained, model, at_the_end, probe, steps)
        own[model.name] = seen[list(SCORES)]
    results = models.side_by_side(own)
    return results.merge(models.curves(found, every, loss="loss", curve="in_context_score"))


def order(seed: xr.Dataset, after: bool) -> float:
    """Rank correlation of layers with how fast the loss falls, attention-only models.

    Before: over the half of ln(tokens) before the first window; after: from the last window's end
    to the end of training.
    """
    attention_only = [n for n in deep(seed) if "MLP" not in n]
    found = falls.windows(seed["curve"].sel(model=attention_only), "model")
    names = [str(n) for n in seed["model"].values if "MLP" not in str(n) and "smear" not in str(n)]
    between = falls.span(found, float(seed["tokens"][-1]), after)
    return falls.order(seed["loss"], {name: int(name[0]) for name in names}, between, "model")


def spike(seed: xr.Dataset, name: str) -> float:
    """By how much a model's loss rises above its lowest value so far, at most (nats).

    Less `OF_NOISE` times the standard deviation of an evaluation, told by differences of
    neighbours: so much loss that does not change would rise by chance.
    """
    loss = seed["loss"].sel(model=name).values
    noise = changes.NOISE_OF_DIFFERENCES * float(np.median(abs(np.diff(loss))))
    return float(np.max(loss - np.minimum.accumulate(loss))) - OF_NOISE * noise


def _six_with_mlps(results: xr.Dataset) -> list[str]:
    return [name for name in deep(results) if name == "6L MLP"]


CLAIMS = (
    Claim(
        "before: small ones fall faster",
        "Before the window the loss of small models falls faster than that of large ones.",
        in_most("correlation", of_networks(lambda s: order(s, False)), below(0)),
        paper="small models first",
        source="model analysis table: loss derivative by size",
        estimand="rank correlation, over attention-only models of a seed, of layers with the fall "
        "of the loss per ln(tokens), over the half of ln(tokens) before the first window",
        grade="weak",
    ),
    Claim(
        "after: large ones",
        "After it that of large models falls faster.",
        in_most("correlation", of_networks(lambda s: order(s, True)), more_than(0)),
        paper="large models after",
        source="model analysis table: loss derivative by size",
        estimand="the same, from the end of the last window to the end of training",
        grade="weak",
    ),
    Claim(
        "curiosity: a spike",
        "The loss of the six-layer model with MLPs has a spike." + AFTER,
        in_most("nats", of_models(_six_with_mlps, spike), more_than(SPIKE)),
        paper="one (n = 1)",
        source="unexplained curiosities",
        estimand="the most by which the loss rises above its lowest value so far, less eight times "
        f"the noise of an evaluation, above {SPIKE} nats",
        primary=False,
        grade="weak",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """The model analysis table in numbers, medians over seeds."""
    rows = []
    for name in (str(each) for each in results["model"].values):
        own = results.sel(model=name)
        found = [models.window_of(results.sel(init=s), name, "curve") for s in own["init"].values]
        known = [each for each in found if each is not None]
        end = own.isel(checkpoint=-1)
        best = [
            float(end[each].max(("layer", "head")).median())
            for each in ("previous_token", "prefix_matching", "copying", "ov", "cosine")
        ]
        last = float(own["loss"].isel(tokens=slice(-10, None)).median())
        score = float(own["curve"].isel(tokens=slice(-20, None)).median())
        middle = f"{np.median([w.middle for w in known]) / 1e6:.2f}M" if known else "none"
        rows.append((name, f"{last:.3f}", f"{score:.2f}", middle, *(f"{x:.2f}" for x in best)))
    header = (
        "model",
        "final loss",
        "score",
        "middle of the window",
        "previous token",
        "prefix matching",
        "copying",
        "OV eigenvalues",
        "QK trace (cosine)",
    )
    return [Table("Every measurement of every model: medians over seeds, best heads", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """One column per model (first seed): loss, its derivative, score, and scores of every head."""
    names = [str(each) for each in results["model"].values]
    seed = results.isel(init=0)
    rows = (
        "loss",
        "d loss / d ln tokens",
        "score",
        "previous token",
        "prefix matching",
        "copying (signed)",
        "OV eigenvalues",
        "QK trace (cosine)",
    )
    arrays = ("previous_token", "prefix_matching", "copying_logits", "ov", "cosine")
    figure = Figure(figsize=(1.55 * len(names) + 1, 1.25 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(names), sharex=True, sharey="row", squeeze=False)
    for column, name in enumerate(names):
        own = seed.sel(model=name)
        tokens = own["tokens"].values
        slope = changes.derivative_by_log_tokens(own["loss"].values, tokens)
        for place, values in ((0, own["loss"].values), (1, slope), (2, own["curve"].values)):
            axes[place, column].plot(tokens, values, color="black", lw=1, antialiased=False)
        for place, what in enumerate(arrays, start=3):
            _heads(axes[place, column], own[what])
        window = models.window_of(seed, name, "curve")
        for each in axes[:, column]:
            if window is not None:
                each.axvspan(window.start, window.end, color="0.92", zorder=0)
            tidy(each)
            # What a hundred panels have besides pixels would be most of an SVG: only outer ones
            # have ticks, and all that is drawn below the spines is one picture.
            each.tick_params(labelsize=7, left=column == 0, bottom=each is axes[-1, column])
            each.set_rasterization_zorder(2.2)
            each.patch.set_visible(False)
        axes[0, column].set_title(name, fontsize=9)
        over_sequences(axes[-1, column], "tokens")
    for place, label in enumerate(rows):
        axes[place, 0].set_ylabel(label, fontsize=8)
    axes[0, 0].set_ylim(2.0, 3.1)
    axes[1, 0].set_ylim(-1.0, 0.1)
    axes[2, 0].set_ylim(-1.0, 0.05)
    return figure


def _heads(axes: Axes, scores: xr.DataArray) -> None:
    """One line per head, coloured by layer."""
    for layer in range(scores.sizes["layer"]):
        for head in range(scores.sizes["head"]):
            one = scores.isel(layer=layer, head=head)
            if np.isfinite(one).any():
                axes.plot(
                    one["checkpoint"].values,
                    one.values,
                    lw=0.7,
                    color=HEAD_COLOURS[layer],
                    antialiased=False,  # pixels of few colours, which pack well
                )
    axes.axhline(0, color=FAINT, lw=0.5, zorder=0)


experiment = Experiment(
    name="olsson-scaling",
    title="Every measurement of every model, and who learns when",
    paper="Olsson et al. 2022, model analysis table; loss derivative order inversion",
    summary="All models side by side: losses, how fast they fall, the in-context learning score, "
    "and the scores of every head over training, coloured by layer. The window of the phase change "
    "is shaded.",
    differs="All models here have 64 dimensions and differ in layers only, and the language has no "
    "more to learn than a table of bigrams and what repeats: before the window deeper models fall "
    "a little faster, because the window is that of the first model and theirs come first; after "
    "it all fall alike (rank correlations of .26 over six models are no order). The paper's models "
    "differ in size by a factor of a thousand, on text. So the inversion is neither seen here nor "
    "refuted. The paper's loss spike in six layers with MLPs is not seen: no loss rises by more "
    "than an evaluation's noise.",
    trainings=(DEPTHS, SMEARED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 60.0 if options.quick else 120.0 + 60.0 * options.seeds,
)
