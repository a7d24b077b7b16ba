"""Networks of other people as pure functions: a forward pass that measures each layer.

`forward` scans over the stack of layers, so that a deeper network has no longer program, and
measures each layer where it is computed.

Radford et al. 2019 (GPT-2); Black et al. 2022, "GPT-NeoX-20B"; Touvron et al. 2023, "LLaMA"; Jiang
et al. 2023, "Mistral 7B"; Yang et al. 2025, "Qwen3".

Glossary: as in `layout`; B sequences of T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.errors import UserError
from ih_jax.interop.pretrained.layer import along, by_layer, layer, norm, seen_from
from ih_jax.interop.pretrained.layout import Blocks, Config, Weights

Measure = Callable[[Array, Array, Array], Any]


def forward(weights: Weights, config: Config, tokens: Array, measure: Measure) -> tuple[Array, Any]:
    """Logits, and what `measure` makes of each layer.

    Args:
        weights: of a network.
        config: of the same network; static.
        tokens: [B, T], each below V.
        measure: of one layer: pattern [B, H, T, T], head outputs z [B, T, H, E] before W_O, and
            W_O [H, E, D], to a pytree. No other layer's pattern is in memory then.

    Returns:
        Logits [B, T, V], and the pytree of `measure` with a leading axis L.

    Raises:
        UserError: sequences are longer than the context.
    """
    T = tokens.shape[1]
    check_length(config, T)
    seen = seen_from(config, T)

    def one(x: Array, given: tuple[Blocks, Array, Array]) -> tuple[Array, Any]:
        block, scale, windowed = given
        sites: dict[str, Array] = {}

        def here(site: str, value: Array) -> Array:
            sites[site] = value
            return value

        x = layer(block, config, seen._replace(scale=scale, windowed=windowed), x, here)
        return x, measure(sites["pattern"], sites["z"], written(block))

    with jax.default_matmul_precision("highest"):
        x, measured = jax.lax.scan(
            one, embed(weights, config, tokens), (weights.blocks, *by_layer(config))
        )
        logits = unembed(weights, config, x)
    return logits, measured


def check_length(config: Config, T: int) -> None:
    """Raise UserError for sequences longer than the context."""
    if config.context < T:
        raise UserError(f"sequences of {T} tokens: this network's context is {config.context}")


def embed(weights: Weights, config: Config, tokens: Array) -> Array:
    """The stream [B, T, D] before the first layer."""
    return add_positions(weights, config, embed_tokens(weights, config, tokens))


def embed_tokens(weights: Weights, config: Config, tokens: Array) -> Array:
    """[B, T, D], without positions."""
    return weights.W_E[tokens] * config.embedding_scale


def add_positions(weights: Weights, config: Config, x: Array) -> Array:
    """Embedded tokens [B, T, D] with the table of positions, and through the norm, if they have."""
    if weights.W_pos is not None:
        x = x + weights.W_pos[None, : x.shape[1]]
    if weights.embed_scale is not None:
        x = norm(config, x, weights.embed_scale, weights.embed_bias, "layer")
    return x


def unembed(weights: Weights, config: Config, x: Array) -> Array:
    """Logits [B, T, V] of the stream after the last layer."""
    if weights.norm_scale is not None:
        x = norm(config, x, weights.norm_scale, weights.norm_bias)
    logits = x @ weights.W_U.T
    if weights.b_U is not None:
        logits = logits + along(weights.b_U, logits)
    if config.logit_cap is not None:
        logits = config.logit_cap * jnp.tanh(logits / config.logit_cap)
    return logits


def written(block: Blocks) -> Array:
    """W_O [H, E, D] of one layer; where a norm follows, with its scale, without its division."""
    return (
        block.W_O
        if block.after1_scale is None
        else block.W_O * along(block.after1_scale, block.W_O)
    )


def direct_unembedding(weights: Weights, config: Config) -> Array:
    """[V, D]: `through_last_norm` of the whole unembedding."""
    return through_last_norm(weights, config, weights.W_U)


def through_last_norm(weights: Weights, config: Config, rows: Array) -> Array:
    """[..., D]: what a vector in the stream adds through the last norm, up to its length.

    The norm multiplies by `norm_scale` and, if it is a layer norm, centres the stream; both are
    linear. The deviation that it divides by is left out, as is a soft cap. Where layers normalise
    the stream (`Config.post_norm`), the last norm is the last layer's; those between are left out.

    Args:
        weights, config: of one network.
        rows: [..., D] of the unembedding, or sums of some.
    """
    scale = weights.norm_scale
    if config.post_norm and scale is None and weights.blocks.norm2_scale is not None:
        scale = weights.blocks.norm2_scale[-1]
    if scale is None:
        return rows
    scaled = rows * along(scale, rows)
    return scaled - scaled.mean(axis=-1, keepdims=True) if config.norm == "layer" else scaled
