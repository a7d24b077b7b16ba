"""Which heads could work together, read off the weights alone: composition scores.

Papers: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", for the idea, and
for the scores of products of two matrices (W_OV and W_QK) and the eigenvalues that Olsson et al.
2022 use; Singh et al. 2024, fig. 11 (right), for the scores of one output and one input matrix.

Norms, positions, smearing, MLPs and clamps are ignored, as in the papers, but in `ov_copying_read`.

Glossary: L layers, H heads, D d_model, E d_head, V vocabulary. A token's embedding is a row x [D];
a head reads it as x W_Q, x W_K, x W_V and writes (x W_V) W_O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch, Tokens
from ih_jax.errors import UserError
from ih_jax.measures.base import measure
from ih_jax.measures.heads import BY_HEAD, previous_token_score
from ih_jax.model.layers import norm
from ih_jax.model.params import Attention, Params

INPUTS = ("Q", "K", "V")


def composition_scores(written: Array, read: Array) -> Array:
    """[H, H], 0 to 1: how much of what a head writes (first axis) each head reads (second axis).

    score_kh = ||written_k read_h||_F / (||written_k||_F ||read_h||_F): 1 where both have a single
    direction, the same one; 0 where nothing that is written is read; 1 / sqrt(E) where E
    orthonormal directions are written and exactly those are read. NaN for a matrix of zeros.

    Args:
        written: [H, E, D], W_O of the earlier layer.
        read: [H, D, E], W_Q, W_K or W_V of the later one.
    """
    product = jnp.einsum("ked,hdf->khef", written, read)
    size = _norm(written)[:, None] * _norm(read)[None]
    return _norm(product) / size


def baseline(d_model: int) -> float:
    """1 / sqrt(D): the root mean square score of independent matrices of random directions."""
    return float(d_model**-0.5)


def composition(
    early: int = 0, late: int = 1
) -> Callable[[Params, Holds, Batch], dict[str, Array]]:
    """A measure: {"Q", "K", "V"}: [H, H] `composition_scores` of head k of layer `early` (first
    axis) with head h of layer `late`.

    Layer norms, smearing and positions are ignored, as in the paper. So are the clamp and the
    batch: the scores depend on weights only, even for heads that a clamp ablates. Layers count
    from 0.

    Raises:
        UserError: `early` is not before `late`, or (when measured) the model has no such layer.
    """
    if not 0 <= early < late:
        raise UserError(f"composition({early}, {late}): give layers 0 <= early < late")

    @measure(dims=dict.fromkeys(INPUTS, ("writer", "reader")), name="composition")
    def of_network(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
        if late >= params.config.layers:
            raise UserError(
                f"composition: no layer {late}: give one of 0..{params.config.layers - 1}"
            )
        written = params.blocks[early].attention.W_O
        reads = params.blocks[late].attention
        return {name: composition_scores(written, getattr(reads, f"W_{name}")) for name in INPUTS}

    return of_network


def _norm(matrices: Array) -> Array:
    """Frobenius norms over the last two axes."""
    return jnp.sqrt(jnp.sum(matrices**2, axis=(-2, -1)))


# --- products of W_QK and W_OV ------------------------------------------------------------------


@measure(dims=dict.fromkeys(INPUTS, (*BY_HEAD, "later_layer", "later_head")))
def qkv_composition(
    params: Params, clamp: Holds | None = None, batch: Any = None
) -> dict[str, Array]:
    """{"Q", "K", "V"}: [L, H, L, H], how much each later head reads of each head (first two axes).

    Matrices of random directions score 0 (Elhage et al. 2021, "composition score"). With A the
    later head's W_QK (for Q transposed) or W_OV, and B the earlier one's W_OV:

        score = ||A B||_F / (||A||_F ||B||_F) - 1 / sqrt(D)

    1 / sqrt(D) is exactly the root mean square over all rotations of what is written against what
    is read, whatever the ranks; the mean is a little lower, by as much as scores vary. NaN where
    the second head is not in a later layer, and for a matrix of zeros. The measure needs neither a
    clamp nor a batch.
    """
    config = params.config
    L, H = config.layers, config.heads
    found = {name: jnp.full((L, H, L, H), jnp.nan) for name in INPUTS}
    for early in range(L):
        for late in range(early + 1, L):
            pair = (params.blocks[early].attention, params.blocks[late].attention)
            for name, scores in _product_scores(*pair).items():
                below = scores - baseline(config.d_model)
                found[name] = found[name].at[early, :, late].set(below)
    return found


def _product_scores(early: Attention, late: Attention) -> dict[str, Array]:
    """[H, H] each: norms of products of two D x D matrices, through E x E ones.

    Of A = R S^T and B^T = W_V W_O it is ||R (W_O S)^T W_V^T||, with R and S [D, E].
    """
    values = _gram(early.W_V)  # [H, E, E]
    written = _norm_of_product(early.W_V, jnp.swapaxes(early.W_O, -1, -2))
    out = jnp.swapaxes(late.W_O, -1, -2)
    # By the input that the later head reads with: (what is outside, what meets W_O).
    factors = {"Q": (late.W_K, late.W_Q), "K": (late.W_Q, late.W_K), "V": (out, late.W_V)}
    found = {}
    for name, (outside, meets) in factors.items():
        between = jnp.einsum("ked,hdf->khef", early.W_O, meets)
        square = jnp.einsum(
            "khef,hfg,kheg->kh",
            *(jnp.einsum("kea,khaf->khef", values, between), _gram(outside), between),
        )
        size = written[:, None] * _norm_of_product(outside, meets)[None]
        found[name] = jnp.sqrt(jnp.maximum(square, 0)) / size
    return found


def _gram(matrices: Array) -> Array:
    """[H, E, E] from [H, D, E]."""
    return jnp.einsum("hde,hdf->hef", matrices, matrices)


def _norm_of_product(left: Array, right: Array) -> Array:
    """[H]: ||left right^T||_F of [H, D, E] twice."""
    return jnp.sqrt(jnp.maximum(jnp.sum(_gram(left) * _gram(right), axis=(-2, -1)), 0))


@measure(dims=BY_HEAD)
def ov_copying(params: Params, clamp: Holds | None = None, batch: Any = None) -> Array:
    """[L, H], -1 to 1: `copying_eigenvalues` of every head. Needs no clamp, no batch."""
    layers = [block.attention for block in params.blocks]
    of = [copying_eigenvalues(params.W_E, each.W_V, each.W_O, params.W_U) for each in layers]
    return jnp.stack(of)


@measure(dims=BY_HEAD)
def ov_copying_read(params: Params, clamp: Holds | None = None, batch: Any = None) -> Array:
    """[L, H], -1 to 1: `ov_copying` through the norms and layer 0, which the plain one ignores.

    In place of a token's embedding stands what a head reads, after its norm, where the network is
    given this token alone: in layer 0 the embedding, later on what layer 0 made of it, whose heads
    then look at the token itself. In place of W_U stands what reads the last stream: W_U times the
    final norm's scale, without the mean that this takes off, and without the mean over tokens,
    which no softmax sees (so that what all tokens share counts for nothing). What the final norm
    divides by is one positive number a position and leaves the ratio as it is.

    Needs no clamp and no batch.

    Args:
        params: of a language model.

    Raises:
        UserError: it is none.
    """
    if not params.config.language:
        raise UserError("ov_copying_read: give a language model, whose tokens stand alone")
    alone = Tokens(jnp.arange(params.config.labels)[:, None])
    streams = forward(params, alone, Holds())["resid_pre"]
    to_logits = params.W_U - params.W_U.mean(0, keepdims=True)
    if params.norm is not None:
        to_logits = to_logits * params.norm.scale[None]
        to_logits = to_logits - to_logits.mean(-1, keepdims=True)
    found = []
    for layer, block in enumerate(params.blocks):
        read = norm(block.norm1, streams[min(layer, 1)][:, 0])  # [D, V]
        own = block.attention
        found.append(copying_eigenvalues(read, own.W_V, own.W_O, to_logits))
    return jnp.stack(found)


def copying_eigenvalues(W_E: Array, W_V: Array, W_O: Array, W_U: Array) -> Array:
    """[H], -1 to 1: sum of eigenvalues over sum of their absolute values, of W_U W_O W_V W_E.

    1: every direction of tokens raises itself, as in a head that copies (Elhage et al. 2021,
    "detecting copying behavior"). The V x V matrix has the eigenvalues of the E x E matrix
    W_V W_E W_U W_O, all others being 0. A head that writes nothing has 0.

    Args:
        W_E: [D, V].
        W_V: [H, D, E].
        W_O: [H, E, D].
        W_U: [V, D].
    """
    through = W_E @ W_U  # [D, D]
    matrix = jnp.einsum("hda,dc,hbc->hab", W_V, through, W_O)
    values = _eigenvalues(matrix)
    size = jnp.abs(values).sum(-1)
    return values.real.sum(-1) / jnp.where(size > 0, size, 1.0)


def _eigenvalues(matrix: Array) -> Array:
    """Complex, [..., E], of [..., E, E]; by XLA on CPU, elsewhere by NumPy on the host."""
    found: Array = jax.lax.platform_dependent(
        matrix, cpu=jnp.linalg.eigvals, default=eigenvalues_by_numpy
    )
    return found


def eigenvalues_by_numpy(matrix: Array) -> Array:
    """Complex, [..., E], of [..., E, E], on the host; may be jitted and mapped."""

    def on_host(each: Array) -> np.ndarray:
        return np.linalg.eigvals(np.asarray(each)).astype(np.complex64)

    shape = jax.ShapeDtypeStruct(matrix.shape[:-1], jnp.complex64)
    found: Array = jax.pure_callback(on_host, shape, matrix, vmap_method="broadcast_all")
    return found


def qk_trace(params: Params, previous: Array) -> dict[str, Array]:
    """How much each head matches tokens through previous-token heads: [L, H] each.

    Olsson et al. 2022, "trace of QK eigenvalues", the pure K-composition term. With w_e the
    previous-token scores and sums over the heads e of all earlier layers,

        M = W_E^T W_Q (sum over e of w_e W_V^e W_O^e W_K)^T W_E                         [V, V]

    is the score that a token gives, as the current one, to a token that stood before the key.

        trace    tr(M): large for induction heads; in the unit of scores before scaling
        cosine   tr(M) / (||M||_F sqrt(min(E, V))), -1 to 1: comparable between networks; 1 where M
                 is the identity on as many directions as a head has

    Both are 0 in layer 0, and where nothing is matched.

    Args:
        params: of a language model.
        previous: [L, H], `heads.previous_token_score`.
    """
    config = params.config
    tokens = params.W_E @ params.W_E.T  # [D, D]
    moved = jnp.zeros((config.d_model, config.d_model))
    rank = min(config.d_head, config.labels)
    traces, cosines = [], []
    for block, weight in zip(params.blocks, previous, strict=True):
        each = block.attention
        keys = jnp.einsum("dc,hce->hde", moved, each.W_K)

        def meet(left: Array, right: Array) -> Array:
            return jnp.einsum("hde,dc,hcf->hef", left, tokens, right)

        trace = jnp.trace(meet(each.W_Q, keys), axis1=-2, axis2=-1)
        square = jnp.sum(meet(each.W_Q, each.W_Q) * meet(keys, keys), axis=(-2, -1))
        size = jnp.sqrt(jnp.maximum(square, 0) * rank)
        traces.append(trace)
        cosines.append(trace / jnp.where(size > 0, size, 1.0))
        moved += jnp.einsum("h,hde,hec->dc", weight, each.W_V, each.W_O)
    return {"trace": jnp.stack(traces), "cosine": jnp.stack(cosines)}


@measure(dims={"trace": BY_HEAD, "cosine": BY_HEAD})
def matching_trace(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
    """{"trace", "cosine"}: [L, H], `qk_trace` with previous-token scores on the batch."""
    return qk_trace(params, previous_token_score(params, clamp, batch))
