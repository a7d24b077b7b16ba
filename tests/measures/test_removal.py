"""Language models without a head, and what each head adds."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import language_networks as by_hand
import numpy as np
import pytest
from networks import QUICK, look, network
from small_languages import BIG, VOCABULARY, language, losses_of, measured, sequences

from ih_jax import platforms
from ih_jax.clamps import kinds as c
from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.errors import UserError
from ih_jax.measures import context, probes, removal

SHAPES = {  # and lengths: above 16, attention is fused
    "plain": ({"norm": False, "layers": 3}, 12),
    "norm": ({}, 20),
    "whole": (BIG | {"layers": 2, "positions": "rope", "smeared_keys": True}, 20),
    "learned": ({"positions": "learned", "mlp_ratio": 2.0}, 12),
}
HELD = c.previous_token(1, 0, 0.7)


def by_clamp(params, batch, layer, gone, kind, clamp) -> np.ndarray:
    """[T - 1, B]: losses without heads, by the clamps of a user."""
    ablated, given = clamp & c.ablate(layer, gone), None
    if kind == "patterns":
        ablated = ablated & c.preserve("patterns")
        given = look(params, batch, clamp.arrays(params.config))
    return losses_of(params, batch, ablated.arrays(params.config), given)


@pytest.mark.parametrize(
    ("shape", "kind", "clamp"),
    [
        *((shape, "full", Clamp()) for shape in SHAPES),
        *((shape, "patterns", Clamp()) for shape in ("plain", "norm", "whole")),
        ("norm", "patterns", HELD),
    ],
)
def test_removal_agrees_with_clamps_that_ablate(shape: str, kind: Any, clamp: Clamp) -> None:
    settings, T = SHAPES[shape]
    params, batch = network(language(**settings), 1), sequences(6, T)
    at, own = context.random_positions(6, T), np.arange(6)
    clean = losses_of(params, batch, clamp.arrays(params.config))
    found = measured(removal.ablation_losses(at, 1, T - 1, kind), params, batch, clamp)
    L = params.config.layers
    assert found["vector"].shape == (L, 4, 6)
    for layer in range(L):
        for head in range(4):
            change = by_clamp(params, batch, layer, head, kind, clamp) - clean
            np.testing.assert_allclose(found["vector"][layer, head], change[at - 1, own], atol=1e-5)
            np.testing.assert_allclose(found["loss"][layer, head], change.mean(), atol=1e-5)
            score = context.in_context_scores(change.mean(1), [(1, T - 1)])
            np.testing.assert_allclose(found["score"][layer, head], score[0], atol=1e-5)
    assert np.abs(found["loss"]).min() > 1e-4


@pytest.mark.parametrize("kind", ["full", "patterns"])
def test_heads_removed_together_agree_with_a_clamp_that_ablates_them(kind: Any) -> None:
    params, batch = network(language(**SHAPES["norm"][0]), 1), sequences(6, 20)
    at = context.random_positions(6, 20)
    gone = np.zeros((2, 4))
    gone[1, [0, 2]] = 1
    measure = removal.joint_ablation_losses(lambda *_: jnp.asarray(gone), at, 1, 19, kind)
    found = measured(measure, params, batch)
    change = by_clamp(params, batch, 1, [0, 2], kind, Clamp()) - losses_of(params, batch)
    np.testing.assert_allclose(found["vector"], change[at - 1, np.arange(6)], atol=1e-5)
    np.testing.assert_allclose(found["loss"], change.mean(), atol=1e-5)
    one = removal.joint_ablation_losses(
        lambda *_: jnp.asarray(np.eye(8)[7].reshape(2, 4)), at, 1, 19, kind
    )
    alone = measured(removal.ablation_losses(at, 1, 19, kind), params, batch)
    for name, value in measured(one, params, batch).items():
        np.testing.assert_allclose(value, alone[name][1, 3], atol=1e-5)


def test_many_sequences_lose_what_few_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    params, batch = network(language(layers=1)), sequences(6)
    at = context.random_positions(6, 12)
    whole = measured(removal.ablation_losses(at, 1, 11, "full"), params, batch)
    cpu = dataclasses.replace(platforms.CPU, probe_tokens=24)
    monkeypatch.setitem(platforms.PLATFORMS, "cpu", cpu)
    pieces = measured(removal.ablation_losses(at, 1, 11, "full"), params, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, pieces)


def test_with_patterns_kept_heads_of_a_plain_network_add_up() -> None:
    """Without norms and MLPs, logits are sums of paths; each head's removal takes its own away."""
    params, batch = network(language(norm=False), 1), sequences(4)
    logits = look(params, batch).logits

    @jax.jit
    def without(gone: jax.Array) -> jax.Array:
        sites = forward(params, batch, Holds())
        left = removal.without_heads(params, Holds(), batch, sites, gone, "patterns")
        return left["logits"][0].transpose(2, 1, 0)

    for layer in range(2):
        each = np.zeros((4, 2, 4))
        each[range(4), layer] = np.eye(4)
        effects = sum(logits - np.asarray(without(gone)) for gone in each)
        together = logits - np.asarray(without(each.sum(0)))
        np.testing.assert_allclose(effects, together, atol=1e-4)
    # Those of the last layer are what each head adds by itself.
    direct = sum(
        np.asarray(removal.logit_attribution(params, Holds(), batch, 1, h)) for h in range(4)
    )
    centred = effects - effects.mean(-1, keepdims=True)
    np.testing.assert_allclose(centred, direct, atol=1e-4)


