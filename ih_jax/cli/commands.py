"""`ih-jax bench`, `import`, `export` and `heads`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ih_jax.bench import costs, timing
from ih_jax.bench import report as bench_report
from ih_jax.cli.options import Bench, Export, Heads, Import
from ih_jax.interop import head_report, head_scores, transformer_lens
from ih_jax.interop.icl_dynamics import importing
from ih_jax.interop.pretrained import reading
from ih_jax.sweeps import engine, store
from ih_jax.sweeps.trajectory import load

console = Console()


def measure_costs(command: Bench) -> None:
    """Measure what training costs on this machine, write it and print it."""
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
    """Import a run of the authors' code as a sweep."""
    written = importing.import_run(command.folder, command.data, command.data_key, command.out)
    console.print(
        f"{written.study.name}: {len(written.steps(0))} checkpoints, clamp "
        f"{written.study.runs[0].clamp.describe()}; in {command.out}: "
        f"ih_jax.load({str(command.out)!r})"
    )


def export_network(command: Export) -> None:
    """Write one network as safetensors."""
    trajectories = load(command.folder)
    config = transformer_lens.export(trajectories, command.out, command.run, command.step)
    console.print(f"{command.out}: {config}")


def measure_heads(command: Heads) -> None:
    """Measure the scores of a pretrained network's heads, write them and print them."""
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
