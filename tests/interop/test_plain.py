"""A network as plain safetensors: what is read is what was written, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ih_jax as ih
from ih_jax.interop import plain

CONFIGS = {
    "few-shot": ih.Config(features=6, d_model=16, heads=4, mlp_ratio=2.0, smeared_keys=True),
    "language": ih.Config(features=0, labels=9, d_model=16, heads=4, positions="learned"),
    "no norm": ih.Config(features=0, labels=9, d_model=16, heads=4, norm=False),
    "relative": ih.Config(
        features=0, labels=9, d_model=16, heads=4, positions="relative", embedding_std=0.7
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_is_the_same_network(name: str, tmp_path: Path) -> None:
    params = ih.init(jax.random.key(0), CONFIGS[name])
    plain.save(params, tmp_path / "x.safetensors")
    again = plain.load(tmp_path / "x.safetensors")
    assert again.config == params.config
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    names = load_file(tmp_path / "x.safetensors")
    assert names["blocks.1.attention.W_QKV"].shape == (3, 4, 4, 16)


def test_files_from_before_a_setting_are_read(tmp_path: Path) -> None:
    params = ih.init(jax.random.key(0), CONFIGS["language"])
    plain.save(params, tmp_path / "x.safetensors")
    told = dataclasses.asdict(params.config)
    del told["embedding_std"]
    metadata = {"format": plain.FORMAT, "config": json.dumps(told)}
    save_file(load_file(tmp_path / "x.safetensors"), tmp_path / "old.safetensors", metadata)
    assert plain.load(tmp_path / "old.safetensors").config == params.config


def test_what_was_written_otherwise_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    plain.save(ih.init(jax.random.key(0), CONFIGS["language"]), file)
    tensors = load_file(file)
    config = {name: getattr(CONFIGS["language"], name) for name in plain._Fields.__struct_fields__}

    def refusal(tensors: dict[str, Any], **settings: Any) -> str:
        told = {"format": plain.FORMAT, "config": json.dumps(config | settings)}
        save_file(tensors, file, told)
        with pytest.raises(ih.UserError) as raised:
            plain.load(file)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "W_E is missing" in refusal({k: v for k, v in tensors.items() if k != "W_E"})
    assert "more is unknown" in refusal(tensors | {"more": np.zeros(1, np.float32)})
    assert "W_E is float32 (16, 9), not float32 (16, 8)" in refusal(tensors, labels=8)
    assert "NaN" in refusal(tensors | {"b_U": np.full(9, np.nan, np.float32)})
    assert "layers is 0" in refusal(tensors, layers=0)
    assert "does not split" in refusal(tensors, heads=3)
    assert "GB of memory" in refusal(tensors, layers=10**9)
    save_file(tensors, file)
    with pytest.raises(ih.UserError, match="was not written by"):
        plain.load(file)
    file.write_bytes(b"no")
    with pytest.raises(ih.UserError, match="no whole safetensors"):
        plain.load(file)
    with pytest.raises(ih.UserError, match="there is no"):
        plain.load(tmp_path / "y")
