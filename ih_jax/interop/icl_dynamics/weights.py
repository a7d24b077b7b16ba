"""Weights of the authors' code: their names, order and shapes, as `Params` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics.options import RunOptions
from ih_jax.model.params import MLP, Attention, Block, Config, Norm, Params


def params_from_arrays(arrays: Mapping[str, np.ndarray], config: Config) -> Params:
    """`Params` of named weights: `weight` is [out, in], `qkv` [3 D, D] by q, k, v and head."""
    H, E, D = config.heads, config.d_head, config.d_model

    def get(name: str) -> jax.Array:
        if name not in arrays:
            raise UserError(f"weights lack {name}: they have {', '.join(sorted(arrays))}")
        return jnp.asarray(arrays[name], jnp.float32)

    def norm(name: str) -> Norm | None:
        return Norm(get(f"{name}.weight"), get(f"{name}.bias")) if config.norm else None

    def block(layer: int) -> Block:
        at = f"blocks.{layer}"
        attention = Attention(
            get(f"{at}.attn.qkv.weight").reshape(3, H, E, D),
            get(f"{at}.attn.proj.weight").reshape(D, H, E),
            None,
        )
        if config.mlp_ratio is None:
            return Block(norm(f"{at}.norm1"), attention, None, None)
        fc1, fc2 = f"{at}.mlp.fc1", f"{at}.mlp.fc2"
        mlp = MLP(
            get(f"{fc1}.weight"), get(f"{fc1}.bias"), get(f"{fc2}.weight"), get(f"{fc2}.bias")
        )
        return Block(norm(f"{at}.norm1"), attention, norm(f"{at}.norm2"), mlp)

    return Params(
        W_E=get("example_embed.weight"),
        b_E=get("example_embed.bias"),
        W_L=get("label_embed.weight"),
        W_pos=get("pos_embed.weight").T if config.positions == "learned" else None,
        blocks=tuple(block(layer) for layer in range(config.layers)),
        norm=norm("norm"),
        W_U=get("unembed.weight"),
        b_U=get("unembed.bias"),
        config=config,
    )


def arrays_from_params(params: Params) -> dict[str, jax.Array]:
    """The inverse of `params_from_arrays`: weights by the authors' names."""
    D = params.config.d_model
    if params.b_E is None or params.W_L is None:
        raise UserError("a language model has no names in the authors' few-shot code")
    named = {
        "example_embed.weight": params.W_E,
        "example_embed.bias": params.b_E,
        "label_embed.weight": params.W_L,
        "unembed.weight": params.W_U,
        "unembed.bias": params.b_U,
    }

    def add_norm(name: str, norm: Norm | None) -> None:
        if norm is not None:
            named[f"{name}.weight"], named[f"{name}.bias"] = norm.scale, norm.bias

    if params.config.positions == "learned" and params.W_pos is not None:
        named["pos_embed.weight"] = params.W_pos.T
    add_norm("norm", params.norm)
    for layer, block in enumerate(params.blocks):
        at = f"blocks.{layer}"
        named[f"{at}.attn.qkv.weight"] = block.attention.W_QKV.reshape(3 * D, D)
        named[f"{at}.attn.proj.weight"] = block.attention.W_out.reshape(D, D)
        add_norm(f"{at}.norm1", block.norm1)
        add_norm(f"{at}.norm2", block.norm2)
        if block.mlp is not None:
            named[f"{at}.mlp.fc1.weight"] = block.mlp.W_in
            named[f"{at}.mlp.fc1.bias"] = block.mlp.b_in
            named[f"{at}.mlp.fc2.weight"] = block.mlp.W_out
            named[f"{at}.mlp.fc2.bias"] = block.mlp.b_out
    return named


# --- in a checkpoint ----------------------------------------------------------------------------


def count_of(o: RunOptions) -> int:
    """How many arrays a network of these options has, counted without naming them."""
    norm = 0 if o.no_norm else 2
    of_layer = norm + 2 + (0 if o.mlp_ratio is None else norm + 4)
    return 3 + (o.positions == "learned") + o.depth * of_layer + norm + 2


def bytes_of(o: RunOptions) -> int:
    """What the weights of a network of these options take at least, float32."""
    D = o.d_model
    wide = 0 if o.mlp_ratio is None else int(D * o.mlp_ratio)
    return 4 * (o.depth * (4 * D * D + 2 * wide * D) + 2 * o.labels * D)


def names_of(o: RunOptions) -> list[str]:
    """The arrays in the order of that code's fields."""
    norm, mlp = not o.no_norm, o.mlp_ratio is not None
    found = ["example_embed.weight", "example_embed.bias", "label_embed.weight"]
    if o.positions == "learned":
        found.append("pos_embed.weight")
    for layer in range(o.depth):
        at = f"blocks.{layer}"
        found += [f"{at}.norm1.weight", f"{at}.norm1.bias"] if norm else []
        found += [f"{at}.attn.qkv.weight", f"{at}.attn.proj.weight"]
        if mlp:
            found += [f"{at}.norm2.weight", f"{at}.norm2.bias"] if norm else []
            found += [
                f"{at}.mlp.{fc}.{part}" for fc in ("fc1", "fc2") for part in ("weight", "bias")
            ]
    found += ["norm.weight", "norm.bias"] if norm else []
    return [*found, "unembed.weight", "unembed.bias"]


def shapes_of(config: Config, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """What the shape of each array must be."""
    D, C = config.d_model, config.labels
    wide = int(D * (config.mlp_ratio or 0))
    by_end = {
        "example_embed.weight": (D, config.features),
        "example_embed.bias": (D,),
        "label_embed.weight": (D, C),
        "pos_embed.weight": (D, config.max_positions),
        "qkv.weight": (3 * D, D),
        "proj.weight": (D, D),
        "fc1.weight": (wide, D),
        "fc1.bias": (wide,),
        "fc2.weight": (D, wide),
        "fc2.bias": (D,),
        "unembed.weight": (C, D),
        "unembed.bias": (C,),
    }
    # The rest are layer norms.
    return {name: by_end.get(".".join(name.split(".")[-2:]), (D,)) for name in names}
