"""From a batch to the first residual stream: tokens, labels and positions.

Glossary of shapes: as in `sites`; V distinct tokens of a batch.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ih_jax.data.batches import Batch, Sequences, Tokens, Vectors
from ih_jax.errors import UserError
from ih_jax.model.layers import linear
from ih_jax.model.params import Params

# Distinct tokens of a batch; beyond, gathering beats products with one-hot columns, and only those
# exemplars and labels are embedded that occur.
ONE_HOT_UP_TO = 512


@struct.dataclass
class Stream:
    """A residual stream [D, T, B]; while it is plain tokens, also the few distinct ones.

    What is linear or per token may be done to the distinct columns [D, V] and then laid out by
    `one_hot` [V, T, B]: in the paper's setting 56 columns stand for 160 tokens.
    """

    value: Array
    columns: Array | None = None
    one_hot: Array | None = None


def same_or_new(stream: Stream, value: Array) -> Stream:
    """The stream, if no hold changed its value, else a stream of the new value alone."""
    return stream if value is stream.value else Stream(value)


def last_token(stream: Stream) -> Stream:
    """A stream of the last position alone."""
    if stream.columns is None or stream.one_hot is None:
        return Stream(stream.value[:, -1:])
    one_hot = stream.one_hot[:, -1:]
    return Stream(linear(stream.columns, one_hot), stream.columns, one_hot)


def embed(params: Params, batch: Sequences) -> Stream:
    """Tokens, x1 y1 x2 y2 ... xq, or vectors; what is beyond the model's labels embeds as zero."""
    D, C = params.config.d_model, params.config.labels
    if isinstance(batch, Tokens) != params.config.language:
        raise UserError(
            f"a batch of {type(batch).__name__} for a model of {C} "
            f"{'tokens' if params.config.language else 'labels'}: give the model's own kind "
            "(Tokens for a language model, Batch or Vectors for one with features)"
        )
    if isinstance(batch, Vectors):
        return Stream(_embed_vectors(params, batch))
    zero = jnp.zeros((D, 1))
    if isinstance(batch, Tokens):
        known = (batch.tokens >= 0) & (batch.tokens < C)
        columns = jnp.concatenate([params.W_E, zero], axis=1)
        index = jnp.where(known, batch.tokens, C).T  # [T, B]
    else:
        assert params.b_E is not None
        assert params.W_L is not None
        B, P = batch.labels.shape
        V = len(batch.table)
        if V + C + 1 > ONE_HOT_UP_TO:
            return Stream(_embed_those_that_occur(params, batch))
        exemplars = linear(params.W_E, batch.table.T) + params.b_E[:, None]
        columns = jnp.concatenate([exemplars, params.W_L, zero], axis=1)
        rows = jnp.arange(B * P).reshape(B, P) if batch.rows is None else batch.rows
        labels = V + jnp.where((batch.labels >= 0) & (batch.labels < C), batch.labels, C)
        index = jnp.stack([rows.T, labels.T], axis=1).reshape(2 * P, B)[:-1]  # [T, B]
    if columns.shape[1] > ONE_HOT_UP_TO:
        return Stream(columns[:, index])
    one_hot = (index[None] == jnp.arange(columns.shape[1])[:, None, None]).astype(columns.dtype)
    return Stream(linear(columns, one_hot), columns, one_hot)


def _embed_those_that_occur(params: Params, batch: Batch) -> Array:
    """[D, T, B] of a batch whose table, or the model's labels, are many more than its tokens.

    The gradient to W_L is zero but for the columns of labels in the batch: a scatter adds them up.
    """
    assert params.b_E is not None
    assert params.W_L is not None
    B, P = batch.labels.shape
    C = params.config.labels
    rows = jnp.arange(B * P).reshape(B, P) if batch.rows is None else batch.rows
    if len(batch.table) > B * P:
        exemplars = linear(params.W_E, jnp.asarray(batch.table)[rows.T].reshape(B * P, -1).T)
    else:
        exemplars = linear(params.W_E, batch.table.T)[:, rows.T.reshape(-1)]
    exemplars = (exemplars + params.b_E[:, None]).reshape(-1, P, B)
    labels = batch.labels.T[:-1]
    known = (labels >= 0) & (labels < C)
    embedded = jnp.where(known, params.W_L[:, jnp.where(known, labels, 0)], 0.0)
    context = jnp.stack([exemplars[:, :-1], embedded], axis=2).reshape(-1, 2 * (P - 1), B)
    return jnp.concatenate([context, exemplars[:, -1:]], axis=1)


def _embed_vectors(params: Params, batch: Vectors) -> Array:
    """[D, T, B]: W_E x + b_E, or a label's column of W_L where one stands."""
    assert params.b_E is not None
    assert params.W_L is not None
    features = params.W_E.shape[1]
    if batch.vectors.shape[-1] != features:
        raise UserError(
            f"vectors have {batch.vectors.shape[-1]} features, the model reads {features}: "
            "set Config.features, or give the model's own kind"
        )
    embedded = linear(params.W_E, batch.vectors.T) + params.b_E[:, None, None]
    if batch.labels is None:
        return embedded
    labels = batch.labels.T  # [T, B]
    return jnp.where(labels < 0, embedded, _label_columns(params.W_L, labels))


def _label_columns(W_L: Array, labels: Array) -> Array:
    """[D, T, B] of labels [T, B]; one beyond the model's own is zero."""
    one_hot = labels[None] == jnp.arange(W_L.shape[1])[:, None, None]
    return linear(W_L, one_hot.astype(W_L.dtype))


def position_columns(params: Params, T: int) -> Array:
    """[D, T], what is added to tokens (or to inputs of queries and keys)."""
    config = params.config
    if config.positions != "sinusoidal":
        assert params.W_pos is not None
        return params.W_pos[:T].T
    d = np.arange(config.d_model)
    angle = np.arange(T) / config.position_base ** (2 * (d // 2) / config.d_model)[:, None]
    return jnp.asarray(np.where(d[:, None] % 2 == 0, np.sin(angle), np.cos(angle)), jnp.float32)
