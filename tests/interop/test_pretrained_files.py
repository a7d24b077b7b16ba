"""Files of pretrained networks: which spellings are read, and what is refused in one line."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hand_written_networks import SIZES, refusal, tensors, write_model
from safetensors.numpy import load_file

from ih_jax.errors import UserError
from ih_jax.interop import head_scores
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.network import forward


def sites(pattern, z, W_O):
    return pattern, z


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
    arrays |= {"ln_f.weight": np.full(8, 1e39)}  # finite, in float64
    assert "ln_f.weight has 8 of 8 numbers that are NaN or infinite" in refusal(
        write_model(tmp_path / "large", arrays=arrays)
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


def test_a_file_that_is_not_whole_is_refused_before_it_is_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_digest", lambda *file: pytest.fail("it was read"))
    (tmp_path / "config.json").write_text("{}")
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(10**12)  # of which nothing is on the disk
    with pytest.raises(UserError, match="no whole safetensors file"):
        reading.all_hashes([reading.locate(tmp_path)])
