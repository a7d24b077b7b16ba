"""Small language models and sequences for them, and how tests measure them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from networks import QUICK, look, small

from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens

VOCABULARY = 7  # 6 tokens and BOS
BIG = {"layers": 3, "d_model": 24, "mlp_ratio": 1.5}


def language(**settings: Any) -> Any:
    """A shape of language model: 4 heads, by default 2 layers without MLPs."""
    default = {"features": 0, "labels": VOCABULARY, "positions": "shortformer"}
    return small(**(default | settings))


def sequences(count: int = 5, length: int = 12, tokens: int = VOCABULARY - 1, seed: int = 0):
    rows = np.random.default_rng(seed).integers(0, tokens, (count, length - 1))
    first = np.full((count, 1), tokens)
    return Tokens(jnp.asarray(np.concatenate([first, rows], axis=1), jnp.int32))


def measured(measure, params, batch, clamp=None):
    holds = Holds() if clamp is None else clamp.arrays(params.config)
    return jax.device_get(jax.jit(measure, compiler_options=QUICK)(params, holds, batch))


def losses_of(params, batch, holds=None, given=None) -> np.ndarray:
    """[T - 1, B], written again."""
    logits = np.asarray(look(params, batch, holds, given=given).logits, float)[:, :-1]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    told = np.asarray(batch.tokens)[:, 1:, None]
    return -np.take_along_axis(log_p, told, axis=-1)[..., 0].T
