"""What a forward pass computed: every site, in TransformerLens' names and axes.

Inside the program sites have another layout (see `sites`); `public` and `from_public` convert.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from ih_jax.model.params import Config
from ih_jax.model.sites import GLOBAL_SITES, SITES, Sites, to_program, to_public


@struct.dataclass
class Activations:
    """Every site, batch first; those of layers are tuples over layers.

    B sequences, T positions, D d_model, H heads, E d_head, C labels. `q` and `k` are before rope
    and smearing. With rows="query", the last layer and the logits have the query's position only,
    but for its `resid_pre`, `k_input`, `v_input`, `k` and `v`.
    """

    embed: Array | None  # [B, T, D], tokens without positions
    resid_pre: tuple[Array, ...]  # [B, T, D]
    q_input: tuple[Array, ...]  # [B, T, D], before the norm
    k_input: tuple[Array, ...]
    v_input: tuple[Array, ...]
    q: tuple[Array, ...]  # [B, T, H, E]
    k: tuple[Array, ...]
    v: tuple[Array, ...]
    attn_scores: tuple[Array, ...]  # [B, H, Tq, Tk], scaled by E ** -0.5, before softmax
    pattern: tuple[Array, ...]  # [B, H, Tq, Tk]
    z: tuple[Array, ...]  # [B, T, H, E], head outputs before W_O
    attn_out: tuple[Array, ...]  # [B, T, D]
    mlp_out: tuple[Array, ...]  # [B, T, D], empty without MLPs
    resid_post: tuple[Array, ...]  # [B, T, D]
    logits: Array | None  # [B, T, C]; None while a rule looks on


def public(sites: Sites) -> Activations:
    """Sites of a pass as `Activations`, batch first."""
    found: dict[str, Any] = {
        site: tuple(to_public(site, value) for value in values) for site, values in sites.items()
    }
    for site in GLOBAL_SITES:
        found[site] = found[site][0] if found[site] else None
    return Activations(**found)


def from_public(activations: Activations, config: Config) -> Sites:
    """The inverse of `public`: sites of a pass in the program's layout."""
    halves = 2 if config.positions == "rope" else 1
    sites: Sites = {}
    for site in SITES:
        found = getattr(activations, site)
        if site in GLOBAL_SITES:
            found = () if found is None else (found,)
        sites[site] = [to_program(site, jnp.moveaxis(value, 0, -1), halves) for value in found]
    return sites
