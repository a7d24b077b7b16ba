"""Olsson et al. 2022: graders on made-up results with known answers, and the smallest runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from networks import QUICK
from rich.console import Console

import ih_jax as ih
from ih_jax.claims import Finding, decide, intervals
from ih_jax.cli.main import main
from ih_jax.experiments.base import Options
from ih_jax.experiments.olsson2022 import ablations, behaviours, models, phase_change
from ih_jax.experiments.olsson2022 import trainings as olsson
from ih_jax.experiments.register import SETS, choose, find, registry
from ih_jax.reports import running
from ih_jax.reports.planning import trainings_of
from ih_jax.sweeps import chunk, measuring, programs


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made up here is clear enough."""
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


Change = Callable[[xr.Dataset], xr.Dataset]

OLSSON = tuple(each.name for each in SETS["olsson"])
INITS = [5, 6, 7, 8, 9]  # five that agree decide
EVERY = ("1L", "2L", "3L", "1L MLP", "2L MLP", "1L smeared", "2L smeared")
FOUR = ("1L", "2L", "1L smeared", "2L smeared")
DEEP = ["2L", "3L", "2L MLP"]
TOKENS = np.arange(0, 8_000_001, 80_000)
KEPT = TOKENS[::2]
SPARSE = KEPT[::-1][::4][::-1]
LAYERS, HEADS = 3, 4

# The middle of each model's change; those of one layer have none. A second language, the same.
MIDDLE = {
    "2L": 1.6e6,
    "3L": 1.4e6,
    "2L MLP": 1.5e6,
    "1L smeared": 1.0e6,
    "2L smeared": 0.9e6,
    "2L, repeats": 1.6e6,
}
# (layer, head) in the first seed; in the next it is the next head.
INDUCTION = {
    "2L": [(1, 0), (1, 2)],
    "3L": [(2, 0), (2, 1), (1, 3)],
    "2L MLP": [(1, 1), (1, 2)],
    "1L smeared": [(0, 0), (0, 2)],
    "2L smeared": [(1, 3), (1, 0), (0, 1)],
    "2L, repeats": [(1, 0), (1, 2)],
}
PREVIOUS = {"2L": (0, 1), "3L": (0, 2), "2L MLP": (0, 3), "2L, repeats": (0, 1)}


# --- made-up results ----------------------------------------------------------------------------


def rise(n: np.ndarray, middle: float, width: float = 60e3) -> np.ndarray:
    """0, then 1."""
    return 1 / (1 + np.exp(np.clip((middle - n) / width, -500, 500)))


def changed(names: Sequence[str], n: np.ndarray) -> np.ndarray:
    """[model, init, n]: how much of its change each network has behind it."""
    return np.stack(
        [
            [
                rise(n, MIDDLE[name] + 80e3 * i) if name in MIDDLE else 0.0 * n
                for i in range(len(INITS))
            ]
            for name in names
        ]
    )


def score(names: Sequence[str], n: np.ndarray = TOKENS) -> np.ndarray:
    """[model, init, n]: of all networks a little at first, then a fall to -0.8 of some."""
    return -0.05 * (1 - np.exp(-n / 5e5)) - 0.75 * changed(names, n)


def loss(names: Sequence[str]) -> np.ndarray:
    """[model, init, tokens]: convex, but for the change."""
    return 2.2 + 0.8 * np.exp(-TOKENS / 2e5) - 0.3 * changed(names, TOKENS)


def heads(
    induction: Sequence[float],
    previous: float,
    other: float,
    names: Sequence[str] = EVERY,
    layers: int = LAYERS,
) -> np.ndarray:
    """[model, init, layer, head]: of induction heads, the best first; of previous-token heads."""
    made = np.full((len(names), len(INITS), layers, HEADS), np.nan)
    for own, name in zip(made, names, strict=True):
        depth = int(name[0])
        for i in range(len(INITS)):
            own[i, :depth] = other * (1 + np.arange(depth * HEADS).reshape(depth, HEADS) / 20)
            for strength, (layer, head) in zip(induction, INDUCTION.get(name, []), strict=False):
                own[i, layer, (head + i) % HEADS] = strength
            if name in PREVIOUS:
                layer, head = PREVIOUS[name]
                own[i, layer, (head + i) % HEADS] = previous
    return made


