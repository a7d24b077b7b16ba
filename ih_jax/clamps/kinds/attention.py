"""Clamps of attention: what a head's pattern is, or where its scores may not go.

Singh et al. 2024, section 3 and appendix B, define the patterns; the authors' code defines edge
cases. Each kind: its rule, the class, the constructor. Rules have the program's layout: batch last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import HeldRows, Hold, Rule
from ih_jax.clamps.kind import Decision, Kind, clamp_kind
from ih_jax.clamps.place import Place
from ih_jax.clamps.scene import BLOCKED, Scene, at_labels
from ih_jax.clamps.values import head_indices, index, number, one_of
from ih_jax.data.batches import Tokens
from ih_jax.errors import UserError

ROWS: tuple[HeldRows, ...] = ("all", "label")
BASES = ("clamped", "clean")

# --- the previous token -------------------------------------------------------------------------


def _previous_token(scene: Scene, strength: Array) -> Array:
    """[H, T, T, 1]: `strength` [H, 1, 1] on the previous token, the rest on oneself; row 0 is 1."""
    T = scene.positions
    first = np.zeros((1, T, T))
    first[0, 0, 0] = 1
    others = np.eye(T)[None] - first
    pattern = strength * np.eye(T, k=-1)[None] + (1 - strength) * others + first
    return pattern[..., None]


_PREVIOUS = {r: Rule(f"previous_token[{r}]", _previous_token, rows=r, order=40) for r in ROWS}


@clamp_kind("previous_token")
@dataclass(frozen=True)
class PreviousToken(Kind):
    """See `previous_token`."""

    layer: int
    heads: tuple[int, ...]
    strength: float = 1.0
    rows: HeldRows = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("rows", self.rows, ROWS)

    def decides(self) -> Iterable[Decision]:
        for head in self.heads:
            yield Decision("previous", self.layer, head, self.rows)
            yield Decision("pattern", self.layer, head, self.rows)

    def holds(self, place: Place) -> Iterable[Hold]:
        if self.rows == "label":
            place.few_shot_only()
        rule, strength = _PREVIOUS[self.rows], {"strength": self.strength}
        yield place.hold("pattern", self.layer, rule, heads=self.heads, per_head=strength)


def previous_token(
    layer: int, heads: int | Sequence[int], strength: float = 1.0, rows: str = "all"
) -> Clamp:
    """The pattern attends to the previous token with `strength`, to itself with the rest.

    Row 0 attends to itself. rows="label" clamps the rows of label tokens only.
    """
    return Clamp.of(PreviousToken(layer, head_indices(heads), strength, cast(HeldRows, rows)))


def _query_rows(scene: Scene, mask: np.ndarray) -> Array:
    """[1, Tq, T, 1]: the rows of a [T, T] mask that stand in the scene's value."""
    return jnp.asarray(mask[-scene.value.shape[1] :])[None, ..., None]


def _no_previous_token(scene: Scene) -> Array:
    return jnp.where(_query_rows(scene, np.eye(scene.positions, k=-1) > 0), BLOCKED, scene.value)


_BLOCKED = {r: Rule(f"no_previous_token[{r}]", _no_previous_token, rows=r, order=41) for r in ROWS}


@clamp_kind("no_previous_token")
@dataclass(frozen=True)
class NoPreviousToken(Kind):
    """See `no_previous_token`."""

    layer: int
    heads: tuple[int, ...]
    rows: HeldRows = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("rows", self.rows, ROWS)

    def decides(self) -> Iterable[Decision]:
        # Under a pattern that is held, blocking the same attention would do nothing.
        return [Decision("previous", self.layer, head, self.rows) for head in self.heads]

    def holds(self, place: Place) -> Iterable[Hold]:
        if self.rows == "label":
            place.few_shot_only()
        yield place.hold("attn_scores", self.layer, _BLOCKED[self.rows], heads=self.heads)


def no_previous_token(layer: int, heads: int | Sequence[int], rows: str = "all") -> Clamp:
    """The heads cannot attend to the previous token (score -1e9; rows="label": from labels)."""
    return Clamp.of(NoPreviousToken(layer, head_indices(heads), cast(HeldRows, rows)))


# --- matching -----------------------------------------------------------------------------------


