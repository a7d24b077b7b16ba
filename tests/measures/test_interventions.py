"""Interventions in numbers are those made one by one, on networks of both kinds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import network, sequences, small
from planted import plant

import ih_jax as ih
from ih_jax.data.batches import Tokens
from ih_jax.measures import interventions
from ih_jax.measures.interventions import logit_difference, losses

LANGUAGE = {"features": 0, "labels": 9, "layers": 2, "mlp_ratio": 2}
NEAR = {"rtol": 1e-4, "atol": 1e-4}
answer = logit_difference(3, 5)


def tokens(config: Any, count: int = 2, length: int = 6, seed: int = 0) -> Tokens:
    drawn = np.random.default_rng(seed).integers(config.labels, size=(count, length))
    return Tokens(np.asarray(drawn, np.int32))


def copied(logits: Any, batch: Any) -> Any:
    """The loss where the second of two repeats could be copied."""
    log_p = jax.nn.log_softmax(logits[:, 25:-1], axis=-1)
    return -jnp.take_along_axis(log_p, batch.tokens[:, 26:, None], axis=-1).mean((1, 2))


@pytest.fixture(scope="module")
def trained() -> Any:
    """A language model of 2 layers with MLPs, random weights."""
    return ih.Network(network(small(**LANGUAGE)))


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Llama with an induction circuit: 0.0 attends to the token before, 1.0 matches, copies."""
    return ih.pretrained(plant(tmp_path_factory.mktemp("planted"), "llama"))


@pytest.mark.parametrize(
    ("right", "wrong", "position", "message"),
    [
        (1.5, 5, -1, "one of right is 1.5: give a whole number"),
        (3, [5, -1], -1, "one of wrong is -1: give a whole number from 0"),
        (3, "and", -1, "one of wrong is 'and'"),
        (3, 5, 0.5, "position is 0.5: give a whole number"),
        (3, 5, 6, "position is 6: give one of -6 to 5"),
        (3, 9, -1, "wrong is 9: give 0 to 8"),
        ([3, 3, 3], 5, -1, "right has 3 entries: give one, or one for each of 2"),
    ],
)
def test_a_difference_of_logits_that_are_not_there_is_refused(
    right: Any, wrong: Any, position: Any, message: str
) -> None:
    with pytest.raises(ih.UserError, match=message):
        logit_difference(right, wrong, position)(np.zeros((2, 6, 9)), None)


def test_tokens_of_a_difference_may_be_arrays() -> None:
    logits = np.arange(54.0).reshape(1, 6, 9).repeat(2, 0)
    found = logit_difference(np.array([3, 4]), jnp.array(1), np.int64(-6))(logits, None)
    assert found.tolist() == [2, 3]


def test_heads_removed_together_are_those_removed_one_by_one(trained: Any) -> None:
    batch = tokens(trained.config)
    for kind, also in (("full", ih.Clamp()), ("patterns", ih.preserve("patterns"))):
        found = interventions.ablations(trained, batch, kind, answer)
        assert dict(found.sizes) == {"sequence": 2, "layer": 2, "head": 4}
        for layer, head in ((0, 0), (0, 3), (1, 2)):
            left = trained.activations(batch, ih.ablate(layer, head) & also)
            one = found.after.sel(layer=layer, head=head)
            np.testing.assert_allclose(one, answer(left.logits, batch), **NEAR)
        np.testing.assert_allclose(
            found.before, answer(trained.activations(batch).logits, batch), **NEAR
        )
    with pytest.raises(ih.UserError, match="unknown kind 'pattern': did you mean 'patterns'"):
        interventions.ablations(trained, batch, "pattern")


def test_clamps_that_read_other_sequences_read_none_of_other_interventions(trained: Any) -> None:
    batch, clamp = tokens(trained.config), ih.mean("z", 0, [1])
    found = interventions.ablations(trained, batch, "full", answer, clamp)
    left = trained.activations(batch, clamp & ih.ablate(1, 2))
    one = found.after.sel(layer=1, head=2)
    np.testing.assert_allclose(one, answer(left.logits, batch), **NEAR)


@pytest.mark.parametrize("site", ["z", "k", "pattern", "resid_post"])
def test_places_patched_together_are_those_patched_one_by_one(trained: Any, site: str) -> None:
    batch, other = tokens(trained.config), tokens(trained.config, seed=1)
    found = interventions.activation_patching(trained, batch, other, site, True, answer)
    heads = None if site == "resid_post" else [2]
    where = {"layer": 1, "position": 4} | ({} if heads is None else {"head": 2})
    alone = trained.patch(batch, other, site, layer=1, heads=heads, positions=4)
    np.testing.assert_allclose(found.after.sel(where), answer(alone.logits, batch), **NEAR)
    there = trained.activations(other).logits
    np.testing.assert_allclose(found.source, answer(there, batch), **NEAR)
    assert ("head" in found.after.dims) == (heads is not None)


def test_few_shot_networks_are_patched_too() -> None:
    found = ih.Network(network(small()), clamp=ih.ablate(0, 3))
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    many = interventions.activation_patching(found, a, b)
    one = found.patch(a, b, "z", layer=1, heads=[2])
    np.testing.assert_allclose(many.after.sel(layer=1, head=2), losses(one.logits, a), **NEAR)
    nothing = many.after.sel(layer=0, head=3) - many.before  # 0 in both passes
    np.testing.assert_allclose(nothing, 0, atol=1e-5)


