"""Patching: values of one forward pass put into another, as holds beside those of a clamp.

Activation patching replaces the values of a site by those of another pass (on other sequences, or
of another network). Path patching does so along one path only: what one head writes, as one later
head reads it (Wang et al. 2023, "Interpretability in the Wild").

Glossary: B sequences of T positions, H heads, D d_model; layers and heads count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Hold, Holds, Rule
from ih_jax.data.batches import Batch, Sequences, Tokens
from ih_jax.errors import LARGEST, UserError, one_or_several, unknown
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import (
    ATTENTION_SITES,
    GLOBAL_SITES,
    HEAD_SITES,
    PAIRED_SITES,
    SITES,
    Sites,
    query_axis,
    rank,
)

INPUTS = ("q", "k", "v")  # what a head reads through

# Applied after every rule of a clamp, so that the other pass's values stand whatever is held there.
AS_IT_WAS = Rule("as it was", lambda scene, value: value, order=99, causal=False)


def still(site: str, layer: int, value: Array, gate: Any = None) -> Hold:
    """A hold of a value in the program's layout, everywhere or where the gate (public layout) is 1.

    It overrides whatever a clamp holds there.
    """
    gate = np.ones((1,) * rank(site), np.float32) if gate is None else gate
    return Hold(gate, {"value": value}, None, None, site, layer, AS_IT_WAS, slot=0, soft=False)


def patched(
    params: Params,
    batch: Sequences,
    holds: Holds,
    source: Sites,
    site: str,
    layer: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    positions: int | Sequence[int] | None = None,
) -> Sites:
    """A pass in which a site has the values of another pass.

    Args:
        params, batch, holds: as `apply.forward` takes them.
        source: the other pass; as many sequences and positions.
        site: which site; at "attn_scores" and "pattern" positions are those of queries.
        layer: which layer, or several; None: all of them.
        heads: which heads, at sites that have heads; None: all.
        positions: which positions, negative ones from the end; None: all.

    Raises:
        UserError: the model has no such site, layer, head or position, or the passes differ in
            size.
    """
    config = params.config
    if site not in SITES:
        raise unknown("site", site, SITES)
    if not source[site]:
        raise UserError(f"the model has no {site}: it has no MLPs (Config.mlp_ratio is None)")
    layers = [0] if site in GLOBAL_SITES else _layers(layer, config)
    gate = gate_of(site, config, heads, positions, batch.positions)
    for each in layers:
        refuse_other_size(source[site][each], site, batch)
    held = [still(site, each, source[site][each], gate) for each in layers]
    return forward(params, batch, replace(holds, holds=(*holds.holds, *held)))


def path_patched(
    params: Params,
    batch: Sequences,
    holds: Holds,
    source: Sites,
    writer: tuple[int, int],
    reader: tuple[int, int] | Sequence[tuple[int, int]] | str,
    inputs: Sequence[str] = INPUTS,
) -> Sites:
    """A pass in which later heads read from one head what it writes in another pass.

    Only the direct path is patched: everything between writer and reader stays as it was, and
    everything after the reader follows from what the reader now does.

    Args:
        params, batch, holds: as `apply.forward` takes them.
        source: the other pass; as many sequences and positions.
        writer: (layer, head).
        reader: (layer, head) in a later layer, several of one layer, or "logits": the final norm
            and the unembedding.
        inputs: through which of "q", "k" and "v" the readers read it.

    Raises:
        UserError: the model has no such heads, the readers are not in one later layer, inputs are
            none of these, or the passes differ in size.
    """
    config = params.config
    layer, head = head_at(writer, config)
    refuse_other_size(source["z"][layer], "z", batch)
    clean = forward(params, batch, holds)
    W_out = params.blocks[layer].attention.W_out[:, head]  # [D, E]
    change = jnp.einsum("de,etb->dtb", W_out, source["z"][layer][head] - clean["z"][layer][head])

    def under(*held: Hold) -> Sites:
        return forward(params, batch, replace(holds, holds=(*holds.holds, *held)))

    def stream_after(layer: int) -> Hold:
        return still("resid_post", layer, clean["resid_post"][layer] + change)

    readers = checked_readers(config, reader, inputs, layer)
    if readers is None:
        return under(stream_after(config.layers - 1))
    late, which = readers
    read = under(stream_after(late - 1))
    return under(
        *(
            still(name, late, read[name][late], gate_of(name, config, which, None, batch.positions))
            for name in INPUTS
            if name in inputs
        )
    )


def checked_readers(
    config: Config,
    reader: tuple[int, int] | Sequence[tuple[int, int]] | str,
    inputs: Sequence[str],
    after: int = 0,
) -> tuple[int, tuple[int, ...]] | None:
    """The layer and heads of readers, None for the logits. Raises UserError as `path_patched`.

    Args:
        config: of the model.
        reader, inputs: as `path_patched`.
        after: a layer before the readers'.
    """
    if isinstance(reader, str):
        if reader != "logits":
            raise UserError(f'reader is {reader!r}: give (layer, head), several, or "logits"')
        return None
    readers = [head_at(each, config) for each in _pairs(reader)]
    if len({each for each, _ in readers}) != 1 or readers[0][0] <= after:
        raise UserError(
            f"readers {readers} of a head in layer {after}: give heads of one layer, {after + 1} "
            "or later"
        )
    if not isinstance(inputs, Sequence) or not inputs or not set(inputs) <= set(INPUTS):
        raise UserError(f"inputs is {inputs!r}: give one or more of q, k, v")
    return readers[0][0], tuple(each for _, each in readers)


def gate_of(
    site: str,
    config: Config,
    heads: int | Sequence[int] | None,
    positions: int | Sequence[int] | None,
    T: int,
) -> np.ndarray:
    """1 at these heads and (query) positions, in the site's public layout; an axis of 1 is all."""
    shape = [1] * rank(site)
    has_heads = site in (*ATTENTION_SITES, *PAIRED_SITES, *HEAD_SITES)
    head_axis, position_axis = (0, 1) if site in ATTENTION_SITES else (1, 0)
    gate = np.ones(shape, np.float32)
    if heads is not None:
        if not has_heads:
            raise UserError(f"{site} has no heads: leave heads out")
        chosen = np.zeros(config.heads, np.float32)
        for head in one_or_several("heads", heads, -LARGEST):
            if not 0 <= head < config.heads:
                raise UserError(f"head {head} is out of range: give 0..{config.heads - 1}")
            chosen[head] = 1
        shape[head_axis] = config.heads
        gate = gate * chosen.reshape([-1 if a == head_axis else 1 for a in range(len(shape))])
    if positions is not None:
        chosen = np.zeros(T, np.float32)
        for position in one_or_several("positions", positions, -LARGEST):
            if not -T <= position < T:
                raise UserError(f"position {position} is out of range: give 0..{T - 1}")
            chosen[position] = 1
        gate = gate * chosen.reshape([-1 if a == position_axis else 1 for a in range(len(shape))])
    return gate


