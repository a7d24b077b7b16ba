"""The phase change on real text, as far as two cores reach.

Paper: Olsson et al. 2022, argument 1; in its models the change comes after 1 to 3 billion tokens,
in a reproduction after some 10^5.7 sqrt(batch x context) = 16 million at this batch (Aoyama et al.
2025; a lower bound). Command: ih-jax run olsson-text (--text FILE_OR_FOLDER, --tokenizer bytes,
characters or bpe); by default the source of Python's standard library, tokens of a BPE trained on
it. Expected: two layers gain over one where induction heads form; smeared keys need no second
layer.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, at_least, at_most, in_every_seed
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.colours import colour_of
from ih_jax.experiments.olsson2022.models import Model
from ih_jax.experiments.olsson2022.trainings import TEXT

MODELS = tuple(
    Model(
        f"{layers}L{' smeared' if smeared else ''}",
        "olsson_text",
        {"layers": layers, "smeared_keys": smeared},
    )
    for smeared in (False, True)
    for layers in (1, 2)
)
EVERY = 2  # of the checkpoints


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves on held-out text, on random repeats, and best head scores over training."""
    results = models.curves(found, MODELS, loss="loss", score="in_context_score")
    trained = found["olsson_text"]
    probe = models.sample(trained, models.LOOKED_AT)
    own = {}
    for model in MODELS:
        seen = models.measured(
            trained,
            model,
            models.head_scores,
            probe,
            models.steps_of(trained, model, EVERY),
        )
        own[model.name] = seen.max("head")
    results = results.merge(models.side_by_side(own))
    results.attrs["text"] = trained.study.runs[0].task.in_words()["data"]
    return results


def _final(seed: xr.Dataset, model: str) -> float:
    return float(seed["score"].sel(model=model).isel(tokens=slice(-20, None)).median())


def _best(seed: xr.Dataset, what: str, model: str) -> float:
    return float(seed[what].sel(model=model).isel(checkpoint=-1).max())


def _gain(seed: xr.Dataset, better: str, worse: str) -> float:
    last = seed["loss"].isel(tokens=slice(-10, None)).median("tokens")
    return float(last.sel(model=worse) - last.sel(model=better))


def _window(seed: xr.Dataset) -> float:
    scores = seed["score"].sel(model="2L")
    nats, share = changes.largest_fall(scores.values, scores["tokens"].values)
    return nats if share >= changes.SHARE else 0.0


CLAIMS = (
    Claim(
        "an induction head",
        "Two layers have a head with prefix matching of 0.5 or more at the end.",
        paper="after 1 to 3 billion tokens",
        grade="strong",
        decide=in_every_seed("best", lambda s: _best(s, "prefix_matching", "2L"), at_least(0.5)),
    ),
    Claim(
        "upon a previous-token head",
        "And one that attends to the previous token with 0.5 or more.",
        paper="seen",
        grade="strong",
        decide=in_every_seed("best", lambda s: _best(s, "previous_token", "2L"), at_least(0.5)),
    ),
    Claim(
        "none in one layer",
        "One layer has none above 0.1.",
        paper="none",
        grade="strong",
        decide=in_every_seed("best", lambda s: _best(s, "prefix_matching", "1L"), at_most(0.1)),
    ),
    Claim(
        "smeared keys give one to it",
        "With smeared keys one layer has a head with prefix matching of 0.5 or more.",
        paper="seen",
        grade="strong",
        decide=in_every_seed(
            "best", lambda s: _best(s, "prefix_matching", "1L smeared"), at_least(0.5)
        ),
    ),
    Claim(
        "a window",
        "Two layers get 75% of the final score, 0.15 nats or more, within a fifth of training.",
        paper="seen",
        grade="strong",
        decide=in_every_seed("fall in such a window", _window, at_least(0.15)),
    ),
    Claim(
        "two layers gain on one",
        "On held-out text two layers end 0.1 nats or more below one.",
        paper="curves part at the change",
        grade="strong",
        decide=in_every_seed("nats", lambda s: _gain(s, "2L", "1L"), at_least(0.1)),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Per model, medians over seeds."""
    rows = []
    for name in (str(each) for each in results["model"].values):
        own = results.sel(model=name)
        last = float(own["loss"].isel(tokens=slice(-10, None)).median())
        score = float(own["score"].isel(tokens=slice(-20, None)).median())
        end = own.isel(checkpoint=-1)
        best = [
            float(end[each].max("layer").median()) for each in ("previous_token", "prefix_matching")
        ]
        rows.append((name, f"{last:.3f}", f"{score:.2f}", *(f"{each:.2f}" for each in best)))
    header = ("model", "held-out loss", "score", "previous token", "prefix matching")
    return [Table("At the end, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Loss, score and best heads over training."""
    figure = Figure(figsize=(14, 3.8), layout="constrained")
    loss, score, best, previous = figure.subplots(1, 4)
    for name in (str(each) for each in results["model"].values):
        own, dash = results.sel(model=name), "--" if "smeared" in name else "-"
        heads = own.max("layer")
        for axes, values in (
            (loss, own["loss"]),
            (score, own["score"]),
            (best, heads["prefix_matching"]),
            (previous, heads["previous_token"]),
        ):
            curves(axes, values, colour_of(name), name, ls=dash)
    low = float(np.nanmin(results["loss"]))
    loss.set(ylim=(low - 0.1, low + 2.0))
    best.set(ylim=(0, 1))
    previous.set(ylim=(0, 1))
    titles = (
        "Held-out loss (nats)",
        "In-context learning score",
        "Best prefix matching",
        "Best previous-token head",
    )
    for axes, title in zip((loss, score, best, previous), titles, strict=True):
        tidy(axes, title)
        over_sequences(axes, "tokens seen")
    loss.legend(frameon=False, fontsize=8)
    return figure


experiment = Experiment(
    name="olsson-text",
    title="The phase change on real text",
    paper="Olsson et al. 2022, argument 1",
    summary="One and two layers, without and with smeared keys, on real text: the loss is that of "
    "held-out documents.",
    differs="With smeared keys the change is seen on real text within minutes on two cores and in "
    "every seed: between 1 and 5 million tokens, to a score of about -.4, which is the paper's, "
    "and heads with prefix matching of .61 to .69, with one layer as with two. Two layers without "
    "do not change, in any seed, within the 16 million tokens that a law from other models would "
    "ask for (nor within 20 million in a trial, even at three times the learning rate): their "
    "previous-token head stands at .23 to .26 and rises slowly. Two of the seeds were trained for "
    "longer by examples/long_text.py: they do not change within 98 million either (score -.15 and "
    "-.17, previous-token head .28, prefix matching .01). The claim of a window holds in three "
    "seeds, for the wrong reason in each: the first fall of the score at the start of training.",
    trainings=(TEXT,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 30.0 + 15.0 * options.seeds,
)
