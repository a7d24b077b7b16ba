"""The folder of a finished experiment: its numbers, its figure, and the same bytes again."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
from made_up import sweep
from rich.console import Console

import ih_jax as ih
from ih_jax.claims.deciding import Finding
from ih_jax.cli.main import main
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options, Training
from ih_jax.experiments.register import find
from ih_jax.reports import replication, report, running, tables
from ih_jax.reports.sources import experiment_of, load

CARD = {
    "command": "ih-jax run fig5b --seeds 6",
    "data": "glyphs",
    "init_seeds": [5, 6, 7, 8, 9, 10],
    "devices": "2 x cpu",
    "wall_seconds": 312.4,
    "signature": {"nested": 1},
}
FILES = ("README.md", "figure.png", "figure.svg", "results.nc")


class Free(NamedTuple):
    free: int


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs") / "results" / "fig5b"
    report.write(made, find("fig5b"), sweep(), CARD)
    return made


def test_the_folder_holds_whole_files_only(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / "figure.svg").read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.assign(loss=d["loss"].astype(str)), "TypeError"),
        (lambda d: d.assign_coords(init=list("abcdef")), "invalid literal"),
    ],
)
def test_numbers_that_no_run_gives(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, told: str
) -> None:
    results = report.read(folder)
    changed = change(results).assign_attrs(results.attrs)
    (tmp_path / "fig5b").mkdir()
    changed.to_netcdf(tmp_path / "fig5b" / "results.nc", engine="h5netcdf")
    assert main(["plot", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "is not what this version of fig5b measures" in said and told in said
    assert said.count("\n") == 1


def test_readme_holds_the_numbers(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    for said in (
        "ih-jax run fig5b --seeds 6",
        "Singh et al. 2024",
        "5 min 12 s",
        "glyphs",
        "2 x cpu",
        "| the more is given, the sooner | 8 of 8 (5 seeds, some with two or three heads) (n = 5)",
        "| (none / match) | 9 to 21 (n = 5) | 6 of 6; times as long 9.42",
        "| **replicates** | 6 of 6 (0.6",
        "![",
        "| layer1 | 79k (73k to 87k) | 79k |",
        "5, 6, 7, 8, 9, 10",
    ):
        assert said in text, said
    assert "nested" not in text


def test_censored_times_are_marked(tmp_path: Path) -> None:
    results = sweep({"none": 2e6, "match": 33e3})
    findings = report.write(tmp_path, find("fig5b"), results, {})
    assert (
        "| none | 491k (311k to 831k) | >800k | >800k to >800k |"
        in (tmp_path / "README.md").read_text()
    )
    terminal = tables.of_claims(findings)
    assert "too few" in terminal
    assert "\x1b" not in terminal
    assert "\x1b" in tables.of_claims(findings, colour=True)


def test_results_come_back(folder: Path) -> None:
    stored, given = report.read(folder), sweep()
    xr.testing.assert_allclose(stored, given, rtol=1e-6)
    assert stored["loss"].dtype == np.float32
    assert stored["diverged_at"].isnull().all()
    assert stored["sequences"].equals(given["sequences"])


def test_redrawing_gives_the_same_bytes(folder: Path) -> None:
    before = bytes_of(folder)
    report.redraw(folder, experiment_of(folder)[0])
    assert bytes_of(folder) == before


def test_a_failed_write_leaves_what_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bytes_of(folder)

    def fail(self: xr.Dataset, path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(folder, find("fig5b"), sweep(seeds=1), CARD)
    assert bytes_of(folder) == before


def test_a_figure_can_be_drawn_of_what_little_there_is() -> None:
    experiment = find("fig5b")
    results = sweep(seeds=1)
    experiment.draw(results.sel(clamp=["match"])).savefig(io.BytesIO(), dpi=20)
    results["diverged_at"][:] = 1e3
    experiment.draw(results).savefig(io.BytesIO(), dpi=20)
    assert not experiment.tables(results)[0].rows


def test_mistakes_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results\.nc"):
        experiment_of(tmp_path)
    sweep(seeds=1).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with pytest.raises(UserError, match="was not made by an experiment"):
        experiment_of(tmp_path)


def test_networks_of_the_authors_stand_once_beside_two_data_sets() -> None:
    claim = find("fig5b").claims[0]
    authors = Finding("replicates", "r .8 (.6 to .9; 8 heads)", (7, 8), (0.5, 1.0), networks=8)
    ours = Finding("replicates", "6 of 6", (6, 6), (0.6, 1.0), networks=6)
    both: list[Finding | None] = [replace(ours, beside={"authors' code": authors})] * 2
    line = ("fig5b", claim, both)
    axes = replication.forest([line], ["features", "glyphs"]).axes[0]
    marks = [each.get_marker() for each in axes.lines if len(np.atleast_1d(each.get_xdata()))]
    assert (marks.count("o"), marks.count("D")) == (2, 1)
    table = replication._table([line], ["features", "glyphs"], {})
    assert "replicates: r .8 (.6 to .9) |" in table  # its bracket closed


def test_the_page_of_a_set_says_what_replicates_on_which_data(tmp_path: Path) -> None:
    fig5b, ours, theirs = find("fig5b"), tmp_path / "features", tmp_path / "glyphs"
    report.write(ours / "fig5b", fig5b, sweep(), CARD)
    wrong = sweep(plateaus=("none", "match"))
    report.write(theirs / "fig5b", fig5b, wrong, CARD)
    text = report.write_index(ours, {"fig5b": fig5b}, [theirs]).read_text()
    assert "**features** (6 networks; glyphs): 2 primary claims: 2 replicate" in text
    assert "**glyphs** (6 networks; glyphs): 2 primary claims: 1 replicates, 1 fails" in text
    both, one = text.split("## What is mixed, or needs more networks")
    assert "[the more is given, the sooner](fig5b/README.md)." in both.split("What replicates")[1]
    assert "- [one subcircuit left: no plateau](fig5b/README.md)." in one
    assert "glyphs: fails, 0 of 6" in one
    assert "<details>" in text
    assert (ours / "forest.png").stat().st_size > 0
    alone = report.write_index(theirs, {"fig5b": fig5b}).read_text()
    assert "one subcircuit left: no plateau" in alone.split("## What fails")[1]
    assert "†" not in alone
    with pytest.raises(UserError, match="has results of none of these: fig5b"):
        report.write_index(ours, {"fig5b": fig5b}, [tmp_path])
    again = tmp_path / "elsewhere" / "glyphs"
    report.write(again / "fig5b", fig5b, sweep(), CARD, draw=False)
    with pytest.raises(UserError, match="two folders are called glyphs"):
        report.write_index(ours, {"fig5b": fig5b}, [theirs, again])


def test_the_page_of_a_set_says_which_networks_a_line_stands_on(tmp_path: Path) -> None:
    fig5b, fresh = find("fig5b"), sweep().assign_coords(init=[1000, 1001, 1002, 1003, 2000, 2002])
    second = replace(fig5b, name="again", title="Again")
    both = {"fig5b": fig5b, "again": second}
    report.write(tmp_path / "fig5b", fig5b, sweep(), CARD, draw=False)
    report.write(tmp_path / "again", second, sweep(), CARD, draw=False)
    text = report.write_index(tmp_path, both).read_text()
    assert "networks |" not in text and "5 of 5 gives .55 to 1" in text
    assert "Networks 5 to 12 had been looked at when the rules were written" in text
    strangers = report.write_index(tmp_path, {"again": second}).read_text()
    assert "had been looked at" not in strangers  # their own rules, whatever the networks
    report.write(tmp_path / "again", second, fresh, CARD, draw=False)
    text = report.write_index(tmp_path, both).read_text()
    assert f"**{tmp_path.name}** (6 networks a line, not always the same; glyphs): " in text
    for experiment, numbers in (("fig5b", "5 to 10"), ("again", "1000 to 1003, 2000, 2002")):
        lines = [line for line in text.splitlines() if line.startswith(f"| [{experiment}]")]
        assert len(lines) == len(fig5b.claims)
        assert all(f"| {numbers} |" in line for line in lines)


def test_what_became_primary_after_networks_were_judged_is_marked(tmp_path: Path) -> None:
    first, *others = find("fig5b").claims
    later = replace(first, primary_since="2026-11-26")
    fig5b = replace(find("fig5b"), claims=(later, *others))
    report.write(tmp_path / "fig5b", fig5b, sweep(), CARD)
    page = report.write_index(tmp_path, {"fig5b": fig5b}).read_text()
    assert page.count(f"| {first.name} † |") == 1
    assert "† Counted among the secondary statements until 2026-11-26" in page
    assert "- Secondary until 2026-11-26." in (tmp_path / "fig5b/README.md").read_text()


@pytest.mark.parametrize(
    ("code", "name", "what"),
    [
        ("sys.stdout.close()", "stdout", "standard output"),
        ("os.close(sys.stdout.fileno())", "stdout", "standard output"),
        ("sys.stdout = None", "stdout", "standard output"),
        ("sys.stderr.close(); print(1 / 0, file=sys.stderr)", "stderr", None),
        ("sys.stderr.close(); raise OSError(9, 'Bad file descriptor')", "stderr", "standard error"),
    ],
)
def test_a_file_that_closes_the_streams_is_refused_and_they_are_open_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, name: str, what: str | None
) -> None:
    file = tmp_path / "study_that_closes.py"
    file.write_text(f"import os, sys\n{code}\n")
    log = tmp_path / "log"
    with log.open("w") as stream:
        monkeypatch.setattr(sys, name, stream)
        said = f"closes {what}" if what else "line 2: ZeroDivisionError"
        with pytest.raises(UserError, match=f"study_that_closes.py.*{said}"):
            load(file)
        print("told", file=getattr(sys, name), flush=True)
    assert log.read_text() == "told\n"


def test_a_file_may_give_the_streams_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "study_with_a_log.py"
    file.write_text(
        "import sys, ih_jax\nsys.stdout = open(sys.argv[0], 'w')\n"
        "study = ih_jax.sweep(ih_jax.Regression(), sequences=64)\n"
    )
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "log")])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert load(file).study is not None
    print("told")
    sys.stdout.close()
    assert (tmp_path / "log").read_text() == "told\n"


def test_networks_that_do_not_fit_on_the_disk_are_refused_before_any_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ih.sweep(ih.Regression(), init=range(20), sequences=64)
    trainings = (Training("a", study), Training("b", study))
    own = Experiment("own", trainings=trainings, measure=lambda options, found: xr.Dataset())
    how = running.How(out=tmp_path / "out", console=Console(quiet=True))
    monkeypatch.setattr(running.shutil, "disk_usage", lambda where: Free(10**6))
    with pytest.raises(UserError, match=r"40 networks write .* 0\.0 GB free: .*--seeds"):
        running.run([own], Options(), how)
    assert not list(tmp_path.iterdir())
