"""A network of other people as one to look inside: every site, any clamp, patches, measures.

`ih.pretrained(folder)` gives an `ih.Network`. Its weights stand in `PretrainedParams`, which has
what measures read of `Params` (blocks with W_Q, W_K, W_V and W_O, W_E, W_U, the last norm), and
runs the forward pass of its own family with a tap at every site.

Glossary: B sequences of T tokens, L layers of H heads of width E, stream of width D, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from numpy.typing import ArrayLike

from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Sequences, Tokens
from ih_jax.errors import UserError, unknown
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.layer import by_layer, layer, seen_from
from ih_jax.interop.pretrained.layout import Blocks, Config, Weights
from ih_jax.interop.pretrained.network import (
    add_positions,
    check_length,
    embed_tokens,
    unembed,
    written,
)
from ih_jax.interop.pretrained.parts import logit_parts
from ih_jax.interop.pretrained.text import encode
from ih_jax.model.activations import Activations
from ih_jax.model.params import Attention, Norm, Rows
from ih_jax.model.sites import GLOBAL_SITES, SITES, Sites, to_program, to_public
from ih_jax.model.transformer import Tap, query_only
from ih_jax.sweeps.network import OWN, Held, Network
from ih_jax.sweeps.own_batches import check_count, texts_of

SETS = ("repeated", "random")


class _Block(NamedTuple):
    """What measures read of a layer."""

    attention: Attention


@struct.dataclass
class PretrainedParams:
    """Weights of a network of another architecture, where `Params` would stand."""

    weights: Weights
    config: Any = struct.field(pytree_node=False)  # a Config

    def sites(self, batch: Sequences, tap: Tap | None, rows: Rows) -> Sites:
        """All sites, as `ih_jax.model.transformer.forward` gives those of its own networks."""
        found = _sites(self.weights, self.config, batch, tap)
        return found if rows == "all" else query_only(found)

    def logit_parts(self, activations: Activations) -> dict[str, Array]:
        """What each part adds to the logits, as `ih_jax.model.attribution.logit_parts` gives it.

        Norms that follow attention are held fixed, too; where the network caps its logits, parts
        sum to logits before the cap. Raises UserError where layers normalise the stream (opt-350m).
        """
        return logit_parts(self.weights, self.config, activations)

    @property
    def blocks(self) -> tuple[_Block, ...]:
        return tuple(_Block(self._attention(i)) for i in range(self.config.layers))

    def _attention(self, number: int) -> Attention:
        block = _block(self.weights.blocks, number)
        return Attention(block.W_QKV, jnp.moveaxis(written(block), -1, 0), None)

    @property
    def W_E(self) -> Array:
        """[D, V]"""
        return self.weights.W_E.T

    @property
    def W_U(self) -> Array:
        """[V, D]"""
        return self.weights.W_U

    @property
    def b_U(self) -> Array:
        """[V]"""
        if self.weights.b_U is None:
            return jnp.zeros(self.config.vocabulary)
        return self.weights.b_U

    @property
    def W_pos(self) -> Array | None:
        """[P, D]"""
        return self.weights.W_pos

    @property
    def norm(self) -> Norm | None:
        """The last one; divided by the root of the mean square where config.norm is "rms"."""
        scale, bias = self.weights.norm_scale, self.weights.norm_bias
        return None if scale is None or bias is None else Norm(scale, bias)

    def __repr__(self) -> str:
        c, size = self.config, sum(np.size(leaf) for leaf in jax.tree.leaves(self.weights))
        return (
            f"<PretrainedParams: {c.architecture}, {size:,} weights; {c.layers} layers of "
            f"{c.heads} heads, width {c.d_model}; {c.vocabulary} tokens>"
        )


def _block(blocks: Blocks, number: int) -> Blocks:
    """The weights of one layer."""
    one: Blocks = jax.tree.map(lambda leaf: leaf[number], blocks)
    return one


def _sites(weights: Weights, config: Config, batch: Sequences, tap: Tap | None) -> Sites:
    if not isinstance(batch, Tokens):
        raise UserError(
            f"a batch of {type(batch).__name__}: this network reads tokens: make it with "
            "network.batch_of(tokens=...)"
        )
    sites: Sites = {site: [] for site in SITES}
    T = batch.positions
    check_length(config, T)

    def show(site: str, number: int, value: Array) -> Array:
        before = to_program(site, jnp.moveaxis(value, 0, -1))
        after = before if tap is None else tap(site, number, before, sites)
        sites[site].append(after)
        return value if after is before else to_public(site, after)

    with jax.default_matmul_precision("highest"):
        x = show("embed", 0, embed_tokens(weights, config, batch.tokens))
        x = add_positions(weights, config, x)
        scales, windowed = by_layer(config)
        seen = seen_from(config, T)
        for i in range(config.layers):
            x = layer(
                _block(weights.blocks, i),
                config,
                seen._replace(scale=scales[i], windowed=windowed[i]),
                x,
                lambda site, value, i=i: show(site, i, value),  # type: ignore[misc]
            )
        show("logits", 0, unembed(weights, config, x))
    assert all(len(sites[site]) == 1 for site in GLOBAL_SITES)
    return sites


@dataclass(frozen=True, repr=False)
class PretrainedNetwork(Network):
    """A network that others have trained, to look inside: an `ih.Network`.

    Batches are tokens, the loss is that of the next token. Clamps of exemplars and labels, and
    `freeze` and `graft`, do not apply; what does not apply says so.
    """

    folder: Path = field(default_factory=Path)

    def batch(self, sequences: int = 8, set: str = SETS[0], seed: int = 0) -> Tokens:
        """Random tokens, [B, T]: "repeated" are 25 of them twice, "random" 50; BOS before them.

        Raises:
            UserError: there is no such set, or the context is shorter.
        """
        if set not in SETS:
            raise unknown("set", set, SETS)
        config: Any = self.config
        check_count(sequences, seed, 51, config)
        first = [] if config.bos is None else [config.bos]
        usual = np.setdiff1d(np.arange(config.vocabulary), config.special)
        random = np.random.default_rng(seed)
        if set == "repeated":  # none twice among those that are repeated
            size = min(25, len(usual))
            each = [random.choice(usual, size, replace=False) for _ in range(sequences)]
            drawn = np.tile(np.stack(each), (1, 2))
        else:
            drawn = random.choice(usual, (sequences, 50))
        begin = np.tile(np.array(first, drawn.dtype), (sequences, 1))
        whole = np.concatenate([begin, drawn], axis=1)
        check_length(config, whole.shape[1])
        return Tokens(jnp.asarray(whole, jnp.int32))

    def batch_of(
        self,
        examples: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        vectors: ArrayLike | None = None,
        text: str | Sequence[str] | None = None,
        tokens: ArrayLike | None = None,
    ) -> Sequences:
        """A batch of tokens [B, T] or [T], or of a text, by the tokenizer.json in the folder.

        Before a text stands the network's begin-of-sequence token, if it has one.

        Raises:
            UserError: there is no tokenizer.json, texts have different numbers of tokens, or tokens
                are not in the vocabulary.
        """
        if text is not None and examples is vectors is tokens is labels is None:
            lines = texts_of(text)
            config: Any = self.config
            tokens, text = encode(self.folder / "tokenizer.json", lines, config.bos), None
        given: dict[str, Any] = {"examples": examples, "labels": labels, "vectors": vectors}
        return super().batch_of(**given, text=text, tokens=tokens)

    def loss(self, batch: Sequences, clamp: Held = OWN) -> float:
        """The mean loss of the next token, nats, over all positions but the last."""
        return self.scores(batch, clamp)["loss"]

    def scores(self, batch: Sequences, clamp: Held = OWN) -> dict[str, float]:
        """The loss, in nats, and the accuracy of the next token."""
        logits = forward(self.params, self._checked(batch), self.holds(clamp))["logits"][
            0
        ]  # [V, T, B]
        assert isinstance(batch, Tokens)
        then = batch.tokens.T[1:]  # [T - 1, B]
        found = jax.nn.log_softmax(logits[:, :-1], axis=0)
        of_then = jnp.take_along_axis(found, then[None], axis=0)
        right = logits[:, :-1].argmax(0) == then
        return {"loss": float(-of_then.mean()), "accuracy": float(right.mean())}

    def check_paths(self) -> None:
        """Raises UserError where a norm follows attention."""
        if self._shape.post_norm or self._weights.blocks.after1_scale is not None:
            raise UserError(
                f"path patching: heads of {self._shape.architecture} write to the stream through "
                "a norm that all heads share: use patch"
            )

    def holds(self, clamp: Held = OWN) -> Holds:
        if isinstance(clamp, Clamp):
            for part in clamp.parts:
                if part.held.of_weights or part.held.kind == "graft":
                    raise UserError(
                        f"{part.describe()}: holds weights of networks that are trained here, and "
                        "this one is read from files: leave it out"
                    )
        return super().holds(clamp)

    def _rows(self) -> dict[str, str]:
        # Parameters are not counted: keys and values that heads share are here for each head.
        c = self._shape
        shape = f"{c.architecture}, {c.layers} layers of {c.heads} heads, d_model {c.d_model}"
        return super()._rows() | {"shape": f"{shape}, {c.vocabulary:,} tokens"}

    @property
    def _shape(self) -> Config:
        shape: Any = self.config
        return shape

    @property
    def _weights(self) -> Weights:
        params: Any = self.params
        return params.weights


def pretrained(model: str | Path) -> PretrainedNetwork:
    """A network that others have trained, to look inside as one that was trained here.

    Args:
        model: a folder with config.json and model.safetensors (or shards and their index), a .gguf
            file, or "hub:OWNER/NAME@REVISION".

    Raises:
        UserError: as `reading.read`.
    """
    found = reading.read(model)
    params: Any = PretrainedParams(found.weights, found.config)
    return PretrainedNetwork(params, name=found.name, folder=found.folder)
