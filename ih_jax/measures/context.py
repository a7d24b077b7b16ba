"""In-context learning of language models: losses by position, scores, and reference losses.

Paper: Olsson et al. 2022, arguments 1 and 2 and "Per-token losses". First come measures of one
network, for `Trajectories.measure`; then functions, in NumPy, of what these gave over training.

Glossary: B sequences of T tokens; nats throughout. Positions and indices are those of the predicted
token, 1 to T - 1 (BOS is 0): losses [T - 1] begin with that of the token at position 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.errors import UserError
from ih_jax.measures.base import measure
from ih_jax.measures.probes import at_once, each_piece
from ih_jax.model.params import Params
from ih_jax.tasks.language import WINDOW, in_context_score, token_losses

# --- measures -----------------------------------------------------------------------------------


@measure(dims=("index",), coords={"index": lambda size: range(1, size + 1)}, units="nats")
def loss_by_token(params: Params, clamp: Holds, batch: Tokens) -> Array:
    """[T - 1]: the loss at each position, mean over sequences.

    Olsson et al. 2022, "loss by token index".
    """

    def of(piece: Tokens) -> Array:
        return token_losses(forward(params, piece, clamp), piece).mean(-1)

    found: Array = batch.mean_of(of, at_once(batch))
    return found


def per_token_losses(positions: np.ndarray) -> Callable[[Params, Holds, Tokens], Array]:
    """A measure: [B], the loss at one position of each sequence, the same for all networks.

    Olsson et al. 2022, "per-token losses": the vector that represents a network.

    Args:
        positions: [B], 1 to T - 1, such as `random_positions` draws.

    Raises:
        UserError: (when measured) the positions do not fit the batch.
    """

    @measure(dims=("example",), name="per_token_losses", units="nats")
    def of_network(params: Params, clamp: Holds, batch: Tokens) -> Array:
        def of(piece: Tokens, at: Array) -> Array:
            losses = token_losses(forward(params, piece, clamp), piece)  # [T - 1, B]
            return jnp.take_along_axis(losses, at[None] - 1, axis=0)[0]

        found: Array = each_piece(of, batch, checked_positions(positions, batch))
        return found.reshape(-1)

    return of_network


def random_positions(sequences: int, length: int, seed: int = 0) -> np.ndarray:
    """[B]: a uniform position, 1 to T - 1, of each of B sequences of T tokens."""
    return np.random.default_rng(seed).integers(1, length, sequences).astype(np.int32)


def checked_positions(positions: np.ndarray, batch: Tokens) -> Array:
    """[B]: these positions. Raises UserError if they do not fit the batch."""
    given, T = np.asarray(positions), batch.positions
    if given.shape != batch.tokens.shape[:1] or given.min() < 1 or given.max() >= T:
        raise UserError(
            f"positions {given.shape} for {batch.tokens.shape[0]} sequences of {T} tokens: give "
            f"one per sequence, 1 to {T - 1}"
        )
    return jnp.asarray(given, jnp.int32)


# --- losses by position -------------------------------------------------------------------------


def in_context_scores(
    losses: ArrayLike, pairs: Sequence[tuple[int, int]], window: int = WINDOW
) -> np.ndarray:
    """[..., len(pairs)]: `tasks.language.in_context_score` of losses [..., T - 1].

    Args:
        losses: as `loss_by_token` gives them.
        pairs: (early, late) positions; several, to check that the choice does not matter.
        window: how many positions each end averages over; the paper has 1.

    Raises:
        UserError: a window lies outside the positions.
    """
    by_position: Any = np.moveaxis(np.asarray(losses, float), -1, 0)
    last = len(by_position)
    for early, late in pairs:
        if not (1 <= early <= last + 1 - window and window <= late <= last):
            raise UserError(
                f"early {early}, late {late}: the {window} positions from early on and those up "
                f"to late must lie within 1 to {last}"
            )
    each = [in_context_score(by_position, early, late, window) for early, late in pairs]
    return np.stack(each, axis=-1)


# --- references ---------------------------------------------------------------------------------


def markov_references(tokens: ArrayLike, states: int) -> dict[str, float]:
    """Losses of the best predictions on in-context Markov chains, means over all positions.

        uniform   ln V
        unigram   from counts of the tokens so far, plus 1 each
        bigram    from counts of what followed the current token so far, plus 1 each; this is the
                  Bayesian prediction for rows drawn from Dirichlet(1): no network can do better

    (Edelman et al. 2024, section 2.)

    Args:
        tokens: [B, T], of `data.languages.synthetic.Markov`, BOS first.
        states: V, without BOS.

    Raises:
        UserError: a token after BOS is not among the states.
    """
    rows = np.asarray(tokens)[:, 1:]
    if rows.min() < 0 or rows.max() >= states:
        raise UserError(f"tokens {rows.min()} to {rows.max()} after BOS: give 0 to {states - 1}")
    B, length = rows.shape
    each = np.arange(B)
    seen = np.ones((B, states))
    followed = np.ones((B, states, states))
    unigram = bigram = 0.0
    for t in range(length):
        now = rows[:, t]
        unigram -= np.log(seen[each, now] / seen.sum(1)).mean()
        if t == 0:
            bigram += np.log(states)  # the first token is uniform
        else:
            row = followed[each, rows[:, t - 1]]
            bigram -= np.log(row[each, now] / row.sum(1)).mean()
            followed[each, rows[:, t - 1], now] += 1
        seen[each, now] += 1
    return {
        "uniform": float(np.log(states)),
        "unigram": float(unigram / length),
        "bigram": float(bigram / length),
    }
