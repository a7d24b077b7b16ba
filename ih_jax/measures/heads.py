"""How strongly each head acts as an induction, previous-token or copying head.

Papers: Singh et al. 2024, section 3.1 and fig. 3b, for few-shot networks; Olsson et al. 2022, "Head
Activation Evaluators", for language models. Each measure is `measure(params, clamp, batch)` of one
network, for `Trajectories.measure` to map over runs and checkpoints.

Those of language models are built on functions of arrays in the public layout (batch first), which
work for any transformer whose patterns and head outputs are available.

Glossary: H heads, L layers, B sequences of T tokens (few-shot: x1 y1 x2 y2 ... xq), E d_head,
D d_model, V vocabulary; A[i, j] attention of position i to position j.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch, Tokens
from ih_jax.errors import UserError
from ih_jax.measures.base import Weights, measure
from ih_jax.measures.probes import at_once, by_pieces, random_tokens, repeated_tokens
from ih_jax.model.params import Params
from ih_jax.model.sites import to_public

SHIFTS = tuple(range(-2, 9))  # tokens after a match
BY_HEAD = ("layer", "head")


@measure(dims=("head",))
def induction_strength(params: Params, clamp: Holds, batch: Batch) -> Array:
    """[H], -1 to 1: attention of the last layer's query to right labels less that to wrong ones.

    strength_h = mean over B of A[h, query, right label tokens] - A[h, query, wrong label tokens]
    (Singh et al. 2024, section 3.1). A label is right if it is the query's.
    """

    def of(piece: Batch) -> Array:
        pattern = forward(params, piece, clamp, "query")["pattern"][-1]  # [H, 1, T, B]
        labels = pattern[:, 0, 1::2]  # attention to label tokens [H, P - 1, B]
        right = (piece.labels[:, :-1] == piece.labels[:, -1:]).T
        return jnp.sum(jnp.where(right, labels, -labels), axis=1).mean(-1)

    found: Array = by_pieces(of, batch)
    return found


@measure(dims=BY_HEAD)
def previous_token_strength(params: Params, clamp: Holds, batch: Batch) -> Array:
    """[L, H], 0 to 1: attention of label tokens to the exemplar just before them.

    Those are the rows that an induction head reads; nothing trains what other rows attend to. (The
    paper identifies previous-token heads by eye, from their patterns.)
    """
    return _to_the_previous(params, clamp, batch, slice(None))


@measure(dims=("head",), name="previous_token_strength")
def first_layer_previous_token_strength(params: Params, clamp: Holds, batch: Batch) -> Array:
    """[H], 0 to 1: `previous_token_strength` of layer 0, without computing later layers."""
    return _to_the_previous(params, clamp, batch, slice(1))[0]


def _to_the_previous(params: Params, clamp: Holds, batch: Batch, layers: slice) -> Array:
    """[layers, H] attention of label tokens to the exemplar just before them."""

    def of(piece: Batch) -> Array:
        patterns = forward(params, piece, clamp, "all")["pattern"][layers]  # each [H, T, T, B]
        T = patterns[0].shape[1]
        # Slices, so that of the query's row, which is not among them, nothing is computed.
        rows = [[x[:, t, t - 1] for t in range(1, T, 2)] for x in patterns]
        return jnp.stack([jnp.stack(labels, 1).mean((1, 2)) for labels in rows])

    found: Array = by_pieces(of, batch)
    return found


# --- functions of patterns, for any transformer -------------------------------------------------


def previous_token_attention(pattern: Float[Array, "B H T T"]) -> Float[Array, " H"]:
    """[H], 0 to 1: mean over sequences and i >= 1 of A[i, i - 1], from patterns [B, H, T, T].

    Olsson et al. 2022, "Previous token attention score".
    """
    return jnp.diagonal(pattern, -1, 2, 3).mean((0, 2))


def attention_by_offset(
    pattern: Float[Array, "B H T T"], offsets: int
) -> Float[Array, "H {offsets}"]:
    """[H, offsets], 0 to 1: mean over sequences and i >= o of A[i, i - o], for o = 0, 1, 2 ...

    Args:
        pattern: [B, H, T, T].
        offsets: how many; T at most.

    Raises:
        UserError: the sequences are too short for as many offsets.
    """
    T = pattern.shape[-1]
    if not 1 <= offsets <= T:
        raise UserError(f"{offsets} offsets in sequences of {T} tokens: give 1 to {T}")
    each = [jnp.diagonal(pattern, -o, 2, 3).mean((0, 2)) for o in range(offsets)]
    return jnp.stack(each, axis=-1)


def prefix_matching_attention(
    pattern: Float[Array, "B H T T"], tokens: Int[Array, "B T"], begin: int
) -> Float[Array, " H"]:
    """[H], 0 to 1: attention to what followed earlier occurrences of the current token.

    Mean over sequences and positions i >= begin of sum over j < i with x_j = x_i of A[i, j + 1]
    (Olsson et al. 2022, "Prefix matching score". Where its text is ambiguous, this follows its
    table of models and Bansal et al. 2023, algorithm 1: the next token, summed over all earlier
    occurrences.)

    Args:
        pattern: [B, H, T, T].
        tokens: [B, T].
        begin: the first position that counts; for repeated blocks, the start of the second one.
    """
    return attention_after_match(pattern, tokens, begin, (1,))[:, 0]


def attention_after_match(
    pattern: Float[Array, "B H T T"],
    tokens: Int[Array, "B T"],
    begin: int,
    shifts: Sequence[int] = SHIFTS,
) -> Float[Array, "H shifts"]:
    """[H, len(shifts)]: `prefix_matching_attention` with j + shift in place of j + 1.

    Shows circuits that match k > 1 tokens back: such a head attends to j + k, has a prefix-matching
    score of 0, and copies long spans as well as an induction head does. Shift 0 is attention to the
    earlier occurrences themselves. On repeated blocks, shifts a whole block apart are the same.
    """
    T = tokens.shape[1]
    if not 0 <= begin < T:
        raise UserError(f"begin is {begin}: give a position, 0 to {T - 1}")
    query, key = np.arange(T)[:, None], np.arange(T)
    found = []
    for shift in shifts:
        match = key - shift
        there = (match >= 0) & (match < query) & (key <= query) & (query >= begin)
        same = tokens[:, :, None] == tokens[:, None, np.clip(match, 0, T - 1)]
        seen = jnp.where((same & there[None])[:, None], pattern, 0.0)
        found.append(seen.sum((2, 3)).mean(0) / (T - begin))
    return jnp.stack(found, axis=-1)


def copying_ratio(
    z: Float[Array, "B T H E"],
    pattern: Float[Array, "B H T T"],
    W_O: Float[Array, "H E D"],
    W_U: Float[Array, "V D"],
    tokens: Int[Array, "B T"],
) -> Float[Array, " H"]:
    """[H], 0 to 1/2: does a head raise the tokens that it attends to, of all tokens in the sample?

    Olsson et al. 2022, "Copying score", which is 4 ratio - 1. With u[t, v] = ReLU of the logit that
    the head's output at t gives to token v, less its mean over all tokens:

        a_t = sum over s of A[t, s] u[t, x_s]       T_t = sum over the sample's tokens v of u[t, v]
        ratio = mean over sequences and t of a_t / (a_t + T_t)

    1/2: the head raises the one token that it attends to and no other token of the sample. Where it
    raises none of them, 0 / 0 counts as 0: a head that writes nothing copies nothing. The ratio
    also falls as attention spreads: a head that copies n tokens in equal parts has 1 / (n + 1), and
    random heads have about the same, a score of -.85 for 25 tokens. Whether a head lowers what it
    attends to is what `copying_logits` tells.

    Only the direct path counts: through W_U, without the final norm, the logits' bias or later
    heads.

    Args:
        z: [B, T, H, E], head outputs before W_O.
        pattern: [B, H, T, T].
        W_O: [H, E, D].
        W_U: [V, D].
        tokens: [B, T], the sample; a token that occurs twice counts once in T_t.
    """
    return copying_ratio_of(logits_of_sample(z, W_O, rows_of(W_U, tokens)), pattern, tokens)


def copying_ratio_of(
    logits: Float[Array, "B H T T"], pattern: Float[Array, "B H T T"], tokens: Int[Array, "B T"]
) -> Float[Array, " H"]:
    """`copying_ratio` of the logits [B, H, T, T] that a head's output at t gives to token x_s."""
    raised = jax.nn.relu(logits)
    attended = jnp.sum(pattern * raised, axis=-1)  # [B, H, T]
    total = jnp.sum(raised * _first(tokens)[:, None, None], axis=-1)
    both = attended + total
    ratio = attended / jnp.where(both > 0, both, 1.0)
    return ratio.mean((0, 2))


