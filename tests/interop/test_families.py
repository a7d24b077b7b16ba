"""Every family that is read: the same numbers as transformers' own, on random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.errors import UserError
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.layer import slopes
from ih_jax.interop.pretrained.layout import Config
from ih_jax.interop.pretrained.network import forward

TOKENS = np.random.default_rng(0).integers(0, 60, (2, 14))
run = jax.jit(forward, static_argnames=("config", "measure"))

LLAMA = {
    "vocab_size": 60,
    "max_position_embeddings": 24,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}
GPT = {"vocab_size": 60, "n_positions": 24, "n_embd": 24, "n_layer": 3, "n_head": 3}
NEO = {
    "vocab_size": 60,
    "max_position_embeddings": 24,
    "hidden_size": 24,
    "num_layers": 3,
    "num_heads": 3,
    "attention_types": [[["global", "local"], 1], [["local"], 1]],
    "window_size": 4,
}
OPT = {
    "vocab_size": 60,
    "max_position_embeddings": 24,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "ffn_dim": 40,
}
BLOOM = {"vocab_size": 60, "hidden_size": 24, "n_layer": 3, "n_head": 3}
GEMMA = LLAMA | {"head_dim": 6, "sliding_window": 4, "query_pre_attn_scalar": 10}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gptj": ("GPTJ", GPT | {"rotary_dim": 4}),
    "gptj-all-rotated": (
        "GPTJ",
        GPT | {"rotary_dim": 8, "n_inner": 20, "tie_word_embeddings": True},
    ),
    "gpt-neo": ("GPTNeo", NEO),
    "gpt-neo-wide": ("GPTNeo", NEO | {"intermediate_size": 20, "tie_word_embeddings": False}),
    "opt": ("OPT", OPT),
    "opt-bare": ("OPT", OPT | {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    "opt-untied": ("OPT", OPT | {"tie_word_embeddings": False, "activation_function": "gelu"}),
    "opt-norms-after": ("OPT", OPT | {"do_layer_norm_before": False}),
    "opt-350m": ("OPT", OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 10}),
    "opt-narrow-tokens-untied": (
        "OPT",
        OPT | {"word_embed_proj_dim": 8, "tie_word_embeddings": False, "enable_bias": False},
    ),
    "opt-no-last-norm": ("OPT", OPT | {"_remove_final_layer_norm": True}),
    "bloom": ("Bloom", BLOOM),
    "bloom-four-heads": ("Bloom", BLOOM | {"n_head": 4, "layer_norm_epsilon": 0.1}),
    "bloom-untied": ("Bloom", BLOOM | {"n_head": 6, "tie_word_embeddings": False}),
    "olmo": ("Olmo", LLAMA),
    "olmo-clipped": ("Olmo", LLAMA | {"clip_qkv": 0.3, "tie_word_embeddings": True}),
    "olmo2": ("Olmo2", LLAMA),
    "olmo2-own-keys": ("Olmo2", LLAMA | {"num_key_value_heads": 4, "rms_norm_eps": 0.1}),
    "gemma2": ("Gemma2", GEMMA),
    "gemma2-low-caps": (
        "Gemma2",
        GEMMA | {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0},
    ),
    "gemma2-no-caps": (
        "Gemma2",
        GEMMA
        | {
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        },
    ),
    "gptj-two-rotated": ("GPTJ", GPT | {"n_head": 2, "rotary_dim": 2, "n_layer": 1}),
    "bloom-five-heads": ("Bloom", BLOOM | {"n_head": 5, "hidden_size": 30, "n_layer": 1}),
    "gpt-neo-global": ("GPTNeo", NEO | {"attention_types": [[["global"], 3]], "num_heads": 4}),
    "olmo2-one-key": ("Olmo2", LLAMA | {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "gemma2-biases": (
        "Gemma2",
        GEMMA | {"num_key_value_heads": 1, "attention_bias": True, "head_dim": 10},
    ),
    "mistral-odd": ("Mistral", LLAMA | {"sliding_window": 3, "head_dim": 14, "hidden_size": 20}),
    "qwen3-layer-types": (
        "Qwen3",
        LLAMA
        | {
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "llama3-rope": ("Llama", LLAMA | {"rope_parameters": LLAMA3, "head_dim": 16}),
    "linear-rope": (
        "Llama",
        LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0}},
    ),
    "qwen2-layer-types": (
        "Qwen2",
        LLAMA
        | {
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
}


def saved(name: str, folder: Path, dtype: str = "float32", **saving: Any) -> Any:
    """A random network of transformers, saved and loaded again in fp32, with patterns to be had."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    family, settings = VARIANTS[name]
    torch.manual_seed(0)
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = getattr(transformers, f"{family}Config")(
        **tokens | {"attn_implementation": "eager"} | settings
    )
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in network.parameters():  # biases and norms too, so that none may be forgotten
        torch.nn.init.normal_(parameter, std=0.3)
    network.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True, **saving)
    return (
        type(network)
        .from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        .eval()
    )


