"""Smeared keys on real text, with shortformer positions: without them two layers do not change.

Paper: Olsson et al. 2022, arguments 1 and 2; in its models the change comes after 1 to 3 billion
tokens, in a reproduction after some 10^5.7 sqrt(batch x context) = 16 million at this batch (Aoyama
et al. 2025; a lower bound). Command: ih-jax run olsson-text-smeared (--text FILE_OR_FOLDER,
--tokenizer bytes, characters or bpe); by default the source of Python's standard library, tokens of
a BPE trained on it. Expected: smeared keys need no second layer. (With relative positions and
larger embeddings two layers change without them: olsson-text.)
"""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, in_most, more_than, of_networks, yes
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.olsson2022 import models, text_panels
from ih_jax.experiments.olsson2022.models import Model
from ih_jax.experiments.olsson2022.text_trainings import TEXT_SMEARED

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


def _gain(seed: xr.Dataset) -> float:
    """Final loss of one layer less that of two."""
    last = seed["loss"].isel(tokens=slice(-10, None)).median("tokens")
    return float(last.sel(model="1L") - last.sel(model="2L"))


def _changes(seed: xr.Dataset) -> bool:
    """Whether two layers get 75% of their score in a fifth of training, and have the head for it.

    The first fall of the score, from the unchanged network to bigrams, is no phase change.
    """
    scores = seed["score"].sel(model="2L")
    nats, share = changes.largest_fall(scores.values, scores["tokens"].values)
    fell = nats >= changes.LEAST and share >= changes.SHARE
    return fell and _best(seed, "prefix_matching", "2L") > 0.5


def _matches_more(seed: xr.Dataset) -> float:
    return _best(seed, "prefix_matching", "1L smeared") - _best(seed, "prefix_matching", "1L")


SOURCE = "argument 1 (macroscopic co-occurrence)"
CLAIMS = (
    Claim(
        "a phase change",
        "Two layers get most of their in-context learning score in a window, with induction heads.",
        in_most("so", of_networks(_changes), yes),
        paper="all models, after 1 to 3 billion tokens",
        source=SOURCE,
        estimand="whether 75% of the final score, and 0.15 nats, are got within a fifth of "
        "training, and a head has prefix matching above 0.5 at the end; two layers of 64 "
        "dimensions, 16 million tokens",
        grade="strong",
    ),
    Claim(
        "upon a previous-token head",
        "Two layers have a previous-token head.",
        in_most("best", of_networks(lambda s: _best(s, "previous_token", "2L")), more_than(0.5)),
        paper=".7 to .99",
        source="argument 5 (mechanistic plausibility)",
        estimand="the highest attention to the previous token at the end, above 0.5",
        primary=False,
        grade="strong",
    ),
    Claim(
        "smeared keys give one to it",
        "With smeared keys one layer has induction heads, without it has none.",
        in_most("difference", of_networks(_matches_more), more_than(0.5)),
        paper="seen",
        source="argument 2 (macroscopic co-perturbation): smeared keys",
        estimand="the highest prefix matching of one layer with smeared keys less that without, "
        "same seed, above 0.5 of all attention",
        grade="strong",
    ),
    Claim(
        "two layers gain on one",
        "Two layers end below one.",
        in_most("nats", of_networks(_gain), more_than(0)),
        paper="curves part at the change",
        source=f"{SOURCE}: loss curves",
        estimand="final held-out loss of one layer less that of two, same seed",
        primary=False,
        grade="strong",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Per model, medians over seeds."""

    def last(own: xr.Dataset) -> tuple[xr.DataArray, ...]:
        end = own.isel(checkpoint=-1)
        heads = (end[each].max("layer") for each in ("previous_token", "prefix_matching"))
        return own["loss"][..., -10:], own["score"][..., -20:], *heads

    return [text_panels.at_the_end(results, last)]


def draw(results: xr.Dataset) -> Figure:
    """Loss, score and best heads over training."""
    figure = Figure(figsize=(14, 3.8), layout="constrained")
    best = {each: results[each].max("layer") for each in ("prefix_matching", "previous_token")}
    text_panels.over_training(figure, results.assign(best))
    return figure


experiment = Experiment(
    name="olsson-text-smeared",
    title="Smeared keys on real text",
    paper="Olsson et al. 2022, arguments 1 and 2",
    summary="One and two layers with shortformer positions, without and with smeared keys, on real "
    "text: the loss is that of held-out documents.",
    differs="With smeared keys the change is seen on real text within minutes on two cores and in "
    "every seed: between 1 and 5 million tokens, to a score of about -.4, which is the paper's, "
    "and heads with prefix matching of .61 to .69, with one layer as with two. Two layers without "
    "do not change, in any seed, within the 16 million tokens that a law from other models would "
    "ask for (nor within 20 million in a trial, even at three times the learning rate): their "
    "previous-token head stands at .23 to .26 and rises slowly. Two of the seeds were trained for "
    "longer by examples/long_text.py: they do not change within 98 million either (score -.15 and "
    "-.17, previous-token head .28, prefix matching .01). By the score alone three "
    "seeds have a window, for the wrong reason: its first fall at the start of training; so the "
    "claim asks for the heads as well. With relative positions and larger embeddings two layers "
    "change without smeared keys: olsson-text.",
    trainings=(TEXT_SMEARED,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 30.0 + 15.0 * options.seeds,
)
