"""The transformer: its shape, its weights and their initial values.

Paper: Singh et al. 2024, section 2 and appendix A; smeared keys: Olsson et al. 2022, "Smeared Key".

Glossary of shapes:
    L  layers            D  d_model                F  features of an exemplar
    H  heads a layer     E  d_head, D / H          C  labels or tokens of a language (logits)
    M  hidden units of an MLP                      N  positions in a learned table
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.nn.initializers import Initializer, lecun_normal

from ih_jax.errors import UserError, check_fields, given, real, unknown

Rows = Literal["all", "query"]  # of the last layer: all, or that of the last token only
Positions = Literal["rope", "shortformer", "sinusoidal", "learned", "relative"]
TABLES = ("shortformer", "learned", "relative")  # positions that have numbers of their own


@dataclass(frozen=True)
class Config:
    """What decides shapes and program. The defaults are the few-shot paper's (66,629 parameters).

    `features` 0: a language model, whose `labels` are its vocabulary.
    `positions`: "rope" rotates queries and keys in pairs (0, 1), (2, 3) ... of each head;
    "shortformer" adds a learned table to the inputs of queries and keys only; "sinusoidal" and
    "learned" add to the embedded tokens; "relative" adds a number to the scores, learned for each
    layer, head and distance. `mlp_ratio` None means attention only. `embedding_std`: standard
    deviation of a language model's token embeddings at the start; None: d_model ** -0.5.
    """

    features: int = 512
    labels: int = 5
    layers: int = 2
    d_model: int = 64
    heads: int = 8
    mlp_ratio: float | None = None
    positions: Positions = "rope"
    position_base: float = 10_000.0
    max_positions: int = 32
    norm: bool = True
    smeared_keys: bool = False
    embedding_std: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.positions not in get_args(Positions):
            raise unknown("positions", self.positions, get_args(Positions))
        sizes = (self.labels, self.layers, self.d_model, self.heads)
        if min(sizes) < 1 or self.features < 0 or self.max_positions < 1:
            raise UserError(f"a size in {self} is below 1: give 1 or more")
        real("position_base", self.position_base, above=0)
        if self.mlp_ratio is not None and real("mlp_ratio", self.mlp_ratio) * self.d_model < 1:
            raise UserError(
                f"mlp_ratio is {self.mlp_ratio:g}, which is no hidden unit of d_model "
                f"{self.d_model}: give a larger ratio, or None for attention only"
            )
        if self.embedding_std is not None:
            real("embedding_std", self.embedding_std, above=0)
            if not self.language:
                raise UserError(
                    f"embedding_std is {self.embedding_std:g}, but a network that reads exemplars "
                    "has no token embeddings: leave it out"
                )
        if self.d_model % self.heads:
            raise UserError(
                f"d_model {self.d_model} does not split into {self.heads} heads: "
                "give a d_model that is a multiple of heads"
            )
        if self.positions == "rope" and self.d_head % 2:
            raise UserError(
                f"positions 'rope' turns pairs, but d_head is {self.d_head} "
                f"({self.d_model} / {self.heads} heads): give an even d_head"
            )

    @property
    def d_head(self) -> int:
        """Dimensions of one head, E."""
        return self.d_model // self.heads

    @property
    def weights(self) -> int:
        """About how many weights a network has: its matrices, without biases and norms."""
        mlp = 2 * int(self.d_model * self.mlp_ratio) if self.mlp_ratio is not None else 0
        table = self.max_positions if self.positions in ("learned", "shortformer") else 0
        outside = self.features + 2 * self.labels + table
        distances = self.max_positions * self.heads if self.positions == "relative" else 0
        return self.d_model * outside + self.layers * (
            self.d_model * (4 * self.d_model + mlp) + distances
        )

    @property
    def language(self) -> bool:
        """Whether this reads tokens, not exemplars and labels."""
        return self.features == 0


@struct.dataclass
class Norm:
    """A layer norm, epsilon 1e-5."""

    scale: Array  # [D]
    bias: Array  # [D]


@struct.dataclass
class Attention:
    """One layer of heads. Rows are outputs; W_Q, W_K, W_V and W_O give TransformerLens' shapes."""

    W_QKV: Array  # [3, H, E, D]
    W_out: Array  # [D, H, E]
    smear: Array | None  # [H], sigmoid gives the share of a key's own position
    distances: Array | None = None  # [H, N], positions "relative": what a distance adds to a score

    @property
    def W_Q(self) -> Array:
        """[H, D, E]"""
        return jnp.swapaxes(self.W_QKV[0], -1, -2)

    @property
    def W_K(self) -> Array:
        """[H, D, E]"""
        return jnp.swapaxes(self.W_QKV[1], -1, -2)

    @property
    def W_V(self) -> Array:
        """[H, D, E]"""
        return jnp.swapaxes(self.W_QKV[2], -1, -2)

    @property
    def W_O(self) -> Array:
        """[H, E, D]"""
        return jnp.moveaxis(self.W_out, 0, -1)


@struct.dataclass
class MLP:
    """Two linear maps with a GELU (tanh approximation) between them."""

    W_in: Array  # [M, D]
    b_in: Array  # [M]
    W_out: Array  # [D, M]
    b_out: Array  # [D]


@struct.dataclass
class Block:
    """One layer."""

    norm1: Norm | None
    attention: Attention
    norm2: Norm | None
    mlp: MLP | None


