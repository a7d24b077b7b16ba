"""`ih-jax run`, `list` and `plot`: experiments, and files that define a study or an experiment."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from ih_jax import paths
from ih_jax.cli import unread
from ih_jax.cli.data import file_of
from ih_jax.cli.options import List, Plot, Run
from ih_jax.errors import UserError
from ih_jax.experiments import networks, register
from ih_jax.experiments.base import Experiment, Options
from ih_jax.reports import announcing, loggers, report, running, sources, tables
from ih_jax.sweeps import blocks, engine, estimate

console = Console(markup=False, emoji=False)


def run(command: Run) -> None:
    """Run experiments of this package, or what a Python file defines."""
    loggers.check(command.log)
    engine.use_compilation_cache()
    if not command.experiment.endswith(".py"):
        chosen = register.choose(command.experiment)
        unread.refuse_of_ours(command, chosen)
        _run_experiments(command, chosen)
        return
    source = sources.load(Path(command.experiment))
    with sources.own_errors(source.path):
        if source.experiment is not None:
            _run_experiments(command, (source.experiment,), source.path)
        else:
            unread.refuse_of_study(command)
            _run_study(command, source)


def show_experiments(command: List) -> None:
    """Print the experiments: their source, what they train, and what each alone costs here."""
    machine = estimate.this_machine()
    # Of a text only the tokenizer decides the cost, which so many bytes of it show.
    options, known = Options(text={"limit": 200_000}), dict[str, announcing.Price]()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("experiment", "what it shows", "paper", "trainings", "networks", "minutes"):
        table.add_column(column)
    chosen = {each.name: (each,) for each in register.registry().values()}
    sets = register.SET_NAMES
    for name, some in {**chosen, **{each: register.choose(each) for each in sets}}.items():
        price = announcing.price(some, options, machine, known)
        title, paper = some[0].title, some[0].paper
        if name in sets:
            title, paper = "all of these, each training once", sets[name]
        trainings = ", ".join(training.name for training in some[0].trainings)
        table.add_row(
            name,
            title,
            paper,
            "all" if len(some) > 1 else trainings or "none",
            str(price.networks),
            f"{price.seconds / 60:.1f}",
        )
    console.print(table)
    console.print(f"for {options.seeds} seeds, on this machine ({machine.describe()})")


def plot(command: Plot) -> None:
    """Redraw one results folder, or all those inside a folder and then their index."""
    folder = command.folder
    if paths.is_there(folder / "results.nc") or not list(folder.glob("*/results.nc")):
        if command.beside:
            raise UserError(f"{folder} holds one experiment: --beside is for a folder of several")
        print(tables.of_claims(_redraw(folder, command.file), console.is_terminal, console.width))
        return
    if command.file is not None:
        raise UserError(f"{folder} holds several experiments: give --file with one of them")
    found = sources.experiments_in(folder)
    findings = {name: _redraw(folder / name, None) for name in found}
    index = report.write_index(folder, found, command.beside)
    print(tables.of_all_claims(findings, console.is_terminal, console.width))
    console.print(f"all claims: {index}")
    for left_out in sorted({path.parent for path in folder.glob("*/results.nc")}):
        if left_out.name not in found:
            console.print(f"left unchanged, because its file is gone: {left_out}")


def _redraw(folder: Path, file: Path | None) -> tables.Findings:
    experiment, path = sources.experiment_of(folder, file)
    if path:
        with sources.own_errors(path):
            return report.redraw(folder, experiment)
    with report.as_measured(folder, experiment):
        return report.redraw(folder, experiment)


def _run_experiments(
    command: Run, experiments: Sequence[Experiment], file: Path | None = None
) -> None:
    how = running.How(
        out=command.out,
        trainings=command.trainings,
        resume=command.resume,
        width=command.width,
        share=command.share,
        progress=not command.quiet,
        log=command.log,
        disk=command.disk,
        draw=not command.no_figures,
        command=shlex.join(["ih-jax", *sys.argv[1:]]),
        file=file,
        console=console,
    )
    options = _options(command)
    unread.refuse_without_effect(command, options, experiments)
    findings = running.run(experiments, options, how)
    if not findings:
        return
    if len(experiments) == 1:
        (only,) = findings.values()
        print(tables.of_claims(only, console.is_terminal, console.width) if only else "", end="")
    else:
        print(tables.of_all_claims(findings, console.is_terminal, console.width))


def _run_study(command: Run, source: sources.Source) -> None:
    """Train the study of a file, and call its `after` if it has one."""
    study = source.study
    assert study is not None
    folder = command.out or Path("runs") / source.path.stem
    size = blocks.estimate_bytes(study) / 1e6
    console.print(f"{announcing.size(study)}, about {size:,.0f} MB of trajectories, into {folder}/")
    with loggers.logger(command.log, folder) as on_scores:
        trajectories = study.train(
            folder,
            resume=command.resume,
            width=command.width,
            share=command.share,
            progress=not command.quiet,
            on_scores=on_scores,
            about={"command": shlex.join(["ih-jax", *sys.argv[1:]])},
        )
    if not trajectories.finished:  # the others have theirs still to train
        console.print(
            f"share {command.share} is trained; there are results when all shares are: "
            f"ih-jax status {shlex.quote(str(folder))}"
        )
        return
    console.print(f"results in {folder}: ih_jax.load({str(folder)!r})")
    if source.after is not None:
        source.after(trajectories)


def _options(command: Run) -> Options:
    """The options of an experiment. Raises UserError for numbers out of range."""
    if not 0 < command.scale <= 1:
        raise UserError(f"--scale is {command.scale}: give a number above 0, up to 1")
    seeds = command.seeds or (1 if command.quick else Options.seeds)
    if not command.disk > 0:
        raise UserError(f"--disk is {command.disk}: give a number of GB above 0")
    if command.first_seed < 0:
        raise UserError(f"--first-seed is {command.first_seed}: give 0 or more")
    same = ("data_key", "classes", "exemplars", "labels", "clamps", "scale", "quick", "first_seed")
    vary = None if command.vary is None else tuple(command.vary.split(","))
    text = {"corpus": command.text, "tokenizer": command.tokenizer}
    return Options(
        seeds=seeds,
        vary=cast(tuple[networks.Factor, ...] | None, vary),  # `Options` refuses unknown ones
        data=file_of(command),
        text={k: v for k, v in text.items() if v is not None},
        **{name: getattr(command, name) for name in same},
    )
