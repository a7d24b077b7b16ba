"""What the page shows of a sweep: measured at every checkpoint, as JSON and packed arrays.

Only the sweep's folder is read, and nothing is written. A sweep that is still training is shown as
far as it has got.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ih_jax.errors import UserError
from ih_jax.model.params import Params
from ih_jax.reports.viewer import curves_only, describing, fitting, looking, packing
from ih_jax.reports.viewer.looking import Kind
from ih_jax.sweeps.measuring import measured
from ih_jax.sweeps.runs import RunSpec
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.fewshot_scores import NO_ANSWER

EXCLUDED = -1e6  # a logit below is none: the page shows minus infinity

Told = Callable[[str], None]


@dataclass(frozen=True)
class Gathered:
    """A sweep as the page holds it."""

    about: dict[str, Any]  # JSON
    blobs: dict[str, dict[str, packing.Packed]]  # by name; `about` says whose they are


DETAILS = ("pattern", "logits", "added", "loss", "said", "said_p")


def gather(
    t: Trajectories,
    *,
    budget: float,
    runs: Sequence[int] | None = None,
    told: Told = lambda what: None,
) -> Gathered:
    """All that the page shows of a sweep.

    Args:
        t: the sweep; it may still be training.
        budget: bytes of the page that it may take, about.
        runs: which, by number; None: all, up to `fitting.MOST_RUNS`.
        told: is called with what is being done.

    Raises:
        UserError: there is no such run, or nothing to show.
    """
    try:
        study = t.study
        if t.forgotten:
            raise UserError("its weights were forgotten when they had been measured")
    except UserError as error:
        about, curves = curves_only.gather(t, error, runs)
        return Gathered(about, {"curves": curves})
    results = t.results
    chosen = [study.runs[run] for run in fitting.shown(runs, len(study.runs))]
    kind = looking.kind_of(study.task)
    kept = {run.index: t.steps(run.index) for run in chosen}
    sizes = [fitting.bytes_of(kind, run.config, run.task.context_length) for run in chosen]
    most = max((len(steps) for steps in kept.values()), default=0)
    room = fitting.room(kind, sizes, most, budget)
    last = {run: steps[-1:] for run, steps in kept.items()}
    shown: tuple[int, ...] = ()
    wrong: dict[int, int] = {}
    if most:
        told("finding sequences to show")
        shown, wrong = _sequences(study, t.read, kind, last, room.sequences)
    steps = _steps(study, results, chosen, kept, room)
    looked = {run.index: describing.Looked() for run in chosen}
    sequences: dict[int, dict[str, np.ndarray]] = {}
    if most:
        count = sum(len(s) for s, _ in steps.values())
        told(f"measuring {count:,} networks")
        of_all = {run: scored for run, (scored, _) in steps.items()}
        look = looking.everything(kind, shown)
        for index, step, arrays in measured(study, t.read, look, of_all, None, looking.PROBE[kind]):
            if kind == "fewshot":
                used = np.arange(arrays["logits"].shape[-1]) < _answers(study.runs[index])
                arrays["logits"] = np.where(used, arrays["logits"], NO_ANSWER)
            if step in steps[index][1]:
                own = {name: arrays[name] for name in DETAILS if name in arrays}
                looked[index].details[step] = own
            numbers = {k: v for k, v in arrays.items() if not k.startswith("of_")}
            looked[index].scores[step] = {k: v for k, v in numbers.items() if k not in DETAILS}
            sequences[index] = {k[3:]: v for k, v in arrays.items() if k.startswith("of_")}
    about = describing.about_sweep(t, study, results, kind, chosen)
    about["notes"] = _notes(study, chosen, runs, kept, steps, room, t)
    about["hard"] = {str(i): wrong.get(s, 0) for i, s in enumerate(shown)}
    blobs = {"curves": describing.curves(study, results, chosen)}
    about["sequences"], about["tiles"], places = describing.sequences_shown(kind, chosen, sequences)
    about["runs"] = [
        describing.about_run(
            run, results, kind, looked[run.index], study.unit, places.get(run.index)
        )
        for run in chosen
    ]
    about["notes"] += _fewer(about["runs"])
    for run in chosen:
        blobs[f"run-{run.index}"] = pack_run(looked[run.index])
    return Gathered(about, blobs)


def pack_run(looked: describing.Looked) -> dict[str, packing.Packed]:
    """Everything measured of a run, along the steps of its scores or of its details."""
    found = {}
    for steps in (looked.scores, looked.details):
        for name in next(iter(steps.values()), {}):
            values = np.stack([steps[step][name] for step in sorted(steps)])
            if name == "pattern":
                found[name] = packing.Packed(values, 0.0, 1 / looking.LEVELS)
            elif name == "logits":
                # What a clamp excludes has -1e9; beside it all else would round to one value.
                found[name] = packing.pack(np.where(values > EXCLUDED, values, np.nan))
            elif name == "said":
                found[name] = packing.indices(values)
            elif name == "said_p":
                found[name] = packing.pack(values, 8, 0.0, 1.0)
            elif name == "added" and values.size > 200_000:
                found[name] = packing.pack(values, 8)
            else:
                found[name] = packing.pack(values)
    return found


# --- which runs, checkpoints and sequences ------------------------------------------------------


def _answers(run: RunSpec) -> int:
    """How many of a few-shot run's logits can be an answer, the first ones."""
    return run.task.labels if isinstance(run.task, FewShot) else run.config.labels


