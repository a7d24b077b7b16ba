"""A network written for TransformerLens: what is in the file, and that it is the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import ih_jax as ih
from ih_jax.cli.main import main
from ih_jax.data.batches import Batch
from ih_jax.data.images.features import of_gaussian
from ih_jax.data.languages.synthetic import Bigrams
from ih_jax.interop.transformer_lens import export

TASK = {"classes": 6, "test_classes": 2, "evaluation_sequences": 16}
MODELS: dict[str, dict[str, Any]] = {
    "rope": {},
    "mlp": {"mlp_ratio": 2.0},
    "shortformer": {"positions": "shortformer"},
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "no norm": {"norm": False},
}


def trained(folder: Path, **model: Any) -> ih.Trajectories:
    study = ih.sweep(
        ih.fewshot(of_gaussian(8, 12), **TASK),
        clamp=ih.induction(1, 0),
        init=[3],
        sequences=320,
        learning_rate=1e-2,
        d_model=16,
        heads=4,
        **model,
    )
    return study.train(folder, progress=False)


def tokens(count: int = 9) -> np.ndarray:
    """[count, 5] x1 y1 x2 y2 xq as token numbers."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, (count, 3)), 6 + random.integers(0, 5, (count, 2))
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1], x[:, 2]], axis=1)


def test_the_file_says_what_it_holds(tmp_path: Path) -> None:
    config = export(trained(tmp_path / "run"), tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "numpy") as file:
        told = file.metadata()
        assert file.get_tensor("embed.W_E").shape == (11, 16)
        assert file.get_tensor("blocks.1.attn.W_O").shape == (4, 4, 16)
    assert json.loads(told["config"]) == config
    assert json.loads(told["tokens"])[-1] == "label 4"
    assert "induction" in told["clamp"]
    assert config["d_vocab_out"] == 5


@pytest.mark.parametrize("name", MODELS)
def test_transformer_lens_finds_the_same_network(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    lens = pytest.importorskip("transformer_lens")
    from safetensors.torch import load_file

    found = trained(tmp_path / "run", **MODELS[name])
    config = export(found, tmp_path / "x.safetensors")
    theirs = lens.HookedTransformer(lens.HookedTransformerConfig(**config, device="cpu"))
    theirs.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=False)
    some = tokens()
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(torch.from_numpy(some))
    params = found.params(0, max(found.steps(0)))
    table = found.study.task.source("train").table.reshape(-1, 12)
    labels = np.concatenate([some[:, [1, 3]] - 6, np.zeros((len(some), 1), int)], axis=1)
    batch = Batch(table, some[:, [0, 2, 4]].astype(np.int32), labels.astype(np.int32))
    ours = ih.apply(params, batch)
    assert ours.logits is not None
    np.testing.assert_allclose(logits.numpy(), ours.logits, atol=1e-4)
    for layer in (0, 1):
        pattern = cache["pattern", layer].numpy()
        np.testing.assert_allclose(pattern, ours.pattern[layer], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_transformer_lens_finds_the_same_language_model(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    lens = pytest.importorskip("transformer_lens")
    from safetensors.torch import load_file

    task = ih.language(Bigrams(tokens=9, length=24, successors=3), batch=8, evaluation_sequences=8)
    model = {"positions": "rope", **MODELS[name]}
    study = ih.sweep(task, init=[3], tokens=2000, d_model=16, heads=4, **model)
    found = study.train(tmp_path / "run", progress=False)
    config = export(found, tmp_path / "x.safetensors")
    assert (config["d_vocab"], config["d_vocab_out"]) == (10, 10)
    theirs = lens.HookedTransformer(lens.HookedTransformerConfig(**config, device="cpu"))
    theirs.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=False)
    some = np.random.default_rng(0).integers(0, 10, (5, 24))
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(torch.from_numpy(some))
    ours = ih.apply(found.params(0, found.steps(0)[-1]), ih.Tokens(some.astype(np.int32)))
    assert ours.logits is not None
    np.testing.assert_allclose(logits.numpy(), ours.logits, atol=1e-4)
    for layer in (0, 1):
        pattern = cache["pattern", layer].numpy()
        np.testing.assert_allclose(pattern, ours.pattern[layer], atol=1e-5)


def test_a_language_models_file_names_its_tokens(tmp_path: Path) -> None:
    task = ih.language(Bigrams(tokens=9, length=24, successors=3), batch=8, evaluation_sequences=8)
    study = ih.sweep(task, tokens=200, d_model=16, heads=4, layers=1, smeared_keys=[False, True])
    found = study.train(tmp_path / "run", progress=False)
    export(found, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["tokens"]) == [*"012345678", "BOS"]
        assert file.get_tensor("embed.W_E").shape == (10, 16)
    with pytest.raises(ih.UserError, match="smeared"):
        export(found, tmp_path / "y.safetensors", run=1)


def test_the_command(tmp_path: Path, capsys: Any) -> None:
    study = ih.sweep(ih.fewshot(**TASK), init=[3], sequences=64, d_model=16, heads=4)
    study.train(tmp_path / "run", progress=False)
    out = tmp_path / "x.safetensors"
    assert main(["export", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert out.stat().st_size > 1000
    assert main(["export", str(tmp_path / "run"), "--out", str(out), "--run", "7"]) == 2
    assert "out of range" in capsys.readouterr().err