def grown(
    end: np.ndarray, names: Sequence[str], n: np.ndarray = KEPT, start: float = 0.1
) -> np.ndarray:
    """[model, init, checkpoint, layer, head]: from a part of `end` to all of it in the change."""
    done = changed(names, n)
    share = start + (1 - start) * done / np.maximum(done[..., -1:], 1e-9)
    return end[:, :, None] * share[..., None, None]


def matching(names: Sequence[str] = EVERY, layers: int = LAYERS) -> np.ndarray:
    """Prefix matching of every head at the end."""
    return heads([0.9, 0.8, 0.7], 0.05, 0.02, names, layers)


def looking_back(names: Sequence[str] = EVERY, layers: int = LAYERS) -> np.ndarray:
    """Attention of every head to the previous token, at the end."""
    return heads([0.1, 0.1, 0.1], 0.9, 0.1, names, layers)


def along(names: Sequence[str] = EVERY, **more: Any) -> dict[str, Any]:
    return {"model": list(names), "init": INITS, "tokens": TOKENS, **more}


CURVE, HEAD = ("model", "init", "tokens"), ("model", "init", "layer", "head")
AT_LOOKS = ("model", "init", "checkpoint", "layer", "head")


def smoke() -> xr.Dataset:
    n = np.arange(0, 3_000_001, 50_000)
    levels = {"uniform": np.log(3), "unigram": 0.95, "bigram": 0.8}
    chains = 0.95 + 0.15 * np.exp(-n / 2e5) - 0.15 * rise(n, 1.5e6)
    looks = np.stack([np.full(len(KEPT), 0.05), 0.8 * rise(KEPT, 1.6e6)], axis=-1)
    dims = ("init", "checkpoint", "layer")
    return xr.Dataset(
        {
            "previous_token": (dims, np.stack([looks[:, ::-1]] * len(INITS))),
            "prefix_matching": (dims, np.stack([looks] * len(INITS))),
            "loss": (CURVE[1:], loss(["2L"])[0]),
            "score": (CURVE[1:], score(["2L"])[0]),
            "chain_loss": (("init", "chain_tokens"), np.stack([chains] * len(INITS))),
            "level": ("reference", list(levels.values())),
        },
        {
            "init": INITS,
            "tokens": TOKENS,
            "checkpoint": KEPT,
            "chain_tokens": n,
            "reference": list(levels),
        },
    )


def phases() -> xr.Dataset:
    index = np.arange(1, 64)
    falls = changed(EVERY, SPARSE)[:, 0, :, None] * np.log(index)
    done, straight = changed(EVERY, KEPT), np.array(["1L" in name for name in EVERY])
    across = np.where(straight[:, None, None], 3 * KEPT / (KEPT + 1e6), 3 - 3 * np.exp(-KEPT / 2e5))
    across = np.broadcast_to(across, done.shape)
    shares = np.array([1.0, 1.1, 0.8, 0.6, 0.5])
    looks = ("model", "init", "checkpoint")
    return xr.Dataset(
        {
            "loss": (CURVE, loss(EVERY)),
            "score": (CURVE, score(EVERY)),
            "score_at": ((*looks, "pair"), score(EVERY, KEPT)[..., None] * shares),
            "prefix_matching": (looks, 0.03 + 0.8 * done),
            "previous_token": (looks, 0.1 + 0.8 * done),
            "index_loss": (
                ("model", "snapshot", "index"),
                2.5 + 0.5 * np.exp(-index / 5) - 0.15 * falls,
            ),
            "path": ((*looks, "component"), np.stack([across, 3 * done], axis=-1)),
            "first_init": 5,
        },
        along(
            checkpoint=KEPT, snapshot=SPARSE, pair=[f"{a} to {b}" for a, b in phase_change.PAIRS]
        ),
    )


