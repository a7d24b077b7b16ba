"""What each head of a network of other people adds to the logits by the direct path.

As `ih_jax.model.attribution`, for norms of either kind and norms that follow attention: what they
divide by is held as it is.

Glossary: B sequences of T tokens, L layers, H heads of width E, stream of width D, V tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.errors import UserError
from ih_jax.interop.pretrained.layout import Config, Weights
from ih_jax.interop.pretrained.network import direct_unembedding
from ih_jax.model.activations import Activations


def logit_parts(weights: Weights, config: Config, seen: Activations) -> dict[str, Array]:
    """The logits, before any cap, as a sum over what writes to the stream.

    Args:
        weights, config: of one network.
        seen: its activations.

    Returns:
        As `ih_jax.model.attribution.logit_parts`; "heads" are without biases, which are in
        "embedding" with all that no head and no MLP writes.

    Raises:
        UserError: layers normalise the stream, so that nothing reaches the logits as it was added.
    """
    if config.post_norm:
        raise UserError(
            f"what each head adds to the logits: layers of this {config.architecture} "
            "normalise the whole stream, so that its logits are no sum over heads; ablate or patch "
            "heads to see what they do"
        )
    final = seen.resid_post[-1]  # [B, T, D]
    to_logits = direct_unembedding(weights, config)  # [V, D]
    divisor = _divisor(weights, config, final)  # [B, T]

    def read(put: Array) -> Array:
        """[..., B, T, V] from what was put on the stream, [..., B, T, D]."""
        return jnp.einsum("...btd,bt,vd->...btv", put, divisor, to_logits)

    by_head = [_by_head(weights, config, seen, i) for i in range(config.layers)]
    heads = jnp.stack([each for each, _ in by_head])  # [L, H, B, T, D]
    biases = jnp.stack([bias for _, bias in by_head]).sum(0)  # [B, T, D]
    mlp = jnp.stack(seen.mlp_out)
    start = seen.resid_pre[0] + biases
    bias = jnp.zeros(config.vocabulary) if weights.b_U is None else weights.b_U
    if weights.norm_bias is not None:
        bias = bias + weights.W_U @ weights.norm_bias
    found = {"heads": read(heads), "mlp": read(mlp), "embedding": read(start)}
    logits = read(final) + bias[None, None]
    whole = found["heads"].sum((0, 1)) + found["mlp"].sum(0) + found["embedding"]
    held = logits - whole - bias[None, None]
    return {**found, "bias": bias, "held": held, "logits": logits}


def _divisor(weights: Weights, config: Config, final: Array) -> Array:
    """[B, T], what the last norm multiplies the stream [B, T, D] by: 1 where there is none."""
    if weights.norm_scale is None:
        return jnp.ones(final.shape[:-1])
    centred = final - final.mean(-1, keepdims=True) if config.norm == "layer" else final
    return jax.lax.rsqrt((centred**2).mean(-1) + config.epsilon)


def _by_head(
    weights: Weights, config: Config, seen: Activations, number: int
) -> tuple[Array, Array]:
    """What each head of a layer puts on the stream [H, B, T, D], and what b_O does [B, T, D]."""
    z, block = seen.z[number], weights.blocks
    put = jnp.einsum("bthe,hed->hbtd", z, block.W_O[number])
    bias = jnp.broadcast_to(block.b_O[number][None, None], put.shape[1:])
    if block.after1_scale is None:
        return put, bias
    whole = put.sum(0) + bias
    size = jax.lax.rsqrt((whole**2).mean(-1, keepdims=True) + config.epsilon)
    scale = size * block.after1_scale[number][None, None]
    return put * scale[None], bias * scale
