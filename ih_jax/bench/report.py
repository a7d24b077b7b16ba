"""What `ih-jax bench` shows: JSON, a figure, and two tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from rich.table import Table

from ih_jax import files
from ih_jax.bench.steps import KINDS
from ih_jax.bench.timing import Json


def write(found: Json, folder: Path) -> None:
    """bench.json, cost.png and cost.svg, each whole or not at all; without widths, bound.json."""
    name = "bench.json" if "widths" in found else "bound.json"
    files.write_text(folder / name, json.dumps(found, indent=1, allow_nan=False) + "\n")
    if "widths" not in found:
        return
    figure = draw(found)
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with files.atomic(folder / f"cost.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)


def draw(found: Json) -> Figure:
    """Milliseconds of a step of a run against the width of its block."""
    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for clamps, label in zip(KINDS, ("without clamps", "six clamps, mixed"), strict=True):
        rows = [row for row in found["widths"] if row["clamps"] == clamps and row["fits"]]
        times = [row["ms_per_step_per_run"] for row in rows]
        axes.plot([row["width"] for row in rows], times, marker="o", label=label)
    alone = found["baseline"]["ms_per_step_per_run"]
    axes.axhline(alone, linestyle="--", color="0.4", label="one network, a step a call")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set(xlabel="runs of a block", ylabel="ms per step per run", ylim=(0, None))
    device = found["device"]
    axes.set_title(
        f"{device['count']} {device['kind']} devices, all at once: {device['cpu_model']}",
        fontsize="small",
    )
    axes.legend(frameon=False)
    return figure


def tables(found: Json) -> tuple[Table, ...]:
    """Widths, how far from the bound, and everything else in words."""
    of_bounds = _table(
        {
            "setting": ("what", "{}"),
            "runs": ("width", "{}"),
            "MFLOP": ("mflop_needed", "{:,.1f}"),
            "ms/step/run": ("ms_per_step_per_run", "{:.3f}"),
            "bound": ("bound_ms_per_step_per_run", "{:.3f}"),
            "times the bound": ("quotient", "{:.2f}"),
        },
        found["bounds"],
    )
    if "widths" not in found:
        return (of_bounds,)
    columns = {
        "width": ("width", "{}"),
        "clamps": ("clamps", "{}"),
        "ms/step/run": ("ms_per_step_per_run", "{:.3f}"),
        "sequences/s": ("sequences_per_s", "{:,.0f}"),
        "GFLOP/s (51 M)": ("gflops_paper_count", "{:.1f}"),
        "GFLOP/s (45.6 M)": ("gflops_honest_count", "{:.1f}"),
        "of peak": ("fraction_of_peak_paper_count", "{:.0%}"),
        "MB/run": ("megabytes_per_run", "{:.1f}"),
        "compile s": ("compile_s_cold", "{:.1f}"),
        "cached": ("compile_s_warm", "{:.1f}"),
    }
    widths = _table(columns, found["widths"])
    summary = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, said in sentences(found).items():
        summary.add_row(name, said)
    return widths, of_bounds, summary


def _table(columns: dict[str, tuple[str, str]], rows: Sequence[Json]) -> Table:
    """One of rows, by {heading: (key, format)}."""
    made = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        shown = (
            form.format(row[key]) if key in row else "too big" for key, form in columns.values()
        )
        made.add_row(*shown)
    return made


def sentences(found: Json) -> dict[str, str]:
    """The rest of what was found, in words."""
    device, head, alone = found["device"], found["headline"], found["baseline"]
    looks, kept, grown = found["evaluation"], found["checkpoint"], found["growth"]
    told = found["on_scores"]
    start_s, width, cost = found["warm_start_s"], head["width"], found["cost"]
    flat = head["time_per_run_over_that_of_block"].items()
    return {
        "devices": f"{device['count']} {device['kind']}, all at once ({device['cpu_model']})",
        "peak": f"{found['peak_gflops']:,.0f} GFLOP/s in float32 products of "
        f"{found['matmul_size']}, {found['bandwidth_gb_per_s']:.1f} GB/s",
        f"block of {width}": f"{head['fraction_of_peak_paper_count']:.1%} of the peak by the "
        f"paper's count, {head['fraction_of_peak_honest_count']:.1%} without the gradient to "
        f"the inputs (median of {head['pairs']} pairs)",
        "mixed clamps": f"{head['mixed_over_none']:.2f} of the time without",
        "wider blocks": "time a run " + ", ".join(f"{ratio:.2f} at {w}" for w, ratio in flat),
        "baseline": f"{alone['what']}: {alone['sequences_per_s']:,.0f} sequences/s; the block "
        f"trains {alone['block_over_baseline']:.2f} times as many",
        "evaluations": f"{looks['share_of_run']:.1%} of a run of 200,000 sequences",
        "checkpoints": f"{kept['share_of_run']:.1%}, if training waited for them",
        "on_scores": f"{told['notes_over_without']:.3f} of a sweep's time with a function "
        f"that notes losses, {told['computes_over_without']:.3f} with one that always computes",
        "memory grown": f"{grown['megabytes_grown']:.1f} MB in {grown['chunks']} chunks",
        "warm start": "not measured: a second process cannot use the device"
        if start_s is None
        else f"{start_s:.1f} s from the start of a process to its first step",
        "kept": f"a step costs runs + {cost['overhead_runs']:.2f}, up to {cost['widest']} runs; "
        f"sweeps choose widths by it ({cost['kept_in']})",
    }