def smeared() -> xr.Dataset:
    own = np.full((4, len(INITS), 2, HEADS), np.nan)
    own[2, :, 0], own[3] = 0.4, 0.6
    best = {
        "prefix_matching": grown(matching(FOUR, 2), FOUR),
        "previous_token": grown(looking_back(FOUR, 2), FOUR),
    }
    return xr.Dataset(
        {
            "loss": (CURVE, loss(FOUR)),
            "score": (CURVE, score(FOUR)),
            "own_share": (HEAD, own),
            **{name: (AT_LOOKS[:4], each.max(-1)) for name, each in best.items()},
        },
        along(FOUR, checkpoint=KEPT),
    )


def removals() -> xr.Dataset:
    effect = heads([0.4, 0.2, 0.15], 0.5, -0.01)
    projection = heads([-3.0, -2.0, -1.0], -0.5, 0.05)
    projection[[name not in MIDDLE for name in EVERY]] = np.nan
    changes = np.array([name in MIDDLE for name in EVERY])[:, None] * np.ones(len(INITS))
    return xr.Dataset(
        {
            "curve": (CURVE, score(EVERY)),
            "score": (AT_LOOKS, grown(effect, EVERY, SPARSE, 0.05)),
            "loss": (AT_LOOKS, grown(effect / 3, EVERY, SPARSE)),
            "projection": (AT_LOOKS, grown(projection, EVERY, SPARSE)),
            "full_score": (HEAD, effect),
            "previous_token": (HEAD, looking_back()),
            "prefix_matching": (HEAD, matching()),
            "whole": (CURVE[:2], score(EVERY)[..., -1]),
            "joint_patterns": (CURVE[:2], 0.7 * changes),
            "joint_full": (CURVE[:2], 0.75 * changes),
        },
        along(checkpoint=SPARSE),
    )


def scores_of_heads() -> dict[str, np.ndarray]:
    """What `heads.at_the_end` tells."""
    return {
        "previous_token": looking_back(),
        "prefix_matching": matching(),
        "copying": heads([0.9, 0.8, 0.7], 0.1, 0.02),
        "copying_logits": heads([5.0, 4.0, 3.0], 0.3, 0.1),
        "ov": heads([0.95, 0.9, 0.85], 0.1, 0.05),
        "trace": heads([9.0, 8.0, 7.0], 0.4, 0.1),
        "cosine": heads([0.9, 0.8, 0.7], 0.05, 0.01),
    }


def what_heads_do() -> xr.Dataset:
    followed = np.array([name in ("2L", "3L", "2L MLP") for name in EVERY])
    done = np.where(followed[:, None, None], changed(EVERY, KEPT), np.nan)
    back = np.array([0.1, 0.6, 0.1, 0.1, 0.05, 0.05]) * np.ones((*matching().shape, 1))
    return xr.Dataset(
        {
            **{name: (HEAD, values) for name, values in scores_of_heads().items()},
            "offset": ((*HEAD, "offset_back"), back),
            "composition": (
                ("model", "init", "checkpoint", "input"),
                0.02 + done[..., None] * np.array([0.1, 0.4, 0.05]),
            ),
            "best_prefix": (("model", "init", "checkpoint"), 0.9 * done),
            "curve": (CURVE, score(EVERY)),
        },
        along(checkpoint=KEPT, input=["Q", "K", "V"]),
    )


def what_they_are_good_for() -> xr.Dataset:
    names, dims = ["2L"], ("init", "layer", "head")

    def some(*strengths: float, other: float = 0.05) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, heads(strengths, other, other, names, 2)[0]

    each = ("init", np.zeros(len(INITS)))
    return xr.Dataset(
        {
            "copy_loss": (("init", "repeat"), np.tile([3.6, 1.5, 1.0, 0.9], (len(INITS), 1))),
            "copy_prefix_matching": some(0.9, 0.8),
            "copy_copying": some(0.9, 0.8),
            "copy_copying_logits": some(6.0, 4.0),
            "translate_attention": some(0.8, 0.3),
            "translate_raised": some(3.0, 1.0, other=-0.2),
            "translate_loss": ("init", each[1] + 0.2),
            "translate_prefix_matching": some(0.8, 0.6),
            "match_attention": some(0.9, 0.4),
            "match_accuracy": ("init", each[1] + 0.97),
            "match_prefix_matching": some(0.85, 0.3),
        },
        {"init": INITS},
    )


