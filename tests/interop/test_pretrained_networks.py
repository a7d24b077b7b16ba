"""A pretrained network is one to look inside: sites, clamps, patches and measures as defined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import plant

import ih_jax as ih
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.network import forward
from ih_jax.measures.heads import prefix_matching
from ih_jax.measures.removal import ablation_losses


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Llama with an induction circuit: 0.0 attends to the token before, 1.0 matches, copies."""
    return ih.pretrained(plant(tmp_path_factory.mktemp("planted"), "llama"))


def on_repeats(network: Any, clamp: Any = None) -> float:
    """The loss where the second repeat could be copied."""
    batch = network.batch(4)
    logits = np.asarray(network.activations(batch, clamp=clamp).logits)[:, 25:-1]
    rest = logits - logits.max(-1, keepdims=True)
    log = rest - np.log(np.exp(rest).sum(-1, keepdims=True))
    then = np.asarray(batch.tokens)[:, 26:, None]
    return float(-np.take_along_axis(log, then, -1).mean())


def test_it_is_a_network_and_says_what_it_is(network: Any) -> None:
    assert isinstance(network, ih.Network)
    assert "2 layers of 2 heads" in repr(network)
    assert "llama" in repr(network.params)
    assert "<html" in network.view(network.batch(1), "attention").html
    seen = network.activations(network.batch(3))
    assert seen.pattern[1].shape == (3, 2, 50, 50) and seen.z[0].shape == (3, 50, 2, 128)
    assert seen.resid_post[1].shape == (3, 50, 162) and seen.logits.shape == (3, 50, 40)
    scores = network.scores(network.batch(3))
    assert scores["loss"] == network.loss(network.batch(3))


@pytest.mark.parametrize("kind", ["gptj", "gemma2", "bloom"])
def test_sites_are_those_of_the_pass_that_scores_heads(kind: str, tmp_path: Path) -> None:
    plant(tmp_path, kind)
    network, model = ih.pretrained(tmp_path), reading.read(tmp_path)
    batch: Any = network.batch(2)
    seen = network.activations(batch)
    logits, patterns = forward(
        model.weights, model.config, batch.tokens, lambda pattern, z, W_O: pattern
    )
    np.testing.assert_allclose(seen.logits, logits, atol=1e-4)
    np.testing.assert_allclose(np.stack(seen.pattern), patterns, atol=1e-5)
    # What heads, MLPs and the embedding write adds up to the logits, whatever norms follow.
    parts = network.head_logits(batch)
    assert float(abs(parts["held"]).max()) < 1e-3
    total = parts["heads"].sum(("layer", "head")) + parts["mlp"].sum("layer") + parts["embedding"]
    np.testing.assert_allclose(total + parts["bias"], parts["logits"], atol=1e-3)


def test_clamps_do_to_it_what_they_say(network: Any) -> None:
    whole = on_repeats(network)
    assert whole < np.log(40) / 10  # it copies; chance is ln 40
    assert on_repeats(network, ih.ablate(1, 0)) > 1
    assert on_repeats(network, ih.ablate(0, 0)) > 1
    assert on_repeats(network, ih.ablate(1, 1)) == pytest.approx(whole, abs=1e-5)
    # The circuit's pattern, kept, does without the head that makes it.
    kept = ih.ablate(0, 0) & ih.preserve("patterns")
    assert on_repeats(network, kept) == pytest.approx(whole, abs=0.1)
    # Head 0.0 is a previous-token head, so giving it that pattern changes little.
    assert on_repeats(network, ih.previous_token(0, 0)) == pytest.approx(whole, abs=0.1)
    assert on_repeats(network, ih.no_previous_token(0, 0)) > 1
    pattern = network.activations(network.batch(2), clamp=ih.previous_token(0, 1)).pattern[0]
    np.testing.assert_array_equal(pattern[:, 1], np.tile(np.eye(50, k=-1) + _first(50), (2, 1, 1)))
    with pytest.raises(ih.UserError, match=r"heads 0\.\.1"):
        network.activations(network.batch(2), clamp=ih.ablate(0, 2))
    for clamp in (ih.freeze("W_E"), ih.perfect_previous_layer(), ih.copy_from(1, 0)):
        with pytest.raises(ih.UserError):
            network.loss(network.batch(2), clamp)


def _first(size: int) -> np.ndarray:
    found = np.zeros((size, size))
    found[0, 0] = 1
    return found


def test_patches_are_those_of_two_passes(network: Any) -> None:
    batch, other = network.batch(2), network.batch(2, seed=1)
    there = network.activations(other)
    patched = network.patch(batch, other, "resid_post", layer=1)
    np.testing.assert_allclose(patched.logits, there.logits, atol=1e-5)
    one = network.patch(batch, other, "z", layer=0, heads=[0])
    np.testing.assert_allclose(one.z[0][:, :, 0], there.z[0][:, :, 0], atol=1e-6)
    # The induction head reads the previous-token head by its keys.
    by_keys = network.patch_path(batch, other, (0, 0), (1, 0), inputs=["k"])
    by_values = network.patch_path(batch, other, (0, 0), (1, 0), inputs=["v"])
    plain = network.activations(batch)
    assert abs(by_keys.pattern[1] - plain.pattern[1]).max() > 0.5
    np.testing.assert_allclose(by_values.pattern[1], plain.pattern[1], atol=1e-5)


def test_measures_of_trained_networks_measure_it(network: Any) -> None:
    batch = network.batch(4)
    none = ih.Clamp().arrays(network.config)
    found = np.asarray(prefix_matching(12)(network.params, none, batch))
    assert found.shape == (2, 2) and found[1, 0] > 0.9
    removed = ablation_losses(np.full(4, 30), 5, 40, "full")(network.params, none, batch)
    assert np.asarray(removed["loss"])[0, 0] > 1 and np.asarray(removed["loss"])[1, 0] > 1


def test_what_it_cannot_read_is_said(network: Any) -> None:
    with pytest.raises(ih.UserError, match=r"there is no .*tokenizer.json"):
        network.batch_of(text="to be")
    with pytest.raises(ih.UserError, match="whole numbers, 0 to 39"):
        network.batch_of(tokens=[1, 40])
    with pytest.raises(ih.UserError, match="reads tokens"):
        network.batch_of(np.zeros((3, 5)), [0, 1, 0])
    with pytest.raises(ih.UserError, match="context is 110"):
        network.loss(network.batch_of(tokens=np.zeros(111, int)))
    with pytest.raises(ih.UserError, match="unknown set"):
        network.batch(2, "train")


def test_a_head_that_writes_through_a_norm_has_no_path_of_its_own(tmp_path: Path) -> None:
    network = ih.pretrained(plant(tmp_path, "olmo2"))
    batch = network.batch(2)
    with pytest.raises(ih.UserError, match="through a norm"):
        network.patch_path(batch, batch, (0, 0), (1, 0))
