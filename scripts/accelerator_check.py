"""Everything one wants to know of an accelerator in its first ten minutes, as one JSON file.

    python scripts/accelerator_check.py OUT.json

Needs nothing but the package, its golden numbers (tests/model/golden) and no internet connection.
Runs on a CPU too, to try the script: `--seeds 2 --widths 4 8`. The parts, in this order:

  machine    what it is; the rate of float32 products at full and at default precision; bandwidth
  numerics   logits, patterns, losses and gradients against the golden numbers of the papers' code
  bits       of a run: other neighbours and lanes, other chunks, a program compiled in a new process
  steps      blocks of several widths, with and without clamps: time, memory, time to compile
  language   tokens a second of language models
  fig5b      figure 5b of Singh et al. 2024 over many seeds, and what it took

OUT.json is written anew after each part, so that a lost machine loses no more than one. A part that
fails says so in it, and the others go on. Exit code 1 where one failed or numbers disagree.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ih_jax as ih
from ih_jax import files, platforms
from ih_jax.bench import steps, timing
from ih_jax.bench.machine import bandwidth, describe
from ih_jax.claims.learning import time_to
from ih_jax.experiments.singh2024.trainings import CLAMPS, HORIZONS
from ih_jax.interop.icl_dynamics.golden import parity
from ih_jax.sweeps.programs import Programs, chunk_arrays, first_state, memory_of

GOLDEN = Path(__file__).parents[1] / "tests" / "model" / "golden" / "parity.npz"
TOLERANCE = 1e-5  # of the golden numbers, absolute
STEPS = 50  # of the runs whose bits are compared
Json = dict[str, Any]


def machine(device: jax.Device, **_: Any) -> Json:
    """What it is, and its peaks."""
    found: Json = describe([device])
    found["memory_gb"] = memory_of(device) / 1e9
    size = 1024 if device.platform == "cpu" else 8192
    factor = jax.device_put(np.random.default_rng(0).normal(size=(size, size)) / size**0.5, device)
    factor = factor.astype(np.float32)
    for precision in ("highest", "default"):
        product = jax.jit(lambda x, p=precision: jax.numpy.matmul(x, factor, precision=p))
        seconds = timing.median(timing.calibrated(timing.repeated(product, factor), 0.3))
        found[f"matmul_gflops_{precision}"] = 2 * size**3 / seconds / 1e9
    found["bandwidth_gb_per_s"] = bandwidth([device], 0.3)
    return found


def numerics(golden: Path, **_: Any) -> Json:
    """Largest errors against the golden numbers."""
    with np.load(golden) as arrays:
        groups = json.loads(bytes(arrays["meta"]))
    names = [(group, variant) for group, own in groups.items() for variant in own["variants"]]

    def of(name: tuple[str, str]) -> Json:
        return next(found for *_, found in parity(str(golden), only=name))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each compiles programs of its own
        errors = dict(zip(names, pool.map(of, names), strict=True))
    worst = {q: max(e.get(q, 0.0) for e in errors.values()) for q in next(iter(errors.values()))}
    agree = sum(all(e <= TOLERANCE for e in found.values()) for found in errors.values())
    return {"variants": len(errors), "agree": agree, "worst": worst, "ok": agree == len(errors)}


def bits(device: jax.Device, **_: Any) -> Json:
    """Whether a run keeps its bits, whatever is beside it and however it was cut."""
    one = digest(device, [0, 1, 2, 3], 0)
    script = [sys.executable, __file__, "--digest"]
    again = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()[-1]
    found = {
        "repeated": digest(device, [0, 1, 2, 3], 0) == one,
        "other_neighbours_and_lane": digest(device, [3, 2, 0, 2], 2) == one,
        "other_chunks": digest(device, [0, 1, 2, 3], 0, cuts=(20, 30)) == one,
        "compiled_in_another_process": again == one,
    }
    return {**found, "ok": all(found.values())}


def digest(
    device: jax.Device, members: list[int], lane: int, cuts: tuple[int, ...] = (STEPS,)
) -> str:
    """Of the weights and optimizer state of the run in a lane, after `STEPS` steps."""
    clamps = {"none": None, "match": ih.induction(1, 3)}
    study = ih.sweep(ih.fewshot(), clamp=clamps, init=range(2), sequences=100 * STEPS)
    compiled = Programs(study, len(members)).of(0, device)
    block, state = first_state(compiled, members, device)
    at = 0
    for count in cuts:
        state, _ = compiled.advance(
            state, block, *chunk_arrays(at, [(at + count, 0, False)], device)
        )
        at += count
    leaves = [np.asarray(leaf)[lane].tobytes() for leaf in jax.tree.leaves(state)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def blocks(device: jax.Device, widths: list[int], **_: Any) -> Json:
    """What a step costs in blocks of several widths."""
    rows = []
    for width, clamps in [*((w, "none") for w in widths), (widths[0], "mixed")]:
        row, _timed = steps.width_row(width, clamps, [device], 1.0, 0.5)
        rows.append({k: v for k, v in row.items() if "fraction" not in k})
    if not any(row["fits"] for row in rows):
        return {"widths": rows, "ok": False}
    fitted = steps.fit_cost(rows)
    return {"widths": rows, "overhead_runs": fitted.overhead, "widest": fitted.widest}


def language(device: jax.Device, widths: list[int], **_: Any) -> Json:
    """Tokens a second of two-layer models on 128 tokens, one alone and several together."""
    rows = []
    for d_model, width in ((64, 1), (64, min(max(widths), 64)), (256, 1), (256, 8)):
        task = ih.language(batch=8)
        study = ih.sweep(task, init=range(width), d_model=d_model, layers=2, tokens=10_000_000)
        compiled = Programs(study, width).of(0, device)
        take = steps.training(compiled, range(width), device)
        seconds = timing.median(timing.calibrated(take, 0.5, 8))
        tokens = width * study.groups[0].program.batch * study.groups[0].program.tokens
        rows.append(
            {
                "d_model": d_model,
                "width": width,
                "ms_per_step": 1e3 * seconds,
                "tokens_per_s": tokens / seconds,
                "megabytes": compiled.bytes / 1e6,
            }
        )
    return {"rows": rows}


def fig5b(seeds: int, data: Path | None, **_: Any) -> Json:
    """The six clamps of figure 5b over many initialisations: times to a loss of 0.4 ln 2."""
    task = ih.fewshot(str(data) if data else None)
    horizons = HORIZONS if seeds > 2 else dict.fromkeys(HORIZONS, 3_200)
    study = ih.sweep(
        task,
        clamp=CLAMPS,
        init=range(1000, 1000 + seeds),
        sequences=horizons,
        checkpoints=[max(horizons.values())],
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = study.train(Path(folder) / "fig5b", progress=False)
        seconds = time.perf_counter() - began
        loss = trained.results["loss"].load()
        width = trained.card["width"]
    found = {}
    for clamp in CLAMPS:
        each = [
            time_to(loss.sequences, loss.sel(clamp=clamp, init=init)) for init in loss.init.values
        ]
        found[clamp] = {
            "learned": sum(not t.censored for t in each),
            "quartiles": np.quantile([t.sequences for t in each], [0.25, 0.5, 0.75]).tolist(),
        }
    total = sum(horizons.values()) * seeds
    return {
        "runs": len(CLAMPS) * seeds,
        "width": width,
        "seconds": seconds,
        "sequences": total,
        "sequences_per_s": total / seconds,
        "times": found,
    }


PARTS: dict[str, Callable[..., Json]] = {
    "machine": machine,
    "numerics": numerics,
    "bits": bits,
    "steps": blocks,
    "language": language,
    "fig5b": fig5b,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, help="the JSON file to write")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 512, 2048], help="of blocks")
    parser.add_argument("--seeds", type=int, default=256, help="of figure 5b")
    parser.add_argument("--data", type=Path, help="a feature file; by default glyphs")
    parser.add_argument("--golden", type=Path, default=GOLDEN)
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = jax.local_devices()[0]
    if arguments.digest:
        print(digest(device, [0, 1, 2, 3], 0))
        return 0
    if arguments.out is None:
        parser.error("OUT.json is missing: say where to write what is found")
    settings = {k: getattr(arguments, k) for k in ("widths", "seeds", "data", "golden")}
    found: Json = {"precision": platforms.of(device.platform).matmul_precision}
    good = True
    for part in arguments.parts:
        began = time.perf_counter()
        try:
            found[part] = PARTS[part](device=device, **settings)
        except Exception as error:
            found[part] = {"ok": False, "error": repr(error), "where": traceback.format_exc()}
        found[part]["took_s"] = time.perf_counter() - began
        ok = found[part].get("ok", True)
        good &= ok
        print(f"{part}: {'done' if ok else 'FAILED'} in {found[part]['took_s']:.0f} s", flush=True)
        files.write_text(arguments.out, json.dumps(found, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