def sizes(before: float = -1, after: float = 1) -> xr.Dataset:
    """The deeper, the slower (-1) or the faster (1) the loss falls, before and after the change."""
    deeper = np.array([int(name[0]) for name in EVERY])[:, None, None]
    early, late = (0.05 * (4 + sign * deeper) for sign in (before, after))
    falls = early * np.log(np.minimum(TOKENS, 1.4e6) / 1e6 + 0.1)
    falls = falls + late * np.log(np.maximum(TOKENS, 1.8e6) / 1.8e6)
    return xr.Dataset(
        {
            **{
                name: (AT_LOOKS, grown(values, EVERY, SPARSE))
                for name, values in scores_of_heads().items()
            },
            "loss": (CURVE, 2.8 - falls - 0.3 * changed(EVERY, TOKENS)),
            "curve": (CURVE, score(EVERY)),
        },
        along(checkpoint=SPARSE),
    )


def universal() -> xr.Dataset:
    names = (*EVERY, "2L, repeats")
    random = np.random.default_rng(0)
    end = {
        "previous_token": looking_back(names),
        "prefix_matching": matching(names),
        "copying": heads([0.9, 0.85, 0.8], 0.5, 0.5, names),
    }
    there = np.where(np.isfinite(end["copying"]), 1, np.nan)
    dims = ("model", "init", "checkpoint", "layer", "head")
    return xr.Dataset(
        {
            name: (dims, np.stack([random.uniform(0, 0.1, there.shape) * there, each], axis=2))
            for name, each in end.items()
        },
        {"model": list(names), "init": INITS, "checkpoint": ["start", "end"]},
    )


def clamped() -> xr.Dataset:
    middles = {
        "none": 1.6e6,
        "given": 0.8e6,
        "given to 200": 1.5e6,
        "given to 400": 1.4e6,
        "given to 800": 1.2e6,
        "denied": None,
        "denied to 2000": 5e6,
        "induction": 0.2e6,
    }
    done = np.stack(
        [
            [
                0 * TOKENS if middle is None else rise(TOKENS, middle + 20e3 * i)
                for i in range(len(INITS))
            ]
            for middle in middles.values()
        ]
    )
    return xr.Dataset(
        {
            "loss": (("clamp", "init", "tokens"), 2.2 + 0.8 * np.exp(-TOKENS / 2e5) - 0.3 * done),
            "score": (("clamp", "init", "tokens"), score(["1L"])[0] - 0.75 * done),
            "allowed_from": 4e6,
        },
        {"clamp": list(middles), "init": INITS, "tokens": TOKENS},
    )


def repeats() -> xr.Dataset:
    done = changed(FOUR, KEPT)
    straight = 3 * KEPT / (KEPT + 1e6) + 0 * done
    after, back = np.arange(1, 11), np.arange(11)
    best = {
        "bigrams": 1,
        "spans of 2": 1,
        "spans of 4": 1,
        "spans of 8": 3,
        "spans of 16": 6,
        "pasted spans (R1)": 1,
        "random repeats (R3)": 2,
    }
    shift = np.stack([0.03 + 0.6 * np.exp(-((after - s) ** 2) / 0.5) for s in best.values()])
    offset = np.stack([0.02 + 0.8 * (back == s) for s in best.values()])
    return xr.Dataset(
        {
            "prefix_matching": (AT_LOOKS, grown(matching(FOUR, 2), FOUR)),
            "previous_token": (AT_LOOKS, grown(looking_back(FOUR, 2), FOUR)),
            "path": (
                ("model", "init", "checkpoint", "component"),
                np.stack([straight, 3 * done], -1),
            ),
            "removed": (HEAD, heads([0.4, 0.2, 0.1], 0.5, -0.01, FOUR, 2)),
            "joint": (CURVE[:2], 0.7 * done[..., -1]),
            "ov": (HEAD, heads([0.95, 0.9, 0.85], 0.1, 0.05, FOUR, 2)),
            "cosine": (HEAD, heads([0.9, 0.8, 0.7], 0.05, 0.01, FOUR, 2)),
            "loss": (CURVE, loss(FOUR)),
            "score": (CURVE, score(FOUR)),
            "shift": (("language", "init", "after"), np.repeat(shift[:, None], len(INITS), axis=1)),
            "offset": (
                ("language", "init", "back"),
                np.repeat(offset[:, None], len(INITS), axis=1),
            ),
            "final": (("language", "init"), np.full((len(best), len(INITS)), -0.6)),
        },
        along(FOUR, checkpoint=KEPT, language=list(best), after=after, back=back),
    )