def _induction(scene: Scene, strength: Array, normalise: Array) -> Array:
    """[H, 1, T, B]: the query's row, by labels equal to the target. `normalise` is 0 or 1."""
    correct = (scene.labels[:-1] == scene.labels[-1:])[None, None]  # [1, 1, P - 1, B]
    s = strength[..., None]  # [H, 1, 1, 1]
    each = jnp.where(correct, s, 1 - s)
    right, wrong = (jnp.sum(side, axis=2, keepdims=True) for side in (correct, ~correct))
    # A side that is empty leaves its share to the other: the row sums to 1 all the same.
    share = jnp.where(correct, jnp.where(wrong > 0, s, 1.0), jnp.where(right > 0, 1 - s, 1.0))
    shared = share / jnp.where(correct, right, wrong)
    return at_labels(jnp.where(normalise[..., None] > 0, shared, each))


def _induction_of_tokens(scene: Scene, strength: Array) -> Array:
    """[H, T, T, B]: `strength` shared over the tokens that followed earlier occurrences.

    The rest, and rows of tokens that did not occur before, go to the first token (BOS), where
    induction heads of language models rest. `strength` is [H, 1, 1].
    """
    assert isinstance(scene.batch, Tokens)
    tokens = scene.batch.tokens.T  # [T, B]
    T = len(tokens)
    before = jnp.concatenate([jnp.full_like(tokens[:1], -1), tokens[:-1]])
    # Key k followed an occurrence of the query's token, at k - 1 < q.
    followed = (tokens[:, None] == before[None]) & np.tril(np.ones((T, T), bool))[..., None]
    count = followed.sum(1, keepdims=True)
    share = strength[..., None] * followed[None] / jnp.maximum(count, 1)[None]  # [H, T, T, B]
    first = (np.arange(T) == 0)[None, None, :, None]
    return share + first * (1 - share.sum(2, keepdims=True))


_INDUCTION = Rule("induction", _induction, rows="query", order=50)
_INDUCTION_OF_TOKENS = Rule("induction[tokens]", _induction_of_tokens, order=50)


@clamp_kind("induction")
@dataclass(frozen=True)
class Induction(Kind):
    """See `induction`."""

    layer: int
    heads: tuple[int, ...]
    strength: float = 1.0
    normalise: bool = False

    def decides(self) -> Iterable[Decision]:
        return [Decision("pattern", self.layer, head, "query") for head in self.heads]

    def holds(self, place: Place) -> Iterable[Hold]:
        rule, numbers = _INDUCTION_OF_TOKENS, {"strength": self.strength}
        if not place.config.language:
            rule, numbers = _INDUCTION, numbers | {"normalise": self.normalise}
        yield place.hold("pattern", self.layer, rule, heads=self.heads, per_head=numbers)


def induction(
    layer: int, heads: int | Sequence[int], strength: float = 1.0, normalise: bool = False
) -> Clamp:
    """The query attends with `strength` to each label token that carries the target label.

    Each other label token gets 1 - `strength`. With two pairs in context that sums to 1, as in the
    paper (its "induction strength" axis is 2 * strength - 1); with more, `normalise=True` shares
    `strength` among the right tokens and the rest among the others.

    In a language model every token attends: with `strength`, in equal shares, to the tokens that
    followed its earlier occurrences, and with the rest to the first token (BOS), which a token that
    did not occur before gets whole (Olsson et al. 2022, "prefix matching").
    """
    return Clamp.of(Induction(layer, head_indices(heads), strength, normalise))


def _match_by_similarity(scene: Scene, temperature: Array) -> Array:
    """[H, 1, T, B]: the query's row, softmax of cosine similarities of raw exemplars; 0 is max."""
    batch = scene.few_shot
    size = jnp.linalg.norm(batch.table, axis=-1, keepdims=True)
    unit = batch.table / jnp.where(size > 0, size, 1.0)
    if batch.rows is None:
        each = unit.reshape(*batch.labels.shape, unit.shape[-1])
        similarity = jnp.einsum("bpf,bf->pb", each[:, :-1], each[:, -1])
    else:
        gram = unit @ unit.T
        similarity = gram[batch.rows[:, :-1], batch.rows[:, -1:]].T
    similarity = similarity[None, None]  # [1, 1, P - 1, B]
    best = similarity == similarity.max(2, keepdims=True)
    t = temperature[..., None]
    soft = jax.nn.softmax(similarity / jnp.where(t > 0, t, 1.0), axis=-2)
    return at_labels(jnp.where(t > 0, soft, best / best.sum(2, keepdims=True)))


_MATCH = Rule("match_by_similarity", _match_by_similarity, rows="query", order=55)


