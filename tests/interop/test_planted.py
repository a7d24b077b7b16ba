"""An induction circuit that was put into the files of each family is found."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from planted import SIZES, plant

from ih_jax.interop import head_probes, head_scores
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.network import direct_unembedding, forward
from ih_jax.measures.heads import (
    copying_logits,
    prefix_matching_attention,
    previous_token_attention,
)

ORDER = ("prefix_matching", "previous_token", "copying_logits")


@partial(jax.jit, static_argnames=("config", "begin"))
def scores(weights: Any, config: Any, tokens: Any, begin: int) -> Any:
    """The scores of `head_scores` on one probe, so that each family compiles one pass only."""
    W_U = direct_unembedding(weights, config)

    def of(pattern: Any, z: Any, W_O: Any) -> Any:
        return {
            "prefix_matching": prefix_matching_attention(pattern, tokens, begin),
            "previous_token": previous_token_attention(pattern),
            "copying_logits": copying_logits(z, pattern, W_O, W_U, tokens),
        }

    return forward(weights, config, tokens, of)[1]


@pytest.mark.parametrize("kind", SIZES)
def test_the_circuit_is_found(kind: str, tmp_path: Path) -> None:
    model = reading.read(plant(tmp_path, kind))
    shown = head_probes.probes(model)
    found = scores(model.weights, model.config, shown.repeated, shown.begin)
    prefix, previous, copies = (np.array(found[name]) for name in ORDER)
    assert prefix[1, 0] > 0.9 and copies[1, 0] > 0
    # ALiBi alone cannot be sharp: a slope of .7 leaves half of the attention to earlier tokens.
    assert previous[0, 0] > (0.4 if kind == "bloom" else 0.9)
    prefix[1, 0], previous[0, 0] = 0, 0
    assert prefix.max() < 0.3 and previous.max() < 0.3


def test_all_scores_of_it_are_what_they_should_be(tmp_path: Path) -> None:
    found = head_scores.measure(reading.read(plant(tmp_path, "gemma2")))
    np.testing.assert_array_equal(
        head_scores.kinds(found), [["previous token", ""], ["induction", ""]]
    )
    # It looks at all earlier occurrences alike: at one, two and three of them.
    assert found["induction_diagonal"][1, 0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=0.05)