def text() -> xr.Dataset:
    return smeared().drop_vars("own_share")


GOOD: dict[str, Callable[[], xr.Dataset]] = {
    "olsson-smoke": smoke,
    "olsson-phase-change": phases,
    "olsson-smeared-keys": smeared,
    "olsson-ablations": removals,
    "olsson-heads": what_heads_do,
    "olsson-behaviours": what_they_are_good_for,
    "olsson-scaling": sizes,
    "olsson-universality": universal,
    "olsson-clamped": clamped,
    "olsson-repeats": repeats,
    "olsson-text": text,
}


# --- what is done to them -----------------------------------------------------------------------


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
        at("joint_patterns", 0.2, model=["2L", "3L"]),
    ),
    ("olsson-ablations", "the same, all recomputed", at("joint_full", 0.2, model=["2L", "3L"])),
    (
        "olsson-ablations",
        "induction heads carry it: with MLPs",
        at("joint_patterns", 0.2, model="2L MLP"),
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
        at("projection", -9.0, model=DEEP, layer=0, head=[0, 1, 2, 3]),
    ),
    ("olsson-ablations", "the opposite sign", lambda d: d.assign(score=abs(d["score"]))),
    (
        "olsson-ablations",
        "not before the window",
        at("score", 0.4, model=DEEP, checkpoint=SPARSE[0], layer=1, head=0),
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
    ("olsson-scaling", "before: small ones fall faster", lambda d: sizes(before=1)),
    ("olsson-scaling", "after: large ones", lambda d: sizes(after=-1)),
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
    ("olsson-repeats", "R1: a window", at("score", TWICE, model="2L")),
    (
        "olsson-repeats",
        "R1: an induction head in it",
        times("prefix_matching", 0.5, model="2L", layer=1),
    ),
    (
        "olsson-repeats",
        "R1: it forms in the window",
        lambda d: at(
            "prefix_matching",
            d["prefix_matching"].sel(model="2L", checkpoint=KEPT[-1]),
            model="2L",
            checkpoint=KEPT[4:],
        )(d),
    ),
    (
        "olsson-repeats",
        "R1: a previous-token head",
        times("previous_token", 0.5, model="2L", layer=0),
    ),
    ("olsson-repeats", "R1: one layer lacks the score", at("score", LATE, model="1L")),
    (
        "olsson-repeats",
        "R1: one layer smeared, heads",
        times("prefix_matching", 0.5, model="1L smeared"),
    ),
    ("olsson-repeats", "R1: one layer smeared, score", times("score", 0.4, model="1L smeared")),
    ("olsson-repeats", "R1: two layers smeared sooner", at("score", LATE, model="2L smeared")),
    ("olsson-repeats", "R1: induction heads carry it", at("joint", 0.2, model="2L")),
    ("olsson-repeats", "R1: others do not", others_matter("removed")),
    ("olsson-repeats", "R1: OV eigenvalues", lambda d: d.assign(ov=d["ov"] - 1)),
    ("olsson-repeats", "R1: QK trace", lambda d: d.assign(cosine=-d["cosine"])),
    (
        "olsson-repeats",
        "R1: the path turns",
        lambda d: at("path", d["path"].sel(model="1L"), model="2L")(d),
    ),
    (
        "olsson-repeats",
        "R1: one layer goes straight",
        lambda d: at("path", d["path"].sel(model="2L"), model="1L")(d),
    ),
    (
        "olsson-text",
        "a phase change",
        at("score", TWICE, model="2L"),
    ),
    ("olsson-text", "upon a previous-token head", times("previous_token", 0.5, model="2L")),
    (
        "olsson-text",
        "smeared keys give one to it",
        times("prefix_matching", 0.5, model="1L smeared"),
    ),
    (
        "olsson-text",
        "two layers gain on one",
        lambda d: at("loss", d["loss"].sel(model="1L") + 0.05, model="2L")(d),
    ),
]


