"""Heads of a series of checkpoints, and what is read past in the files of other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from planted import plant
from safetensors.numpy import load_file, save_file

from ih_jax.cli import main
from ih_jax.errors import UserError
from ih_jax.interop import head_scores
from ih_jax.interop.head_probes import probes
from ih_jax.interop.pretrained import reading


def changed(folder: Path, change: Any) -> Path:
    """The folder, with the tensors that `change` makes of its tensors."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)
    return folder


def without_matching(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors | {(name := "model.layers.1.self_attn.q_proj.weight"): 0 * tensors[name]}


def test_a_folder_of_checkpoints_is_a_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    changed(plant(run / "checkpoint-90", "llama"), without_matching)
    plant(run / "checkpoint-1000", "llama")
    with pytest.raises(UserError, match="such as one of checkpoint-90, checkpoint-1000 in it"):
        reading.read(run)
    monkeypatch.chdir(tmp_path)
    before = head_scores._scores._cache_size()
    assert main.main(["heads", "--model", "run", "--length", "12", "--bos", "none"]) == 0
    assert head_scores._scores._cache_size() <= before + 1  # one program for all
    said = capsys.readouterr().out
    assert "2 checkpoints, steps 90 to 1000" in said
    assert "induction heads: the first at step 1000; at the last step 1 (1.0)" in said
    assert "12 random tokens, 4 times each, nothing before them (as asked)" in said
    folder = Path("results/heads-run")
    assert {path.name for path in folder.iterdir()} == {
        "heads.nc",
        "README.md",
        "figure.png",
        "figure.svg",
    }
    found = xr.load_dataset(folder / "heads.nc", engine="h5netcdf")
    assert found["prefix_matching"].dims == ("step", "layer", "head")
    assert found["step"].values.tolist() == [90, 1000]
    assert found["checkpoint"].values.tolist() == ["checkpoint-90", "checkpoint-1000"]
    # The models one by one are the same series; they are not written over other weights.
    two = ["--model", "run/checkpoint-1000", "--model", "run/checkpoint-90"]
    assert main.main(["heads", *two, "--length", "12", "--bos", "none", "--out", "two"]) == 0
    again = xr.load_dataset("two/heads.nc", engine="h5netcdf")
    for name in head_scores.SCORES:
        np.testing.assert_array_equal(again[name], found[name])
    assert main.main(["heads", "--model", "run/checkpoint-90", "--out", "two"]) == 2
    assert "scores of other weights" in capsys.readouterr().err


def test_checkpoints_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for each in "ab":
        (tmp_path / each).mkdir()
    changed(plant(tmp_path / "a" / "checkpoint-5", "llama"), without_matching)
    plant(tmp_path / "b" / "checkpoint-5", "llama")
    models = [tmp_path / each / "checkpoint-5" for each in "ab"]
    found = head_scores.measure_series(models, "x", length=12, bos="none")
    assert found["checkpoint"].values.tolist() == ["a/checkpoint-5", "b/checkpoint-5"]
    kept = json.loads(found.attrs["sha256"])
    assert len(kept) == len(set(kept.values())) == 2
    assert kept == reading.all_hashes([reading.locate(each) for each in models])
    assert found["step"].values.tolist() == [0, 1]
    assert any("steps are the order" in note for note in json.loads(found.attrs["notes"]))


def test_networks_of_different_shape_are_no_series(tmp_path: Path) -> None:
    models = [plant(tmp_path / "a", "llama"), plant(tmp_path / "b", "llama", rms_norm_eps=1e-5)]
    with pytest.raises(UserError, match="b has epsilon 1e-05, not 1e-06 as") as raised:
        head_scores.measure_series(models, "x", length=12)
    assert "\n" not in str(raised.value)


def test_names_of_other_tools_and_extra_heads_are_read_past(tmp_path: Path) -> None:
    plain = reading.read(plant(tmp_path / "plain", "llama"))

    def as_saved_elsewhere(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        renamed = {f"_orig_mod.{name}": array for name, array in tensors.items()}
        extra = {"v_head.summary.weight": np.ones((1, 162)), "score.weight": np.ones((2, 162))}
        return renamed | {name: array.astype(np.float32) for name, array in extra.items()}

    other = reading.read(changed(plant(tmp_path / "other", "llama"), as_saved_elsewhere))
    assert other.config == plain.config
    np.testing.assert_array_equal(other.weights.blocks.W_QKV, plain.weights.blocks.W_QKV)
    assert plain.notes == ()
    assert other.notes == (
        "before names of tensors, _orig_mod. was read past",
        "left out, as no part of a language model: score.weight, v_head.summary.weight",
    )
    twice = changed(tmp_path / "plain", lambda t: t | {"norm.weight": t["model.norm.weight"]})
    with pytest.raises(UserError, match=r"both .*norm.weight and .*: one of them is enough"):
        reading.read(twice)


def test_probes_are_as_long_as_was_asked_and_have_a_null(tmp_path: Path) -> None:
    tokens = {"vocab_size": 8, "max_position_embeddings": 17, "eos_token_id": [3, 4]}
    toy = write_toy(tmp_path, tokens)
    shown = probes(toy)
    # Six tokens are not special; twice six, and the first eos_token_id before them.
    assert shown.repeated.shape == (10, 13) and (np.asarray(shown.repeated[:, 0]) == 3).all()
    assert (
        "token 3 before them (config.json has no bos_token_id, so its first eos_"
        in (shown.told["prefix_matching"])
    )
    assert probes(toy, bos="none").repeated.shape == (10, 12)
    asked = probes(toy, length=4, repeats=3, bos=7)
    assert asked.repeated.shape == (10, 13) and (np.asarray(asked.repeated[:, 0]) == 7).all()
    # A head that attends to all alike: the second of two occurrences has one of i + 1 tokens.
    null = head_scores.null(probes(toy, length=5, repeats=2, bos="none"))
    expected = np.mean([1 / (i + 1) for i in range(5, 10)])
    assert null["prefix_matching"] == pytest.approx(expected)
    assert null["induction_diagonal"] == pytest.approx(expected)
    assert null["copying"] == pytest.approx(4 / 6 - 1)


def write_toy(folder: Path, settings: dict[str, Any]) -> reading.Pretrained:
    (folder / "config.json").write_text(
        json.dumps(
            {"model_type": "llama", "hidden_size": 4, "intermediate_size": 3}
            | {"num_hidden_layers": 1, "num_attention_heads": 2}
            | settings
        )
    )
    weights: Any = None
    return reading.Pretrained("toy", "toy", folder, reading.read_config(folder), weights, {})


def test_a_window_longer_than_the_context_is_said(tmp_path: Path) -> None:
    model = reading.read(plant(tmp_path, "mistral", sliding_window=500))
    assert model.notes == (
        "its window of 500 tokens is longer than its context of 110: every token sees all before "
        "it",
    )
