"""Pretrained networks: the same numbers as transformers' own, and heads known by construction."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import load_file, save_file

from ih_jax.cli import main
from ih_jax.errors import UserError
from ih_jax.interop import head_scores
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.network import forward

run = jax.jit(forward, static_argnames=("config", "measure"))
TOKENS = np.random.default_rng(0).integers(0, 60, (2, 14))


def sites(pattern, z, W_O):
    return pattern, z


# --- against transformers -----------------------------------------------------------------------


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


# --- written by hand ----------------------------------------------------------------------------

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


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_names_with_and_without_prefix_masks_and_spellings(kind, tmp_path):
    one = reading.read(write_model(tmp_path / "one", kind, rotary_pct=0.5, rotary_emb_base=99))
    arrays = load_file(tmp_path / "one" / "model.safetensors")
    if kind == "gpt2":
        renamed = {f"transformer.{name}": array for name, array in arrays.items()}
        renamed["transformer.h.1.attn.bias"] = np.tri(9, dtype=bool)
    else:
        renamed = {name.removeprefix("gpt_neox."): array for name, array in arrays.items()}
        renamed["lm_head.weight"] = renamed.pop("embed_out.weight")
        renamed["layers.0.attention.rotary_emb.inv_freq"] = np.ones(1, np.float32)
        renamed["layers.0.attention.bias"] = np.tri(9, dtype=bool)
    other = write_model(
        tmp_path / "other",
        kind,
        renamed,
        rope_parameters={"partial_rotary_factor": 0.5, "rope_theta": 99, "rope_type": "default"},
    )
    again = reading.read(other)
    assert again.config == one.config
    jax.tree.map(np.testing.assert_array_equal, again.weights, one.weights)
    assert one.config.rotary == (2 if kind == "gpt_neox" else 0)


def test_bfloat16_is_read_without_torch(tmp_path):
    arrays = tensors("gpt2", SIZES["gpt2"])
    rounded = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    # safetensors' own writer for numpy does not know bfloat16 in all versions: by hand.
    header, offset, raw = {}, 0, []
    for name, array in rounded.items():
        header[name] = {
            "dtype": "BF16",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
        raw.append(array.tobytes())
    text = json.dumps(header).encode()
    write_model(tmp_path)
    whole = len(text).to_bytes(8, "little") + text + b"".join(raw)
    (tmp_path / "model.safetensors").write_bytes(whole)
    read = reading.read(tmp_path)
    assert read.weights.W_E.dtype == jnp.float32
    np.testing.assert_array_equal(read.weights.W_E, rounded["wte.weight"].astype(np.float32))


def test_a_network_of_another_kind_or_size_is_refused_in_one_line(tmp_path):
    def with_config(kind="gpt2", **settings):
        return refusal(write_model(tmp_path / "config", kind, {}, **settings))

    assert "give one of gpt2, gpt_neo, gpt_neox" in with_config(model_type="bert")
    assert "lacks n_head" in with_config(n_head=...)
    assert "n_embd 9 and n_head 2" in with_config(n_embd=9)
    assert "unknown activation 'mish'" in with_config(activation_function="mish")
    assert "add_cross_attention" in with_config(add_cross_attention=True)
    assert "'yarn': default, linear" in with_config("gpt_neox", rope_scaling={"type": "yarn"})
    assert "rotary_pct is 2: give a number from 0 to 1" in with_config("gpt_neox", rotary_pct=2)
    assert "all 3 dimensions" in with_config("gpt_neox", rotary_pct=1, hidden_size=6)
    arrays = tensors("gpt2", SIZES["gpt2"])
    del arrays["wpe.weight"], arrays["h.1.attn.c_attn.bias"]
    arrays |= {
        "h.0.ln_1.weight": np.ones(9, np.float32),
        "h.2.ln_1.bias": np.ones(8, np.float32),
        "ln_f.bias": np.zeros(8, np.int8),
    }
    said = refusal(write_model(tmp_path / "tensors", arrays=arrays))
    for part in (
        "wpe.weight is missing",
        "h.1.attn.c_attn.bias is missing",
        "h.0.ln_1.weight has shape [9], not [8]",
        "and 2 more",
    ):
        assert part in said
    arrays = tensors("gpt2", SIZES["gpt2"]) | {"ln_f.bias": np.zeros(8, np.int8)}
    assert "ln_f.bias is of I8" in refusal(write_model(tmp_path / "tensors", arrays=arrays))
    arrays = tensors("gpt_neox", SIZES["gpt_neox"])
    del arrays["embed_out.weight"]
    said = refusal(write_model(tmp_path / "untied", "gpt_neox", arrays))
    assert "lm_head.weight is missing" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_layer": 10**9}, "GB of memory, and"),
        ({"n_layer": 10**4}, "10,000 layers, and the files of weights hold 28 tensors"),
        ({"n_layer": 2.5}, "n_layer is 2.5: give a whole number"),
        ({"n_layer": 0}, "n_layer is 0: give a whole number from 1"),
        ({"n_embd": 10**400}, "n_embd is a whole number of 401 digits: give"),
        ({"n_embd": "8"}, 'n_embd is "8": give a whole number'),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is NaN: give a number from 0"),
        ({"eos_token_id": [0, "x"]}, 'eos_token_id[1] is "x": give'),
        ({"scale_attn_weights": 1}, "scale_attn_weights is 1: give true or false"),
        ({"model_type": None}, "model_type is null: give text"),
        (
            {"kind": "gpt_neox", "rotary_emb_base": float("inf")},
            "rotary_emb_base is Infinity: give",
        ),
        ({"kind": "gpt_neox", "rotary_emb_base": 0}, "rotary_emb_base is 0: give a number above 0"),
        ({"kind": "gpt_neox", "rope_scaling": {"rope_theta": []}}, "rope_scaling.rope_theta is []"),
        ({"kind": "gpt_neox", "rope_scaling": 5}, "rope_scaling is 5: give an object"),
    ],
    ids=str,
)
def test_a_config_is_refused_by_the_name_of_its_field(tmp_path, settings, message):
    settings = dict(settings)
    kind = settings.pop("kind", "gpt2")
    model = write_model(tmp_path, kind, tensors(kind, SIZES[kind]), **settings)
    said = refusal(model)
    assert message in said and "\n" not in said


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(tmp_path, odd):
    arrays = tensors("gpt2", SIZES["gpt2"])
    arrays["h.1.mlp.c_fc.weight"][3, 4] = odd
    said = refusal(write_model(tmp_path, arrays=arrays))
    assert "h.1.mlp.c_fc.weight has 1 of 256 numbers that are NaN or infinite" in said


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_is_no_file(tmp_path, name):
    model = write_model(tmp_path)
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    assert "is a pipe" in refusal(model)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "holds []: an object"),
        ('{"weight_map": {"wte.weight": ["a", "b"]}}', 'weight_map["wte.weight"] is ["a", "b"]'),
        ('{"weight_map": []}', "weight_map is []: give an object"),
        ('{"weight_map": {}}', "weight_map is {}"),
        ('{"weight_map": {"wte.weight": "/etc/passwd"}}', "passwd of it is missing"),
        ("[" * 1000, "nested deeper than 32 levels"),
    ],
)
def test_an_index_is_refused_in_one_line(tmp_path, index, message):
    model = write_model(tmp_path)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(index)
    assert message in refusal(model)


def test_files_that_are_not_there_or_not_whole_are_refused_in_one_line(tmp_path):
    assert "there is no folder" in refusal(tmp_path / "nowhere")
    assert "no config.json" in refusal(tmp_path)
    model = write_model(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "no whole safetensors file" in refusal(model)
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "pointer of Git LFS" in refusal(model)
    weights.rename(model / "pytorch_model.bin")
    assert "pickles (pytorch_model.bin) are not read" in refusal(model)
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": "model-1.safetensors"}}))
    assert "model-1.safetensors of it is missing" in refusal(model)
    index.write_text("{}")
    assert "lacks weight_map" in refusal(model)
    (model / "config.json").write_text("{")
    assert "is not JSON" in refusal(model)


def test_probes_that_do_not_fit_are_refused_in_one_line(tmp_path):
    assert "4 are needed" in refusal(write_model(tmp_path / "v", vocab_size=4))
    assert "this network's context is 8" in refusal(write_model(tmp_path / "c", n_positions=8))
    fits = reading.read(write_model(tmp_path / "c", n_positions=100))
    for asked, said in (
        ({"length": 30, "repeats": 4}, "121 tokens: this network's context is 100"),
        ({"length": 3}, "length is 3: give 4 or more"),
        ({"repeats": 1}, "repeats is 1: give 2 or more"),
        ({"length": 40}, "has 39 that are not special: 40 are needed"),
        ({"bos": 40}, "bos is '40': give none, or a token from 0 to 39"),
        ({"bos": "no"}, "bos is 'no': give none"),
    ):
        with pytest.raises(UserError, match=said):
            head_scores.probes(fits, **asked)
    model = reading.read(write_model(tmp_path / "c", n_positions=100))
    with pytest.raises(UserError, match="context is 100"):
        forward(model.weights, model.config, jnp.zeros((1, 101), int), sites)
    arrays = tensors("gpt2", SIZES["gpt2"]) | {"ln_f.weight": np.full(8, np.nan, np.float32)}
    assert "ln_f.weight has 8 of 8 numbers that are NaN" in refusal(
        write_model(tmp_path / "nan", arrays=arrays)
    )


def test_nothing_is_loaded_from_the_network_unless_asked(tmp_path, monkeypatch):
    code = (
        "import sys, ih_jax.cli\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in refusal("hub:EleutherAI/pythia-70m")


def test_the_hub_is_asked_for_a_revision_and_its_commit_is_kept(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot(repository, revision, allow_patterns):
        asked.append((repository, revision))
        if repository == "no/body":
            raise OSError("nobody\nis there")
        return str(write_model(tmp_path / "0123abc", "gpt_neox", rotary_pct=1))

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    model = reading.read("hub:EleutherAI/pythia-70m@step512")
    assert asked == [("EleutherAI/pythia-70m", "step512")]
    assert (model.name, model.source) == ("pythia-70m@step512", "hub:EleutherAI/pythia-70m@0123abc")
    assert "could not be downloaded (nobody)" in refusal("hub:no/body")


# --- an induction circuit by construction -------------------------------------------------------

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


def test_a_circuit_known_by_construction_is_found(tmp_path):
    config, arrays = induction_circuit()
    folder = write_model(tmp_path, arrays=arrays, **config)
    found = head_scores.measure(reading.read(folder))
    np.testing.assert_array_equal(
        head_scores.kinds(found), [["previous token", ""], ["induction", ""]]
    )
    assert found["previous_token"][0, 0] > 0.95
    assert found["prefix_matching"][1, 0] > 0.9
    assert found["copying"][1, 0] > 0.9
    # Heads that do nothing attend to all alike, and copy nothing.
    assert (found["prefix_matching"][:, 1] < 0.05).all()
    np.testing.assert_allclose(found["copying"][:, 1], -1, atol=1e-6)
    # With the sign of its output turned, the same head anti-copies.
    arrays["h.1.attn.c_proj.weight"] *= -1
    write_model(folder, arrays=arrays, **config)
    found = head_scores.measure(reading.read(folder))
    assert head_scores.kinds(found)[1, 0] == "anti-copying"
    assert found["copying"][1, 0] < -0.9


# --- the command --------------------------------------------------------------------------------


def test_the_command_writes_the_folder_and_prints_the_table(tmp_path, monkeypatch, capsys):
    config, arrays = induction_circuit()
    write_model(tmp_path / "circuit", arrays=arrays, **config)
    monkeypatch.chdir(tmp_path)
    assert main.main(["heads", "--model", "circuit"]) == 0
    said = capsys.readouterr().out
    assert "induction heads: 1.0" in said and "previous token heads: 0.0" in said
    folder = Path("results/heads-circuit")
    names = {"heads.nc", "README.md", "figure.png", "figure.svg"}
    assert {path.name for path in folder.iterdir()} == names
    found = xr.load_dataset(folder / "heads.nc", engine="h5netcdf")
    assert found["copying"].dims == ("layer", "head")
    assert "model.safetensors" in json.loads(found.attrs["sha256"])
    text = (folder / "README.md").read_text()
    assert "Induction heads: 1.0." in text and "| 1.0 |" in text and "random tokens" in text
    # Again: the same bytes. Other weights are not written over them.
    before = {name: (folder / name).read_bytes() for name in names - {"heads.nc"}}
    assert main.main(["heads", "--model", "circuit", "--quiet"]) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    arrays["wpe.weight"] += 1
    write_model(tmp_path / "circuit", arrays=arrays, **config)
    assert main.main(["heads", "--model", "circuit"]) == 2
    assert "scores of other weights" in capsys.readouterr().err
    # Nor are they written over results of other commands.
    (folder / "heads.nc").unlink()
    assert main.main(["heads", "--model", "circuit"]) == 2
    assert "holds a README.md of something else" in capsys.readouterr().err
    assert main.main(["heads", "--model", "nowhere"]) == 2
    for odd in (5, None, "a\0b"):
        with pytest.raises(UserError, match=r"model is .*: give the path of a file or folder"):
            reading.read(odd)
    assert main.main(["heads", "--model", "circuit", "--model=nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert main.main(["heads", "--model", "circuit", "--seed", "1", "--seed=2"]) == 2
    assert "--seed is given 2 times: give it once" in capsys.readouterr().err
    assert main.main(["heads", "--model", "circuit", "--seed", "-1", "--out", "seed"]) == 2
    assert "seed is -1" in capsys.readouterr().err
    assert not Path("seed").exists()


def test_a_folder_with_a_tokenizer_is_shown_a_text(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = write_model(tmp_path)

    def tokenizer(count):
        words = {word: number % count for number, word in enumerate(["[UNK]", "better", "than"])}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.save(str(tmp_path / "tokenizer.json"))

    tokenizer(3)
    shown = head_scores.probes(reading.read(model))
    assert "the Zen of Python" in shown.told["previous_token"]
    assert shown.text.shape == (1, 110) and {1, 2} < set(np.asarray(shown.text[0]).tolist())
    (tmp_path / "tokenizer.json").write_text("{")
    said = refusal(model)
    assert "tokenizer.json is not JSON" in said and "download it again" in said


def test_a_file_that_is_not_whole_is_refused_before_it_is_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_digest", lambda *file: pytest.fail("it was read"))
    (tmp_path / "config.json").write_text("{}")
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(10**12)  # of which nothing is on the disk
    with pytest.raises(UserError, match="no whole safetensors file"):
        reading.all_hashes([reading.locate(tmp_path)])