OVER = ("tokens", "chain_tokens", "checkpoint", "snapshot", "repeat")


def still(results: xr.Dataset, noise: float) -> xr.Dataset:
    """Results in which nothing ever changes, but for noise (nats)."""
    random = np.random.default_rng(1)
    made = results.copy(deep=True)
    for name in sorted(set(results) - {"level", "own_share", "allowed_from", "first_init"}):
        values, dims = results[name].values, results[name].dims
        over = [dims.index(dim) for dim in OVER if dim in dims]
        for axis in over:
            values = values.take([0], axis)
        if not over:  # it is measured at the end only
            values = 3.2 if name == "translate_loss" else 0 * values
        made[name] = dims, values + noise * random.normal(size=made[name].shape)
    return made


# Of what is still true then: there is nothing where there should be nothing; and of small numbers
# one is the largest, or more than half have one sign.
STILL_TRUE = {
    "olsson-phase-change": {"not before"},
    "olsson-smeared-keys": {"no previous-token head"},
    "olsson-ablations": {"the opposite sign"},
    "olsson-repeats": {
        "bigrams: one token after",
        "long spans: further after",
    },
    "olsson-text": {"two layers gain on one"},  # by a difference of rounding
}


def quick(results: xr.Dataset) -> xr.Dataset:
    """Of one seed, the first of what --quick trains."""
    if "model" in results.dims:
        names = [str(name) for name in results["model"].values]
        results = results.sel(model=[n for n in names if n in (*FOUR, "2L, repeats")])
    return one_seed(results).isel(layer=slice(0, 2)) if "layer" in results.dims else results


def one_seed(results: xr.Dataset) -> xr.Dataset:
    return results.isel(init=[0])


UNIT = 5  # fewer networks decide nothing, even if all agree


def told(finding: Finding) -> str:
    """The verdict; of fewer networks than can decide, all of which agree, the one they point to."""
    k, n = finding.share or (0, 0)
    if finding.verdict == "too few networks" and 3 <= n < UNIT:
        return {n: "replicates", 0: "fails"}.get(k, finding.verdict)
    return finding.verdict


def verdicts(name: str, results: xr.Dataset) -> dict[str, str]:
    return {claim.name: told(found) for claim, found in decide(find(name).claims, results)}


# --- claims -------------------------------------------------------------------------------------


def test_there_are_results_of_every_experiment() -> None:
    assert set(GOOD) == set(OLSSON)
    assert set(OLSSON) <= set(registry())


@pytest.mark.parametrize("name", GOOD)
def test_claims_replicate_where_they_should(name: str) -> None:
    found = verdicts(name, GOOD[name]())
    assert set(found.values()) == {"replicates"}, found


# What else a change of all networks takes with it: the same fact seen otherwise, or one that
# rests on it.
ALSO: dict[str, set[str]] = {
    "they form in the window": {"few snapshots: heads in it"},
    "few snapshots: heads in it": {"they form in the window"},
    "a bump in the loss": {"no bump with one layer"},
    "the more it matches, the more it carries": {"furthest back", "the opposite sign"},
    "others do not": {
        "the more it matches, the more it carries",
        "the opposite sign",
        "not before the window",
    },
    "back along the change": {"furthest back"},
    "matched heads are alike": {"their numbers say nothing"},
    "R1: a previous-token head": {"R1: others do not"},
}


