"""The `ih-jax` command."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ih_jax import files
from ih_jax.bench import costs, timing
from ih_jax.bench import report as bench_report
from ih_jax.cli.options import Bench, Data, Export, Heads, Import, List, MakeFeatures, Run, parse
from ih_jax.data.images import contact, encoders, glyphs, omniglot
from ih_jax.data.images.features import of_file, of_glyphs
from ih_jax.errors import UserError
from ih_jax.experiments import register
from ih_jax.experiments.base import Options
from ih_jax.interop import head_report, head_scores, transformer_lens
from ih_jax.interop.icl_dynamics import importing
from ih_jax.interop.pretrained import reading
from ih_jax.reports import report, running
from ih_jax.sweeps import blocks, engine, estimate, store
from ih_jax.sweeps.trajectory import Trajectories, load

console = Console()

# Options of `ih-jax run`, beside those of any run.
OF_FEW_SHOT = (
    "data",
    "data_key",
    "images",
    "download",
    "encoder",
    "weights",
    "classes",
    "exemplars",
    "labels",
    "clamps",
)
OF_TEXT = ("text", "tokenizer")
OF_EXPERIMENTS = ("quick", "seeds", "scale", "trainings")  # a file writes its own study


def main(arguments: list[str] | None = None) -> int:
    """Entry point.

    Exit codes: 0 done, 1 the machine failed (a full disk, say), 2 a mistake in what was asked,
    130 stopped by Ctrl-C, 141 whoever read its output went away.
    """
    try:
        command = parse(arguments, __doc__ or "")
        if isinstance(command, Run):
            run(command)
        elif isinstance(command, List):
            list_experiments()
        elif isinstance(command, Bench):
            measure_costs(command)
        elif isinstance(command, Import):
            import_run(command)
        elif isinstance(command, Export):
            config = transformer_lens.export(
                load(command.folder), command.out, command.run, command.step
            )
            console.print(f"{command.out}: {config}")
        elif isinstance(command, Heads):
            measure_heads(command)
        elif isinstance(command, MakeFeatures):
            make_features(command)
        elif isinstance(command, Data):
            show_data(command)
        else:
            print(report.table(report.redraw(command.folder), console.is_terminal, console.width))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read what is printed, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as of a program that SIGPIPE ended
    except (UserError, store.Damaged) as error:
        print(f"ih-jax: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"ih-jax: {error}; what was saved stands: mend it, then --resume", file=sys.stderr)
        return 1
    except (engine.Interrupted, KeyboardInterrupt) as error:
        print(f"ih-jax: {error or 'stopped'}", file=sys.stderr)
        return 130
    return 0


def list_experiments() -> None:
    """Print the experiments, their source, what they train and what each alone costs here."""
    machine = estimate.this_machine()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("experiment", "what it shows", "paper", "trainings", "networks", "minutes"):
        table.add_column(column)
    chosen = {each.name: (each,) for each in register.registry().values()}
    sets = register.SET_NAMES
    for name, some in {**chosen, **{each: register.choose(each) for each in sets}}.items():
        cost = running.cost(some, Options(), machine)
        title, paper = some[0].title, some[0].paper
        if name in sets:
            title, paper = "all of these, each training once", sets[name]
        trainings = ", ".join(dict.fromkeys(need for each in some for need in each.needs))
        table.add_row(
            name,
            title,
            paper,
            "all" if len(some) > 1 else trainings or "none",
            str(cost.networks),
            f"{cost.seconds / 60:.1f}",
        )
    console.print(table)
    console.print(f"for {Options().seeds} seeds, on this machine ({machine.describe()})")


def run(command: Run) -> None:
    """Run experiments or a study file."""
    engine.use_compilation_cache()
    if command.experiment.endswith(".py"):
        _refuse_unread(command, [*OF_FEW_SHOT, *OF_TEXT, *OF_EXPERIMENTS])
        _run_file(command)
        return
    chosen = register.choose(command.experiment)
    languages = [each.name for each in chosen if each.name.startswith("olsson")]
    _refuse_unread(command, OF_FEW_SHOT if len(languages) == len(chosen) else ())
    _refuse_unread(command, () if "olsson-text" in languages else OF_TEXT)
    how = running.How(
        out=command.out,
        trainings=command.trainings,
        resume=command.resume,
        width=command.width,
        share=command.share,
        progress=not command.quiet,
        command=shlex.join(["ih-jax", *sys.argv[1:]]),
        console=console,
    )
    findings = running.run(chosen, _options(command), how)
    if not findings:
        return
    if len(chosen) == 1:
        print(report.table(findings[chosen[0].name], console.is_terminal, console.width))
    else:
        print(report.table_of_all(findings, console.is_terminal, console.width))


def measure_costs(command: Bench) -> None:
    """Measure, write and print what training costs here."""
    effort = timing.effort(command.widths, command.pairs)
    if command.quick:
        effort = timing.effort((1, 4, 16), 3)
    store.make_folder(command.out)
    engine.use_compilation_cache()
    with console.status("measuring") as status:
        found = costs.measure(effort, lambda what: status.update(f"measuring: {what}"))
    bench_report.write(found, command.out)
    console.print(*bench_report.tables(found), sep="\n")
    console.print(f"written to {command.out}/")


def import_run(command: Import) -> None:
    """Write a run of the authors' code as a sweep."""
    written = importing.import_run(command.folder, command.data, command.data_key, command.out)
    console.print(
        f"{written.study.name}: {len(written.steps(0))} checkpoints, clamp "
        f"{written.study.runs[0].clamp.describe()}; in {command.out}: "
        f"ih_jax.load({str(command.out)!r})"
    )


