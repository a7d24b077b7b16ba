"""Singh et al. 2023: statements hold on networks that do as it says, and fail on others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from ih_jax.claims import decide
from ih_jax.experiments.singh2023 import lasting, transience
from ih_jax.experiments.singh2025.strategies import METRICS, SETS

SEEN = np.arange(6) * 1000
FLIP = {
    "soon": (0.5, 0.9, 0.3, 0.1, 0.0, 0.0),
    "goes": (0.5, 0.8, 0.9, 0.7, 0.3, 0.1),
    "late": (0.5, 0.8, 0.9, 0.9, 0.9, 0.7),
    "stays": (0.5, 0.9, 0.9, 0.9, 0.9, 0.9),
    "never": (0.5, 0.4, 0.1, 0.0, 0.0, 0.0),
}
AS_THE_PAPER = {"half of the classes": "soon", "main": "goes"} | {
    "weight decay 0.1": "stays",
    "Zipf exponent 1": "late",
}


def scores(**flips: str) -> xr.Dataset:
    """Made-up results of six networks."""
    shape = (len(lasting.NAMES), 6, len(SETS), len(SEEN))
    coords = {"run": lasting.NAMES, "init": range(6), "set": list(SETS), "sequences": SEEN}
    dims = tuple(coords)
    found = xr.Dataset({name: (dims, np.full(shape, 0.5)) for name in METRICS}, coords)
    for run, kind in (AS_THE_PAPER | flips).items():
        for name in ("icl", "flip_icl"):
            at = {"run": run, "set": name}
            found["eval_in_context_accuracy"].loc[at] = np.broadcast_to(FLIP[kind], (6, 6))
    found["eval_accuracy"].loc[{"set": "pure_iwl"}] = np.linspace(0, 0.5, 6)
    return found


def verdicts(results: xr.Dataset) -> dict[str, str]:
    claims = (*transience.CLAIMS, *lasting.CLAIMS)
    return {claim.name: finding.verdict for claim, finding in decide(claims, results)}


def test_networks_as_the_paper_says_replicate() -> None:
    assert set(verdicts(scores()).values()) == {"replicates"}
    assert lasting.tables(scores())[0].rows[2][:3] == ("main", "0.90 at 2,000", "0.10")
    assert len(lasting.draw(scores()).axes) == 6


@pytest.mark.parametrize(
    ("flips", "failing"),
    [
        ({"main": "stays"}, {"in-context learning is transient"}),
        ({"half of the classes": "late"}, {"more classes postpone it"}),
        ({"Zipf exponent 1": "soon"}, {"a Zipf exponent postpones it"}),
        ({"weight decay 0.1": "goes"}, {"weight decay keeps it"}),
    ],
)
def test_statements_fail_on_networks_that_do_otherwise(flips: dict, failing: set[str]) -> None:
    found = verdicts(scores(**flips))
    assert {name for name, verdict in found.items() if verdict == "fails"} == failing


def test_when_the_context_stops_winning() -> None:
    one = scores(**{"a quarter of the classes": "never"}).sel(init=0)
    assert lasting.leaves(one, "main") == (3000, 4000)
    assert lasting.leaves(one, "weight decay 0.1") == (5000, math.inf)
    assert math.isnan(lasting.leaves(one, "a quarter of the classes").low)
    assert math.isnan(lasting.later("main", "a quarter of the classes")(one).low)


def test_weights_that_forget_fail() -> None:
    found = scores()
    found["eval_accuracy"] = -found["eval_accuracy"]
    assert verdicts(found)["while weights learn"] == "fails"
