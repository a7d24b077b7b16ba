"""Results of every experiment of Olsson et al. in which all claims are so, made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ih_jax.experiments.olsson2022 import models, phase_change

INITS = [5, 6, 7, 8, 9]  # five that agree decide
EVERY = ("1L", "2L", "3L", "1L MLP", "2L MLP", "1L smeared", "2L smeared")
DEEPER = ("6L", "4L MLP", "6L MLP")  # of which the paper's curiosities are told
REMOVED = (*EVERY, *DEEPER)
FOUR = ("1L", "2L", "1L smeared", "2L smeared")
DEEP = ["2L", "3L", "2L MLP"]
TOKENS = np.arange(0, 8_000_001, 80_000)
KEPT = TOKENS[::2]
SPARSE = KEPT[::-1][::4][::-1]
LAYERS, HEADS = 3, 4
LENT_THEN_DENIED = "lent to 2000, then denied"

# The middle of each model's change; those of one layer have none. A second language, the same.
MIDDLE = {
    "2L": 1.6e6,
    "3L": 1.4e6,
    "2L MLP": 1.5e6,
    **dict.fromkeys(DEEPER, 1.4e6),
    "1L smeared": 1.0e6,
    "2L smeared": 0.9e6,
    "2L, repeats": 1.6e6,
}
# (layer, head) in the first seed; in the next it is the next head.
INDUCTION = {
    "2L": [(1, 0), (1, 2)],
    "3L": [(2, 0), (2, 1), (1, 3)],
    "2L MLP": [(1, 1), (1, 2)],
    "6L": [(5, 0), (5, 1), (4, 2)],
    "4L MLP": [(3, 0), (3, 1), (2, 2)],
    "6L MLP": [(5, 0), (5, 1), (4, 2)],
    "1L smeared": [(0, 0), (0, 2)],
    "2L smeared": [(1, 3), (1, 0), (0, 1)],
    "2L, repeats": [(1, 0), (1, 2)],
}
PREVIOUS = {"2L": (0, 1), "3L": (0, 2), "2L MLP": (0, 3), "2L, repeats": (0, 1)}
PREVIOUS |= dict.fromkeys(DEEPER, (0, 0))


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
    """Previous-token heads count for nothing where patterns are kept."""

    def of(*strengths: float, previous: float, other: float) -> np.ndarray:
        return heads(strengths, previous, other, REMOVED, 6)

    effect = of(0.4, 0.2, 0.15, previous=0.02, other=-0.01)
    effect[REMOVED.index("6L"), :, 1, 3] = 0.12  # matters and is no induction head
    flat = REMOVED.index("4L MLP")
    effect[flat, :, 2:4] = np.where(effect[flat, :, 2:4] > 0, 0.2, -0.01)
    lone = effect[REMOVED.index("6L MLP")]
    lone[lone == 0.15] = -0.05
    full = effect + np.where(effect == 0.02, 0.5, 0.0)
    projection = of(-3.0, -2.0, -1.0, previous=-0.5, other=0.05)
    projection[[name not in MIDDLE for name in REMOVED]] = np.nan
    changes = np.array([name in MIDDLE for name in REMOVED])[:, None] * np.ones(len(INITS))
    return xr.Dataset(
        {
            "curve": (CURVE, score(REMOVED)),
            "score": (AT_LOOKS, grown(effect, REMOVED, SPARSE, 0.05)),
            "loss": (AT_LOOKS, grown(effect / 3, REMOVED, SPARSE)),
            "projection": (AT_LOOKS, grown(projection, REMOVED, SPARSE)),
            "full_score": (HEAD, full),
            "previous_token": (HEAD, looking_back(REMOVED, 6)),
            "prefix_matching": (HEAD, matching(REMOVED, 6)),
            "whole": (CURVE[:2], score(REMOVED)[..., -1]),
            "joint_patterns": (CURVE[:2], 0.7 * changes),
            "joint_full": (CURVE[:2], 0.75 * changes),
        },
        along(REMOVED, checkpoint=SPARSE),
    )


def scores_of_heads(names: Sequence[str] = EVERY, layers: int = LAYERS) -> dict[str, np.ndarray]:
    """What `heads.at_the_end` tells."""
    return {
        "previous_token": looking_back(names, layers),
        "prefix_matching": matching(names, layers),
        "copying": heads([0.9, 0.8, 0.7], 0.1, 0.02, names, layers),
        "copying_logits": heads([5.0, 4.0, 3.0], 0.3, 0.1, names, layers),
        "ov": heads([0.95, 0.9, 0.85], 0.1, 0.05, names, layers),
        "trace": heads([9.0, 8.0, 7.0], 0.4, 0.1, names, layers),
        "cosine": heads([0.9, 0.8, 0.7], 0.05, 0.01, names, layers),
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


def read_of_weights() -> xr.Dataset:
    """The plain score is of previous-token heads, too, which copy nothing."""
    names, dims = ["3L"] * 3, ("width", "init", "layer", "head")
    return xr.Dataset(
        {
            "prefix_matching": (dims, matching(names)),
            "copying_logits": (dims, heads([5.0, 4.0, 3.0], 0.01, 0.1, names)),
            "ov": (dims, heads([0.3, 0.2, 0.1], 0.9, 0.05, names)),
            "ov_read": (dims, heads([0.95, 0.9, 0.85], 0.02, 0.05, names)),
        },
        {"width": [32, 48, 64], "init": INITS},
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


def of_a_mixture() -> xr.Dataset:
    """One head of layer 1 does all three; it is another one in each seed."""
    names, parts = ["2L"], ["repeats", "translations", "templates"]

    def some(*strengths: float, other: float) -> np.ndarray:
        each = heads(strengths, other, other, names, 2)[0]
        return np.stack([each] * len(parts), axis=1)

    dims, numbers = ("init", "part", "layer", "head"), np.ones((len(INITS), len(parts)))
    return xr.Dataset(
        {
            "loss": (("init", "part"), 0.3 * numbers),
            "accuracy": (("init", "part"), 0.9 * numbers),
            "removed": (dims, some(2.0, 0.5, other=0.01)),
            "attends": (dims, some(0.8, 0.4, other=0.02)),
        },
        {"init": INITS, "part": parts},
    )


def sizes(before: float = -1, after: float = 1) -> xr.Dataset:
    """The deeper, the slower (-1) or the faster (1) the loss falls, before and after the change."""
    names = (*EVERY, "6L MLP")
    deeper = np.array([int(name[0]) for name in names])[:, None, None]
    early, late = (0.05 * (4 + sign * deeper) for sign in (before, after))
    falls = early * np.log(np.minimum(TOKENS, 1.4e6) / 1e6 + 0.1)
    falls = falls + late * np.log(np.maximum(TOKENS, 1.8e6) / 1.8e6)
    made = 2.8 - falls - 0.3 * changed(names, TOKENS)
    made[-1, :, 70] += 0.5  # a spike
    return xr.Dataset(
        {
            **{
                name: (AT_LOOKS, grown(values, names, SPARSE))
                for name, values in scores_of_heads(names, 6).items()
            },
            "loss": (CURVE, made),
            "curve": (CURVE, score(names)),
        },
        along(names, checkpoint=SPARSE),
    )


def widths(before: float = -1, after: float = 1) -> xr.Dataset:
    """The wider, the slower (-1) or the faster (1) the loss falls, before and after the change."""
    wider, names = np.array([1, 2, 3])[:, None, None], ["2L"] * 3
    early, late = (0.05 * (4 + sign * wider) for sign in (before, after))
    falls = early * np.log(np.minimum(TOKENS, 1.4e6) / 1e6 + 0.1)
    falls = falls + late * np.log(np.maximum(TOKENS, 1.8e6) / 1.8e6)
    dims = ("width", "init", "tokens")
    looks = ("width", "init", "checkpoint")
    done = changed(names, KEPT)
    return xr.Dataset(
        {
            "loss": (dims, 2.8 - falls - 0.3 * changed(names, TOKENS)),
            "score": (dims, score(names)),
            "previous_token": (looks, 0.1 + 0.8 * done),
            "prefix_matching": (looks, 0.03 + 0.8 * done),
        },
        {"width": [32, 48, 64], "init": INITS, "tokens": TOKENS, "checkpoint": KEPT},
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
        "pasted spans": 1,
        "random repeats": 2,
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
    """One layer and two; without its induction heads two layers have no more than one has."""
    two = ("1L", "2L")
    best = {"prefix_matching": matching(two, 2), "previous_token": looking_back(two, 2)}
    lost = 0.75 * (best["prefix_matching"] >= models.INDUCTION)
    index = np.arange(1, 256)
    falls = changed(two, KEPT)[:, 0, :, None] * np.log(index)
    return xr.Dataset(
        {
            "loss": (CURVE, loss(two)),
            "score": (CURVE, score(two)),
            **{name: (AT_LOOKS, grown(each, two)) for name, each in best.items()},
            "without_head": (HEAD, lost),
            "without_heads": (("model", "init"), lost.max((2, 3))),
            "whole": (("model", "init"), score(two)[..., -1]),
            "index_loss": (("model", "snapshot", "index"), 3 - 0.15 * falls),
        },
        along(two, checkpoint=KEPT, snapshot=KEPT),
    )


def text_smeared() -> xr.Dataset:
    return smeared().drop_vars("own_share")


def lent() -> xr.Dataset:
    """Formed by 1 million tokens where the pattern is lent; 1.5 million after the release again."""
    released = {"none": np.nan, "lent to 2000": 4e6, "lent to 1000": 2e6, LENT_THEN_DENIED: 4e6}
    of_layers = {"prefix_matching": [], "previous_token": []}
    for clamp, release in released.items():
        held = release > KEPT
        back = 0 * KEPT if clamp in ("none", LENT_THEN_DENIED) else rise(KEPT, release + 1.5e6)
        matching = np.where(held, 0.02 + 0.53 * rise(KEPT, 1e6), 0.02 + 0.43 * back)
        previous = np.where(held, 1.0, 0.1 + 0.75 * back)
        of_layers["prefix_matching"].append([0.01 + 0 * KEPT, matching])
        of_layers["previous_token"].append([previous, 0.05 + 0 * KEPT])
    gain = rise(TOKENS, 1e6)[:, None] * np.array([0, 1, 1, 0])  # of the score
    dims = ("clamp", "init", "checkpoint", "layer")
    made = {
        name: (dims, np.stack([np.swapaxes(values, 1, 2)] * len(INITS), axis=1))
        for name, values in of_layers.items()
    }
    curve = np.stack([0.3 * gain.T] * len(INITS), axis=1)  # [clamp, init, tokens]
    return xr.Dataset(
        {
            **made,
            "score": (("clamp", "init", "tokens"), score(["1L"])[0] - curve),
            "loss": (("clamp", "init", "tokens"), 3 + np.exp(-TOKENS / 2e5) - curve),
            "released": ("clamp", list(released.values())),
        },
        {"clamp": list(released), "init": INITS, "tokens": TOKENS, "checkpoint": KEPT},
    )


GOOD: dict[str, Callable[[], xr.Dataset]] = {
    "olsson-smoke": smoke,
    "olsson-phase-change": phases,
    "olsson-smeared-keys": smeared,
    "olsson-ablations": removals,
    "olsson-heads": what_heads_do,
    "olsson-ov": read_of_weights,
    "olsson-behaviours": what_they_are_good_for,
    "olsson-mixture": of_a_mixture,
    "olsson-scaling": sizes,
    "olsson-widths": widths,
    "olsson-universality": universal,
    "olsson-clamped": clamped,
    "olsson-repeats": repeats,
    "olsson-text": text,
    "olsson-text-smeared": text_smeared,
    "olsson-lent": lambda: lent().sel(clamp=["none", "lent to 2000"]),
    "olsson-lent-otherwise": lambda: lent().sel(clamp=["lent to 1000", LENT_THEN_DENIED]),
}
