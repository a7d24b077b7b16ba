"""`ih-jax bench`, `import`, `export` and `heads`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ih_jax import files, paths
from ih_jax.bench import contexts, costs, timing
from ih_jax.bench import report as bench_report
from ih_jax.cli.options import Bench, Export, Heads, Import
from ih_jax.errors import UserError
from ih_jax.interop import head_report, head_scores, head_series, plain, transformer_lens
from ih_jax.interop.icl_dynamics import importing
from ih_jax.interop.pretrained import reading
from ih_jax.sweeps import engine, store
from ih_jax.sweeps.trajectory import load

console = Console(markup=False, emoji=False)


def measure_costs(command: Bench) -> None:
    """Measure what training costs on this machine, write it and print it."""
    if command.quick and (command.widths, command.pairs) != (Bench.widths, Bench.pairs):
        raise UserError("--quick has widths and pairs of its own: leave out --widths and --pairs")
    if command.contexts and command.bound:
        raise UserError("each is a measurement of its own: give one of --contexts and --bound")
    paths.results_folder(command.out)
    if command.contexts:
        measure_contexts(command)
        return
    effort = timing.effort(command.widths, command.pairs)
    if command.quick:
        effort = timing.effort((1, 4, 16), 3)
    engine.use_compilation_cache()
    with store.new_folder(command.out):
        with console.status("measuring") as status:
            measure = costs.measure_bounds if command.bound else costs.measure
            found = measure(effort, lambda what: status.update(f"measuring: {what}"))
        bench_report.write(found, command.out)
    console.print(*bench_report.tables(found), sep="\n")
    console.print(f"written to {command.out}/")


def measure_contexts(command: Bench) -> None:
    """Measure what training costs at longer contexts, write it and print it."""
    if command.widths != Bench.widths:
        raise UserError("--contexts has widths of its own: leave out --widths")
    pairs = 3 if command.quick else timing.effort(command.widths, command.pairs).pairs
    engine.use_compilation_cache()
    with store.new_folder(command.out):
        with console.status("measuring") as status:
            found = contexts.measure(pairs, lambda what: status.update(f"measuring: {what}"))
        text = json.dumps(found, indent=1, allow_nan=False) + "\n"
        files.write_text(command.out / "contexts.json", text)
    console.print(contexts.table(found), f"written to {command.out}/", sep="\n")


def import_run(command: Import) -> None:
    """Import a run of the authors' code as a sweep."""
    written = importing.import_run(
        command.folder, command.data, command.data_key, command.out, command.label_generator
    )
    split = written.card["label_pairs"]
    when = "before" if split["generator"] == "old" else "since"
    console.print(f"label pairs as JAX {when} 0.5 split them: {split['known']}")
    console.print(
        f"{written.study.name}: {len(written.steps(0))} checkpoints, clamp "
        f"{written.study.runs[0].clamp.describe()}; in {command.out}: "
        f"ih_jax.load({str(command.out)!r})"
    )


def export_network(command: Export) -> None:
    """Write one network as safetensors."""
    paths.new_file(command.out, "safetensors file")
    trajectories = load(command.folder)
    if command.names == "own":
        step = trajectories.last_step(command.run) if command.step is None else command.step
        plain.save(trajectories.params(command.run, step), command.out)
        console.print(f"{command.out}: read it by ih_jax.interop.plain.load")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said below
        config = transformer_lens.export(trajectories, command.out, command.run, command.step)
    console.print(f"{command.out}: {config}")
    if said := transformer_lens.note(config):
        console.print(said)


def measure_heads(command: Heads) -> None:
    """Measure the scores of the heads of one network or a series, write them and print them."""
    engine.use_compilation_cache()
    inside = {each: reading.checkpoints(Path(each)) for each in command.model}
    models: list[str | Path] = []
    for each in command.model:
        models += inside[each] or [each]
    if not models:
        raise UserError("no model: give a folder, as --model FOLDER: see ih-jax heads --help")
    asked: dict[str, Any] = {
        "length": command.length,
        "repeats": command.repeats,
        "bos": command.bos,
    }
    shown = Console(quiet=command.quiet, markup=False, emoji=False)
    with shown.status("reading weights") as status:

        def tell(what: str) -> None:
            status.update(Text(f"{what} ..."))  # a name may have brackets

        places = [reading.locate(model) for model in models]
        series = len(places) > 1
        name = _series_name(command.model, places) if series else places[0].name
        folder = command.out or Path("results") / f"heads-{name}"
        paths.results_folder(folder)
        head_report.check_free(reading.all_hashes(places), folder)
        if series:
            found = head_scores.measure_series(models, name, command.seed, tell, **asked)
        else:
            found = head_scores.measure(reading.read_at(places[0]), command.seed, tell, **asked)
        with store.new_folder(folder):
            head_report.write(found, folder)
    report = head_series if series else head_report
    console.print(report.table(found))
    told = json.loads(found.attrs["probes"])["prefix_matching"]
    said = [*report.sentences(found), f"shown: {told}", *json.loads(found.attrs["notes"])]
    console.print(*said, f"written to {folder}/", sep="\n", soft_wrap=True)


def _series_name(given: tuple[str, ...], places: list[reading.Place]) -> str:
    """What a series is called: its folder, or its first network."""
    if len(given) == 1:
        return Path(given[0]).resolve().name
    return f"{places[0].name}-and-{len(places) - 1}-more"
