"""A network written for TransformerLens: what is in the file, and that it is the same network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import ih_jax as ih
from ih_jax.cli.main import main
from ih_jax.data.batches import Batch
from ih_jax.data.images.features import of_gaussian
from ih_jax.data.languages.synthetic import Bigrams
from ih_jax.interop.transformer_lens import arrays_of, config_of, export, note

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


def has_bridge() -> bool:
    """Whether the TransformerLens that is installed is 4 or later; skips where there is none."""
    pytest.importorskip("transformer_lens")
    return int(version("transformer-lens").partition(".")[0]) >= 4


def skip_what_is_refused(name: str) -> None:
    """TransformerLens 4 has no shortformer positions."""
    if has_bridge() and name == "shortformer":
        pytest.skip("TransformerLens 4 refuses it, as the note says")


def in_lens(
    config: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    some: np.ndarray,
    processed: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and patterns [L, B, H, T, T] in the TransformerLens that is installed, 2 to 4."""
    torch = pytest.importorskip("torch")
    lens = pytest.importorskip("transformer_lens")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    if not has_bridge():
        model = lens.HookedTransformer(lens.HookedTransformerConfig(**config, device="cpu"))
        if processed:
            model.load_and_process_state_dict(tensors)
        else:
            model.load_state_dict(tensors, strict=False)
    else:
        from transformer_lens.config import TransformerBridgeConfig
        from transformer_lens.model_bridge import TransformerBridge
        from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

        settings = TransformerBridgeConfig(**config)
        model = TransformerBridge.boot_native(settings)
        model.load_state_dict(convert_tl_checkpoint(tensors, settings))
        if processed:
            model.enable_compatibility_mode()
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.from_numpy(some))
    return logits.numpy(), np.stack([cache["pattern", layer].numpy() for layer in (0, 1)])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("processed", [False, True])
def test_random_weights_are_the_same_network_loaded_plainly_and_processed(
    name: str, processed: bool
) -> None:
    skip_what_is_refused(name)
    if name == "shortformer" and processed:
        pytest.skip("processing changes its logits, as the note says")
    config = ih.Config(features=0, labels=10, d_model=16, heads=4, **MODELS[name])
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * random.normal(size=leaf.shape).astype(np.float32),
        ih.init(jax.random.key(0), config),
    )
    arrays = arrays_of(params, np.asarray(params.W_E).T)
    some = random.integers(0, 10, (3, 24))
    logits, patterns = in_lens(config_of(params, 10, 24), arrays, some, processed)
    ours = ih.apply(params, ih.Tokens(some.astype(np.int32)))
    assert ours.logits is not None
    # Processing centres logits: less their mean they are the same.
    centred = np.asarray(ours.logits) - processed * np.asarray(ours.logits).mean(-1, keepdims=True)
    np.testing.assert_allclose(
        logits - processed * logits.mean(-1, keepdims=True), centred, atol=1e-4
    )
    np.testing.assert_allclose(patterns, np.stack(ours.pattern), atol=1e-5)


def test_shortformer_positions_come_with_a_word() -> None:
    params = ih.init(jax.random.key(0), ih.Config(features=0, labels=9, positions="shortformer"))
    assert "without processing" in note(config_of(params, 9, 24))
    assert note(config_of(ih.init(jax.random.key(0), ih.Config(labels=9)), 9, 24)) == ""


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
    skip_what_is_refused(name)
    found = trained(tmp_path / "run", **MODELS[name])
    config = export(found, tmp_path / "x.safetensors")
    some = tokens()
    logits, patterns = in_lens(config, load_file(tmp_path / "x.safetensors"), some)
    params = found.params(0, max(found.steps(0)))
    table = found.study.task.source("train").table.reshape(-1, 12)
    labels = np.concatenate([some[:, [1, 3]] - 6, np.zeros((len(some), 1), int)], axis=1)
    batch = Batch(table, some[:, [0, 2, 4]].astype(np.int32), labels.astype(np.int32))
    ours = ih.apply(params, batch)
    assert ours.logits is not None
    np.testing.assert_allclose(logits, ours.logits, atol=1e-4)
    np.testing.assert_allclose(patterns, np.stack(ours.pattern), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_transformer_lens_finds_the_same_language_model(tmp_path: Path, name: str) -> None:
    skip_what_is_refused(name)
    task = ih.language(Bigrams(tokens=9, length=24, successors=3), batch=8, evaluation_sequences=8)
    model = {"positions": "rope", **MODELS[name]}
    study = ih.sweep(task, init=[3], tokens=2000, d_model=16, heads=4, **model)
    found = study.train(tmp_path / "run", progress=False)
    config = export(found, tmp_path / "x.safetensors")
    assert (config["d_vocab"], config["d_vocab_out"]) == (10, 10)
    some = np.random.default_rng(0).integers(0, 10, (5, 24))
    logits, patterns = in_lens(config, load_file(tmp_path / "x.safetensors"), some)
    ours = ih.apply(found.params(0, found.steps(0)[-1]), ih.Tokens(some.astype(np.int32)))
    assert ours.logits is not None
    np.testing.assert_allclose(logits, ours.logits, atol=1e-4)
    np.testing.assert_allclose(patterns, np.stack(ours.pattern), atol=1e-5)


def test_positions_that_transformer_lens_has_not_are_refused() -> None:
    params = ih.init(jax.random.key(0), ih.Config(features=0, labels=9, positions="relative"))
    with pytest.raises(ih.UserError, match=r"each distance.*cannot be exported"):
        config_of(params, 9, 32)


def test_a_network_that_reads_no_tokens_is_told_of_our_own_names(tmp_path: Path) -> None:
    study = ih.sweep(ih.GaussianClasses(classes=8, labels=4, dimensions=4), sequences=64)
    found = study.train(tmp_path / "run", progress=False)
    with pytest.raises(ih.UserError, match=r"GaussianClasses: .* give --names own"):
        export(found, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


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