def measure_heads(command: Heads) -> None:
    """Measure, write and print the scores of a pretrained network's heads."""
    engine.use_compilation_cache()
    told = Console(quiet=command.quiet)
    with told.status("reading weights") as status:
        model = reading.read(command.model)
        folder = command.out or Path("results") / f"heads-{model.name}"
        head_report.check_free(model, folder)
        found = head_scores.measure(model, command.seed, lambda what: status.update(f"{what} ..."))
        store.make_folder(folder)
        head_report.write(found, folder)
    console.print(head_report.table(found))
    console.print(*head_report.sentences(found), f"written to {folder}/", sep="\n")


def make_features(command: MakeFeatures) -> None:
    """Encode drawings."""
    engine.use_compilation_cache()
    path = omniglot.prepare(
        command.images,
        encoders.make(command.encoder, command.weights),
        _features_cache(),
        variants=not command.upright,
        kept=command.drawings,
        seed=command.seed,
        out=command.out,
        download=command.download,
        progress=True,
    )
    features = of_file(path)
    console.print(
        f"{features.classes:,} classes of {features.exemplars} drawings, "
        f"{features.features} features: --data {path}"
    )


def show_data(command: Data) -> None:
    """Print and draw what a choice of data holds."""
    engine.use_compilation_cache()
    data = _data(command)
    features = of_glyphs() if data is None else of_file(data, command.data_key)
    numbers = omniglot.nearest(features)
    told = {
        "classes": f"{features.classes:,}",
        "drawings of each": f"{features.exemplars}",
        "features": f"{features.features}",
        "length of a feature vector": f"{numbers['norm']:.1f}",
        "cosine between classes": f"{numbers['cosine']:.2f}",
        "drawings nearer to another class": f"{numbers['confused']:.0%}",
        "picture": f"{command.out}",
    }
    if command.data == "glyphs":
        glyphs.sheet(command.out)
    elif command.data == "omniglot":
        drawings = omniglot.drawings_of(command.images, _features_cache(), command.download)
        contact.sheet(drawings, command.out)
        told["characters"] = f"{len(drawings.characters)} of {len(drawings.alphabets)} alphabets"
    else:
        contact.likeness(features, command.out)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in told.items():
        table.add_row(name, value)
    console.print(table)


def _features_cache() -> Path:
    return files.cache_folder() / "features"


def _data(command: Run | Data) -> str | None:
    """The file of features that --data means; None for glyphs."""
    if command.data != "omniglot":
        if command.images or command.weights:
            raise UserError(f"--images and --weights go with --data omniglot, not {command.data}")
        return None if command.data == "glyphs" else command.data
    encoder = encoders.make(command.encoder, command.weights)
    path = omniglot.prepare(
        command.images, encoder, _features_cache(), download=command.download, progress=True
    )
    return str(path)


def _refuse_unread(command: Run, options: Sequence[str]) -> None:
    """Raises UserError if one of the options, which what is run does not read, is given."""
    for name in options:
        if getattr(command, name) != getattr(Run, name):
            raise UserError(
                f"{command.experiment} reads no --{name.replace('_', '-')}: leave it out"
            )


def _options(command: Run) -> Options:
    """What the command line says of an experiment. Raises UserError for numbers out of range."""
    for name, value in (("seeds", command.seeds), ("width", command.width)):
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}: give 1 or more")
    if not 0 < command.scale <= 1:
        raise UserError(f"--scale is {command.scale}: give a number above 0, up to 1")
    seeds = command.seeds or (1 if command.quick else Options.seeds)
    data = _data(command)
    same = ("data_key", "classes", "exemplars", "labels", "clamps", "scale", "quick")
    text = {"corpus": command.text, "tokenizer": command.tokenizer}
    return Options(
        seeds=seeds,
        data=data,
        text={k: v for k, v in text.items() if v is not None},
        **{name: getattr(command, name) for name in same},
    )


def _run_file(command: Run) -> None:
    """Train the `study` that a Python file defines."""
    path = Path(command.experiment)
    if not path.is_file():
        raise UserError(f"no file {path}: give a Python file that defines `study`")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that the rules it defines can be found by name
    spec.loader.exec_module(module)
    study = getattr(module, "study", None)
    if not isinstance(study, engine.Sweep):
        raise UserError(f"{path} defines no `study`: write study = ih_jax.sweep(...) in it")
    folder = command.out or Path("runs") / path.stem
    seen = estimate.seen([study])
    size = blocks.estimate_bytes(study) / 1e6
    console.print(
        f"{len(study.runs)} networks, {seen / 1e6:.1f} million {study.task.unit}, "
        f"about {size:,.0f} MB of trajectories, into {folder}/"
    )
    trajectories: Trajectories = study.train(
        folder,
        resume=command.resume,
        width=command.width,
        share=command.share,
        progress=not command.quiet,
    )
    console.print(f"results in {folder}: ih_jax.load({str(folder)!r})")
    after = getattr(module, "after", None)
    if callable(after):
        after(trajectories)


def program() -> int:
    """The `ih-jax` command: `main` in a process of its own."""
    store.silence_late_threads()
    code = main()
    if code == 1:
        # A save failed. Its threads would print tracebacks over our one line while Python ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(program())