def _layers(layer: int | Sequence[int] | None, config: Config) -> list[int]:
    every = range(config.layers)
    chosen = list(every) if layer is None else one_or_several("layer", layer, -LARGEST)
    for each in chosen:
        if each not in every:
            raise UserError(f"layer {each} is out of range: give 0..{config.layers - 1}")
    return chosen


def head_at(given: Any, config: Config) -> tuple[int, int]:
    """A layer and a head of it. Raises UserError where the model has no such."""
    try:
        layer, head = (int(each) for each in given)
    except (TypeError, ValueError):
        raise UserError(f"head {given!r}: give (layer, head), such as (1, 3)") from None
    if not (0 <= layer < config.layers and 0 <= head < config.heads):
        raise UserError(
            f"head {(layer, head)} is not in the model: give layer 0..{config.layers - 1}, head "
            f"0..{config.heads - 1}"
        )
    return layer, head


def _pairs(reader: Any) -> list[Any]:
    """One pair, or several, as a list of pairs."""
    several = list(reader) if isinstance(reader, Sequence) else []
    if not several:
        raise UserError("no reader: give (layer, head), or several from one layer")
    return several if isinstance(several[0], Sequence) else [tuple(several)]


def refuse_other_size(value: Array, site: str, batch: Sequences) -> None:
    """Raises UserError for a value of another pass that does not fit this batch."""
    positions, count = value.shape[query_axis(site)], value.shape[-1]
    sequences = count_of(batch)
    if (count, positions) != (sequences, batch.positions):
        raise UserError(
            f"at {site}, the source has {count} sequences of {positions} positions and the batch "
            f"{sequences} of {batch.positions}: give a source of the batch's size"
        )


def count_of(batch: Sequences) -> int:
    """B, sequences of a batch of any kind."""
    if isinstance(batch, Batch):
        return len(batch.labels)
    return len(batch.tokens if isinstance(batch, Tokens) else batch.vectors)
