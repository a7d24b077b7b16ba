"""What the page says each head adds is what it adds: heads and the rest sum to the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.languages.synthetic import Bigrams
from ih_jax.reports.viewer import looking

SHOWN = (0, 3)


def network(task, **settings):
    config = task.config(**settings)
    params = ih.init(jax.random.key(0), config, 3.0)
    noise = jax.random.normal(jax.random.key(1), params.W_U.shape[:1])
    return params.replace(b_U=noise)


def probe_of(task):
    return task.objective().sample(jax.random.key(2), task.run_arrays().train, 8)


def direct(params, sites, stream):
    """Logits of a part of the stream [B, T, D], with the last norm's deviation of the whole."""
    whole = sites.resid_post[-1]
    if params.norm is None:
        return stream @ params.W_U.T
    centred = stream - stream.mean(-1, keepdims=True)
    spread = jnp.sqrt(whole.var(-1, keepdims=True) + 1e-5)
    return (centred / spread * params.norm.scale[None, None]) @ params.W_U.T


@pytest.mark.parametrize("norm", [True, False])
def test_heads_and_embedding_sum_to_the_logits_of_the_query(norm):
    task = ih.fewshot(classes=20)
    params = network(task, norm=norm)
    probe = probe_of(task)
    sites = ih.apply(params, probe)
    found = looking.added_to_query(params, forward(params, probe, Holds()), np.array(SHOWN))
    assert found.shape == (2, 2, 8, 5)
    bias = params.b_U if params.norm is None else params.b_U + params.W_U @ params.norm.bias
    rest = direct(params, sites, sites.embed)[:, -1] + bias[None]
    total = found.sum((1, 2)) + rest[np.array(SHOWN)]
    np.testing.assert_allclose(total, sites.logits[np.array(SHOWN), -1], rtol=1e-5, atol=1e-4)


def test_heads_and_embedding_sum_to_the_logit_of_the_next_token():
    task = ih.language(Bigrams(tokens=12, length=24))
    params = network(task, layers=3, heads=4, positions="shortformer", max_positions=24)
    probe = probe_of(task)
    sites = ih.apply(params, probe)
    at = np.array(SHOWN)
    few = ih.Tokens(probe.tokens[at])
    found = looking.added_to_next(params, forward(params, probe, Holds()), few, at)
    assert found.shape == (2, 23, 3, 4)

    def of_next(logits):
        less = logits - logits.mean(-1, keepdims=True)
        return jnp.take_along_axis(less[at, :-1], few.tokens[:, 1:, None], axis=-1)[..., 0]

    bias = params.b_U + params.W_U @ params.norm.bias
    rest = of_next(direct(params, sites, sites.embed) + bias[None, None])
    np.testing.assert_allclose(found.sum((2, 3)) + rest, of_next(sites.logits), atol=1e-4)


def test_patterns_are_those_of_apply_row_by_row():
    task = ih.fewshot(classes=20)
    params, probe = network(task), probe_of(task)
    found = looking.everything("fewshot", SHOWN)(params, Holds(), probe)["pattern"]
    expected = ih.apply(params, probe).pattern
    q, k = looking.lower_triangle(5)
    for layer in range(2):
        whole = expected[layer][np.array(SHOWN)]
        np.testing.assert_allclose(
            found[:, layer] / looking.LEVELS, whole[:, :, q, k], atol=0.5001 / looking.LEVELS
        )