@struct.dataclass
class Params:
    """All weights of a network, with the `Config` that shaped them as static data."""

    W_E: Array  # [D, F], exemplars; of a language model [D, C], tokens
    b_E: Array | None  # [D]; None: a language model
    W_L: Array | None  # [D, C], labels; None: a language model
    W_pos: Array | None  # [N, D], positions "learned" and "shortformer"
    blocks: tuple[Block, ...]
    norm: Norm | None
    W_U: Array  # [C, D]
    b_U: Array  # [C]
    config: Config = struct.field(pytree_node=False)

    def __repr__(self) -> str:
        """The shape of the network and how many weights it has, not the weights."""
        c = self.config
        reads = f"{c.labels} tokens" if c.language else f"{c.features} features, {c.labels} labels"
        stacked = self.b_U.shape[:-1] if hasattr(self.b_U, "shape") else ()
        networks = f"{' x '.join(map(str, stacked))} networks of " if stacked else ""
        weights = sum(np.size(leaf) for leaf in jax.tree.leaves(self)) // max(1, math.prod(stacked))
        mlp = f", MLPs of {c.mlp_ratio:g} x {c.d_model}" if c.mlp_ratio is not None else ""
        return (
            f"<Params: {networks}{weights:,} weights; {c.layers} layers of {c.heads} heads, "
            f"width {c.d_model}{mlp}, {c.positions} positions; {reads}>"
        )

    def _repr_html_(self) -> str:
        """In a notebook: every array by its name, with its shape."""
        leaves = jax.tree_util.tree_leaves_with_path(self)
        rows = "".join(
            f"<tr><td><code>{jax.tree_util.keystr(path, simple=True, separator='.')}</code></td>"
            f"<td>{' x '.join(map(str, np.shape(leaf)))}</td></tr>"
            for path, leaf in leaves
        )
        table = f"<table><tr><th>weights</th><th>shape</th></tr>{rows}</table>"
        return f"<details><summary>{html.escape(repr(self))}</summary>{table}</details>"


def init(key: Array, config: Config, scale: Array | np.ndarray | float = 1.0) -> Params:
    """Initial weights of one network.

    `scale` multiplies every weight matrix. A draw does not depend on the number of labels, so a
    network with 5 labels has the first 5 columns of one with 15.
    """
    if not isinstance(config, Config):
        raise UserError(f"config is {given(config)}: give an ih_jax.Config")
    if not hasattr(key, "dtype"):
        raise UserError(f"key is {given(key)}: give a key of JAX, such as jax.random.key(0)")
    scale = jnp.asarray(scale)
    D, language = config.d_model, config.language
    # A key a matrix, in the order in which they are drawn.
    keys = iter(jax.random.split(key, 6 + 5 * config.layers))
    W_pos = _positions(keys, config, scale)
    if language:
        std = config.embedding_std
        of_tokens = scale if std is None else scale * (std * D**0.5)  # the draw has D ** -0.5
        W_E = _rows_of_labels(next(keys), config, of_tokens, _of_tokens).T
    else:
        W_E = _matrix(next(keys), scale, D, config.features)
    W_L = None if language else _rows_of_labels(next(keys), config, scale, _small).T
    return Params(
        W_E=W_E,
        b_E=None if language else jnp.zeros(D),
        W_L=W_L,
        W_pos=W_pos,
        blocks=tuple(_block(keys, config, scale) for _ in range(config.layers)),
        norm=_unit_norm(config),
        W_U=_rows_of_labels(next(keys), config, scale, LECUN),
        b_U=jnp.zeros(config.labels),
        config=config,
    )


LECUN = lecun_normal(in_axis=-1, out_axis=-2)


def _matrix(key: Array, scale: Array, rows: int, columns: int) -> Array:
    return scale * LECUN(key, (rows, columns), jnp.float32)


def _unit_norm(config: Config) -> Norm | None:
    return Norm(jnp.ones(config.d_model), jnp.zeros(config.d_model)) if config.norm else None


def _block(keys: Iterator[Array], config: Config, scale: Array) -> Block:
    """One layer; takes two keys, with an MLP four."""
    D, H, E = config.d_model, config.heads, config.d_head
    attention = Attention(
        W_QKV=_matrix(next(keys), scale, 3 * D, D).reshape(3, H, E, D),
        W_out=_matrix(next(keys), scale, D, D).reshape(D, H, E),
        smear=jnp.zeros(H) if config.smeared_keys else None,
        distances=jnp.zeros((H, config.max_positions)) if config.positions == "relative" else None,
    )
    mlp = None
    if config.mlp_ratio is not None:
        M = int(D * config.mlp_ratio)
        W_in = _matrix(next(keys), scale, M, D)
        mlp = MLP(W_in, jnp.zeros(M), _matrix(next(keys), scale, D, M), jnp.zeros(D))
    return Block(_unit_norm(config), attention, _unit_norm(config) if mlp else None, mlp)


def _positions(keys: Iterator[Array], config: Config, scale: Array) -> Array | None:
    """The learned table [N, D], which takes a key; None where positions have none."""
    shape = (config.max_positions, config.d_model)
    if config.positions == "learned":
        limit = config.max_positions**-0.5
        return scale * jax.random.uniform(next(keys), shape, minval=-limit, maxval=limit)
    if config.positions == "shortformer":
        return 0.3 * scale * jax.random.normal(next(keys), shape)
    return None


def _rows_of_labels(key: Array, config: Config, scale: Array, draw: Initializer) -> Array:
    """[C, D]. One key a label: a longer table begins with a shorter one."""
    each = jax.vmap(lambda label: jax.random.fold_in(key, label))(jnp.arange(config.labels))
    rows = jax.vmap(lambda k: jnp.asarray(draw(k, (1, config.d_model), jnp.float32))[0])(each)
    return scale * rows


def _small(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
    return 0.02 * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


def _of_tokens(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
    return shape[-1] ** -0.5 * jax.random.normal(key, shape, dtype)