def copying_logits(
    z: Float[Array, "B T H E"],
    pattern: Float[Array, "B H T T"],
    W_O: Float[Array, "H E D"],
    W_U: Float[Array, "V D"],
    tokens: Int[Array, "B T"],
) -> Float[Array, " H"]:
    """[H]: the logit that a head gives to what it attends to, less that of the sample's tokens.

    Mean over sequences and t of sum over s of A[t, s] l[t, x_s] - mean over the sample's tokens v
    of l[t, v], where l are logits less their mean over all tokens. Above 0 for heads that copy,
    below 0 for heads that anti-copy, about 0 for random ones, however attention is spread.
    Arguments and path as in `copying_ratio`; the unit is that of logits without the final norm.
    """
    return copying_logits_of(logits_of_sample(z, W_O, rows_of(W_U, tokens)), pattern, tokens)


def copying_logits_of(
    logits: Float[Array, "B H T T"], pattern: Float[Array, "B H T T"], tokens: Int[Array, "B T"]
) -> Float[Array, " H"]:
    """`copying_logits` of the logits [B, H, T, T] that a head's output at t gives to token x_s."""
    first = _first(tokens)[:, None, None]
    attended = jnp.sum(pattern * logits, axis=-1)  # [B, H, T]
    typical = jnp.sum(logits * first, axis=-1) / jnp.sum(first, axis=-1)
    return (attended - typical).mean((0, 2))


