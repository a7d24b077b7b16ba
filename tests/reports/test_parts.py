"""Many networks in parts: the same results to the bit, weights forgotten, resumable anywhere."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from rich.console import Console

import ih_jax as ih
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options, Training
from ih_jax.experiments.looking import at_end, probe
from ih_jax.experiments.networks import FACTORS
from ih_jax.measures.heads import induction_strength
from ih_jax.reports import parts, running
from ih_jax.reports.viewer.viewing import view
from ih_jax.sweeps import store

OPTIONS = Options(seeds=12, first_seed=1000, vary=FACTORS, classes=6)
ROOM = 2e-3  # GB


def sweep(options: Options, found: object) -> ih.Sweep:
    """Small networks, trained for a few steps."""
    return ih.sweep(
        options.task(evaluation_sequences=16, batch=8),
        init=options.inits,
        **options.paired(),
        sequences=64,
        checkpoints=[0, 64],
        evaluate=[0, 64],
        learning_rate=1e-2,
        d_model=16,
        heads=2,
    )


def strength(options: Options, found: Any) -> xr.Dataset:
    """Reads weights."""
    return at_end(found["own"], induction_strength, probe(options))


def loss(options: Options, found: Any) -> xr.Dataset:
    """Reads curves alone."""
    return found["own"].results


OWN = Training("own", sweep, in_parts=True)
EXPERIMENTS = (
    Experiment(name="strength", trainings=(OWN,), measure=strength),
    Experiment(name="curves", trainings=(OWN,), measure=loss),
)


def run(folder: Path, disk: float, resume: bool = False) -> None:
    console = Console(quiet=True)
    how = running.How(
        out=folder, progress=False, console=console, width=4, disk=disk, resume=resume
    )
    running.run(EXPERIMENTS, OPTIONS, how)


def results(folder: Path) -> dict[str, xr.Dataset]:
    read = (xr.load_dataset(folder / e.name / "results.nc", engine="h5netcdf") for e in EXPERIMENTS)
    return {e.name: found.drop_attrs() for e, found in zip(EXPERIMENTS, read, strict=True)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All at once."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, 1.0)
    return folder


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In parts."""
    folder = tmp_path_factory.mktemp("forgotten")
    run(folder, ROOM)
    return folder


def test_parts_are_as_few_as_fit_and_have_every_draw() -> None:
    every = parts.divide(EXPERIMENTS, OPTIONS, ROOM)
    assert 1 < len(every) <= 3
    assert sorted(n for part in every for n in part.part) == OPTIONS.inits
    for part in every:
        assert parts.bytes_of(EXPERIMENTS, part) <= ROOM * 1e9
        assert len(set(part.paired()["order"].values())) == 4
    assert parts.divide(EXPERIMENTS, OPTIONS, 1.0) == [OPTIONS]


def test_what_is_measured_of_all_networks_together_stays_whole() -> None:
    together = dataclasses.replace(EXPERIMENTS[0], trainings=(Training("own", sweep),))
    assert parts.divide([together], OPTIONS, ROOM) == [OPTIONS]


def test_too_little_room_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match="give --disk") as caught:
        parts.divide(EXPERIMENTS, OPTIONS, 1e-6)
    assert "\n" not in str(caught.value)


def test_results_are_the_same_to_the_bit(whole: Path, forgotten: Path) -> None:
    theirs = results(forgotten)
    for name, own in results(whole).items():
        xr.testing.assert_identical(own, theirs[name])


def test_weights_are_gone_and_the_reason_is_said(forgotten: Path) -> None:
    trainings = sorted((forgotten / "trainings").iterdir())
    assert len(trainings) == len(parts.divide(EXPERIMENTS, OPTIONS, ROOM))
    assert not list(forgotten.rglob("part-*"))
    trained = ih.load(trainings[0])
    assert trained.results["loss"].notnull().all()
    with pytest.raises(UserError, match="forgotten when strength, curves had been") as caught:
        trained.params(0, 0)
    assert "\n" not in str(caught.value)
    shown = view(trainings[0])  # as `ih-jax status` recommends
    assert "its weights were forgotten when they had been measured" in shown.html


def test_a_run_that_was_stopped_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed_at(call: int, module: Any, name: str) -> None:
        real, calls = getattr(module, name), []

        def function(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise Killed
            return real(*arguments)

        monkeypatch.setattr(module, name, function)

    # Before the second experiment is kept; before weights are forgotten; in the next part.
    for call, module, name in ((2, parts, "save"), (1, store, "forget"), (1, store, "save_part")):
        killed_at(call, module, name)
        with pytest.raises(Killed):
            run(tmp_path, ROOM, resume=True)
        monkeypatch.undo()
    run(tmp_path, ROOM, resume=True)
    theirs = results(tmp_path)
    for name, own in results(whole).items():
        xr.testing.assert_identical(own, theirs[name])
    before = (tmp_path / "strength" / "card.json").read_text()
    run(tmp_path, ROOM, resume=True)  # nothing is left to do
    assert (tmp_path / "strength" / "card.json").read_text() == before


def test_the_card_counts_all_parts(whole: Path, forgotten: Path) -> None:
    def said(folder: Path) -> dict[str, Any]:
        found = xr.load_dataset(folder / "strength" / "results.nc", engine="h5netcdf")
        return dict(json.loads(found.attrs["card"]))

    one, many = said(whole), said(forgotten)
    for name in ("networks", "seen", "init", "seeds of initial weights", "seeds of orders"):
        assert one[name] == many[name]