@pytest.mark.parametrize(("name", "claim", "change"), BAD, ids=[f"{n}: {c}" for n, c, _ in BAD])
def test_a_claim_fails_where_it_should_and_takes_no_other_with_it(
    name: str, claim: str, change: Change
) -> None:
    found = verdicts(name, change(GOOD[name]()))
    assert found.pop(claim) == "fails"
    failed = {other for other, verdict in found.items() if verdict == "fails"}
    assert failed <= ALSO.get(claim, set())


def test_every_claim_has_a_case_in_which_it_fails() -> None:
    claims = [(name, claim.name) for name in GOOD for claim in find(name).claims]
    assert sorted(claims) == sorted((name, claim) for name, claim, _ in BAD)


def test_a_claim_says_where_the_paper_says_so_and_what_is_estimated() -> None:
    for claim in (claim for name in GOOD for claim in find(name).claims):
        assert claim.statement.endswith(".")
        assert claim.estimand, claim.name
        assert claim.source or claim.kind == "hypothesis", claim.name


@pytest.mark.parametrize("name", GOOD)
def test_one_seed_or_what_quick_trains_makes_nothing_false(name: str) -> None:
    for some in (one_seed, quick):
        found = verdicts(name, some(GOOD[name]()))
        assert "fails" not in found.values(), found


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_claimed_of_networks_that_do_not_change(name: str, noise: float) -> None:
    found = verdicts(name, still(GOOD[name](), noise))
    held = {claim for claim, verdict in found.items() if verdict == "replicates"}
    assert held <= STILL_TRUE.get(name, set())


@pytest.mark.parametrize("model", DEEP)
def test_one_model_that_does_not_change_is_no_less_seen_for_its_place(model: str) -> None:
    flat, claims = score(["1L"])[0], find("olsson-phase-change").claims
    never = at("score", flat, model=model)(phases())
    never = at("score_at", 0.0, model=model)(never)
    found = {claim.name: claim.decide(never) for claim in claims}
    rest = len(INITS) * (len(DEEP) - 1)
    assert found["a window"].share == (rest, rest + len(INITS))
    assert found["the path turns"].share == (rest, rest)  # no window, nothing to turn in
    assert "not measured" in found["the path turns"].detail
    # In whose window should the path of one layer turn?
    assert found["one layer goes straight"].share[1] == (10 if model == "3L" else 5)


def test_a_change_at_the_first_look_has_no_time_before_it() -> None:
    found = verdicts("olsson-scaling", at("curve", -0.8 * np.minimum(TOKENS / 160e3, 1))(sizes()))
    assert found["before: small ones fall faster"] == "too few networks"
    assert found["after: large ones"] != "too few networks"


def test_a_language_of_fewer_seeds_is_judged_by_those() -> None:
    whole = GOOD["olsson-universality"]()
    fewer = whole.where((whole["model"] != "2L, repeats") | (whole["init"] != INITS[-1]))
    assert set(verdicts("olsson-universality", fewer).values()) == {"replicates"}
    heads = {row[0]: row[1] for row in find("olsson-universality").tables(fewer)[0].rows}
    assert heads["2L, repeats"] == "0 2"


def test_few_looks_are_too_few_to_see_a_change_in() -> None:
    assert verdicts("olsson-smoke", smoke().isel(tokens=[0, 30, 100]))["the change"] == (
        "too few networks"
    )
    few = phases().isel(checkpoint=[0, 5, 10, 20, 50])
    assert verdicts("olsson-phase-change", few)["few snapshots: heads in it"] == (
        "too few networks"
    )


def test_what_is_timed_by_a_network_that_does_not_change_is_not_timed() -> None:
    free = at("score", score(["1L"])[0], clamp="none")(clamped())
    assert set(verdicts("olsson-clamped", free).values()) == {"too few networks"}