def rows_of(W_U: Array, tokens: Array) -> Array:
    """[B, T, D]: the rows of W_U [V, D] that give logits, less their mean over V, to a sample.

    Only these are kept: V may be 50,000.
    """
    return W_U[tokens] - W_U.mean(0)[None, None]


def logits_of_sample(z: Array, W_O: Array, rows: Array) -> Array:
    """[B, H, T, T]: logit, less the mean over V, that a head's output at t gives to token x_s."""
    return jnp.einsum("bthe,hed,bsd->bhts", z, W_O, rows)


def _first(tokens: Array) -> Array:
    """[B, T]: 1 where a token occurs for the first time."""
    T = tokens.shape[1]
    before = np.tril(np.ones((T, T), bool), -1)
    seen = (tokens[:, :, None] == tokens[:, None]) & before[None]
    return 1.0 - seen.any(-1)


# --- measures of language models ----------------------------------------------------------------


@measure(dims=BY_HEAD)
def previous_token_score(params: Weights, clamp: Holds, batch: Tokens) -> Array:
    """[L, H], 0 to 1: `previous_token_attention` on the batch."""
    return _of_patterns(params, clamp, batch, previous_token_attention)


def offsets(count: int = 16) -> Callable[[Params, Holds, Tokens], Array]:
    """A measure: [L, H, count], `attention_by_offset` on the batch."""

    @measure(dims=(*BY_HEAD, "offset"), name="offsets")
    def of_network(params: Weights, clamp: Holds, batch: Tokens) -> Array:
        return _of_patterns(params, clamp, batch, lambda x: attention_by_offset(x, count))

    return of_network


