"""An induction circuit with weights set by hand, in the files of any family of pretrained networks.

Head 0.0 attends to the token before and writes what it was; head 1.0 matches that with the current
token and copies what it finds. All other weights are 0. The stream holds, as (x, -x), so that a
layer norm leaves it as it is: the token, a 1, the token before, and, with a table, the position.

Glossary: as in `ih_jax.interop.pretrained.layout`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.family import Source
from ih_jax.interop.pretrained.layout import Config

V, P = 40, 110
PEAK = 40.0  # of attention scores
LLAMA = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "hidden_size": 4 * V + 2,
    "head_dim": 128,
    "intermediate_size": 3,
    "max_position_embeddings": P,
    "rope_theta": 1e8,  # so that half of a head's dimensions hardly turn
    "tie_word_embeddings": True,
}
GPT = {"n_layer": 2, "n_head": 2, "n_positions": P}
WITH_TABLE = 2 * (2 * V + 1 + P)  # D
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": GPT | {"n_embd": WITH_TABLE, "n_inner": 3},
    "gpt_neo": {
        "num_layers": 2,
        "num_heads": 2,
        "hidden_size": WITH_TABLE,
        "intermediate_size": 3,
        "max_position_embeddings": P,
        "attention_types": [[["local", "global"], 1]],
        "window_size": 4,
    },
    "gpt_neox": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 192,
        "intermediate_size": 3,
        "max_position_embeddings": P,
    },
    "gptj": GPT | {"n_embd": 192, "n_inner": 3, "rotary_dim": 24},
    "opt": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": WITH_TABLE,
        "ffn_dim": 3,
        "max_position_embeddings": P,
    },
    "bloom": {"n_layer": 2, "n_head": 16, "hidden_size": 16 * V},
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "gemma2": LLAMA | {"query_pre_attn_scalar": 128, "sliding_window": 4},
}


def plant(folder: Path, kind: str, **settings: Any) -> Path:
    """The folder, with config.json and model.safetensors of a network that has the circuit."""
    folder.mkdir(exist_ok=True)
    said = {"model_type": kind, "vocab_size": V, **SIZES[kind], **settings}
    (folder / "config.json").write_text(json.dumps(said))
    family, found, config = reading._described(reading.Place("", "", folder))
    outer, inner = family.outer(config, found), family.inner(config, found)
    tensors: dict[str, np.ndarray] = {}
    table = _outer(config)
    for field, source in outer.items():
        _put(tensors, source, table.get(field, _usual(field)), None)
    if not config.tied:
        tensors[family.head] = table["W_E"].astype(np.float32)
    for layer in range(2):
        arrays = _inner(config, layer)
        for field, source in inner.items():
            _put(tensors, source, arrays.get(field, _usual(field)), layer)
    named = {
        name if name == family.head else f"{family.prefix}{name}": array
        for name, array in tensors.items()
    }
    save_file(named, folder / "model.safetensors")
    return folder


def _usual(field: str) -> float:
    return 1.0 if field.endswith("_scale") else 0.0


def _put(
    tensors: dict[str, np.ndarray], source: Source, wanted: np.ndarray | float, layer: int | None
) -> None:
    """Tensors from which the source makes what is wanted: it moves numbers, or adds to them."""
    if not source.tensors:
        return
    shapes = list(source.tensors.values())
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    place = [np.arange(a, b).reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]
    base = source.turn(*(np.zeros_like(each) for each in place))
    at = np.rint(source.turn(*place) - base).astype(int)
    flat = np.zeros(ends[-1], np.float32)
    flat[at] = np.broadcast_to(wanted, at.shape) - base
    for name, a, b, shape in zip(source.tensors, ends, ends[1:], shapes, strict=False):
        tensors[name.format(layer)] = flat[a:b].reshape(shape)


def _features(c: Config) -> dict[str, np.ndarray]:
    """[n, D] of each part of the stream."""
    pairs = np.hstack([np.eye(c.d_model // 2), -np.eye(c.d_model // 2)])
    return {
        "token": pairs[:V],
        "one": pairs[V : V + 1],
        "before": pairs[V + 1 : 2 * V + 1],
        "position": pairs[2 * V + 1 : 2 * V + 1 + P],
    }


def _outer(c: Config) -> dict[str, np.ndarray]:
    parts = _features(c)
    return {"W_E": parts["token"] + parts["one"], "W_pos": parts["position"]}


def _inner(c: Config, layer: int) -> dict[str, np.ndarray]:
    """W_QKV [3, H, E, D], W_O [H, E, D], norms."""
    parts, (H, E, D) = _features(c), (c.heads, c.d_head, c.d_model)
    q, k, v = np.zeros((3, E, D))
    o = np.zeros((E, D))
    R, half = c.rotary, c.rotary // 2
    # Tokens within a head: a dimension each that does not turn.
    codes = np.zeros((V, E))
    if R == E:
        still = [f + part for part in (0, half) for f in range(half - V // 2, half)]
        codes[np.arange(V), still] = 1
    else:
        codes[np.arange(V), R + np.arange(V)] = 1
    if layer == 0:
        v, o = codes.T @ parts["token"] / 2, codes.T @ parts["before"]
        if c.alibi:  # not to the token itself: of the others the nearest is the token before
            q, k = -v, v
        elif R:
            turning = 6  # fast ones, so that a token more or less tells
            theta = c.rotary_base ** (-2 * np.arange(turning) / R)
            one = parts["one"] / 2 / turning**0.5
            k[:turning] = one
            q[:turning] = np.cos(theta)[:, None] * one
            q[half : half + turning] = -np.sin(theta)[:, None] * one
        else:
            k[:P] = parts["position"] / 2
            q[:P] = np.vstack([parts["position"][1:], np.zeros((1, D))]) / 2
    else:
        q, k, v = (codes.T @ parts[name] / 2 for name in ("token", "before", "token"))
        o = 4 * codes.T @ parts["token"]  # more than the current token, which is there too
    # A part of the stream is r times as large as in the embedding when a layer reads it.
    kinds = 2 + layer + (not c.alibi and not R)
    r = 1.0 if c.architecture == "olmo2" else (D / 2 / kinds) ** 0.5
    found = {"W_QKV": np.zeros((3, H, E, D)), "W_O": np.zeros((H, E, D))}
    found["W_QKV"][:, 0] = np.stack([q * PEAK / (r**2 * c.scale), k, v])
    found["W_O"][0] = o / r * (c.embedding_scale if not c.alibi else r)
    if c.architecture in ("qwen3", "olmo2"):
        size = E if c.architecture == "qwen3" else H * E
        found["q_norm"] = np.full(E if size == E else (H, E), PEAK / (size * c.scale))
        found["k_norm"] = np.ones_like(found["q_norm"])
    if c.architecture == "olmo2":
        found["after1_scale"] = np.full(D, (D / 2) ** -0.5)
    return found
