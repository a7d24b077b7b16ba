"""Olsson et al. 2022: figures of made-up results, and the smallest runs."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import jax
import pytest
import xarray as xr
from made_up_olsson import GOOD
from matplotlib.figure import Figure
from networks import QUICK
from rich.console import Console
from wrong_olsson import Change, one_seed, still

import ih_jax as ih
from ih_jax.cli.main import main
from ih_jax.experiments.base import Options
from ih_jax.experiments.olsson2022 import (
    ablations,
    behaviours,
    mixture,
    models,
    phase_change,
    text,
    text_trainings,
)
from ih_jax.experiments.olsson2022 import trainings as olsson
from ih_jax.experiments.register import SETS, choose, find
from ih_jax.reports import running
from ih_jax.reports.planning import trainings_of
from ih_jax.sweeps import chunk, measuring, programs

OLSSON = tuple(each.name for each in SETS["olsson"])


@pytest.mark.parametrize(
    "some",
    [lambda d: d, one_seed, lambda d: still(d, 0.003)],
    ids=["all", "one seed", "still"],
)
@pytest.mark.parametrize("name", GOOD)
def test_figures_and_tables_are_drawn(name: str, some: Change) -> None:
    experiment, results = find(name), some(GOOD[name]())
    figure = experiment.draw(results)
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), dpi=20)  # all that is laid out and painted
    for table in experiment.tables(results):
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows)


# --- trainings ----------------------------------------------------------------------------------


def test_quick_trains_two_depths_with_and_without_smeared_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, Options]] = []
    monkeypatch.setattr(
        running, "run", lambda chosen, options, how: asked.append((chosen, options))
    )
    assert main(["run", "olsson-phase-change", "--quick"]) == 0
    ((chosen, options),) = asked
    studies = [training.study(options, {}) for training in trainings_of(chosen)]
    assert [
        (run.config.layers, run.config.smeared_keys, run.config.mlp_ratio, run.names["init"])
        for study in studies
        for run in study.runs
    ] == [(1, False, None, 5), (2, False, None, 5), (1, True, None, 5), (2, True, None, 5)]


def test_all_trains_one_to_six_layers() -> None:
    study = olsson.depths(Options(seeds=3), {})
    assert [*study.axes["layers"]] == [1, 2, 3, 4, 5, 6]
    assert [*study.axes["mlp_ratio"]] == [None, 4.0]
    assert len(study.runs) == 36


# Thirty programs that train and a hundred that measure: compiled without most optimisations, each
# for one network on one device, and run on a few sequences.
FAST = {**QUICK, "xla_cpu_use_fusion_emitters": False}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything trained for next to nothing, measured and drawn."""
    folder = tmp_path_factory.mktemp("olsson")
    file = folder / "text.txt"
    file.write_text("It was the best of times, it was the worst of times. " * 200)
    device, starter = jax.local_devices()[:1], programs.starter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: device)
        for module in (chunk, measuring):
            patch.setattr(module, "compiler_options", lambda platform, tokens: FAST)
        patch.setattr(programs, "starter", lambda *of: jax.jit(starter(*of), compiler_options=FAST))
        patch.setattr(ih, "language", functools.partial(ih.language, evaluation_sequences=4))
        for module, name in (
            (models, "EXAMPLES"),
            (models, "LOOKED_AT"),
            (ablations, "QUICK_EXAMPLES"),
            (behaviours, "SEQUENCES"),
            (mixture, "SEQUENCES"),
            (phase_change, "QUICK_BY_INDEX"),
            (olsson, "EVALUATED"),
            (text_trainings, "EVALUATED"),
            (text, "BY_INDEX"),
            (text, "REMOVED"),
        ):
            patch.setattr(module, name, 4)
        options = Options(
            seeds=1, quick=True, scale=0.001, text={"corpus": str(file), "tokenizer": "bytes"}
        )
        how = running.How(out=folder, progress=False, console=Console(quiet=True), width=1)
        running.run(choose("olsson"), options, how)
    return folder


def test_all_claims_stand_in_one_table(smallest: Path) -> None:
    text = (smallest / "README.md").read_text()
    for name in OLSSON:
        assert f"[{name}]({name}/README.md)" in text
        assert f"| {find(name).claims[-1].name} |" in text


@pytest.mark.parametrize("name", OLSSON)
def test_the_smallest_version_runs_to_its_end(smallest: Path, name: str) -> None:
    folder = smallest / name
    for file in ("README.md", "figure.png", "figure.svg", "results.nc", "card.json"):
        assert (folder / file).stat().st_size > 0
    assert (folder / "results.nc").stat().st_size < 2e6
    written = (folder / "README.md").read_text()
    for claim in find(name).claims:
        assert claim.name in written


@pytest.mark.parametrize("name", OLSSON)
def test_made_up_results_have_the_shapes_of_measured_ones(smallest: Path, name: str) -> None:
    made = GOOD[name]()
    with xr.open_dataset(smallest / name / "results.nc") as measured:
        assert {n: v.dims for n, v in measured.items()} == {n: v.dims for n, v in made.items()}
        for dim in ("language", "pair", "part", "clamp", "input", "reference", "after", "back"):
            if dim in made.dims:
                assert measured[dim].values.tolist() == made[dim].values.tolist()
        for dim in ("repeat", "offset_back", "index", "component"):
            assert measured.sizes.get(dim) == made.sizes.get(dim)