def theirs(network: Any) -> tuple[np.ndarray, np.ndarray]:
    import torch

    with torch.no_grad():
        found = network(torch.tensor(TOKENS), output_attentions=True)
    return found.logits.numpy(), np.stack([each.numpy() for each in found.attentions])


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_patterns_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    logits, attentions = theirs(saved(name, tmp_path))
    read = reading.read(tmp_path)
    ours, patterns = run(read.weights, read.config, TOKENS, lambda pattern, z, W_O: pattern)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    np.testing.assert_allclose(patterns, attentions, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change"),
    [  # what a person adds to a saved config.json, as transformers reads it
        ("linear-rope", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("llama3-rope", {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}),
        ("linear-rope", {"rope_parameters": {}, "rope_theta": 30.0}),
        ("linear-rope", {"rope_parameters": {"rope_theta": 3.6e9}}),
        ("gptj", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}),
    ],
)
def test_an_edited_config_is_read_as_transformers_does(
    name: str, change: dict[str, Any], tmp_path: Path
) -> None:
    network = saved(name, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    again = type(network).from_pretrained(tmp_path, attn_implementation="eager").eval()
    logits, attentions = theirs(again)
    read = reading.read(tmp_path)
    ours, patterns = run(read.weights, read.config, TOKENS, lambda pattern, z, W_O: pattern)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    np.testing.assert_allclose(patterns, attentions, atol=1e-4)


def test_fields_that_are_left_out_have_their_familys_values(tmp_path: Path) -> None:
    def read(**settings: Any) -> Config:
        (tmp_path / "config.json").write_text(json.dumps(LLAMA | settings))
        return reading.read_config(tmp_path)

    assert read(model_type="mistral").window == 4096
    assert read(model_type="mistral", sliding_window=None).window is None
    layers = ["full_attention"] * 3  # transformers does not ask a Mistral for these
    assert read(model_type="mistral", sliding_window=9, layer_types=layers).windowed == (True,) * 3
    assert read(model_type="qwen3").d_head == 128
    bloom = {name: value for name, value in BLOOM.items() if name != "n_layer"}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bloom", "num_hidden_layers": 2, **bloom})
    )
    assert reading.read_config(tmp_path).layers == 2


