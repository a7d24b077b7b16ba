"""A finished experiment as a folder: results.nc, figure.png, figure.svg and a README.

`redraw` makes all but the results again from results.nc alone. A file appears under its name only
when it is whole.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table

from ih_jax import files
from ih_jax.claims import Claim, Finding, decide
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment
from ih_jax.experiments.register import find, registry

Findings = Sequence[tuple[Claim, Finding]]
FILES = ("README.md", "figure.png", "figure.svg", "results.nc", "card.json", "trajectory")
COLOURS = {"holds": "green", "does not hold": "red", "undecidable": "yellow"}
HOW_TO_READ = (
    "A claim is undecidable where the results cannot tell: a run that has not learnt by the end of "
    "its training has a time known only to be longer, written >. Ratios are paired within seeds; "
    "their interval is the sign test's, of the median. Two numbers, 1.2-3, are the bounds that "
    "noise leaves."
)


def write(
    folder: str | os.PathLike[str],
    experiment: Experiment,
    results: xr.Dataset,
    card: Mapping[str, Any],
) -> Findings:
    """Write the folder and return what the claims came to.

    `card` says what was run, in the order in which the README is to list it; `command` and
    `wall_seconds` have their own wording, and nested entries are left to results.nc, which keeps
    the whole card as JSON.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = results.assign_attrs(experiment=experiment.name, card=json.dumps(card, default=str))
    with files.atomic(folder / "results.nc") as temporary:
        kept.to_netcdf(temporary, engine="h5netcdf", encoding=_encoding(kept))
    # From the file, so that a later `redraw` gives the same bytes.
    return _describe(folder, experiment, read(folder), card)


def read(folder: str | os.PathLike[str]) -> xr.Dataset:
    """The results in a folder. Raises UserError if there are none."""
    path = Path(folder) / "results.nc"
    if not path.is_file():
        raise UserError(f"{folder} has no results.nc: give the folder of a finished experiment")
    return xr.load_dataset(path, engine="h5netcdf")


def redraw(folder: str | os.PathLike[str]) -> Findings:
    """Make figure and README again from results.nc, with the claims as they now stand."""
    results = read(folder)
    if "experiment" not in results.attrs:
        raise UserError(f"{folder}/results.nc is of no experiment: draw it with xarray instead")
    experiment = find(results.attrs["experiment"])
    return _describe(Path(folder), experiment, results, json.loads(results.attrs["card"]))


def findings(experiment: Experiment, folder: str | os.PathLike[str]) -> Findings:
    """What the claims come to by the results in a folder, without drawing."""
    return decide(experiment.claims, read(folder))


def set_aside(folder: Path) -> Path:
    """Move the results in a folder into `previous-K` inside it, the first K that is free."""
    taken = [int(p.name.split("-")[1]) for p in folder.glob("previous-*") if p.is_dir()]
    moved = folder / f"previous-{max(taken, default=0) + 1}"
    moved.mkdir()
    for name in FILES:
        if (folder / name).exists():
            (folder / name).rename(moved / name)
    return moved


def table(findings: Findings, colour: bool = False, width: int = 100) -> str:
    """The claims as a terminal shows them."""
    return _table([("", findings)], colour, width)


def table_of_all(
    all_findings: Mapping[str, Findings], colour: bool = False, width: int = 100
) -> str:
    """The claims of several experiments, by name, and how many came to what."""
    every: list[str] = [finding.verdict for each in all_findings.values() for _, finding in each]
    counts = ", ".join(f"{every.count(verdict)} {verdict}" for verdict in COLOURS)
    return f"{_table(list(all_findings.items()), colour, width)}\n{len(every)} claims: {counts}\n"


def write_index(folder: str | os.PathLike[str]) -> Path:
    """README.md of a folder of experiments: every claim of those whose results are there."""
    folder = Path(folder)
    there = [name for name in registry() if (folder / name / "results.nc").is_file()]
    every = {name: findings(find(name), folder / name) for name in there}
    rows = [
        (
            f"[{name}]({name}/README.md)" if number == 0 else "",
            claim.name,
            claim.paper,
            finding.ours,
            f"**{finding.verdict}**",
        )
        for name, own in every.items()
        for number, (claim, finding) in enumerate(own)
    ]
    verdicts: list[str] = [finding.verdict for own in every.values() for _, finding in own]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in COLOURS)
    text = [
        "# Claims, and what became of them",
        f"{len(verdicts)} claims: {counts}. Each was written before the runs that decide it; its "
        "text, intervals over seeds and figure are in the experiment's folder.",
        _markdown(("experiment", "claim", "paper", "ours", "verdict"), rows),
    ]
    path = folder / "README.md"
    with files.atomic(path) as temporary:
        temporary.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return path


