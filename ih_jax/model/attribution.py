"""What each head adds to the logits by itself: the direct path of every part to the unembedding.

The final stream is a sum of what the embedding, the heads and the MLPs write. The final norm
divides that sum by one number for each position; with that number as it is, logits are a sum over
the parts (Elhage et al. 2021, "direct path"; direct logit attribution, as in TransformerLens).

Glossary: B sequences of T positions, L layers, H heads, E d_head, D d_model, C labels or tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.model.activations import Activations
from ih_jax.model.layers import EPSILON
from ih_jax.model.params import Params


def logit_parts(params: Params, activations: Activations) -> dict[str, Array]:
    """The logits as a sum over what writes to the stream, exactly but for rounding.

        heads      [L, H, B, T, C]
        mlp        [L, B, T, C], 0 where the model has no MLPs
        embedding  [B, T, C], of tokens, and of positions where these are added to them
        bias       [C], of the final norm and of the unembedding
        held       [B, T, C], what a clamp or a patch put on the stream or on the logits; 0 without
        logits     [B, T, C], the sum of all

    Args:
        params: the weights. What is no `Params` is a network of another architecture, which has a
            method `logit_parts(activations)` that does the same.
        activations: of a pass over all rows.
    """
    if not isinstance(params, Params):
        return params.logit_parts(activations)
    assert activations.logits is not None
    final = activations.resid_post[-1]  # [B, T, D]
    to_logits, bias = params.W_U, params.b_U  # [C, D], [C]
    if params.norm is None:
        divisor = jnp.ones_like(final[..., :1])
    else:
        divisor = jax.lax.rsqrt(jnp.var(final, axis=-1, keepdims=True) + EPSILON)
        to_logits = params.W_U * params.norm.scale[None]
        # The norm takes the mean off its input: so does this, off what reads it.
        to_logits = to_logits - to_logits.mean(-1, keepdims=True)
        bias = bias + params.W_U @ params.norm.bias

    def read(written: Array) -> Array:
        """[..., B, T, C] from what was written, [..., B, T, D]."""
        return jnp.einsum("...btd,bt,cd->...btc", written, divisor[..., 0], to_logits)

    heads = jnp.stack(
        [
            jnp.einsum("bthe,hed->hbtd", z, block.attention.W_O)
            for z, block in zip(activations.z, params.blocks, strict=True)
        ]
    )
    none = jnp.zeros((len(params.blocks), *final.shape))
    mlp = jnp.stack(activations.mlp_out) if activations.mlp_out else none
    found = {"heads": read(heads), "mlp": read(mlp), "embedding": read(activations.resid_pre[0])}
    whole = found["heads"].sum((0, 1)) + found["mlp"].sum(0) + found["embedding"]
    held = activations.logits - whole - bias[None, None]
    return {**found, "bias": bias, "held": held, "logits": activations.logits}