def _sequences(
    study: Study,
    read: Callable[[int, int], Params],
    kind: Kind,
    last: Mapping[int, Sequence[int]],
    count: int,
) -> tuple[tuple[int, ...], dict[int, int]]:
    """Which sequences of the probe to show: the first ones, then hard ones.

    Hard ones are those that most networks get wrong at their last checkpoint, not counting networks
    for which one is shown already; if none is wrong, those with the highest loss. Also gives, for
    each, how many networks get it wrong.
    """
    probe = looking.PROBE[kind]
    hard = (count + 1) // 3 if kind != "other" else 0
    shown = list(range(count - hard))
    if not hard:
        return tuple(shown), {}
    labels = {run.index: np.int32(_answers(run)) for run in study.runs}
    each = list(measured(study, read, looking.losses(kind), last, None, probe, labels))
    loss = np.stack([arrays["loss"] for _, _, arrays in each])
    wrong = np.stack([arrays["right"] for _, _, arrays in each]) < 0.5
    open_ = np.ones(len(each), bool)
    for _ in range(hard):
        votes = wrong[open_].sum(0) if kind == "fewshot" and open_.any() else np.zeros(probe)
        mean = np.nan_to_num(loss.mean(0))
        mean[shown], votes[shown] = -np.inf, -1
        best = int(np.lexsort((mean, votes))[-1])
        shown.append(best)
        open_ &= ~wrong[:, best]
    counts = wrong.sum(0) if kind == "fewshot" else np.zeros(probe, int)
    return tuple(shown), {i: int(counts[i]) for i in shown}


def _steps(
    study: Study,
    results: xr.Dataset,
    chosen: Sequence[RunSpec],
    kept: Mapping[int, list[int]],
    room: fitting.Room,
) -> dict[int, tuple[list[int], list[int]]]:
    """By run: the steps at which it is scored, and those of them at which patterns are kept."""
    at = (results[study.task.unit].values / study.unit).tolist()
    found = {}
    for number, run in enumerate(chosen):
        loss = describing.values_of(results, "loss")[run.index]
        scored = fitting.spread(kept[run.index], fitting.MOST_SCORED, at, loss)
        count = room.checkpoints if number < room.runs else 0
        found[run.index] = (scored, fitting.spread(scored, count, at, loss) if count else [])
    return found


def _notes(
    study: Study,
    chosen: Sequence[RunSpec],
    given: Sequence[int] | None,
    kept: Mapping[int, list[int]],
    steps: Mapping[int, tuple[list[int], list[int]]],
    room: fitting.Room,
    t: Trajectories,
) -> list[str]:
    """In words, what is left out and why."""
    notes = []
    if not t.card.get("finished", False):
        notes.append(
            "This sweep has not finished: the page shows what was on disk when it was written."
        )
    total = len(study.runs)
    if len(chosen) < total and given is None:
        notes.append(
            f"{len(chosen):,} of {total:,} runs are shown; choose others with "
            "ih-jax view RUN --runs 400 401 402."
        )
    without = len(chosen) - sum(bool(detail) for _, detail in steps.values())
    empty = sum(not kept[run.index] for run in chosen)
    if empty:
        notes.append(f"{empty} runs have no checkpoint yet: they have curves only.")
    if without - empty > 0:
        notes.append(
            f"{without - empty} runs have curves and scores but no attention patterns, so that "
            "the page stays small; choose runs with --runs, or give it more room with --megabytes."
        )
    return notes


# --- less of it, where the page is too large ------------------------------------------------------


def thinned(gathered: Gathered, share: float) -> Gathered:
    """Keeps this share of the checkpoints that have patterns; at least the first and the last."""
    runs, blobs = [], dict(gathered.blobs)
    for run in gathered.about["runs"]:
        steps = run["details"]
        count = max(2, int(share * len(steps)))
        if len(steps) > count:
            kept = np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int))
            name = f"run-{run['id']}"
            blobs[name] = {
                key: replace(one, codes=one.codes[kept]) if key in DETAILS else one
                for key, one in blobs[name].items()
            }
            run = {**run, "details": [steps[i] for i in kept]}
        runs.append(run)
    notes = [note for note in gathered.about["notes"] if not note.startswith(FEWER)]
    about = {**gathered.about, "runs": runs, "notes": notes + _fewer(runs)}
    return Gathered(about, blobs)


FEWER = "Attention and logits are kept at"


def _fewer(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note, if some of the checkpoints that are scored have no patterns."""
    counts = [len(run["details"]) for run in runs if 0 < len(run["details"]) < len(run["steps"])]
    if not counts:
        return []
    return [
        f"{FEWER} {min(counts)} or more checkpoints of each run (tall marks below), closer "
        "together where its loss changes; scores of heads at all of them."
    ]
