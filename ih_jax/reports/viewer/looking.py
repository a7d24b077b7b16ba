"""What the page shows of one network: a measure that gives everything in one forward pass.

Each `Look` is a measure, `look(params, clamp, probe)`, of one kind of task. Its scores are
what the functions of `measures` give on the same probe; patterns are rounded to 1 / 254 on the way.

Glossary: N sequences of the probe, K of them shown, T tokens, L layers, H heads, C logits;
P = T (T + 1) / 2 pairs of a query and a key that is not after it, row by row; R pairs of layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch, Tokens
from ih_jax.measures import circuits, context, heads
from ih_jax.model.layers import EPSILON
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import Sites
from ih_jax.tasks.base import Task
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.fewshot_scores import masked_logits
from ih_jax.tasks.language import Language, token_losses

Kind = Literal["fewshot", "language", "other"]

LEVELS = 254  # of attention: codes 0 to 254 stand for 0 to 1
TOP = 3  # tokens that a language model ranks highest
# Sequences of a network's own evaluation set that scores are means over.
PROBE: dict[Kind, int] = {"fewshot": 512, "language": 64, "other": 64}
INDUCTION = 0.5  # of its score, from which on a head counts as an induction head


@dataclass(frozen=True)
class Score:
    """A number for each head, and what the page says about it."""

    key: str
    name: str
    low: float  # the range of its colours
    high: float
    about: str
    source: str  # the measure


SCORES: dict[Kind, tuple[Score, ...]] = {
    "fewshot": (
        Score(
            "induction",
            "induction strength",
            -1,
            1,
            "the query's attention to right labels less that to wrong ones",
            "measures.heads.induction_strength",
        ),
        Score(
            "previous",
            "previous token",
            0,
            1,
            "attention of label tokens to the exemplar just before them",
            "measures.heads.previous_token_strength",
        ),
        Score(
            "copying",
            "label copying",
            -1,
            1,
            "eigenvalues of the path from labels through the head to logits: 1 copies, -1 inverts",
            "measures.circuits.copying_eigenvalues",
        ),
    ),
    "language": (
        Score(
            "induction",
            "prefix matching",
            0,
            1,
            "attention to what followed earlier occurrences of the current token, on random "
            "tokens repeated",
            "measures.heads.prefix_matching",
        ),
        Score(
            "previous",
            "previous token",
            0,
            1,
            "attention to the token just before",
            "measures.heads.previous_token_score",
        ),
        Score(
            "copying",
            "copying",
            -1,
            1,
            "whether a head raises the logits of what it attends to, on random tokens",
            "measures.heads.copying",
        ),
    ),
    "other": (
        Score(
            "previous",
            "previous token",
            0,
            1,
            "attention to the token just before",
            "measures.heads.previous_token_attention",
        ),
    ),
}
COMPOSITION: dict[Kind, str] = {
    "fewshot": "measures.circuits.composition",
    "language": "measures.circuits.qkv_composition",
    "other": "measures.circuits.composition",
}

Look = Callable[[Params, Holds, Any], dict[str, Array]]


def kind_of(task: Task) -> Kind:
    """Which kind of view a task gets."""
    if isinstance(task, FewShot):
        return "fewshot"
    return "language" if isinstance(task, Language) else "other"


def layer_pairs(layers: int) -> list[tuple[int, int]]:
    """The pairs of layers between which heads can compose, earlier first."""
    return list(combinations(range(layers), 2))


def losses(kind: Kind) -> Callable[[Params, Holds, Any, Array], dict[str, Array]]:
    """A measure: {"loss": [N], "right": [N]}, of each sequence of the probe.

    Few-shot: the query's, among the labels that the run uses, the measure's fourth argument.
    Language: the mean over tokens, and the share predicted correctly. Other tasks: neither is
    known.
    """

    def look(params: Params, clamp: Holds, probe: Any, labels: Array) -> dict[str, Array]:
        if kind == "fewshot":
            logits = masked_logits(forward(params, probe, clamp, "query"), labels)  # [C, N]
            target = probe.labels[:, -1]
            log_p = jax.nn.log_softmax(logits, axis=0)
            loss = -jnp.take_along_axis(log_p, target[None], axis=0)[0]
            return {"loss": loss, "right": (logits.argmax(0) == target).astype(jnp.float32)}
        if kind == "language":
            sites = forward(params, probe, clamp)
            said = sites["logits"][0][:, :-1].argmax(0) == probe.tokens.T[1:]
            return {"loss": token_losses(sites, probe).mean(0), "right": said.mean(0)}
        return {"loss": jnp.zeros(1), "right": jnp.zeros(1)}

    return look


def everything(kind: Kind, shown: tuple[int, ...]) -> Look:
    """A measure: all that the page shows of a network.

    Args:
        kind: of its task.
        shown: which sequences of the probe, K of them, are shown one by one.

    Gives `pattern` [K, L, H, P] uint8; `score_<key>` [L, H]; `wiring` [R, 3, H, H], composition by
    Q, K and V; few-shot: `logits` [K, T, C] and `added` [K, L, H, C], what each head adds to the
    query's; language: `loss` [K, T - 1], `said` [K, T - 1, 3] with probabilities `said_p`,
    `added` [K, T - 1, L, H] to the logit of the token that follows, less the mean over all tokens,
    and `loss_by_token` [T - 1]; other tasks: `logits` [K, T, C] where there are some.

    The sequences themselves: few-shot `of_labels`, `of_classes`, `of_rows` [K, exemplars], rows of
    the table of exemplars (-1: each its own); language `of_tokens` [K, T]; other `of_length`, T.
    """
    at = np.asarray(shown, np.int32)

    def look(params: Params, clamp: Holds, probe: Any) -> dict[str, Array]:
        sites = forward(params, probe, clamp)
        found = {
            "pattern": _patterns(sites, at),
            **_scores(kind, params, clamp, probe, sites),
            **_shown(probe, at),
        }
        if params.config.layers > 1:
            found["wiring"] = _wiring(kind, params, clamp, probe)
        logits = sites["logits"][0][..., at]  # [C, T, K]
        if kind == "language":
            few = Tokens(probe.tokens[at])
            here: Sites = {**sites, "logits": [logits]}
            losses = token_losses(here, few)  # [T - 1, K]
            log_p = jax.nn.log_softmax(logits[:, :-1].transpose(2, 1, 0), axis=-1)
            top, said = jax.lax.top_k(log_p, min(TOP, params.config.labels))
            found |= {
                "loss": losses.T,
                "said": said.astype(jnp.int32),
                "said_p": jnp.exp(top),
                "added": added_to_next(params, sites, few, at),
                "loss_by_token": context.loss_by_token(params, clamp, probe),
            }
        else:
            found["logits"] = logits.transpose(2, 1, 0)
        if kind == "fewshot":
            found["added"] = added_to_query(params, sites, at)
        return found

    return look


def _shown(probe: Any, at: np.ndarray) -> dict[str, Array]:
    """The sequences shown, as numbers: see `everything`."""
    if isinstance(probe, Tokens):
        return {"of_tokens": probe.tokens[at]}
    if isinstance(probe, Batch):
        none = jnp.full_like(probe.labels, -1)
        rows = none if probe.rows is None else probe.rows
        classes = none if probe.classes is None else probe.classes
        return {
            "of_labels": probe.labels[at],
            "of_classes": classes[at],
            "of_rows": rows[at],
        }
    return {"of_length": jnp.asarray(probe.positions)}


def lower_triangle(T: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys of the P pairs, row by row: key 0 to q of query q."""
    return np.tril_indices(T)


