"""The built-in rules: what value a clamp gives at its site.

Each is a function of a `Scene` and of arrays, in the program's layout (`ih_jax.model.sites`): batch
last. Singh et al. 2024, section 3 and appendix B, define the patterns; table A0.4 of the authors'
code defines edge cases. A user's own rule is written for one sequence in the public layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.holds import Rule
from ih_jax.data.batches import Sequences, Tokens
from ih_jax.errors import UserError
from ih_jax.model.activations import Activations
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import PAIRED_SITES, Sites, to_program

BLOCKED = -1e9  # a score that softmax turns into 0 while whole blocked rows stay finite


@dataclass
class Scene:
    """What a rule may look at: the batch, the sites computed so far and finished passes."""

    batch: Sequences
    config: Config
    layer: int
    site: str
    value: Array  # what stands at the site now
    sites: Sites
    given: Sites | None  # the clean pass, where a rule asks for it
    donor: Callable[[Params], Sites]  # a pass of another network over the same batch
    public: Callable[[], tuple[Activations, tuple[int, ...]]] = field(repr=False)
    # `Activations` so far, batch first, and the site's public shape without the batch

    @property
    def labels(self) -> Array:
        """[P, B] int32, the target last; few-shot only."""
        assert not isinstance(self.batch, Tokens), "a language batch has no labels"
        return self.batch.labels.T

    @property
    def halves(self) -> int:
        """R of the layouts in `ih_jax.model.sites`, at sites that have it."""
        return self.value.shape[0] if self.site in PAIRED_SITES else 1

    @property
    def positions(self) -> int:
        """T, of the whole sequence."""
        return self.batch.positions


def _at_labels(weights: Array) -> Array:
    """[..., T, B] that has weights [..., P - 1, B] at label positions and 0 elsewhere."""
    pairs = jnp.stack([jnp.zeros_like(weights), weights], axis=-2)
    flat = pairs.reshape(*weights.shape[:-2], 2 * weights.shape[-2], weights.shape[-1])
    return jnp.pad(flat, [(0, 0)] * (flat.ndim - 2) + [(0, 1), (0, 0)])


def _query_rows(scene: Scene, mask: np.ndarray) -> Array:
    """[1, Tq, T, 1]: the rows of a [T, T] mask that stand in the scene's value."""
    return jnp.asarray(mask[-scene.value.shape[1] :])[None, ..., None]


def _zeros(scene: Scene) -> Array:
    return jnp.zeros((1,) * scene.value.ndim)


def _previous_token(scene: Scene, strength: Array) -> Array:
    """[H, T, T, 1]: `strength` [H, 1, 1] on the previous token, the rest on oneself; row 0 is 1."""
    T = scene.positions
    first = np.zeros((1, T, T))
    first[0, 0, 0] = 1
    others = np.eye(T)[None] - first
    pattern = strength * np.eye(T, k=-1)[None] + (1 - strength) * others + first
    return pattern[..., None]


def _induction(scene: Scene, strength: Array, normalise: Array) -> Array:
    """[H, 1, T, B]: the query's row, by labels equal to the target. `normalise` is 0 or 1."""
    correct = (scene.labels[:-1] == scene.labels[-1:])[None, None]  # [1, 1, P - 1, B]
    s = strength[..., None]  # [H, 1, 1, 1]
    each = jnp.where(correct, s, 1 - s)
    right, wrong = (jnp.sum(side, axis=2, keepdims=True) for side in (correct, ~correct))
    # A side that is empty leaves its share to the other: the row sums to 1 all the same.
    share = jnp.where(correct, jnp.where(wrong > 0, s, 1.0), jnp.where(right > 0, 1 - s, 1.0))
    shared = share / jnp.where(correct, right, wrong)
    return _at_labels(jnp.where(normalise[..., None] > 0, shared, each))


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
    share = strength[..., None] * followed / jnp.maximum(count, 1)  # [H, T, T, B]
    first = (np.arange(T) == 0)[None, None, :, None]
    return share + first * (1 - share.sum(2, keepdims=True))


def _match_by_similarity(scene: Scene, temperature: Array) -> Array:
    """[H, 1, T, B]: the query's row, softmax of cosine similarities of raw exemplars; 0 is max."""
    batch = scene.batch
    assert not isinstance(batch, Tokens)
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
    return _at_labels(jnp.where(t > 0, soft, best / best.sum(2, keepdims=True)))


def _no_previous_token(scene: Scene) -> Array:
    return jnp.where(_query_rows(scene, np.eye(scene.positions, k=-1) > 0), BLOCKED, scene.value)


def _labels_only(scene: Scene) -> Array:
    T = scene.positions
    labels = np.broadcast_to(np.arange(T) % 2 == 1, (T, T))
    return jnp.where(_query_rows(scene, labels), scene.value, BLOCKED)


def _source(scene: Scene, base: str) -> Sites:
    if base == "clamped":
        return scene.sites
    assert scene.given is not None, "a rule reads a finished pass that was not computed"
    return scene.given


def _previous_embedding(scene: Scene) -> Array:
    """[D, T, B]: positions 1 .. T - 2 hold the previous token's embedding, the others their own."""
    x = scene.sites["resid_pre"][0]
    return jnp.concatenate([x[:, :1], x[:, :-2], x[:, -1:]], axis=1)