def test_a_network_that_norms_its_stream_is_looked_inside(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network = saved("opt-350m", tmp_path)
    with torch.no_grad():
        hidden = network(torch.tensor(TOKENS), output_hidden_states=True).hidden_states
    ours = ih.pretrained(tmp_path)
    batch = ours.batch_of(tokens=TOKENS)
    seen = ours.activations(batch)
    for layer in range(3):
        np.testing.assert_allclose(seen.resid_pre[layer], hidden[layer], atol=1e-4)
    assert ours.loss(batch, ih.ablate(0, 0)) != ours.loss(batch)
    with pytest.raises(UserError, match="no sum over heads"):
        ours.head_logits(batch)
    with pytest.raises(UserError, match="through a norm"):
        ours.patch_path(batch, batch, (0, 0), (1, 0))
    assert "no sum over heads" in ours.view(batch).html  # a note; all else is shown


@pytest.mark.parametrize("name", ["gptj", "bloom", "olmo2", "gemma2", "opt-350m"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_shards_in_half_precision_are_read(name: str, dtype: str, tmp_path: Path) -> None:
    logits, _ = theirs(saved(name, tmp_path, dtype, max_shard_size="15KB"))
    assert (tmp_path / "model.safetensors.index.json").is_file()
    read = reading.read(tmp_path)
    ours, _ = run(read.weights, read.config, TOKENS, lambda pattern, z, W_O: 0)
    np.testing.assert_allclose(ours, logits, atol=1e-4)


def test_alibi_has_the_slopes_of_its_paper() -> None:
    np.testing.assert_allclose(slopes(8), [2.0**-n for n in range(1, 9)])
    # 12 heads: those of 8, and the first four between them.
    between = [2.0 ** (-n / 2) for n in (1, 3, 5, 7)]
    np.testing.assert_allclose(slopes(12), [*slopes(8), *between], rtol=1e-6)


def refusal(folder: Path, **settings: Any) -> str:
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError) as raised:
        reading.read_config(folder)
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_what_a_family_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    def llama(**settings: Any) -> str:
        return refusal(tmp_path, **{"model_type": "llama"} | LLAMA | settings)

    assert "'dynamic': default, linear and llama3" in llama(rope_scaling={"rope_type": "dynamic"})
    assert "'linear' and no factor" in llama(rope_scaling={"type": "linear"})
    assert "low_freq_factor 4.0" in llama(rope_parameters=LLAMA3 | {"low_freq_factor": 4.0})
    assert "3 layers and layer_types" in llama(layer_types=["full_attention"])
    assert "have no window" in llama(layer_types=["sliding_attention"] * 3)
    sliding = {"model_type": "qwen2", "layer_types": ["sliding_attention"] * 3}
    assert "use_sliding_window false and sliding_window 32" in llama(**sliding, sliding_window=32)
    assert "true and sliding_window null" in llama(
        **sliding, use_sliding_window=True, sliding_window=None
    )
    assert "is_causal false" in llama(is_causal=False)
    assert "rotary positions 'yarn'" in llama(
        rope_parameters={"rope_theta": 1e4}, rope_scaling={"rope_type": "yarn", "factor": 4.0}
    )
    neox = {"model_type": "gpt_neox", **LLAMA, "rotary_pct": 0.25}
    assert "partial_rotary_factor 0.75, and 0.25" in refusal(
        tmp_path, **neox, partial_rotary_factor=0.75
    )
    assert "rope_theta 9, and 10000" in refusal(tmp_path, **neox, rope_theta=9.0)
    slow = {"slow_but_exact": True, "pretraining_tp": 2}
    assert "leaves biases out" in refusal(tmp_path, model_type="bloom", **BLOOM | slow)
    assert "num_key_value_heads 3" in llama(num_key_value_heads=3)
    assert "rotary_dim 9" in refusal(tmp_path, model_type="gptj", **GPT, rotary_dim=9)
    opt = {"model_type": "opt"} | OPT
    assert "word_embed_proj_dim" in refusal(tmp_path, **opt, word_embed_proj_dim=0)
    assert "lacks n_head" in refusal(tmp_path, model_type="bloom", **BLOOM | {"n_head": None})
    neo = {"model_type": "gpt_neo"} | NEO
    assert "attention_types" in refusal(tmp_path, **neo | {"attention_types": [[["far"], 3]]})
    assert "attention_types" in refusal(tmp_path, **neo | {"attention_types": [[["local"], 9**9]]})
    gemma = {"model_type": "gemma2"} | GEMMA
    assert "bidirectional" in refusal(tmp_path, **gemma, use_bidirectional_attention=True)
