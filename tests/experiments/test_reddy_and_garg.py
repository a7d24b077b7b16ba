"""Claims on Reddy 2024 and Garg et al. 2022: made-up results that bear them out, or do not."""

import functools

import numpy as np
import pytest
import xarray as xr

from ih_jax.experiments.garg2022 import diversity
from ih_jax.experiments.reddy2024 import abruptness, phase_diagram
from ih_jax.experiments.reddy2024.trainings import BURSTS, CLASSES
from ih_jax.measures.regression import PREDICTORS
from ih_jax.tasks.gaussian import SETS

INITS = range(6)
NETWORKS = ("init", "tasks", "asked", "predictor", "seen")
flows = functools.cache(abruptness._flows)
LOOKS = np.arange(0, 30_001, 1200)


def wobble(*shape):
    return 0.01 * np.random.default_rng(0).uniform(size=shape)


def phases(as_said: bool) -> xr.Dataset:
    """In context with many classes and bursts, in weights with few; or the other way round."""
    many = np.array([0.1, 0.5, 0.9])[:, None] + np.array([0.0, 0.05])
    icl = many if as_said else 1 - many
    of = {"train": np.ones((3, 2)), "icl": icl, "swapped": icl, "iwl": 1 - icl}
    grid = np.stack([of[name] for name in SETS], -1)
    base, other = grid[1, 0], grid[1, 0].copy()
    other[1], other[3] = (0.8, 0.3) if as_said else (0.3, 0.8)
    both = np.where(as_said, 0.9, 0.1) * np.ones(4)
    varied = np.stack([base, other, both])
    return xr.Dataset(
        {
            "accuracy": (("init", "classes", "burst", "asked"), grid + wobble(6, 1, 1, 1)),
            "varied": (("init", "data", "asked"), varied + wobble(6, 1, 1)),
        },
        coords={
            "init": list(INITS),
            "classes": list(CLASSES),
            "burst": list(BURSTS),
            "asked": list(SETS),
            "data": list(phase_diagram.VARIED),
        },
    )


def rises(middle: float, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(LOOKS - middle) / width))


def progresses(as_said: bool) -> xr.Dataset:
    """A late, steep rise after its progress measures; or a slow one before them."""
    steep = rises(18_000, 500) if as_said else LOOKS / 30_000
    early = rises(12_000, 500) if as_said else rises(26_000, 500)
    bare = 0.1 + 0.8 * steep
    late = 0.1 + 0.85 * (rises(26_000, 500) if as_said else rises(2000, 500))
    given = bare + (0.05 if as_said else -0.05)
    icl = np.stack([0.1 + 0.85 * steep, bare, given, late])
    accuracy = np.stack([icl] * 4, -1)[:, None] + np.zeros((1, 6, 1, 1))
    measure = np.broadcast_to(early, (4, 6, len(LOOKS)))
    looked = LOOKS[::4]
    cosine = (-0.3 if as_said else 0.3) * np.ones((6, len(looked), 3)) + wobble(6, 1, 1)
    integrated = flows()
    if not as_said:
        swapped = ["no spare labels", "spare labels", "copying given"]
        integrated = integrated.assign_coords(flow=swapped)
    return xr.Dataset(
        {
            "accuracy": (("network", "init", "checkpoint", "asked"), accuracy),
            **dict.fromkeys(
                ("previous", "to_labels", "match"), (("network", "init", "checkpoint"), measure)
            ),
            "cosine": (("init", "looked", "group"), cosine),
        },
        coords={
            "network": list(abruptness.NAMES),
            "init": list(INITS),
            "checkpoint": LOOKS,
            "asked": list(SETS),
            "looked": looked,
            "group": ["all", "layer 1 QK", "layer 1 OV"],
        },
    ).merge(integrated)


def answers(as_said: bool) -> xr.Dataset:
    """Few tasks near their set and wrong on new ones, many near ridge; or the other way round."""
    sizes = (6, len(diversity.TASKS), 2, len(PREDICTORS), 3)
    error, distance = np.full(sizes, 0.5), np.zeros(sizes)
    error[..., 0, :] = np.array([2.0, 1.5, 1.0, 0.7])[None, :, None, None]
    far = np.array([1.0, 0.6, 0.4, 0.1])[:, None, None]
    distance[..., 2, :], distance[..., 3, :] = far, 1.1 - far
    if not as_said:
        error, distance = error[:, ::-1], distance[:, ::-1]
    return xr.Dataset(
        {
            "error": (
                ("init", "tasks", "asked", "predictor", "seen"),
                error + wobble(6, 1, 1, 1, 1),
            ),
            "distance": (NETWORKS, distance),
        },
        coords={
            "init": list(INITS),
            "tasks": list(diversity.TASKS),
            "asked": ["train", "new"],
            "predictor": list(PREDICTORS),
        },
    )


MADE = {phase_diagram: phases, abruptness: progresses, diversity: answers}
CASES = [(module, made, claim) for module, made in MADE.items() for claim in module.CLAIMS]


@pytest.mark.parametrize(("module", "made", "claim"), CASES, ids=lambda x: getattr(x, "name", ""))
def test_a_claim_holds_where_it_should_and_fails_where_it_should_not(module, made, claim):
    assert claim.decide(made(True)).verdict == "replicates"
    assert claim.decide(made(False)).verdict == "fails"


@pytest.mark.parametrize("module", MADE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_figures_and_tables_are_made_of_the_numbers_alone(module, tmp_path):
    results = MADE[module](True)
    module.draw(results).savefig(tmp_path / "figure.svg")
    for table in module.tables(results):
        assert all(len(row) == len(table.header) for row in table.rows)