def prefix_matching(
    block: int | None = None,
    times: int = 4,
    sequences: int = 10,
    seed: int = 0,
    exclude: Sequence[int] = (),
) -> Callable[[Params, Holds, Tokens], Array]:
    """A measure: [L, H], 0 to 1, `prefix_matching_attention` on `probes.repeated_tokens`.

    Only positions from the second block on count. Only the length of the batch is used, as that of
    the networks' contexts. Arguments as in `probes.repeated_tokens`.
    """
    by_shift = match_shifts((1,), block, times, sequences, seed, exclude)

    @measure(dims=BY_HEAD, name="prefix_matching")
    def of_network(params: Weights, clamp: Holds, batch: Tokens) -> Array:
        return by_shift(params, clamp, batch)[..., 0]

    return of_network


def match_shifts(
    shifts: Sequence[int] = SHIFTS,
    block: int | None = None,
    times: int = 4,
    sequences: int = 10,
    seed: int = 0,
    exclude: Sequence[int] = (),
) -> Callable[[Params, Holds, Tokens], Array]:
    """A measure: [L, H, len(shifts)], `attention_after_match`; all else as `prefix_matching`."""

    @measure(dims=(*BY_HEAD, "shift"), coords={"shift": shifts}, name="match_shifts")
    def of_network(params: Weights, clamp: Holds, batch: Tokens) -> Array:
        vocabulary, length = params.config.labels, batch.positions
        probe = repeated_tokens(vocabulary, length, block, times, sequences, seed, exclude)
        begin = 1 + (probe.positions - 1) // times
        pattern = forward(params, probe, clamp)["pattern"]
        return jnp.stack(
            [
                attention_after_match(to_public("pattern", each), probe.tokens, begin, shifts)
                for each in pattern
            ]
        )

    return of_network


def copying(
    count: int | None = None, sequences: int = 10, seed: int = 0, exclude: Sequence[int] = ()
) -> Callable[[Params, Holds, Tokens], dict[str, Array]]:
    """A measure: {"score", "logits"}, [L, H] each, on `probes.random_tokens`.

    score, -1 to 1: 4 `copying_ratio` - 1; logits: `copying_logits`. Arguments as in
    `probes.random_tokens`; only the length of the batch is used.
    """

    @measure(dims={"score": BY_HEAD, "logits": BY_HEAD}, name="copying")
    def of_network(params: Weights, clamp: Holds, batch: Tokens) -> dict[str, Array]:
        vocabulary, length = params.config.labels, batch.positions
        probe = random_tokens(vocabulary, length, count, sequences, seed, exclude)
        sites = forward(params, probe, clamp)
        found: dict[str, list[Array]] = {"score": [], "logits": []}
        for block, z, pattern in zip(params.blocks, sites["z"], sites["pattern"], strict=True):
            given = (
                to_public("z", z),
                to_public("pattern", pattern),
                block.attention.W_O,
                params.W_U,
                probe.tokens,
            )
            found["score"].append(4 * copying_ratio(*given) - 1)
            found["logits"].append(copying_logits(*given))
        return {name: jnp.stack(layers) for name, layers in found.items()}

    return of_network


def _of_patterns(
    params: Weights, clamp: Holds, batch: Tokens, function: Callable[[Array], Array]
) -> Array:
    """`function` of each layer's patterns, [L, ...]: a mean over the batch."""

    def of(piece: Tokens) -> Array:
        patterns = forward(params, piece, clamp)["pattern"]
        return jnp.stack([function(to_public("pattern", pattern)) for pattern in patterns])

    found: Array = batch.mean_of(of, at_once(batch))
    return found
