"""Which head does what: found in the networks of `main` at the end of their training.

Heads differ between seeds, so nothing that speaks of "the strongest head" may name a number. Where
the networks are not there yet (only a cost is asked for), any heads stand for those to be found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from jax import Array

from ih_jax.experiments.base import Found, Options
from ih_jax.measures.heads import induction_strength, previous_token_strength
from ih_jax.measures.probes import exhaustive

SHARE = 0.5  # of the strongest head's attention to the previous token: what a role takes
PREVIOUS_TOKEN_CHOICES = ("strongest", "weakest", "all previous-token heads", "all heads")


def induction_heads(options: Options, found: Found) -> dict[int, int]:
    """By seed, the strongest head of layer 1 (Singh et al. 2024, section 3.1)."""
    strength = _last(options, found, induction_strength)
    if strength is None:
        return dict.fromkeys(options.inits, 3)
    return {seed: int(np.argmax(heads)) for seed, heads in strength.items()}


def previous_token_heads(options: Options, found: Found) -> dict[int, dict[str, list[int]]]:
    """By seed, heads of layer 0 by `PREVIOUS_TOKEN_CHOICES` (Singh et al. 2024, fig. 8).

    A previous-token head has at least `SHARE` of the strongest one's strength. (The paper chose
    by eye, for seed 5: 2 strongest, 6 none, all of 1, 2 and 5.)
    """
    both = _last(options, found, previous_token_strength)
    if both is None:
        both = dict.fromkeys(options.inits, np.arange(16.0).reshape(2, 8))
    strength = {seed: layers[0] for seed, layers in both.items()}
    return {
        seed: {
            "strongest": [int(np.argmax(heads))],
            "weakest": [int(np.argmin(heads))],
            "all previous-token heads": np.flatnonzero(heads >= SHARE * heads.max()).tolist(),
            "all heads": list(range(len(heads))),
        }
        for seed, heads in strength.items()
    }


def _last(
    options: Options, found: Found, measure: Callable[..., Array]
) -> dict[int, np.ndarray] | None:
    """By seed, a measure of the trained `main` network over every training sequence."""
    if "main" not in found:
        return None
    main = found["main"]
    runs = [main.run(init=seed) for seed in options.inits]
    end = main.steps(runs[0])[-1]
    values = main.measure(measure, exhaustive, runs=runs, steps=[end])
    assert isinstance(values, xr.DataArray)
    values = values.isel(clamp=0, sequences=0)
    return {seed: values.sel(init=seed).values for seed in options.inits}