def _patterns(sites: Sites, at: np.ndarray) -> Array:
    """[K, L, H, P] uint8."""
    every = jnp.stack([pattern[..., at] for pattern in sites["pattern"]])  # [L, H, T, T, K]
    q, k = lower_triangle(every.shape[2])
    codes = jnp.round(jnp.clip(every[:, :, q, k], 0.0, 1.0) * LEVELS)
    return jnp.moveaxis(codes, -1, 0).astype(jnp.uint8)


def label_copying(params: Params, clamp: Holds, probe: Batch) -> Array:
    """A measure: [L, H], -1 to 1, `circuits.copying_eigenvalues` from labels to their logits."""
    del clamp, probe
    assert params.W_L is not None
    layers = [block.attention for block in params.blocks]
    each = [
        circuits.copying_eigenvalues(params.W_L, one.W_V, one.W_O, params.W_U) for one in layers
    ]
    return jnp.stack(each)


def _scores(kind: Kind, params: Params, clamp: Holds, probe: Any, sites: Sites) -> dict[str, Array]:
    if kind == "fewshot":
        last = heads.induction_strength(params, clamp, probe)
        unknown = jnp.full((params.config.layers - 1, params.config.heads), jnp.nan)
        return {
            "score_induction": jnp.concatenate([unknown, last[None]]),
            "score_previous": heads.previous_token_strength(params, clamp, probe),
            "score_copying": label_copying(params, clamp, probe),
        }
    if kind == "language":
        return {
            "score_induction": heads.prefix_matching()(params, clamp, probe),
            "score_previous": heads.previous_token_score(params, clamp, probe),
            "score_copying": heads.copying()(params, clamp, probe)["score"],
        }
    patterns = [jnp.moveaxis(each, -1, 0) for each in sites["pattern"]]
    return {"score_previous": jnp.stack([heads.previous_token_attention(p) for p in patterns])}


