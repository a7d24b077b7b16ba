"""Which heads could work together, read off the weights alone: composition scores.

Papers: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", for the idea; Singh
et al. 2024, fig. 11 (right), for the score taken here: of one output and one input matrix, where
the framework takes products of two (W_OV and W_QK).

Glossary: H heads, D d_model, E d_head.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from ih_jax.data.fewshot import Batch
from ih_jax.errors import UserError
from ih_jax.holds import Holds
from ih_jax.model import Params

INPUTS = ("Q", "K", "V")


def composition_scores(written: Array, read: Array) -> Array:
    """[H, H], 0 to 1: how much of what a head writes (first axis) each head reads (second axis).

    score_kh = ||written_k read_h||_F / (||written_k||_F ||read_h||_F): 1 where both have one and
    the same direction, 0 where nothing written is read, 1 / sqrt(E) where E orthonormal directions
    are written and just those are read. NaN for a matrix of zeros.

    Args:
        written: [H, E, D], W_O of the earlier layer.
        read: [H, D, E], W_Q, W_K or W_V of the later one.
    """
    product = jnp.einsum("ked,hdf->khef", written, read)
    size = _norm(written)[:, None] * _norm(read)
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
    batch: these are scores of weights, of heads that a clamp ablates too. Layers count from 0.

    Raises:
        UserError: `early` is not before `late`, or (when measured) the model has no such layer.
    """
    if not 0 <= early < late:
        raise UserError(f"composition({early}, {late}): give layers 0 <= early < late")

    def measure(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
        if late >= params.config.layers:
            raise UserError(f"composition: layer {late} of {params.config.layers}: count from 0")
        written = params.blocks[early].attention.W_O
        reads = params.blocks[late].attention
        return {name: composition_scores(written, getattr(reads, f"W_{name}")) for name in INPUTS}

    return measure


def _norm(matrices: Array) -> Array:
    """Frobenius norms over the last two axes."""
    return jnp.sqrt(jnp.sum(matrices**2, axis=(-2, -1)))