@pytest.mark.parametrize("inputs", [("k",), ("q", "v")])
def test_paths_together_are_those_one_by_one(trained: Any, inputs: Any) -> None:
    batch, other = tokens(trained.config), tokens(trained.config, seed=1)
    found = interventions.path_patching(trained, batch, other, (1, 2), inputs, answer)
    assert dict(found.sizes) == {"sequence": 2, "layer": 1, "head": 4}
    alone = trained.patch_path(batch, other, (0, 1), (1, 2), inputs)
    one = found.after.sel(layer=0, head=1)
    np.testing.assert_allclose(one, answer(alone.logits, batch), **NEAR)
    with pytest.raises(ih.UserError, match="1 or later"):
        interventions.path_patching(trained, batch, other, (0, 2))


def test_paths_to_the_logits_together_are_those_one_by_one(trained: Any) -> None:
    batch, other = tokens(trained.config), tokens(trained.config, seed=1)
    found = interventions.path_patching(trained, batch, other, metric=answer)
    alone = trained.patch_path(batch, other, (1, 3), "logits")
    one = found.after.sel(layer=1, head=3)
    np.testing.assert_allclose(one, answer(alone.logits, batch), **NEAR)


@pytest.mark.parametrize("site", ["z", "resid_pre"])
def test_attribution_is_patching_to_first_order(trained: Any, site: str) -> None:
    """As the passes come together, what is wrong falls faster than what there is to tell."""
    batch, other = tokens(trained.config), tokens(trained.config, seed=1)
    here, there = trained.activations(batch), trained.activations(other)
    wrong = []  # as a share of the largest effect
    for share in (0.02, 0.01):
        between = jax.tree.map(lambda a, b, s=share: a + s * (b - a), here, there)
        real = interventions.activation_patching(trained, batch, between, site, True, answer)
        first = interventions.attribution_patching(trained, batch, between, site, answer)
        assert first.change.dims == real.after.dims
        effect = real.after - real.before
        wrong.append(float(abs(first.change - effect).max() / abs(effect).max()))
    assert wrong[0] < 0.2 and wrong[1] < 0.7 * wrong[0]  # a half, but for higher orders


def test_attribution_ranks_places_as_patching_does(trained: Any) -> None:
    batch, other = tokens(trained.config), tokens(trained.config, seed=1)
    real = interventions.activation_patching(trained, batch, other, "z", True, answer)
    first = interventions.attribution_patching(trained, batch, other, "z", answer)
    effect, told = (np.ravel(x) for x in (real.after - real.before, first.change))
    ranks = [np.argsort(np.argsort(x)) for x in (effect, told)]
    assert np.corrcoef(*ranks)[0, 1] > 0.5


def test_the_circuit_of_a_network_of_others_is_found(read: Any) -> None:
    batch, other = read.batch(2), read.batch(2, seed=1)
    found = interventions.ablations(read, batch, "full", copied)
    worse = (found.after - found.before).mean("sequence").values
    assert (worse[[0, 1], [0, 0]] > 1).all() and (abs(worse[[0, 1], [1, 1]]) < 1e-3).all()
    # With patterns kept, the head that only makes a pattern is not missed.
    kept = interventions.ablations(read, batch, "patterns", copied)
    assert float(abs(kept.after - kept.before).mean("sequence").sel(layer=0).max()) < 0.2
    assert float((kept.after - kept.before).mean("sequence").sel(layer=1, head=0)) > 1
    # The head that matches reads by its keys what the other one writes.
    for inputs, matters in (("k", True), ("v", False)):
        path = interventions.path_patching(read, batch, other, (1, 0), inputs, copied)
        change = (path.after - path.before).mean("sequence").sel(layer=0).values
        assert (change[0] > 0.5) == matters and abs(change[1]) < 1e-3


def test_what_does_not_fit_is_said(trained: Any, tmp_path: Any) -> None:
    batch = tokens(trained.config)
    with pytest.raises(ih.UserError, match="the metric gives shape"):
        interventions.ablations(trained, batch, metric=lambda logits, batch: logits.mean())
    with pytest.raises(ih.UserError, match="unknown site 'Z'"):
        interventions.activation_patching(trained, batch, batch, "Z")
    with pytest.raises(ih.UserError, match="the source has 3 sequences"):
        interventions.activation_patching(trained, batch, tokens(trained.config, 3))
    through_a_norm = ih.pretrained(plant(tmp_path, "olmo2"))
    with pytest.raises(ih.UserError, match="through a norm"):
        interventions.path_patching(through_a_norm, batch, batch)


def test_the_loss_without_a_head_is_the_tasks_own() -> None:
    """Where labels are padded, those that the run does not use are no answers."""
    task = ih.fewshot(classes=8, labels=3, labels_of_program=6)
    config = task.config(d_model=16, heads=2)
    params = ih.init(jax.random.key(0), config)
    params = params.replace(b_U=jnp.arange(6.0))  # the padded ones are likely
    found = ih.Network(params, task=task)
    batch = found.batch(16)
    before = interventions.ablations(found, batch)["before"]
    assert float(before.mean()) == pytest.approx(found.loss(batch), rel=1e-5)
    raw = losses(found.activations(batch).logits, batch)
    assert float(raw.mean()) > found.loss(batch) + 0.5
