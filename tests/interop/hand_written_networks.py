"""Pretrained networks written by hand: random tensors by their names, and an induction circuit."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from ih_jax.errors import UserError
from ih_jax.interop import head_scores
from ih_jax.interop.pretrained import reading

SIZES = {
    "gpt2": {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 110, "vocab_size": 40},
    "gpt_neox": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "vocab_size": 40,
        "intermediate_size": 12,
        "max_position_embeddings": 110,
        "rotary_pct": 0.5,
    },
}


def tensors(kind, config):
    """Random tensors of a network, by Hugging Face's names."""
    rng = np.random.default_rng(0)
    V = config["vocab_size"]
    D = config.get("n_embd", config.get("hidden_size"))
    M = config.get("intermediate_size", config.get("n_inner", 4 * D))
    layers = config.get("n_layer", config.get("num_hidden_layers"))
    if kind == "gpt2":
        shapes = {"wte.weight": (V, D), "wpe.weight": (config["n_positions"], D)}
        maps = {
            "attn.c_attn": (D, 3 * D),
            "attn.c_proj": (D, D),
            "mlp.c_fc": (D, M),
            "mlp.c_proj": (M, D),
        }
        at, norms, last, out = "h", ("ln_1", "ln_2"), "ln_f", 1
    else:
        shapes = {"gpt_neox.embed_in.weight": (V, D), "embed_out.weight": (V, D)}
        maps = {
            "attention.query_key_value": (3 * D, D),
            "attention.dense": (D, D),
            "mlp.dense_h_to_4h": (M, D),
            "mlp.dense_4h_to_h": (D, M),
        }
        at, last, out = "gpt_neox.layers", "gpt_neox.final_layer_norm", 0
        norms = ("input_layernorm", "post_attention_layernorm")
    for layer in range(layers):
        for name, shape in maps.items():
            shapes[f"{at}.{layer}.{name}.weight"] = shape
            shapes[f"{at}.{layer}.{name}.bias"] = shape[out : out + 1]
    for name in [last, *(f"{at}.{layer}.{norm}" for layer in range(layers) for norm in norms)]:
        shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write_model(folder, kind="gpt2", arrays=None, **settings):
    config = {"model_type": kind, "bos_token_id": 0, **SIZES[kind], **settings}
    folder.mkdir(exist_ok=True)
    config = {name: value for name, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors(kind, config) if arrays is None else arrays, folder / "model.safetensors")
    return folder


def refusal(folder):
    with pytest.raises(UserError) as raised:
        head_scores.measure(reading.read(folder))
    said = str(raised.value)
    assert "\n" not in said
    return said


V, P = 40, 110
N = V + P + V  # token, position, token before; each as (x, -x), which a layer norm leaves as it is


def induction_circuit():
    """A GPT-2 of two layers: 0.0 attends to the token before, 1.0 matches and copies.

    With no earlier occurrence, 1.0 attends to its own position.
    """
    D = 2 * N
    config = SIZES["gpt2"] | {"n_embd": D, "n_positions": P, "vocab_size": V, "n_inner": 1}
    read = np.concatenate([np.eye(N), -np.eye(N)]) / 2  # [D, N]
    token, position, before = np.split(read, (V, V + P), axis=1)
    arrays = {name: np.zeros_like(array) for name, array in tensors("gpt2", config).items()}
    arrays |= {name: np.ones(D) for name in arrays if "ln_" in name and name.endswith("weight")}
    arrays["wte.weight"], arrays["wpe.weight"] = 2 * token.T, 2 * position.T

    def head(layer, q, k, v, o):
        for place, columns in enumerate((q, k, v)):
            at = place * D
            arrays[f"h.{layer}.attn.c_attn.weight"][:, at : at + columns.shape[1]] = columns
        arrays[f"h.{layer}.attn.c_proj.weight"][: o.shape[0]] = o

    shift = np.eye(P, k=1)  # position i asks for position i - 1
    head(0, 9 * position @ shift.T, position, token, before.T / 5)
    head(1, 9 * np.hstack([token, position / 2]), np.hstack([before, position]), token, token.T)
    return config, {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
