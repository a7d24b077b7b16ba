"""Smeared keys: with the previous token's key, one layer has what it otherwise lacks.

Paper: Olsson et al. 2022, argument 2. Command: ih-jax run olsson-smeared-keys (networks of
olsson-phase-change). Expected: a one-layer model with smeared keys changes as deeper ones do, with
induction heads in its only layer; a two-layer model with smeared keys changes sooner than without.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from matplotlib.figure import Figure

from ih_jax.claims import Bounds, Claim, below, in_most, known, more_than, of_networks
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.colours import colour_of
from ih_jax.experiments.olsson2022.trainings import DEPTHS, SMEARED
from ih_jax.measures.base import measure as named
from ih_jax.measures.heads import BY_HEAD
from ih_jax.model.params import Params

MODELS = (
    models.attention_only(1),
    models.attention_only(2),
    models.with_smeared_keys(1),
    models.with_smeared_keys(2),
)


@named(dims=BY_HEAD)
def own_share(params: Params, clamp: Holds, batch: Tokens) -> Array:
    """A measure: [L, H], the share of a key's own position, sigmoid of the trained scalar."""
    scalars = [block.attention.smear for block in params.blocks]
    return jnp.stack([jax.nn.sigmoid(each) for each in scalars if each is not None])


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves, best head scores over training by layer, and how much keys are smeared at the end."""
    results = models.curves(found, MODELS, loss="loss", score="in_context_score")
    own = {}
    for model in MODELS:
        trained = found[model.training]
        probe = models.sample(trained, models.LOOKED_AT)
        seen = models.measured(trained, model, models.head_scores, probe)
        own[model.name] = seen.max("head")
        if "smeared" in model.name:
            share = models.measured(
                trained,
                model,
                own_share,
                probe,
                models.steps_of(trained, model)[-1:],
            )
            own[model.name] = own[model.name].merge(share.isel(checkpoint=0, drop=True))
    return results.merge(models.side_by_side(own))


def _final(seed: xr.Dataset, model: str) -> float:
    return float(seed["score"].sel(model=model).isel(tokens=slice(-20, None)).median())


def _gain(seed: xr.Dataset) -> float:
    return _final(seed, "1L smeared") / models.enough(_final(seed, "2L"))


def _best(seed: xr.Dataset, model: str) -> float:
    return float(seed["prefix_matching"].sel(model=model).isel(checkpoint=-1).max())


def _matches_more(seed: xr.Dataset) -> float:
    return _best(seed, "1L smeared") - _best(seed, "1L")


def _sooner(seed: xr.Dataset) -> Bounds:
    """Middle of 2L smeared's window over that of 2L."""
    smeared, plain = (models.window_of(seed, name) for name in ("2L smeared", "2L"))
    if smeared is None:
        return known(np.nan)
    if plain is None:  # not by the end of training
        return Bounds(0.0, smeared.middle / float(seed["tokens"][-1]))
    return known(smeared.middle / plain.middle)


def _needless(seed: xr.Dataset) -> float:
    """Best previous-token score of layer 0 of 2L smeared, at the end."""
    scores = seed["previous_token"].sel(model="2L smeared").isel(checkpoint=-1, layer=0)
    return float(scores)


SOURCE = "argument 2 (macroscopic co-perturbation): smeared keys"
CLAIMS = (
    Claim(
        "one layer changes",
        "With smeared keys a one-layer model shows the phase change.",
        in_most("1L smeared / 2L", of_networks(_gain), more_than(0.5)),
        paper="it does",
        source=SOURCE,
        estimand="its final in-context learning score over that of two layers without, above one "
        "half: more of the score than not",
        grade="strong",
    ),
    Claim(
        "with induction heads",
        "It has induction heads, and without smeared keys it has none.",
        in_most("difference", of_networks(_matches_more), more_than(0.5)),
        paper="induction heads in one layer",
        source=SOURCE,
        estimand="the highest prefix matching of one layer with smeared keys less that without, "
        "same seed, above 0.5 of all attention",
        primary=False,
        grade="strong",
    ),
    Claim(
        "two layers change sooner",
        "Two layers change sooner with smeared keys than without.",
        in_most("with / without", of_networks(_sooner), below(1)),
        paper="sooner",
        source=SOURCE,
        estimand="tokens to the middle of the window, with over without, paired within seeds",
        grade="strong",
    ),
    Claim(
        "no previous-token head",
        "Smeared keys make previous-token heads needless: two layers form none in layer 0.",
        in_most("best", of_networks(_needless), below(0.5)),
        paper="not said",
        estimand="the highest attention to the previous token in layer 0 of two layers with "
        "smeared keys, below 0.5: less than to all else together",
        kind="hypothesis",
    ),
)


def draw(results: xr.Dataset) -> Figure:
    """Score, loss and best prefix matching of the four models; how much keys are smeared."""
    figure = Figure(figsize=(14, 3.8), layout="constrained")
    loss, score, best, share = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.7))
    for name in (str(each) for each in results["model"].values):
        own, dash = results.sel(model=name), "--" if "smeared" in name else "-"
        curves(loss, own["loss"], colour_of(name), name, ls=dash)
        curves(score, own["score"], colour_of(name), name, ls=dash)
        curves(best, own["prefix_matching"].max("layer"), colour_of(name), name, ls=dash)
        if "smeared" in name:
            layers = own["own_share"].dropna("layer", how="all")
            for place in range(layers.sizes["layer"]):
                values = layers.isel(layer=place).values.ravel()
                x = np.full(values.shape, place) + (0.12 if name.startswith("2") else -0.12)
                share.plot(
                    x,
                    values,
                    "o",
                    ms=4,
                    color=colour_of(name),
                    alpha=0.7,
                    label=name if place == 0 else None,
                )
    loss.set(ylim=(2.0, 3.1))
    best.set(ylim=(0, 1))
    share.set(ylim=(0, 1), xticks=(0, 1), xlabel="layer", xlim=(-0.5, 1.5))
    titles = (
        "Loss (nats)",
        "In-context learning score",
        "Best prefix matching",
        "A key's own share, every head",
    )
    for axes, title in zip((loss, score, best, share), titles, strict=True):
        tidy(axes, title)
    for axes in (loss, score, best):
        over_sequences(axes, "tokens seen")
    loss.legend(frameon=False, fontsize=8)
    share.legend(frameon=False, fontsize=8)
    return figure


experiment = Experiment(
    name="olsson-smeared-keys",
    title="Smeared keys give one layer what it lacks",
    paper="Olsson et al. 2022, argument 2",
    summary="A head with smeared keys sees, at each position, a mixture of that position's key and "
    "the one before, in a share that it learns. An induction head then needs no previous-token "
    "head in a layer below.",
    trainings=(DEPTHS, SMEARED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    seconds=lambda options: 20.0 + 10.0 * options.seeds,
)
