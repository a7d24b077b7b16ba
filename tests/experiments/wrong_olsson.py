"""For every claim on Olsson et al., what makes it false of results in which all claims are so.

Also results that say less: of one seed, of what `--quick` trains, of networks that never change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from made_up_olsson import (
    AT_LOOKS,
    DEEP,
    DEEPER,
    FOUR,
    INITS,
    KEPT,
    SPARSE,
    TOKENS,
    rise,
    score,
    sizes,
    widths,
)

from ih_jax.experiments.olsson2022 import models

Change = Callable[[xr.Dataset], xr.Dataset]


def at(name: str, value: Any, **where: Any) -> Change:
    """A change of some values of a variable."""

    def change(d: xr.Dataset) -> xr.Dataset:
        made = d.copy(deep=True)
        made[name] = made[name].astype(float)
        made[name].loc[where] = value
        return made

    return change


def times(name: str, factor: float, **where: Any) -> Change:
    def change(d: xr.Dataset) -> xr.Dataset:
        return at(name, d[name].loc[where] * factor, **where)(d)

    return change


def at_others(name: str, value: float) -> Change:
    """A change of heads above the first layer that do not match prefixes, in all their order."""

    def change(d: xr.Dataset) -> xr.Dataset:
        others = d["prefix_matching"].isel(layer=slice(1, None)) < models.INDUCTION
        others = others.pad(layer=(1, 0), constant_values=False)
        return d.assign({name: d[name].where(~others, value + 0.1 * d[name])})

    return change


def both(*changes: Change) -> Change:
    return lambda d: functools.reduce(lambda made, change: change(made), changes, d)


TWICE = -0.52 * rise(TOKENS, 1.6e6) - 0.28 * rise(TOKENS, 4e6, 1e4)  # scores
LATE = -0.8 * rise(TOKENS, 5e6)
EARLY = 0.8 * rise(KEPT, 0.3e6)  # of a head

ALL_BUT_SHALLOW = [*DEEP, "2L, repeats"]


def of_each(names: Sequence[str], change: Callable[[str], Change]) -> Change:
    return both(*(change(name) for name in names))


def as_model(name: str, other: str) -> Callable[[str], Change]:
    """A change that gives a model the values of another one."""
    return lambda model: lambda d: at(name, d[name].sel(model=other), model=model)(d)


def others_matter(name: str) -> Change:
    """Heads that match nothing and are no previous-token heads take the most of the score."""

    def change(d: xr.Dataset) -> xr.Dataset:
        known = ("prefix_matching", "previous_token")
        prefix, back = (
            d[n].isel(checkpoint=-1) if "checkpoint" in d[n].dims else d[n] for n in known
        )
        other = (prefix < models.INDUCTION) & (back < models.INDUCTION)
        return d.assign({name: d[name].where(~other, 0.6).transpose(*d[name].dims)})

    return change


# (experiment, claim that must fail, what is done to results in which all claims are so)
BAD: list[tuple[str, str, Change]] = [
    ("olsson-smoke", "the change", at("score", -0.1 * rise(TOKENS, 1.6e6))),
    ("olsson-smoke", "an induction head", times("prefix_matching", 0.5, layer=1)),
    ("olsson-smoke", "a previous-token head", times("previous_token", 0.5, layer=0)),
    (
        "olsson-smoke",
        "chains: a plateau at unigrams",
        lambda d: at("chain_loss", 0.8 + 0.3 * np.exp(-d["chain_tokens"].values / 2e5))(d),
    ),
    (
        "olsson-smoke",
        "chains: bigrams at the end",
        lambda d: d.assign(chain_loss=np.maximum(d["chain_loss"], 0.88)),
    ),
    ("olsson-phase-change", "a window", at("score", TWICE, model=DEEP)),
    (
        "olsson-phase-change",
        "one layer does not change",
        at("score", score(["2L"])[0], model=["1L", "1L MLP"]),
    ),
    ("olsson-phase-change", "induction heads appear", times("prefix_matching", 0.5, model=DEEP)),
    (
        "olsson-phase-change",
        "they form in the window",
        at("prefix_matching", 0.8 * rise(KEPT, 2.6e6), model=DEEP),
    ),
    (
        "olsson-phase-change",
        "constant after the change",
        lambda d: d.assign(score=d["score"] + 0.3 * rise(TOKENS, 5e6, 4e5)),
    ),
    (
        "olsson-phase-change",
        "the same for all sizes",
        both(times("score", 2.0, model="3L"), times("score", 0.5, model="2L MLP")),
    ),
    (
        "olsson-phase-change",
        "a bump in the loss",
        lambda d: d.assign(loss=d["loss"] - 0.5 * rise(TOKENS, 5e6)),
    ),
    (
        "olsson-phase-change",
        "no bump with one layer",
        of_each(["1L", "1L MLP"], as_model("loss", "2L MLP")),
    ),
    (
        "olsson-phase-change",
        "where the curves part",
        lambda d: both(*(times("loss", 0, model=n) for n in ("1L", "1L MLP")))(d).pipe(
            lambda made: of_each(["1L", "1L MLP"], lambda n: at("loss", 4.0, model=n))(made)
        ),
    ),
    ("olsson-phase-change", "later tokens become easier", at("index_loss", 2.5, model=DEEP)),
    (
        "olsson-phase-change",
        "not before",
        lambda d: d.assign(index_loss=d["index_loss"] - 0.2 * np.log(d["index"] + 1)),
    ),
    ("olsson-phase-change", "the path turns", of_each(DEEP, as_model("path", "1L"))),
    (
        "olsson-phase-change",
        "one layer goes straight",
        of_each(["1L", "1L MLP"], as_model("path", "2L")),
    ),
    (
        "olsson-phase-change",
        "any pair of positions",
        at("score_at", -0.6 * rise(KEPT, 3e6), model=DEEP, pair="4 to 40"),
    ),
    (
        "olsson-phase-change",
        "few snapshots: a window",
        at("score_at", TWICE[::2], model=DEEP, pair="10 to 63"),
    ),
    (
        "olsson-phase-change",
        "few snapshots: heads in it",
        at("prefix_matching", 0.8 * rise(KEPT, 4.5e6), model=DEEP),
    ),
    ("olsson-smeared-keys", "one layer changes", times("score", 0.4, model="1L smeared")),
    (
        "olsson-smeared-keys",
        "with induction heads",
        times("prefix_matching", 0.5, model="1L smeared"),
    ),
    ("olsson-smeared-keys", "two layers change sooner", at("score", LATE, model="2L smeared")),
    (
        "olsson-smeared-keys",
        "no previous-token head",
        at("previous_token", 0.8, model="2L smeared", layer=0),
    ),
    (
        "olsson-ablations",
        "induction heads carry it: attention only",
        at("joint_patterns", 0.2, model=["2L", "3L", "6L"]),
    ),
    (
        "olsson-ablations",
        "the same, all recomputed",
        at("joint_full", 0.2, model=["2L", "3L", "6L"]),
    ),
    (
        "olsson-ablations",
        "induction heads carry it: with MLPs",
        at("joint_patterns", 0.2, model=["2L MLP", "4L MLP", "6L MLP"]),
    ),
    (
        "olsson-ablations",
        "the more it matches, the more it carries",
        lambda d: d.assign(prefix_matching=0.95 - d["prefix_matching"]),
    ),
    ("olsson-ablations", "others do not", others_matter("score")),
    ("olsson-ablations", "back along the change", lambda d: d.assign(projection=-d["projection"])),
    (
        "olsson-ablations",
        "furthest back",
        at("projection", -9.0, model=[*DEEP, *DEEPER], layer=0, head=[0, 1, 2, 3]),
    ),
    ("olsson-ablations", "the opposite sign", lambda d: d.assign(score=abs(d["score"]))),
    (
        "olsson-ablations",
        "not before the window",
        at("score", 0.4, model=[*DEEP, *DEEPER], checkpoint=SPARSE[0], layer=1, head=0),
    ),
    (
        "olsson-ablations",
        "by type: induction heads",
        lambda d: d.assign(score=d["score"].where(d["prefix_matching"] < 0.5, -0.05)),
    ),
    (
        "olsson-ablations",
        "by type: previous-token heads",
        lambda d: d.assign(score=d["score"].where(~(d["previous_token"] > 0.5), 0.3)),
    ),
    (
        "olsson-ablations",
        "by type: previous-token heads, recomputed",
        lambda d: d.assign(full_score=d["score"].isel(checkpoint=-1) - 0.01),
    ),
    (
        "olsson-ablations",
        "curiosity: six layers",
        at("score", 0.02, model="6L", layer=1, head=3, checkpoint=SPARSE[-1]),
    ),
    (
        "olsson-ablations",
        "curiosity: four layers with MLPs",
        at("score", 3.0, model="4L MLP", layer=1, head=0, checkpoint=SPARSE[-1]),
    ),
    (
        "olsson-ablations",
        "curiosity: six layers with MLPs",
        lambda d: d.assign(score=d["score"].where(d["score"] > -0.02, 0.1)),
    ),
    (
        "olsson-heads",
        "the better it matches, the more it copies",
        lambda d: at_others("ov", 0.99)(at_others("copying_logits", 9.0)(d)),
    ),
    (
        "olsson-heads",
        "what matches, copies",
        lambda d: d.assign(copying_logits=d["copying_logits"] - 6),
    ),
    ("olsson-heads", "weights tell matching", lambda d: d.assign(cosine=-d["cosine"])),
    ("olsson-heads", "weights tell copying", lambda d: d.assign(ov=1 - d["ov"])),
    ("olsson-heads", "eigenvalues of induction heads", lambda d: d.assign(ov=d["ov"] - 1)),
    *(
        (
            "olsson-heads",
            f"{letter}-composition forms with them",
            at("composition", EARLY, model=DEEP, input=letter),
        )
        for letter in "QKV"
    ),
    ("olsson-ov", "read so, weights tell copying", lambda d: d.assign(ov_read=1 - d["ov_read"])),
    (
        "olsson-ov",
        "better than plainly",
        lambda d: d.assign(ov=d["copying_logits"], ov_read=d["ov"]),
    ),
    ("olsson-ov", "positive for induction heads", lambda d: d.assign(ov_read=d["ov_read"] - 1)),
    ("olsson-behaviours", "literal copying", at("copy_loss", 3.7, repeat=3)),
    (
        "olsson-behaviours",
        "by heads that match prefixes",
        at("copy_copying_logits", 9.0, layer=0, head=3),
    ),
    ("olsson-behaviours", "translation is learned", at("translate_loss", 2.0)),
    ("olsson-behaviours", "translation: where it looks", times("translate_attention", 0.6)),
    ("olsson-behaviours", "translation: what it adds", times("translate_raised", -1.0)),
    ("olsson-behaviours", "patterns are learned", at("match_accuracy", 0.4)),
    ("olsson-behaviours", "patterns: where it looks", times("match_attention", 0.5)),
    ("olsson-behaviours", "the same heads match prefixes", times("match_prefix_matching", 0.5)),
    *(
        ("olsson-mixture", f"{part} are learned", at("accuracy", 0.3, part=part))
        for part in ("repeats", "translations", "templates")
    ),
    (
        "olsson-mixture",
        "the head that translates matches prefixes",
        at("attends", 0.95, part="translations", layer=0, head=0),
    ),
    (
        "olsson-mixture",
        "the head for patterns matches prefixes",
        at("attends", 0.95, part="templates", layer=0, head=0),
    ),
    (
        "olsson-mixture",
        "one head serves all three",
        lambda d: d.assign(
            removed=d["removed"].where(d["part"] != "templates", d["removed"].roll(head=1))
        ),
    ),
    ("olsson-scaling", "before: small ones fall faster", lambda d: sizes(before=1)),
    ("olsson-scaling", "curiosity: a spike", at("loss", 3.0, model="6L MLP")),
    ("olsson-scaling", "after: large ones", lambda d: sizes(after=-1)),
    ("olsson-widths", "every width changes", times("prefix_matching", 0.5)),
    ("olsson-widths", "the order inverts", lambda d: widths(before=1, after=-1)),
    ("olsson-widths", "before: narrow ones fall faster", lambda d: widths(before=1)),
    ("olsson-widths", "after: wide ones", lambda d: widths(after=-1)),
    (
        "olsson-universality",
        "the circuit is everywhere",
        times("previous_token", 0.5, model=ALL_BUT_SHALLOW),
    ),
    (
        "olsson-universality",
        "in the last layer",
        of_each(
            ALL_BUT_SHALLOW,
            lambda n: at("prefix_matching", 0.95, model=n, layer=0, head=0, checkpoint="end"),
        ),
    ),
    (
        "olsson-universality",
        "matched heads are alike",
        lambda d: xr.concat(
            [d.sel(checkpoint="end").assign_coords(checkpoint=each) for each in ("start", "end")],
            "checkpoint",
        ).transpose(*AT_LOOKS),
    ),
    (
        "olsson-universality",
        "their numbers say nothing",
        lambda d: xr.concat(
            [d.sel(init=5).assign_coords(init=each) for each in INITS], "init"
        ).transpose(*AT_LOOKS),
    ),
    (
        "olsson-clamped",
        "given, it comes sooner",
        at("score", -0.8 * rise(TOKENS, 2e6), clamp="given"),
    ),
    (
        "olsson-clamped",
        "given for a while",
        at("score", -0.8 * rise(TOKENS, 2e6), clamp="given to 800"),
    ),
    ("olsson-clamped", "denied, it does not come", at("score", LATE, clamp="denied")),
    (
        "olsson-clamped",
        "denied for a while, it waits",
        at("score", -0.8 * rise(TOKENS, 3e6), clamp="denied to 2000"),
    ),
    (
        "olsson-clamped",
        "given the pattern, no wait",
        at("score", -0.8 * rise(TOKENS, 2e6), clamp="induction"),
    ),
    (
        "olsson-repeats",
        "bigrams: one token after",
        at("shift", 0.9, language="bigrams", after=2),
    ),
    (
        "olsson-repeats",
        "long spans: further after",
        at("shift", 0.01, language="spans of 16", after=list(range(2, 11))),
    ),
    (
        "olsson-repeats",
        "what prefix matching misses",
        both(
            at("shift", 0.6, language="spans of 16", after=1),
            at("shift", 0.7, language="spans of 2", after=1),
        ),
    ),
    (
        "olsson-repeats",
        "the length of what repeats decides",
        at("shift", 0.02, language="spans of 2", after=1),
    ),
    ("olsson-repeats", "second language: a window", at("score", TWICE, model="2L")),
    (
        "olsson-repeats",
        "second language: an induction head in it",
        times("prefix_matching", 0.5, model="2L", layer=1),
    ),
    (
        "olsson-repeats",
        "second language: it forms in the window",
        lambda d: at(
            "prefix_matching",
            d["prefix_matching"].sel(model="2L", checkpoint=KEPT[-1]),
            model="2L",
            checkpoint=KEPT[4:],
        )(d),
    ),
    (
        "olsson-repeats",
        "second language: a previous-token head",
        times("previous_token", 0.5, model="2L", layer=0),
    ),
    ("olsson-repeats", "second language: one layer lacks the score", at("score", LATE, model="1L")),
    (
        "olsson-repeats",
        "second language: one layer smeared, heads",
        times("prefix_matching", 0.5, model="1L smeared"),
    ),
    (
        "olsson-repeats",
        "second language: one layer smeared, score",
        times("score", 0.4, model="1L smeared"),
    ),
    (
        "olsson-repeats",
        "second language: two layers smeared sooner",
        at("score", LATE, model="2L smeared"),
    ),
    ("olsson-repeats", "second language: induction heads carry it", at("joint", 0.2, model="2L")),
    ("olsson-repeats", "second language: others do not", others_matter("removed")),
    ("olsson-repeats", "second language: OV eigenvalues", lambda d: d.assign(ov=d["ov"] - 1)),
    ("olsson-repeats", "second language: QK trace", lambda d: d.assign(cosine=-d["cosine"])),
    (
        "olsson-repeats",
        "second language: the path turns",
        lambda d: at("path", d["path"].sel(model="1L"), model="2L")(d),
    ),
    (
        "olsson-repeats",
        "second language: one layer goes straight",
        lambda d: at("path", d["path"].sel(model="2L"), model="1L")(d),
    ),
    ("olsson-text", "it changes", times("prefix_matching", 0.5, model="2L")),
    ("olsson-text", "one layer does not", at("prefix_matching", 0.2, model="1L")),
    (
        "olsson-text",
        "the curves part",
        lambda d: at("score", d["score"].sel(model="2L"), model="1L")(d),
    ),
    ("olsson-text", "in a window", at("score", TWICE, model="2L")),
    ("olsson-text", "without these heads it is gone", times("without_heads", 0.3)),
    ("olsson-text", "upon a previous-token head", times("previous_token", 0.5, model="2L")),
    (
        "olsson-text",
        "two layers gain on one",
        lambda d: at("loss", d["loss"].sel(model="1L") + 0.05, model="2L")(d),
    ),
    (
        "olsson-text-smeared",
        "a phase change",
        at("score", TWICE, model="2L"),
    ),
    ("olsson-text-smeared", "upon a previous-token head", times("previous_token", 0.5, model="2L")),
    (
        "olsson-text-smeared",
        "smeared keys give one to it",
        times("prefix_matching", 0.5, model="1L smeared"),
    ),
    (
        "olsson-text-smeared",
        "two layers gain on one",
        lambda d: at("loss", d["loss"].sel(model="1L") + 0.05, model="2L")(d),
    ),
    ("olsson-lent", "not by itself", at("prefix_matching", 0.2, clamp="none")),
    (
        "olsson-lent",
        "while it is lent, it forms",
        at("prefix_matching", 0.2, clamp="lent to 2000", checkpoint=KEPT[KEPT < 4e6]),
    ),
    (
        "olsson-lent",
        "while it is lent, the context is used",
        at("score", -0.1, clamp="lent to 2000", tokens=TOKENS[TOKENS < 4e6]),
    ),
    (
        "olsson-lent",
        "taken back, it is lost",
        at("prefix_matching", 0.5, clamp="lent to 2000", checkpoint=KEPT[KEPT == 4e6]),
    ),
    (
        "olsson-lent",
        "lent, it lasts",
        at("prefix_matching", 0.2, clamp="lent to 2000", checkpoint=KEPT[-1]),
    ),
    (
        "olsson-lent",
        "on a head of its own",
        at("previous_token", 0.4, clamp="lent to 2000", checkpoint=KEPT[-1]),
    ),
    (
        "olsson-lent",
        "lent, the context is used",
        at("score", -0.1, clamp="lent to 2000", tokens=TOKENS[-3:]),
    ),
    (
        "olsson-lent-otherwise",
        "half as long is enough",
        at("prefix_matching", 0.2, clamp="lent to 1000", checkpoint=KEPT[-1]),
    ),
    (
        "olsson-lent-otherwise",
        "denied, it does not come back",
        at("prefix_matching", 0.2, clamp="lent to 2000, then denied", checkpoint=KEPT[-1]),
    ),
]


OVER = ("tokens", "chain_tokens", "checkpoint", "snapshot", "repeat")


def still(results: xr.Dataset, noise: float) -> xr.Dataset:
    """Results in which nothing ever changes, but for noise (nats)."""
    random = np.random.default_rng(1)
    made = results.copy(deep=True)
    for name in sorted(
        set(results) - {"level", "own_share", "allowed_from", "first_init", "released"}
    ):
        values, dims = results[name].values, results[name].dims
        over = [dims.index(dim) for dim in OVER if dim in dims]
        for axis in over:
            values = values.take([0], axis)
        if not over:  # it is measured at the end only
            values = 3.2 if name == "translate_loss" else 0 * values
        made[name] = dims, values + noise * random.normal(size=made[name].shape)
    return made


def quick(results: xr.Dataset) -> xr.Dataset:
    """Of one seed, the first of what --quick trains."""
    if "model" in results.dims:
        names = [str(name) for name in results["model"].values]
        results = results.sel(model=[n for n in names if n in (*FOUR, "2L, repeats")])
    return one_seed(results).isel(layer=slice(0, 2)) if "layer" in results.dims else results


def one_seed(results: xr.Dataset) -> xr.Dataset:
    return results.isel(init=[0])
