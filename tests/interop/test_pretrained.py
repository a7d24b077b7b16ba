"""Pretrained networks: the same numbers as transformers' own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ih_jax.interop import head_scores
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.network import forward

run = jax.jit(forward, static_argnames=("config", "measure"))
TOKENS = np.random.default_rng(0).integers(0, 60, (2, 14))


def sites(pattern, z, W_O):
    return pattern, z


def saved(kind, folder, settings, **saving):
    """A random network of transformers, saved; with patterns to be had."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if kind == "gpt2":
        sizes = {"vocab_size": 60, "n_positions": 24, "n_embd": 24, "n_layer": 3, "n_head": 3}
        config, network = transformers.GPT2Config, transformers.GPT2LMHeadModel
    else:
        sizes = {
            "vocab_size": 60,
            "max_position_embeddings": 24,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "intermediate_size": 40,
        }
        config, network = transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM
    sizes |= {"bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}
    torch.manual_seed(0)
    made = network(config(**sizes | settings)).eval()
    for parameter in made.parameters():  # biases and norms too, so that none may be forgotten
        torch.nn.init.normal_(parameter, std=0.3)
    made.to(saving.pop("dtype", torch.float32))
    made.save_pretrained(folder, safe_serialization=True, **saving)
    return made.to(torch.float32)


def theirs(network, tokens):
    import torch

    with torch.no_grad():
        found = network(torch.tensor(tokens), output_attentions=True)
    return found.logits.numpy(), np.stack([each.numpy() for each in found.attentions])


VARIANTS = {
    "gpt2": ("gpt2", {}),
    "gpt2-untied": ("gpt2", {"tie_word_embeddings": False, "activation_function": "gelu"}),
    "gpt2-inverse-layer": (
        "gpt2",
        {
            "scale_attn_by_inverse_layer_idx": True,
            "reorder_and_upcast_attn": True,
            "activation_function": "gelu_fast",
            "layer_norm_epsilon": 0.1,
        },
    ),
    "gpt2-unscaled": (
        "gpt2",
        {"scale_attn_weights": False, "n_inner": 20, "activation_function": "quick_gelu"},
    ),
    "neox": ("gpt_neox", {}),
    "neox-serial": (
        "gpt_neox",
        {
            "rotary_pct": 1.0,
            "use_parallel_residual": False,
            "hidden_act": "gelu_new",
            "rotary_emb_base": 100,
        },
    ),
    "neox-no-bias": (
        "gpt_neox",
        {"attention_bias": False, "hidden_act": "relu", "rotary_pct": 0.5, "layer_norm_eps": 0.1},
    ),
    "neox-tied": (
        "gpt_neox",
        {"tie_word_embeddings": True, "hidden_act": "silu", "rotary_pct": 0.2},
    ),  # 3.2
}


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_patterns_are_those_of_transformers(name, tmp_path):
    kind, settings = VARIANTS[name]
    network = saved(kind, tmp_path, settings)
    logits, attentions = theirs(network, TOKENS)
    read = reading.read(tmp_path)
    ours, (patterns, z) = run(read.weights, read.config, TOKENS, sites)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    np.testing.assert_allclose(patterns, attentions, atol=1e-4)
    assert z.shape == (3, 2, 14, 3, read.config.d_head)


SMALL = {
    "vocab_size": 60,
    "max_position_embeddings": 24,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}
LATER_FAMILIES = {
    "llama": ("Llama", {}),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 0.1}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama-wide-heads": ("Llama", {"head_dim": 10, "hidden_act": "gelu"}),
    "mistral": ("Mistral", {"sliding_window": 5, "head_dim": 8}),
    "mistral-no-window": ("Mistral", {"sliding_window": None, "rope_theta": 1e6}),
    "qwen2": ("Qwen2", {}),
    "qwen2-window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 10}),
    "qwen3-bias": ("Qwen3", {"head_dim": 6, "attention_bias": True, "tie_word_embeddings": True}),
}


@pytest.mark.parametrize("name", LATER_FAMILIES)
def test_later_families_are_those_of_transformers(name, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    family, settings = LATER_FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        **SMALL | {"attn_implementation": "eager"} | settings
    )
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(tmp_path, safe_serialization=True)
    logits, attentions = theirs(network, TOKENS)
    read = reading.read(tmp_path)
    ours, (patterns, _) = run(read.weights, read.config, TOKENS, sites)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    np.testing.assert_allclose(patterns, attentions, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_in_shards_is_read_as_float32(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    network = saved("gpt_neox", tmp_path, {}, dtype=getattr(torch, dtype), max_shard_size="30KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    read = reading.read(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(read.weights)} == {jnp.dtype("float32")}
    assert len(read.sha256) > 1
    ours, _ = run(read.weights, read.config, TOKENS, sites)
    np.testing.assert_allclose(ours, theirs(network, TOKENS)[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_scores_are_those_of_transformers_own_patterns(kind, tmp_path):
    positions = {"gpt2": "n_positions", "gpt_neox": "max_position_embeddings"}[kind]
    network = saved(kind, tmp_path, {positions: 120})
    model = reading.read(tmp_path)
    found, shown = head_scores.measure(model), head_scores.probes(model)
    repeated = np.asarray(shown.repeated)
    assert repeated.shape == (10, 101) and (repeated[:, 0] == 0).all()
    assert (repeated[:, 1:26] == repeated[:, 76:]).all()
    attention = theirs(network, repeated)[1]  # [L, B, H, T, T]
    matched = np.zeros(attention.shape[:1] + attention.shape[2:3])
    for b, tokens in enumerate(repeated):
        for i in range(26, 101):
            followed = [j + 1 for j in range(i) if tokens[j] == tokens[i]]
            matched += attention[:, b, :, i][..., followed].sum(-1)
    np.testing.assert_allclose(found["prefix_matching"], matched / 750, atol=1e-5)
    attention = theirs(network, np.asarray(shown.text))[1]
    before = np.mean([attention[..., i, i - 1] for i in range(1, attention.shape[-1])], axis=0)
    np.testing.assert_allclose(found["previous_token"], before.mean(1), atol=1e-5)
    # Copying, from what each head adds to the stream, through the last norm but for its division.
    weights = jax.tree.map(np.asarray, model.weights)
    single = np.asarray(shown.single)
    _, (patterns, z) = run(model.weights, model.config, single, sites)
    added = np.einsum("lbthe,lhed->lbthd", z, weights.blocks.W_O)
    added = added - added.mean(-1, keepdims=True)
    logits = (added * weights.norm_scale) @ weights.W_U.T  # [L, B, T, H, V]
    logits -= logits.mean(-1, keepdims=True)
    for layer, head in np.ndindex(3, 3):
        ratios, more = [], []
        for b, t in np.ndindex(single.shape):
            own, at = logits[layer, b, t, head][single[b]], patterns[layer, b, head, t]
            raised = np.maximum(own, 0)
            a = at @ raised
            ratios.append(a / (a + raised.sum()) if a + raised.sum() > 0 else 0)
            more.append(at @ own - own.mean())
        here = found.isel(layer=layer, head=head)
        np.testing.assert_allclose(here["copying"], 4 * np.mean(ratios) - 1, atol=1e-4)
        np.testing.assert_allclose(here["copying_logits"], np.mean(more), atol=1e-4)
