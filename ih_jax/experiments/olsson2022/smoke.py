"""Smoke test: does a two-layer model change at all, and does one learn in-context Markov chains?

Papers: Olsson et al. 2022 for the change; Edelman et al. 2024, "The Evolution of Statistical
Induction Heads", for the chains. Command: ih-jax run olsson-smoke. On 2 CPU cores: about 1.5
minutes for two seeds. Expected: on sequences with bigrams of their own (R0) the in-context learning
score falls between 500 and 1,000 steps, when an induction head forms in layer 1 on top of a
previous-token head in layer 0; on Markov chains the loss goes from uniform to a plateau at the
unigram's and then to the bigram's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, at_least, below, in_most, more_than, of_networks
from ih_jax.claims.phase_change import FEWEST, LEAST, phase_change
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.drawing import FAINT, QUIET, curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.trainings import CHAINS_TRAINED, SMOKE
from ih_jax.measures.context import markov_references

R0 = models.Model("2L", "olsson_smoke")
CHAINS = models.Model("chains", "olsson_chains")
NEAR = 0.02  # nats from the unigram's loss: on the plateau


def measure(options: Options, found: Found) -> xr.Dataset:
    """Loss and score over training, best head scores by layer, losses of the chains' references."""
    trained = found["olsson_smoke"]
    probe = models.sample(trained, models.LOOKED_AT)
    seen = models.measured(trained, R0, models.head_scores, probe).max("head")
    results = seen.assign(
        loss=models.curves_of(trained, R0, "loss"),
        score=models.curves_of(trained, R0, "in_context_score"),
    )
    chains = found["olsson_chains"]
    results["chain_loss"] = models.curves_of(chains, CHAINS, "loss").rename(tokens="chain_tokens")
    tokens = np.asarray(models.sample(chains, 512).tokens)
    levels = markov_references(tokens, int(tokens.max()))
    results["level"] = xr.DataArray(list(levels.values()), coords={"reference": list(levels)})
    return results


def _change(seed: xr.Dataset) -> float:
    """Nats by which the score falls in its window; 0 without one, NaN of too few snapshots."""
    if seed.sizes["tokens"] < FEWEST:
        return float("nan")
    found = phase_change(seed["score"].values, seed["tokens"].values)
    return 0.0 if found is None else -found.change


def _at_end(name: str, layer: int) -> Callable[[xr.Dataset], float]:
    return lambda seed: float(seed[name].sel(layer=layer).isel(checkpoint=-1))


def _level(seed: xr.Dataset, name: str) -> float:
    return float(seed["level"].sel(reference=name))


def _plateau(seed: xr.Dataset) -> float:
    """Share of training that the chains' loss spends within NEAR of the unigram's."""
    return float((abs(seed["chain_loss"] - _level(seed, "unigram")) < NEAR).mean())


def _left(seed: xr.Dataset) -> float:
    """What is left at the end of the way from the unigram's loss to the bigram's."""
    unigram, bigram = _level(seed, "unigram"), _level(seed, "bigram")
    return (float(seed["chain_loss"].isel(chain_tokens=-1)) - bigram) / (unigram - bigram)


CHANGE = "Olsson et al. 2022, argument 1"
CHAINED = "Edelman et al. 2024, fig. 2"
CLAIMS = (
    Claim(
        "the change",
        "The in-context learning score of two layers falls in a window of training.",
        in_most("nats", of_networks(_change), at_least(LEAST)),
        paper="-.4",
        source=CHANGE,
        estimand=f"nats by which the score falls in its window on R0, {LEAST} or more: the size "
        "from which on a change is told from drift",
        primary=False,
    ),
    Claim(
        "an induction head",
        "A head of layer 1 comes to match prefixes.",
        in_most("best", of_networks(_at_end("prefix_matching", 1)), more_than(0.5)),
        paper=".6 to .95",
        source=CHANGE,
        estimand="the highest prefix matching in layer 1 at the end, above 0.5: more attention to "
        "what followed earlier than to all else together",
        primary=False,
    ),
    Claim(
        "a previous-token head",
        "A head of layer 0 comes to attend to the previous token.",
        in_most("best", of_networks(_at_end("previous_token", 0)), more_than(0.5)),
        paper=".7 to .99",
        source="Olsson et al. 2022, argument 5",
        estimand="the highest attention to the previous token in layer 0 at the end, above 0.5: "
        "more than to all else together",
        primary=False,
    ),
    Claim(
        "chains: a plateau at unigrams",
        "On Markov chains in context, learning first stops at what the unigrams of the context "
        "tell.",
        in_most("share of training", of_networks(_plateau), at_least(0.05)),
        paper="seen",
        source=CHAINED,
        estimand=f"share of training with a loss within {NEAR} nats of the best prediction from "
        "unigrams, a twentieth or more: a loss that falls steadily to the bigram's passes it in "
        "less",
    ),
    Claim(
        "chains: bigrams at the end",
        "Then it goes on to what the bigrams tell.",
        in_most("left", of_networks(_left), below(0.5)),
        paper="seen",
        source=CHAINED,
        estimand="distance of the final loss from the best prediction from bigrams, over that of "
        "the unigram's, below one half: nearer to the bigram's",
    ),
)


def draw(results: xr.Dataset) -> Figure:
    """Loss and score of R0, its heads, and the chains' loss between their references."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    curves(first, results["loss"], "#0072B2", "loss")
    curves(first, results["score"] + 3, "#D55E00", "in-context score + 3")
    for layer, name, colour in (
        (0, "previous_token", "#009E73"),
        (1, "prefix_matching", "#CC79A7"),
    ):
        label = f"layer {layer}, {name.replace('_', ' ')}"
        curves(second, results[name].sel(layer=layer), colour, label)
    curves(third, results["chain_loss"], "#0072B2", "loss")
    for name, value in zip(results["reference"].values, results["level"].values, strict=True):
        third.axhline(value, ls="--", lw=0.8, color=FAINT, zorder=0)
        third.annotate(
            name,
            (1, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            color=QUIET,
        )
    first.set(ylabel="nats")
    second.set(ylim=(0, 1), ylabel="best head's score")
    third.set(ylim=(float(results["level"].min()) - 0.05, 1.2), ylabel="loss (nats)")
    for axes, title in (
        (first, "R0: bigrams of each sequence's own"),
        (second, "R0: heads"),
        (third, "In-context Markov chains"),
    ):
        tidy(axes, title)
        over_sequences(axes, "tokens seen")
        axes.legend(frameon=False, fontsize=8)
    return figure


experiment = Experiment(
    name="olsson-smoke",
    title="A two-layer language model changes, and one learns Markov chains",
    paper="Olsson et al. 2022, argument 1; Edelman et al. 2024, fig. 2",
    summary="The quickest look at the language world: two small trainings in which in-context "
    "learning appears after a plateau.",
    trainings=(SMOKE, CHAINS_TRAINED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
)