def _wiring(kind: Kind, params: Params, clamp: Holds, probe: Any) -> Array:
    """[R, 3, H, H]: earlier head by later head, through Q, K and V."""
    pairs = layer_pairs(params.config.layers)
    if kind == "language":
        every = circuits.qkv_composition(params)
        return jnp.stack(
            [jnp.stack([every[i][a, :, b] for i in circuits.INPUTS]) for a, b in pairs]
        )
    each = [circuits.composition(a, b)(params, clamp, probe) for a, b in pairs]
    return jnp.stack([jnp.stack([one[i] for i in circuits.INPUTS]) for one in each])


# --- what each head adds to the logits ----------------------------------------------------------


def added_to_query(params: Params, sites: Sites, at: np.ndarray) -> Array:
    """[K, L, H, C]: what each head's output adds to the query's logits, the last norm held fixed.

    The final norm divides by a deviation that all parts of the stream share; with that deviation
    given, logits are linear in the stream, and this is a head's part of them. What is left
    (embeddings, MLPs, biases) is the logits less the sum over heads.
    """
    spread = _deviation(params.config, sites["resid_post"][-1][:, -1, at])  # [K]
    reads = _reads(params, params.W_U.T)  # [D, C]
    each = []
    for block, z in zip(params.blocks, sites["z"], strict=True):
        out = jnp.einsum("hek,hed,dc->khc", z[:, :, -1, at], block.attention.W_O, reads)
        each.append(out / spread[:, None, None])
    return jnp.stack(each, axis=1)


def added_to_next(params: Params, sites: Sites, few: Tokens, at: np.ndarray) -> Array:
    """[K, T - 1, L, H]: as `added_to_query`, to the logit of the token that follows.

    Less the mean over all tokens, since what is added to all of them changes no probability.
    """
    spread = _deviation(params.config, sites["resid_post"][-1][:, :-1, at])  # [T - 1, K]
    rows = (params.W_U - params.W_U.mean(0)[None])[few.tokens.T[1:]]  # [T - 1, K, D]
    reads = _reads(params, jnp.moveaxis(rows, -1, 0))  # [D, T - 1, K]
    each = []
    for block, z in zip(params.blocks, sites["z"], strict=True):
        met = jnp.einsum("hed,dtk->hetk", block.attention.W_O, reads)
        each.append(jnp.sum(z[:, :, :-1, at] * met, axis=1) / spread[None])  # [H, T - 1, K]
    return jnp.stack(each).transpose(3, 2, 0, 1)


def _reads(params: Params, rows: Array) -> Array:
    """[D, ...]: what the unembedding `rows` [D, ...] read of the stream before the last norm."""
    if params.norm is None:
        return rows
    scaled = params.norm.scale.reshape(-1, *[1] * (rows.ndim - 1)) * rows
    return scaled - scaled.mean(0)[None]


def _deviation(config: Config, stream: Array) -> Array:
    """[...] of a stream [D, ...]: what the last norm divides by."""
    if not config.norm:
        return jnp.ones(stream.shape[1:])
    return jnp.sqrt(stream.var(0) + EPSILON)
