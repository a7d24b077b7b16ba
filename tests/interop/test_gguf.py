"""GGUF files: the same network as in the files that they were made of, quantised or not."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ih_jax.errors import UserError
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.gguf_files import INNER, OUTER

gguf = pytest.importorskip("gguf")
V, D, H, G, E, M = 50, 64, 4, 2, 16, 96
SHAPES = {
    "input_layernorm": (D,),
    "post_attention_layernorm": (D,),
    "self_attn.q_proj": (H * E, D),
    "self_attn.k_proj": (G * E, D),
    "self_attn.v_proj": (G * E, D),
    "self_attn.o_proj": (D, H * E),
    "mlp.gate_proj": (M, D),
    "mlp.up_proj": (M, D),
    "mlp.down_proj": (D, M),
}


def tensors() -> dict[str, np.ndarray]:
    """A Llama's, by Hugging Face's names."""
    random = np.random.default_rng(0)
    shapes = {f"layers.{i}.{name}": shape for i in range(2) for name, shape in SHAPES.items()}
    shapes |= {"embed_tokens": (V, D), "norm": (D,)}
    return {name: random.normal(0, 0.3, shape).astype("f4") for name, shape in shapes.items()}


def as_folder(folder: Path) -> Path:
    folder.mkdir()
    said = {
        "model_type": "llama",
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": M,
        "num_hidden_layers": 2,
        "num_attention_heads": H,
        "num_key_value_heads": G,
        "head_dim": E,
        "max_position_embeddings": 120,
        "rope_theta": 5e3,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(said))
    named = {f"model.{name}.weight": array for name, array in tensors().items()}
    save_file(named, folder / "model.safetensors")
    return folder


def as_gguf(path: Path, kind: str | None = None, architecture: str = "llama") -> Path:
    """The same network; maps of layers quantised where a kind is given."""
    writer: Any = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(120)
    writer.add_embedding_length(D)
    writer.add_block_count(2)
    writer.add_feed_forward_length(M)
    writer.add_head_count(H)
    writer.add_head_count_kv(G)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5e3)
    writer.add_rope_dimension_count(E)
    writer.add_bos_token_id(1)
    back = {new: old for old, new in (OUTER | INNER).items()}
    for name, array in tensors().items():
        parts = name.split(".", 2)
        inner = parts[0] == "layers"
        short = f"blk.{parts[1]}.{back[parts[2]]}" if inner else back[name]
        if short.endswith(("attn_q", "attn_k")):  # llama.cpp turns neighbours, not halves
            heads = H if short.endswith("q") else G
            array = array.reshape(heads, 2, E // 2, D).swapaxes(1, 2).reshape(array.shape)
        if kind is not None and inner and array.ndim == 2:
            packed = gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])
            writer.add_tensor(f"{short}.weight", packed, raw_dtype=gguf.GGMLQuantizationType[kind])
        else:
            writer.add_tensor(f"{short}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_is_the_network_that_it_was_made_of(tmp_path: Path) -> None:
    plain = reading.read(as_folder(tmp_path / "plain"))
    file = as_gguf(tmp_path / "small.gguf")
    model = reading.read(file)
    assert model.config == plain.config and model.notes == ()
    assert (model.name, model.source) == ("small", str(file))
    assert list(model.sha256) == ["small.gguf"]
    for ours, theirs in zip(model.weights.blocks, plain.weights.blocks, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.weights.W_E, plain.weights.W_E)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16"])
def test_quantised_weights_are_unpacked_and_that_is_said(kind: str, tmp_path: Path) -> None:
    plain = reading.read(as_folder(tmp_path / "plain")).weights.blocks
    (tmp_path / "folder").mkdir()
    as_gguf(tmp_path / "folder" / "x.gguf", kind)
    model = reading.read(tmp_path / "folder")  # the only one there
    off = np.abs(np.asarray(model.weights.blocks.W_QKV - plain.W_QKV)).max()
    assert 0 < off < {"Q8_0": 0.01, "Q4_1": 0.1, "F16": 1e-3}[kind]
    said = f"quantised as {kind} (14 tensors) and were unpacked"
    assert model.notes == () if kind == "F16" else said in model.notes[0]


def test_what_is_not_read_is_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(UserError) as raised:
            reading.read(path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    other = as_gguf(tmp_path / "other.gguf", architecture="falcon")
    assert "unknown architecture 'falcon': give one of llama, qwen2" in refusal(other)
    whole = as_gguf(tmp_path / "whole.gguf").read_bytes()
    assert "holds 2 GGUF files: give one of other.gguf" in refusal(tmp_path)
    cut = tmp_path / "cut.gguf"
    for size in (10, 500, len(whole) - 100):
        cut.write_bytes(whole[:size])
        assert "no whole GGUF file" in refusal(cut)
    assert "there is no" in refusal(tmp_path / "nowhere.gguf")


def test_what_a_file_says_of_itself_is_not_believed(tmp_path: Path) -> None:
    def refusal(kind: int, value: bytes, name: bytes = b"general.architecture") -> str:
        path = tmp_path / "odd.gguf"
        head = struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, len(name)) + name
        path.write_bytes(head + struct.pack("<I", kind) + value)
        with pytest.raises(UserError) as raised:
            reading.read(path)
        return str(raised.value)

    numbers, texts = struct.pack("<IQ", 4, 2**61), struct.pack("<IQQ", 8, 2**20, 2**62)
    assert "its lists have 2,305,843,009,213,693,952 entries: at most" in refusal(9, numbers)
    assert "it ends within its own description" in refusal(9, struct.pack("<IQ", 4, 1000))
    assert "it ends within its own description" in refusal(9, texts)
    assert "there is no kind 77 of number or text" in refusal(77, b"")
    assert "general.architecture is no text" in refusal(8, struct.pack("<Q", 2) + b"\xff\xfe")
