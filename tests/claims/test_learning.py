"""Times to a loss, and the plateau statistic on curves whose shape is known."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ih_jax.claims import Bounds, first_at, ratio
from ih_jax.claims.learning import (
    LEARNED,
    RISE,
    Floats,
    Plateau,
    plateau,
    plateaus,
    time_to,
    times_to,
)

GRIDS = {
    "geometric": np.append(0, np.geomspace(320, 8e5, 80)),
    "sparse": np.append(0, np.geomspace(1000, 8e5, 40)),
    "uniform": np.arange(0, 8e5, 4000.0),
}


def drop(n: Floats, at: float, width: float) -> Floats:
    return np.asarray(1 / (1 + np.exp((n - at) / width)))


WITHOUT: dict[str, Callable[[Floats], Floats]] = {
    "exponential": lambda n: 2 * np.exp(-n / 4e4),
    "stretched": lambda n: 2 * np.exp(-((n / 2e4) ** 0.6)),
    "power law": lambda n: 2 / (1 + n / 5e3),
    "slow start": lambda n: 1.6 * drop(n, 5e4, 8e3),
    # Speeds up twofold after a slow part: a shoulder, not a plateau.
    "shoulder": lambda n: 2 * np.exp(-n / 3e4 - 0.3 * (1 - np.exp(-n / 4e3)) - (n / 9e4) ** 2),
}
WITH: dict[str, Callable[[Floats], Floats]] = {
    "fall, plateau, drop": lambda n: (0.7 + 1.3 * np.exp(-n / 1.5e4)) * drop(n, 3e5, 4e4),
    "two phases": lambda n: 2 * np.exp(-n / 2e4) + 0.72 * drop(n, 2e5, 1.5e4),
    "loss rises meanwhile": lambda n: (
        (0.7 + 1.3 * np.exp(-n / 1e4) + 0.1 * n / 3e5) * drop(n, 3e5, 3e4)
    ),
}


def noisy(loss: Floats, share: float, seed: int) -> Floats:
    return np.asarray(loss * np.exp(share * np.random.default_rng(seed).normal(size=loss.shape)))


def test_time_is_exact_between_evaluations_of_an_exponential() -> None:
    exact = 4e4 * math.log(2 / LEARNED)
    for n in (np.arange(0, 2e5, 7000.0), np.append(0, np.geomspace(100, 2e5, 20))):
        time, censored = time_to(n, 2 * np.exp(-n / 4e4))
        assert time == pytest.approx(exact)
        assert not censored


def test_the_first_time_below_counts_and_what_is_not_finite_does_not() -> None:
    n = np.arange(8) * 1000.0
    loss = [1, 0.5, np.nan, 0.2, 0.4, 0.2, np.nan, np.nan]
    time, censored = time_to(n, loss)
    assert 1000 < time < 3000
    assert not censored
    assert time_to(n, [0.1, *loss[1:]]) == (0, False)


def test_a_run_that_does_not_get_there_is_censored_at_its_own_end() -> None:
    n = np.arange(6) * 1000.0
    assert time_to(n, [1, 0.9, 0.8, 0.7, np.nan, np.nan]) == (3000, True)
    assert math.isnan(time_to(n, [np.nan] * 6).sequences)


def test_what_is_seen_at_looks_lies_between_two_and_what_never_is_lies_beyond() -> None:
    looks = [0, 10, 20, 30]
    assert first_at(looks, [False, False, True, False]) == Bounds(10, 20)
    assert first_at(looks, [True, True, True, True]) == Bounds(0, 0)
    never = first_at(looks, [False] * 4)
    assert never == Bounds(30, math.inf)
    # What never comes is not sooner than what does: the ratio is large, or cannot be told.
    assert ratio(never, Bounds(10, 20)).more_than(1)
    assert ratio(never, never).more_than(1) is None


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("noise", [0, 0.005, 0.02])
@pytest.mark.parametrize("shape", WITH)
def test_plateau_is_found(shape: str, noise: float, grid: str) -> None:
    n = GRIDS[grid]
    for seed in range(10 if noise else 1):
        found = plateau(n, noisy(WITH[shape](n), noise, seed))
        assert found.present
        assert found.decided
        assert found.high >= found.low >= RISE
        assert 2e4 < found.at < 2.9e5


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("noise", [0, 0.005, 0.02])
@pytest.mark.parametrize("shape", WITHOUT)
def test_no_plateau_is_invented(shape: str, noise: float, grid: str) -> None:
    n = GRIDS[grid]
    found = [plateau(n, noisy(WITHOUT[shape](n), noise, seed)) for seed in range(10)]
    assert not any(one.present for one in found)
    if not noise:
        assert all(one.decided for one in found)


@pytest.mark.parametrize("shape", ["exponential", "stretched", "power law"])
def test_absence_is_decided_through_noise(shape: str) -> None:
    n = GRIDS["geometric"]
    found = [plateau(n, noisy(WITHOUT[shape](n), 0.02, seed)) for seed in range(20)]
    assert sum(one.decided for one in found) >= 18


def test_what_follows_learning_is_no_plateau() -> None:
    n = np.arange(0, 3e5, 2000.0)
    loss = np.exp(-n / 2e4) + 0.05 * drop(n, 2e5, 1e4)
    found = plateau(n, loss)
    assert found.decided
    assert not found.present
    assert found.high == pytest.approx(1, abs=1e-6)


def test_a_run_that_ends_on_its_plateau_is_undecided() -> None:
    n = np.arange(0, 2e5, 2000.0)
    found = plateau(n, 0.7 + 1.3 * np.exp(-n / 1e4))
    assert not found.present
    assert not found.decided


def test_too_few_evaluations_decide_nothing() -> None:
    assert not plateau([0, 1, 2, 3], [2, 1, 0.5, 0.1]).decided


def test_the_statistic_does_not_depend_on_units() -> None:
    n, loss = GRIDS["uniform"], WITH["two phases"](GRIDS["uniform"])
    assert plateau(n / 32, loss).high == pytest.approx(plateau(n, loss).high)


def test_runs_of_unlike_horizons_share_a_grid() -> None:
    n = GRIDS["uniform"]
    loss = xr.DataArray(
        [[WITH["two phases"](n), np.where(n < 1e5, WITHOUT["exponential"](n), np.nan)]],
        dims=("clamp", "init", "sequences"),
        coords={"clamp": ["none"], "init": [5, 6], "sequences": n},
    )
    shapes, times = plateaus(loss), times_to(loss)
    assert shapes["present"].values.tolist() == [[True, False]]
    assert set(shapes.data_vars) == set(Plateau._fields)
    assert times["time"].sel(clamp="none", init=6).item() == pytest.approx(7.9e4, rel=0.01)
    assert not times["censored"].any()


@pytest.mark.skipif("IH_JAX_DATA_DIR" not in os.environ, reason="needs the reference curves")
def test_reference_curves() -> None:
    path = Path(os.environ["IH_JAX_DATA_DIR"]).parent / "reference" / "reference_curves.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    runs = {name: sets["fsl_train"] for name, sets in json.loads(path.read_text()).items()}
    found = {name: plateau(run["x"], run["loss"]) for name, run in runs.items()}
    assert found["none"].present
    assert found["all_heads"].present
    for clamp in ("match", "layer1+copy"):
        assert not found[clamp].present
        assert found[clamp].decided
