"""Circuits of language models, read off their weights: copying, matching, composition."""

import dataclasses

import jax
import jax.numpy as jnp
import language_networks as by_hand
import numpy as np
import pytest
from networks import network
from small_languages import BIG, VOCABULARY, language, measured, sequences

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.measures import circuits


def test_eigenvalues_tell_copying_from_its_opposite() -> None:
    E, D, V = 4, 8, 8
    axes = np.eye(D, dtype=np.float32)
    turn = np.kron(np.eye(2), [[0, -1], [1, 0]]).astype(np.float32)
    outs = np.stack([np.eye(E), -np.eye(E), turn, np.diag([1, 1, 1, -1]), 0 * np.eye(E)])
    W_O = outs @ axes[:E]  # [H, E, D]
    W_V = np.broadcast_to(axes[:, :E], (5, D, E))
    found = circuits.copying_eigenvalues(axes, *map(jnp.float32, (W_V, W_O)), np.eye(V))
    np.testing.assert_allclose(found, [1, -1, 0, 0.5, 0], atol=1e-6)


def test_ov_copying_is_that_of_the_matrix_over_the_vocabulary() -> None:
    params = network(language(**BIG))
    found = measured(circuits.ov_copying, params, None)
    for layer, block in enumerate(params.blocks):
        for h in range(4):
            W_V, W_O = block.attention.W_V[h], block.attention.W_O[h]
            matrix = (params.W_E.T @ W_V @ W_O @ params.W_U.T).astype(float)
            values = np.linalg.eigvals(matrix)
            expected = values.sum().real / np.abs(values).sum()
            np.testing.assert_allclose(found[layer, h], expected, atol=1e-3)


def test_copying_read_through_norms_and_layer_0_is_that_of_what_the_logits_gain() -> None:
    params = network(language(layers=3))
    # Norms that are not those of an untrained network, and a vector that all tokens share.
    params = jax.tree.map(lambda x: x * 1.3 + 0.1 if x.ndim == 1 else x, params)
    found = measured(circuits.ov_copying_read, params, None)
    V = params.config.labels
    alone = Tokens(jnp.arange(V)[:, None])
    streams = forward(params, alone, Holds())["resid_pre"]  # each [D, 1, V]
    for layer in range(3):
        block, stream = params.blocks[layer], np.asarray(streams[min(layer, 1)][:, 0]).T  # [V, D]
        read = (stream - stream.mean(-1, keepdims=True)) / np.sqrt(
            stream.var(-1, keepdims=True) + 1e-5
        )
        read = read * np.asarray(block.norm1.scale) + np.asarray(block.norm1.bias)
        for h in range(params.config.heads):
            own = block.attention
            written = read @ np.asarray(own.W_V[h]) @ np.asarray(own.W_O[h])
            written = written - written.mean(-1, keepdims=True)
            logits = written * np.asarray(params.norm.scale) @ np.asarray(params.W_U).T
            logits = logits - logits.mean(-1, keepdims=True)
            values = np.linalg.eigvals(np.asarray(logits, float))
            expected = values.sum().real / np.abs(values).sum()
            np.testing.assert_allclose(found[layer, h], expected, atol=2e-3)


def test_without_norms_and_in_layer_0_copying_is_read_as_in_the_paper() -> None:
    params = network(language(norm=False))
    centred = dataclasses.replace(params, W_U=params.W_U - params.W_U.mean(0))
    read = measured(circuits.ov_copying_read, params, None)
    plain = measured(circuits.ov_copying, centred, None)
    np.testing.assert_allclose(read[0], plain[0], atol=1e-4)
    assert np.abs(read[1] - plain[1]).max() > 1e-2  # layer 1 reads what layer 0 has added


def test_eigenvalues_are_there_on_an_accelerator_too(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5, 5)), jnp.float32)
    on_host = jax.jit(jax.vmap(circuits.eigenvalues_by_numpy))(matrices)
    expected = np.sort_complex(np.linalg.eigvals(matrices))
    np.testing.assert_allclose(np.sort_complex(on_host), expected, atol=1e-4)
    # Without one, a program for it can be made, if not with a callback.
    monkeypatch.setattr(circuits, "eigenvalues_by_numpy", lambda x: jnp.tanh(x[..., 0]) * 1j)
    traced = jax.jit(circuits.ov_copying).trace(network(language()))
    assert "tanh" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("settings", [{}, BIG | {"heads": 2}], ids=["narrow", "wide"])
def test_the_trace_of_matching_is_that_of_the_matrix_over_the_vocabulary(settings) -> None:
    params = network(language(**settings))
    config = params.config
    previous = np.random.default_rng(0).uniform(size=(config.layers, config.heads))
    found = jax.device_get(jax.jit(circuits.qk_trace)(params, previous))
    for layer in range(config.layers):
        for h in range(config.heads):
            late, matrix = params.blocks[layer].attention, np.zeros((VOCABULARY, VOCABULARY))
            for e in range(layer):
                early = params.blocks[e].attention
                for k in range(config.heads):
                    keys = params.W_E.T @ early.W_V[k] @ early.W_O[k] @ late.W_K[h]
                    matrix += previous[e, k] * (params.W_E.T @ late.W_Q[h] @ keys.T)
            trace = np.trace(matrix)
            np.testing.assert_allclose(found["trace"][layer, h], trace, rtol=1e-3, atol=1e-4)
            size = np.linalg.norm(matrix) * min(config.d_head, VOCABULARY) ** 0.5
            expected = trace / size if layer else 0
            np.testing.assert_allclose(found["cosine"][layer, h], expected, atol=1e-4)


def test_the_trace_of_one_layer_is_0_and_of_a_matched_one_known() -> None:
    one = network(language(layers=1))
    assert not np.any(measured(circuits.matching_trace, one, sequences())["trace"])
    params = by_hand.circuit()
    found = circuits.qk_trace(params, jnp.asarray([[0.5, 0.3], [0, 0]]))
    # Each of 11 tokens gives itself 60 sqrt(E), by a head with half a say.
    np.testing.assert_allclose(found["trace"][1], [0.5 * 11 * 60 * 48**0.5, 0], rtol=1e-5)
    np.testing.assert_allclose(found["cosine"][1], [1, 0], atol=1e-5)


def test_composition_of_products_agrees_with_whole_matrices() -> None:
    params = network(language(**BIG))
    found = measured(circuits.qkv_composition, params, None)
    products = {}
    for layer, block in enumerate(params.blocks):
        for h in range(4):
            a = block.attention
            products[layer, h] = (
                np.asarray(a.W_Q[h] @ a.W_K[h].T),
                np.asarray(a.W_V[h] @ a.W_O[h]).T,
            )
    for (early, k), (_, OV) in products.items():
        for (late, h), (QK, late_OV) in products.items():
            for name, A in (("Q", QK.T), ("K", QK), ("V", late_OV)):
                score = np.linalg.norm(A @ OV) / (np.linalg.norm(A) * np.linalg.norm(OV))
                expected = score - 24**-0.5 if early < late else np.nan
                np.testing.assert_allclose(found[name][early, k, late, h], expected, atol=1e-5)


def test_composition_of_random_products_is_about_0() -> None:
    config = language(d_model=64, heads=8, layers=2)
    found = measured(circuits.qkv_composition, network(config), None)
    for scores in found.values():
        assert abs(np.nanmean(scores)) < 0.004
        assert np.nanstd(scores) < 0.02
        assert np.isfinite(scores).sum() == 64