# --- figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "some",
    [lambda d: d, one_seed, quick, lambda d: still(d, 0.003)],
    ids=["all", "one seed", "quick", "still"],
)
@pytest.mark.parametrize("name", GOOD)
def test_figures_and_tables_are_drawn(name: str, some: Change) -> None:
    experiment, results = find(name), some(GOOD[name]())
    figure = experiment.draw(results)
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    for table in experiment.tables(results):
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows)


# --- trainings ----------------------------------------------------------------------------------


def test_quick_trains_two_depths_with_and_without_smeared_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, Options]] = []
    monkeypatch.setattr(
        running, "run", lambda chosen, options, how: asked.append((chosen, options))
    )
    assert main(["run", "olsson-phase-change", "--quick"]) == 0
    ((chosen, options),) = asked
    studies = [training.study(options, {}) for training in trainings_of(chosen)]
    assert [
        (run.config.layers, run.config.smeared_keys, run.config.mlp_ratio, run.names["init"])
        for study in studies
        for run in study.runs
    ] == [(1, False, None, 5), (2, False, None, 5), (1, True, None, 5), (2, True, None, 5)]


def test_all_trains_one_to_six_layers() -> None:
    study = olsson.depths(Options(seeds=3), {})
    assert [*study.axes["layers"]] == [1, 2, 3, 4, 5, 6]
    assert [*study.axes["mlp_ratio"]] == [None, 4.0]
    assert len(study.runs) == 36


# Thirty programs that train and a hundred that measure: compiled without most optimisations, each
# for one network on one device, and run on a few sequences.
FAST = {**QUICK, "xla_cpu_use_fusion_emitters": False}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything trained for next to nothing, measured and drawn."""
    folder = tmp_path_factory.mktemp("olsson")
    file = folder / "text.txt"
    file.write_text("It was the best of times, it was the worst of times. " * 200)
    device, starter = jax.local_devices()[:1], programs.starter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: device)
        for module in (chunk, measuring):
            patch.setattr(module, "compiler_options", lambda platform, tokens: FAST)
        patch.setattr(programs, "starter", lambda *of: jax.jit(starter(*of), compiler_options=FAST))
        patch.setattr(ih, "language", functools.partial(ih.language, evaluation_sequences=4))
        for module, name in (
            (models, "EXAMPLES"),
            (models, "LOOKED_AT"),
            (ablations, "QUICK_EXAMPLES"),
            (behaviours, "SEQUENCES"),
            (phase_change, "QUICK_BY_INDEX"),
        ):
            patch.setattr(module, name, 4)
        options = Options(
            seeds=1, quick=True, scale=0.001, text={"corpus": str(file), "tokenizer": "bytes"}
        )
        how = running.How(out=folder, progress=False, console=Console(quiet=True), width=1)
        running.run(choose("olsson"), options, how)
    return folder


def test_all_claims_stand_in_one_table(smallest: Path) -> None:
    text = (smallest / "README.md").read_text()
    for name in OLSSON:
        assert f"[{name}]({name}/README.md)" in text
        assert f"| {find(name).claims[-1].name} |" in text


@pytest.mark.parametrize("name", OLSSON)
def test_the_smallest_version_runs_to_its_end(smallest: Path, name: str) -> None:
    folder = smallest / name
    for file in ("README.md", "figure.png", "figure.svg", "results.nc", "card.json"):
        assert (folder / file).stat().st_size > 0
    assert (folder / "results.nc").stat().st_size < 2e6
    written = (folder / "README.md").read_text()
    for claim in find(name).claims:
        assert claim.name in written


@pytest.mark.parametrize("name", OLSSON)
def test_made_up_results_have_the_shapes_of_measured_ones(smallest: Path, name: str) -> None:
    made = GOOD[name]()
    with xr.open_dataset(smallest / name / "results.nc") as measured:
        assert {n: v.dims for n, v in measured.items()} == {n: v.dims for n, v in made.items()}
        for dim in ("language", "pair", "clamp", "input", "reference", "after", "back"):
            if dim in made.dims:
                assert measured[dim].values.tolist() == made[dim].values.tolist()
        for dim in ("repeat", "offset_back", "index", "component"):
            assert measured.sizes.get(dim) == made.sizes.get(dim)
