"""The built-in kinds of clamps: each a small class and the function that makes a clamp of it."""

from ih_jax.clamps.kinds.attention import (
    induction,
    labels_only,
    match_by_similarity,
    no_previous_token,
    previous_token,
    temperature,
)
from ih_jax.clamps.kinds.passes import copy_from, graft, perfect_previous_layer, preserve
from ih_jax.clamps.kinds.sites import ablate, freeze, hold, mean, resample, rule, stop_gradient

__all__ = [
    "ablate",
    "copy_from",
    "freeze",
    "graft",
    "hold",
    "induction",
    "labels_only",
    "match_by_similarity",
    "mean",
    "no_previous_token",
    "perfect_previous_layer",
    "preserve",
    "previous_token",
    "resample",
    "rule",
    "stop_gradient",
    "temperature",
]