def test_a_head_that_writes_nothing_is_not_missed() -> None:
    params, batch = by_hand.circuit(), probes.repeated_tokens(11, 41, sequences=4)
    at = np.full(4, 25)
    for kind in ("full", "patterns"):
        found = measured(removal.ablation_losses(at, 1, 40, kind), params, batch)
        for value in found.values():
            assert not np.any(value[:, 1])
        # Without the induction head nothing is told from the context; with patterns kept, what the
        # previous-token head writes is read by nobody.
        assert found["score"][1, 0] > 1
        assert (found["vector"][1, 0] > 1).all()
    assert not np.any(found["vector"][0, 0])


def test_ablation_maps_over_networks() -> None:
    batch = sequences(6)
    measure = removal.ablation_losses(context.random_positions(6, 12), 1, 11, "patterns")
    networks = [network(language(), seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    mapped = jax.vmap(lambda params: measure(params, Holds(), batch))
    found = jax.jit(mapped, compiler_options=QUICK)(stacked)
    for i, params in enumerate(networks):
        for name, value in measured(measure, params, batch).items():
            np.testing.assert_allclose(found[name][i], value, atol=1e-5)


def test_kinds_of_removal_are_checked() -> None:
    with pytest.raises(UserError, match="give one of full, patterns"):
        removal.ablation_losses(np.ones(3), 1, 11, "none")  # type: ignore[arg-type]


def test_attribution_of_logits_to_a_head_and_to_what_it_attends_to() -> None:
    params, batch = network(language(norm=False), 1), sequences(4)
    sites = look(params, batch)
    attention = params.blocks[1].attention
    logits = sites.z[1][:, :, 2] @ np.asarray(attention.W_O[2]) @ params.W_U.T
    whole = np.asarray(removal.logit_attribution(params, Holds(), batch, 1, 2))
    np.testing.assert_allclose(whole, logits - logits.mean(-1, keepdims=True), atol=1e-4)
    sources = np.asarray(removal.attribution_by_source(params, Holds(), batch, 1, 2, 7))
    assert sources.shape == (4, 12, VOCABULARY)
    np.testing.assert_allclose(sources.sum(1), whole[:, 7], atol=1e-4)
    assert not sources[:, 8:].any()
    for s in range(8):
        moved = sites.pattern[1][:, 2, 7, s, None] * sites.v[1][:, s, 2]
        each = moved @ np.asarray(attention.W_O[2]) @ params.W_U.T
        np.testing.assert_allclose(sources[:, s], each - each.mean(-1, keepdims=True), atol=1e-4)


def test_a_clean_pass_that_a_clamp_reads_is_made() -> None:
    params, batch = network(language(), 1), sequences(4)
    at = context.random_positions(4, 12)
    clamp = c.ablate(0, 1) & c.preserve("values")
    found = measured(removal.ablation_losses(at, 1, 11, "full"), params, batch, clamp)
    both = clamp & c.ablate(1, 2)
    change = losses_of(params, batch, both.arrays(params.config))
    change -= losses_of(params, batch, clamp.arrays(params.config))
    np.testing.assert_allclose(found["loss"][1, 2], change.mean(), atol=1e-5)


def test_a_grafted_network_is_measured_with_its_graft() -> None:
    params, donor = network(language(), 1), network(language(), 2)
    batch, at = sequences(4), context.random_positions(4, 12)
    clamp = c.graft(donor, after=0)
    joined = dataclasses.replace(
        donor, W_E=params.W_E, W_pos=params.W_pos, blocks=(params.blocks[0], donor.blocks[1])
    )
    measure = removal.ablation_losses(at, 1, 11, "full")
    found = measured(measure, params, batch, clamp)
    expected = measured(measure, joined, batch)
    np.testing.assert_allclose(found["loss"], expected["loss"], atol=1e-5)
