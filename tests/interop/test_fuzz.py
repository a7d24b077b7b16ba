"""Whatever stands in a foreign file: reading it gives a result, or one line on what is wrong."""

from __future__ import annotations

import json
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from fuzzing import JSON, changed, few, file_of, mutated, result_or_line
from hand_written_networks import SIZES, tensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from test_authors_runs import OPTIONS, run_options, weights, write_checkpoint

from ih_jax.interop.icl_dynamics.clamps import clamp_from_options
from ih_jax.interop.icl_dynamics.options import OPTIONS as CLAMPS
from ih_jax.interop.icl_dynamics.options import read_run_options
from ih_jax.interop.icl_dynamics.runs import read_checkpoint, read_log
from ih_jax.interop.pretrained import reading

GPT2 = {"model_type": "gpt2", "bos_token_id": 0, **SIZES["gpt2"]}
NEOX = {"model_type": "gpt_neox", "rope_scaling": None, "rope_theta": 1e4, **SIZES["gpt_neox"]}
LLAMA = {
    **{name: value for name, value in NEOX.items() if name != "rotary_pct"},
    "model_type": "mistral",
    "num_key_value_heads": 1,
    "head_dim": None,
    "layer_types": None,
    "sliding_window": None,
}


@few
@given(
    st.one_of(st.binary(max_size=40), JSON, changed(OPTIONS), mutated(json.dumps(OPTIONS).encode()))
)
def test_options_of_the_authors_runs(content: Any) -> None:
    with file_of(content) as path:
        found = result_or_line(lambda: read_run_options(path))
        if found is not None:
            result_or_line(lambda: clamp_from_options(found[1]))


@few
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from([f"--{name}" for name in CLAMPS])
            | st.sampled_from(["1:3", "0:2:0.5", "nan", "5", "=", "'"])
            | st.text(max_size=4),
            max_size=5,
        ).map(" ".join),
    )
)
def test_options_of_the_authors_command_line(text: str) -> None:
    result_or_line(lambda: clamp_from_options(text))


@few
@given(st.one_of(st.binary(max_size=40), JSON, changed(GPT2), changed(NEOX), changed(LLAMA)))
def test_configs_of_pretrained_networks(content: Any) -> None:
    with file_of(content) as path:
        result_or_line(lambda: reading.read_config(path.parent))


@few
@given(
    st.one_of(
        st.binary(max_size=40),
        JSON,
        st.dictionaries(st.text(max_size=9), JSON).map(lambda placed: {"weight_map": placed}),
    )
)
def test_an_index_of_shards(content: Any) -> None:
    with file_of(content, reading.INDEX) as path:
        (path.parent / "config.json").write_text(json.dumps(GPT2))
        result_or_line(lambda: reading.read(path.parent))


def checkpoint() -> bytes:
    with file_of(b"", "x.eqx") as path:
        write_checkpoint(path, 640, weights(1))
        return path.read_bytes()


@few
@given(st.one_of(st.binary(max_size=200), mutated(checkpoint())))
def test_checkpoints_of_the_authors_runs(content: bytes) -> None:
    with file_of(content, "x.eqx") as path:
        found = result_or_line(lambda: read_checkpoint(path, run_options()))
        if found is not None:
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[1]))


def log() -> bytes:
    with file_of(b"", "log.h5") as path:
        with h5py.File(path, "w") as file:
            file["eval_iter"] = np.arange(3)
            for name in ("loss", "acc", "in_context_acc"):
                file[f"fsl_train/{name}"] = np.ones((3, 4), np.float32)
        return path.read_bytes()


@few
@given(st.one_of(st.binary(max_size=200), mutated(log())))
def test_logs_of_the_authors_runs(content: bytes) -> None:
    with file_of(content, "log.h5") as path:
        result_or_line(lambda: read_log(path))


@few
@given(st.one_of(st.binary(max_size=200), mutated(save(tensors("gpt2", SIZES["gpt2"])))))
def test_weights_of_pretrained_networks(content: bytes) -> None:
    with file_of(content, reading.WEIGHTS) as path:
        (path.parent / "config.json").write_text(json.dumps(GPT2))
        found = result_or_line(lambda: reading.read(path.parent))
        if found is not None:
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.weights))


@pytest.mark.parametrize("valid", [GPT2, NEOX, LLAMA], ids=lambda each: each["model_type"])
def test_what_is_changed_is_read_as_it_stands(valid: dict[str, Any]) -> None:
    with file_of(valid) as path:
        assert reading.read_config(path.parent).layers == 2