def _graft(scene: Scene, params: Params) -> Array:
    return scene.donor(params)["resid_post"][scene.layer]


ablate = Rule("ablate", _zeros, order=90)
previous_token = {
    rows: Rule(f"previous_token[{rows}]", _previous_token, rows=rows, order=40)
    for rows in ("all", "label")
}
induction = Rule("induction", _induction, rows="query", order=50)
induction_of_tokens = Rule("induction[tokens]", _induction_of_tokens, order=50)
match_by_similarity = Rule("match_by_similarity", _match_by_similarity, rows="query", order=55)
no_previous_token = {
    rows: Rule(f"no_previous_token[{rows}]", _no_previous_token, rows=rows, order=41)
    for rows in ("all", "label")
}
labels_only = Rule("labels_only", _labels_only, rows="query", order=42)
graft = Rule("graft", _graft, order=20)
mean = Rule("mean", lambda scene: scene.value.mean(-1, keepdims=True), order=30)
# Sequences of a batch are independent draws: the neighbour's activation is a fresh one.
resample = Rule("resample", lambda scene: jnp.roll(scene.value, 1, axis=-1), order=30)
stop_gradient = Rule("stop_gradient", lambda scene: jax.lax.stop_gradient(scene.value), order=95)
perfect_input = Rule("perfect_previous_layer", _previous_embedding, order=20)
plain_input = Rule("plain_input", lambda scene: scene.sites["resid_pre"][0], order=20)
# The earlier layer's own output, where a hold put something else on the residual stream.
learned_input = Rule("learned_input", lambda s: s.sites["resid_post"][s.layer - 1], order=19)


@cache
def temperature(base: str) -> Rule:
    """Attention scores divided by t [H, 1, 1]; with base "clean", of all heads of the layer."""

    def divide(scene: Scene, t: Array) -> Array:
        clean = base == "clean"
        scores = _source(scene, base)["attn_scores"][scene.layer] if clean else scene.value
        return scores / t[..., None]

    return Rule(f"temperature[{base}]", divide, order=40, needs_given=base == "clean")


@cache
def copy_from(layer: int, base: str) -> Rule:
    """[C, 1, B] logits: the scores of one head on the labels in context, `BLOCKED` elsewhere.

    `head` [H, 1, 1] is 1 at the head. A label that stands twice gets the log-sum-exp of its scores.
    """

    def copy(scene: Scene, head: Array) -> Array:
        scores = _source(scene, base)["attn_scores"][layer][:, -1]  # [H, T, B]
        each = jnp.sum(head * scores[:, 1::2], axis=0)  # [P - 1, B]
        label = jnp.arange(scene.config.labels)[:, None, None]
        of_label = jnp.where(scene.labels[None, :-1] == label, each[None], BLOCKED)  # [C, P - 1, B]
        return jax.nn.logsumexp(of_label, axis=1)[:, None]

    given = base == "clean"
    return Rule(f"copy_from[{layer},{base}]", copy, rows="query", order=50, needs_given=given)


def _preserve(scene: Scene) -> Array:
    """A site's own value in the clean pass."""
    return _source(scene, "clean")[scene.site][scene.layer]


def _constant(scene: Scene, value: Array) -> Array:
    """The value given, in the public layout of the site."""
    return to_program(scene.site, value[..., None], scene.halves)


preserve = Rule("preserve", _preserve, order=10, needs_given=True)
constant = Rule("hold", _constant, order=60)


@cache
def public(function: Callable[..., Array], name: str, query_only: bool) -> Rule:
    """A user's rule: `function(batch, activations, **arguments) -> value`, for one sequence.

    `batch.labels` is [P], `batch.examples` [P, F] (language: `batch.tokens` [T]); `activations` has
    what was computed so far in the public layout without a batch axis; the value broadcasts to the
    site's public shape.
    """

    def run(scene: Scene, **arguments: Array) -> Array:
        activations, shape = scene.public()
        batch = scene.batch
        if isinstance(batch, Tokens):
            sequences: Sequences = batch
        else:  # one table of exemplars for all
            B, P = batch.labels.shape
            rows = jnp.arange(B * P).reshape(B, P) if batch.rows is None else batch.rows
            sequences = replace(batch, table=jnp.zeros((B, 0)), rows=rows)

        def one(sequence: Sequences, activations: Activations) -> Array:
            if not isinstance(batch, Tokens) and not isinstance(sequence, Tokens):
                sequence = replace(sequence, table=batch.table)
            value = jnp.asarray(function(sequence, activations, **arguments), jnp.float32)
            try:
                fits = np.broadcast_shapes(value.shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise UserError(
                    f"{name} gives shape {value.shape} at {scene.site} of layer {scene.layer}: "
                    f"give one that broadcasts to {shape}"
                )
            wide = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
            return jnp.broadcast_to(wide, shape)

        value = jax.vmap(one, out_axes=-1)(sequences, activations)
        return to_program(scene.site, value, scene.halves)

    return Rule(name, run, order=60, needs_all_rows=not query_only, elementwise=False)
