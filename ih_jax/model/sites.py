"""The sites of a transformer: their names, TransformerLens', and the two layouts of their values.

People, and the rules that they write, see the *public* layout: TransformerLens' axes without the
batch. Inside the program the batch is the last axis, where it fills vector lanes, and features come
first, so that a linear map is one matrix product without a transposition.

Glossary of shapes:
    T  positions (Tq of queries, Tk of keys)      D  d_model      H  heads      E  d_head
    B  sequences      C  labels or tokens         R  2 where positions are "rope", else 1
    site                                          public          in the program
    embed, resid_*, *_input, attn_out, mlp_out    [T, D]          [D, T, B]
    q, k (before rope)                            [T, H, E]       [R, H, E/R, T, B]
    v, z                                          [T, H, E]       [H, E, T, B]
    attn_scores, pattern                          [H, Tq, Tk]     [H, Tq, Tk, B]
    logits                                        [T, C]          [C, T, B]
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

Sites = dict[str, list[Array]]  # a value for each layer so far, in the program's layout

STREAM_SITES = (
    "embed",
    "resid_pre",
    "q_input",
    "k_input",
    "v_input",
    "attn_out",
    "mlp_out",
    "resid_post",
)
PAIRED_SITES = ("q", "k")
HEAD_SITES = ("v", "z")
ATTENTION_SITES = ("attn_scores", "pattern")
SITES = STREAM_SITES + PAIRED_SITES + HEAD_SITES + ATTENTION_SITES + ("logits",)
GLOBAL_SITES = ("embed", "logits")  # one value a network, not one a layer


def query_axis(site: str) -> int:
    """The axis of query positions in the program's layout of `site`."""
    if site in PAIRED_SITES:
        return 3
    return 2 if site in HEAD_SITES else 1


def rank(site: str) -> int:
    """The number of axes of a site's public layout."""
    return 2 if site in STREAM_SITES or site == "logits" else 3


def to_program(site: str, value: Array, halves: int = 1) -> Array:
    """The program's layout of a public value with the batch as *last* axis (or of size 1)."""
    if site in ATTENTION_SITES:
        return value
    if site in HEAD_SITES:
        return jnp.moveaxis(value, 0, 2)
    if site in PAIRED_SITES:
        T, H, E, B = value.shape
        if E == 1:  # one value for all dimensions of a head: broadcasts over the halves too
            return value.transpose(1, 2, 0, 3)[None]
        return value.reshape(T, H, E // halves, halves, B).transpose(3, 1, 2, 0, 4)
    return jnp.swapaxes(value, 0, 1)


def to_public(site: str, value: Array) -> Array:
    """The public layout, batch first, of a value in the program's."""
    if site in ATTENTION_SITES:
        return jnp.moveaxis(value, -1, 0)
    if site in HEAD_SITES:
        return value.transpose(3, 2, 0, 1)
    if site in PAIRED_SITES:
        halves, H, pairs, T, B = value.shape
        return value.transpose(4, 3, 1, 2, 0).reshape(B, T, H, pairs * halves)
    return value.transpose(2, 1, 0)