@clamp_kind("match_by_similarity")
@dataclass(frozen=True)
class MatchBySimilarity(Kind):
    """See `match_by_similarity`."""

    reads_pairs = True

    layer: int
    heads: tuple[int, ...]
    temperature: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0:
            raise UserError(
                f"match_by_similarity: temperature is {self.temperature}: give 0 or more"
            )

    def decides(self) -> Iterable[Decision]:
        return [Decision("pattern", self.layer, head, "query") for head in self.heads]

    def holds(self, place: Place) -> Iterable[Hold]:
        place.few_shot_only()
        numbers = {"temperature": self.temperature}
        yield place.hold("pattern", self.layer, _MATCH, heads=self.heads, per_head=numbers)


def match_by_similarity(layer: int, heads: int | Sequence[int], temperature: float = 0.0) -> Clamp:
    """The query attends to labels by cosine similarity of raw exemplars (appendix B).

    Temperature 0 takes the most similar one; equal ones share the attention.
    """
    return Clamp.of(MatchBySimilarity(layer, head_indices(heads), temperature))


# --- scores -------------------------------------------------------------------------------------


def _labels_only(scene: Scene) -> Array:
    T = scene.positions
    labels = np.broadcast_to(np.arange(T) % 2 == 1, (T, T))
    return jnp.where(_query_rows(scene, labels), scene.value, BLOCKED)


_LABELS_ONLY = Rule("labels_only", _labels_only, rows="query", order=42)


@clamp_kind("labels_only")
@dataclass(frozen=True)
class LabelsOnly(Kind):
    """See `labels_only`."""

    reads_pairs = True

    layer: int
    heads: tuple[int, ...]

    def decides(self) -> Iterable[Decision]:
        return [Decision("labels_only", self.layer, head, "query") for head in self.heads]

    def holds(self, place: Place) -> Iterable[Hold]:
        place.few_shot_only()
        yield place.hold("attn_scores", self.layer, _LABELS_ONLY, heads=self.heads)


def labels_only(layer: int, heads: int | Sequence[int]) -> Clamp:
    """The query attends to label tokens only (score -1e9 elsewhere)."""
    return Clamp.of(LabelsOnly(layer, head_indices(heads)))


@cache
def _temperature(base: str) -> Rule:
    """Attention scores divided by t [H, 1, 1]; with base "clean", of all heads of the layer."""

    def divide(scene: Scene, t: Array) -> Array:
        clean = base == "clean"
        scores = scene.source(base)["attn_scores"][scene.layer] if clean else scene.value
        return scores / t[..., None]

    return Rule(f"temperature[{base}]", divide, order=40, needs_given=base == "clean")


@clamp_kind("temperature")
@dataclass(frozen=True)
class Temperature(Kind):
    """See `temperature`."""

    layer: int
    temperatures: tuple[tuple[int, float], ...]  # (head, temperature), in order
    base: str = "clamped"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("base", self.base, BASES)
        try:
            pairs = dict(self.temperatures)
        except (TypeError, ValueError):
            pairs = {}
        each = [(index("head", h), number("temperature", t)) for h, t in pairs.items()]
        if not each or min(t for _, t in each) <= 0:
            given = pairs or self.temperatures
            raise UserError(f"temperature: {given!r}: give {{head: temperature > 0}}")
        self._keep(temperatures=tuple(sorted(each)))

    def decides(self) -> Iterable[Decision]:
        # A clean pass gives the scores of all heads, so two of them cannot both be had.
        heads = [None] if self.base == "clean" else [head for head, _ in self.temperatures]
        return [Decision("attn_scores", self.layer, head) for head in heads]

    def holds(self, place: Place) -> Iterable[Hold]:
        temperatures = dict(self.temperatures)
        t = {"t": place.by_head(temperatures, "attn_scores", other=1.0)}
        heads = list(range(place.config.heads)) if self.base == "clean" else list(temperatures)
        rule = _temperature(self.base)
        yield place.hold("attn_scores", self.layer, rule, heads=heads, arguments=t)

    def describe(self) -> str:
        base = "" if self.base == "clamped" else f", base={self.base!r}"
        return f"temperature({self.layer}, {dict(self.temperatures)}{base})"


def temperature(layer: int, temperatures: Mapping[int, float], base: str = "clamped") -> Clamp:
    """Attention scores divided by a temperature for each head named.

    base="clean" takes the scores of *all* heads of the layer from a pass without any clamp, as the
    authors' code does.
    """
    if not isinstance(temperatures, Mapping):
        raise UserError(f"temperature: {temperatures!r}: give {{head: temperature > 0}}")
    return Clamp.of(Temperature(layer, tuple(temperatures.items()), base))