def _table(named: Sequence[tuple[str, Findings]], colour: bool, width: int) -> str:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    if len(named) > 1:
        made.add_column("experiment")
    for name in ("claim", "paper", "ours", "verdict", "seeds"):
        made.add_column(name, ratio=None, overflow="fold")
    for experiment, findings in named:
        for number, (claim, finding) in enumerate(findings):
            row = (
                claim.name,
                claim.paper,
                finding.ours,
                f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]",
                _seeds(finding),
            )
            made.add_row(*([experiment if number == 0 else ""] if len(named) > 1 else []), *row)
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=colour, no_color=not colour)
    console.print(made)
    return text.getvalue()


def readme(experiment: Experiment, results: xr.Dataset, card: Mapping[str, Any]) -> str:
    """The folder's README, in Markdown."""
    return _readme(experiment, results, card, decide(experiment.claims, results))


def _describe(
    folder: Path, experiment: Experiment, results: xr.Dataset, card: Mapping[str, Any]
) -> Findings:
    findings = decide(experiment.claims, results)
    # Salt and metadata are fixed so that the same results give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": experiment.name}):
        figure = experiment.draw(results)
        with files.atomic(folder / "figure.png") as temporary:
            figure.savefig(temporary, format="png", dpi=200, metadata={"Software": None})
        with files.atomic(folder / "figure.svg") as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
    with files.atomic(folder / "README.md") as temporary:
        temporary.write_text(_readme(experiment, results, card, findings), encoding="utf-8")
    return findings


def _readme(
    experiment: Experiment, results: xr.Dataset, card: Mapping[str, Any], findings: Findings
) -> str:
    command = card.get("command", f"ih-jax run {experiment.name}")
    parts = [
        f"# {experiment.title}",
        f"{experiment.paper}. Made by `{command}`.",
        experiment.summary,
        f"![{experiment.title}](figure.png)",
        "## Claims",
        _markdown(
            ("claim", "paper", "ours", "verdict", "seeds, 95% interval of the rate"),
            [
                (claim.name, claim.paper, finding.ours, f"**{finding.verdict}**", _seeds(finding))
                for claim, finding in findings
            ],
        ),
        "\n".join(_sentence(claim, finding) for claim, finding in findings),
        HOW_TO_READ,
    ]
    if experiment.differs:
        parts += ["## Where ours differs from the paper", experiment.differs]
    for made in experiment.tables(results):
        parts += [f"## {made.title}", _markdown(made.header, made.rows)]
    return "\n\n".join([*parts, "## What was run", _what_was_run(card)]) + "\n"


def _sentence(claim: Claim, finding: Finding) -> str:
    grade = f" (evidence in the paper: {claim.grade})" if claim.grade else ""
    said = [f"- **{claim.name}**{grade}. {claim.text}"]
    said += [f"  - {name}: {effect.show()}" for name, effect in finding.effects.items()]
    said += [f"  - {finding.detail[0].upper()}{finding.detail[1:]}."] if finding.detail else []
    return "\n".join(said)


def _seeds(finding: Finding) -> str:
    if finding.share is None:
        return ""
    share = "{} of {}".format(*finding.share)
    if finding.interval is None:
        return share
    return f"{share} ({finding.interval[0]:.2f} to {finding.interval[1]:.2f})"


def _what_was_run(card: Mapping[str, Any]) -> str:
    said = []
    for name, value in card.items():
        if name == "command" or value is None or isinstance(value, Mapping):
            continue
        if name == "wall_seconds":
            name, value = "wall time", _duration(float(value))
        if isinstance(value, list | tuple | range):
            value = ", ".join(str(item) for item in value)
        said.append((name.replace("_", " "), str(value)))
    return _markdown(("", ""), said) if said else "The card says nothing."


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    # A bare < would open a tag and a | would end the cell.
    safe = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in safe)


def _encoding(results: xr.Dataset) -> dict[str, dict[str, Any]]:
    return {
        str(name): {"dtype": "float32", "zlib": True}
        for name, variable in results.data_vars.items()
        if np.issubdtype(variable.dtype, np.floating)
    }
