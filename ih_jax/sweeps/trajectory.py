"""Reading a sweep: its results, the weights of any run at any checkpoint, and measures over all.

t = load("runs/pulse")
t.results["loss"].sel(clamp="pulse").median("init").plot()
t.params(run=3, step=10_000)
t.measure(my_measure)
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Sequences
from ih_jax.data.fewshot import Leaf
from ih_jax.errors import UserError
from ih_jax.model.params import Params, init
from ih_jax.sweeps import store
from ih_jax.sweeps.loop import Packing, compiler_options, packing, runs_at_once
from ih_jax.sweeps.study import Group, RunSpec, Study

MEASURE_AT_ONCE = 64  # (run, checkpoint) pairs in a device's memory together


class BlockRecord:
    """What one block left on disk: its runs, scores and the parts that hold its weights."""

    def __init__(self, folder: Path, number: int, runs: Sequence[int]) -> None:
        self.folder = folder
        self.number = number
        self.runs = list(runs)

    @cached_property
    def parts(self) -> list[tuple[Path, dict[str, Any]]]:
        """The block's parts in order, with what their manifests say."""
        found: list[tuple[Path, dict[str, Any]]] = []
        while True:
            path = store.part_path(self.folder, self.number, len(found))
            if not (path / "manifest.json").is_file():
                return found
            found.append((path, json.loads((path / "manifest.json").read_text())["about"]))

    def scores(self) -> tuple[list[int], np.ndarray]:
        """Steps [N] and scores [N, R, S, M]."""
        steps: list[int] = []
        scores: list[np.ndarray] = []
        for path, about in self.parts:
            leaves, _ = store.load_part(path)
            if about["score_steps"]:
                steps += about["score_steps"]
                scores.append(leaves["scores"])
        return steps, np.concatenate(scores) if scores else np.zeros((0, len(self.runs), 0, 3))

    @property
    def diverged(self) -> list[int]:
        """The step at which each run's loss was not finite, -1 where it always was."""
        return self.parts[-1][1]["diverged"] if self.parts else [-1] * len(self.runs)

    @property
    def trained_to(self) -> int:
        """The last step that parts on disk tell of; -1 where there are none."""
        if not self.parts:
            return -1
        about = self.parts[-1][1]
        return max(about["steps"] + about["score_steps"], default=-1)

    def steps(self) -> list[int]:
        """Steps at which weights were kept."""
        return [step for _, about in self.parts for step in about["steps"]]


class Trajectories:
    """A sweep on disk."""

    def __init__(self, folder: str | Path, study: Study | None = None) -> None:
        self.folder = Path(folder)
        self.card = store.read_card(self.folder)
        if "study" not in self.card:
            raise UserError(f"{self.folder}/card.json is of no sweep: give the folder of a sweep")
        self._study = study

    @cached_property
    def study(self) -> Study:
        """The study: the one given, or made again from the card.

        Raises:
            UserError: the card does not suffice: its data is gone or was an array in memory, a
                rule's function is not found by name, or weights were grafted. Give the study then.
        """
        if self._study is not None:
            return self._study
        try:
            return Study.from_card(self.card["study"])
        except UserError as error:
            raise UserError(f"{error}; or give the study itself: load(folder, study)") from None

    @cached_property
    def results(self) -> xr.Dataset:
        """Curves by axis, evaluation set and sequences seen (see `assemble`)."""
        path = self.folder / "results.nc"
        if path.is_file():
            with xr.open_dataset(path, engine="h5netcdf") as found:
                return found.load()
        return assemble(self.study, self.blocks)

    @cached_property
    def blocks(self) -> list[BlockRecord]:
        """All blocks of the sweep, whether finished or not."""
        return [
            BlockRecord(self.folder, number, runs)
            for number, runs in enumerate(self.card["blocks"])
        ]

    def _find(self, run: int) -> tuple[BlockRecord, int, RunSpec]:
        runs = self.study.runs
        if not 0 <= run < len(runs):
            raise UserError(f"run {run} is out of range: the sweep has runs 0..{len(runs) - 1}")
        for block in self.blocks:
            if run in block.runs:
                return block, block.runs.index(run), runs[run]
        raise UserError(f"run {run} was not trained")

    def run(self, **labels: Any) -> int:
        """The number of the run with these labels, such as clamp="none", init=5."""
        found = [
            run.index
            for run in self.study.runs
            if all(str(run.names.get(axis)) == str(label) for axis, label in labels.items())
        ]
        if len(found) != 1:
            raise UserError(f"{len(found)} runs have {labels}: axes are {self.study.axes}")
        return found[0]

    def steps(self, run: int) -> list[int]:
        """The steps at which a run's weights were kept, up to its horizon."""
        block, _, spec = self._find(run)
        return [step for step in block.steps() if step <= spec.steps]

    def params(self, run: int, step: int) -> Params:
        """A run's weights after `step` steps (`steps(run)` lists them).

        Raises:
            UserError: there is no such run, or nothing was kept at that step.
            store.Damaged: what is on disk is not what was written.
        """
        if step not in self.steps(run):
            raise UserError(f"run {run} was not kept at step {step}: give one of {self.steps(run)}")
        return jax.tree.map(jnp.asarray, self._read(run, step))

    def measure(
        self,
        function: Callable[[Params, Holds, Any], Any],
        probe: Sequences | None = None,
        *,
        runs: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
        sequences: int = 1000,
    ) -> xr.Dataset | xr.DataArray:
        """A measure of every run at every checkpoint.

        Args:
            function: `function(params, clamp, probe) -> array` or {name: array}, for one network;
                it is jitted, mapped over (run, checkpoint) and laid over all devices.
            probe: sequences that all networks see; None: each run's own training evaluation set.
            runs: which runs, by number; None: all.
            steps: which checkpoints; None: all that were kept.
            sequences: how many a probe of None has.

        Returns:
            The axes of the study, then `sequences` or `tokens` (seen at the checkpoint; NaN past a
            run's horizon), then the axes of the array. A Dataset where the function gives a dict.
        """
        wanted = list(range(len(self.study.runs))) if runs is None else list(runs)
        kept = sorted({s for run in wanted for s in self.steps(run)})
        chosen = kept if steps is None else [s for s in kept if s in set(steps)]
        if not chosen:
            raise UserError(f"nothing was kept at steps {steps}: give some of {kept}")
        filled: dict[str, np.ndarray] = {}
        for group in self.study.groups:
            members = [spec for spec in group.runs if spec.index in wanted]
            if members:
                self._measure_group(group, members, function, probe, chosen, sequences, filled)
        seen = np.array(chosen) * self.study.unit
        axes = {**self.study.axes, self.study.task.unit: seen}
        arrays = {}
        for name, values in filled.items():
            own = values.reshape(*self.study.shape, *values.shape[1:])
            extra = [f"{name}_{i}" for i in range(own.ndim - len(axes))]
            arrays[name] = xr.DataArray(own, dims=[*axes, *extra], coords=axes, name=name)
        if list(arrays) == ["value"]:
            return arrays["value"].rename(getattr(function, "__name__", "value"))
        return xr.Dataset(arrays)

    def _measure_group(
        self,
        group: Group,
        members: list[RunSpec],
        function: Callable[..., Any],
        probe: Sequences | None,
        chosen: list[int],
        sequences: int,
        filled: dict[str, np.ndarray],
    ) -> None:
        arrays = group.arrays
        pack: Packing = packing(arrays)
        place = {spec.index: i for i, spec in enumerate(group.runs)}

        platform, program = jax.devices()[0].platform, group.program
        # Where it looks at one network at a time, no vmap stands in the way of large products.
        fitting = runs_at_once(MEASURE_AT_ONCE, program.batch * program.tokens, platform)
        together = fitting if fitting > 1 else None

        # Without these options a gradient of shared weights under vmap corrupts memory on CPU
        # (JAX 0.10.2), and a measure may well differentiate.
        @functools.partial(jax.jit, compiler_options=compiler_options(platform, program.tokens))
        def measured(varying: list[Leaf], shared: list[Leaf], params: Params, step: Array) -> Any:
            def one(network: tuple[list[Leaf], Params, Array]) -> Any:
                own, params, step = network
                run = pack.one(own, shared)
                batch = probe
                if batch is None:
                    key = jax.random.fold_in(jax.random.key(run.task.evaluation_seed), 0)
                    source = run.task.evaluation[0]
                    batch = program.task.sample(key, source, sequences)
                holds = run.holds.at(step * program.unit)
                found = function(params, holds, batch)
                return found if isinstance(found, dict) else {"value": found}

            return jax.lax.map(one, (varying, params, step), batch_size=together)

        def measure_on(device: jax.Device, some: list[tuple[RunSpec, int]], weights: Params) -> Any:
            block = pack.pack(arrays, [place[spec.index] for spec, _ in some])
            at = np.array([s for _, s in some], np.int32)
            there = jax.device_put((block.varying, block.shared, weights, at), device)
            return jax.tree.map(np.asarray, measured(*there))

        todo = [(spec, s) for spec in members for s in self.steps(spec.index) if s in set(chosen)]
        devices = jax.local_devices()
        size = min(MEASURE_AT_ONCE, -(-len(todo) // len(devices)))
        pieces = [todo[begin : begin + size] for begin in range(0, len(todo), size)]
        waiting: deque[tuple[list[tuple[RunSpec, int]], Future[Any]]] = deque()

        def keep() -> None:
            some, future = waiting.popleft()
            for name, values in future.result().items():
                if name not in filled:
                    shape = (len(self.study.runs), len(chosen), *values.shape[1:])
                    filled[name] = np.full(shape, np.nan, np.float32)
                for (spec, s), value in zip(some, values, strict=False):
                    filled[name][spec.index, chosen.index(s)] = value

        with contextlib.ExitStack() as stack:
            # A thread a device: what runs on one must not hold up what is read for the next.
            pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in devices]
            for number, some in enumerate(pieces):
                # The last piece is filled up, so that there is one program.
                padded = some + [some[-1]] * (size - len(some))
                read = [self._read(spec.index, s) for spec, s in padded]
                weights = jax.tree.map(lambda *leaves: np.stack(leaves), *read)
                turn = number % len(devices)
                future = pools[turn].submit(measure_on, devices[turn], padded, weights)
                waiting.append((some, future))
                if len(waiting) > 2 * len(devices):
                    keep()
            while waiting:
                keep()

    def _read(self, run: int, step: int) -> Params:
        """As `params`, in NumPy; the part that was read last stays in memory."""
        block, place, spec = self._find(run)
        path, about = next((p, a) for p, a in block.parts if step in a["steps"])
        if getattr(self, "_last", (None,))[0] != path:
            leaves, _ = store.load_part(path)
            like = jax.eval_shape(lambda: init(jax.random.key(0), spec.config))
            self._last = (path, store.rebuild(like, leaves, "params"))
        index = about["steps"].index(step)
        return jax.tree.map(lambda leaf: leaf[index, place], self._last[1])  # type: ignore[no-any-return]


def assemble(study: Study, blocks: Sequence[BlockRecord]) -> xr.Dataset:
    """The curves of all runs, labelled.

    Variables: the task's metrics, such as `loss` (nats), on the first evaluation set [axes ...,
    sequences]; `eval_loss` ... on every set [axes ..., set, eval_sequences]; `horizon` (sequences)
    and `diverged_at` (sequences; NaN: never) [axes ...]. NaN past a run's horizon. Where a task
    counts tokens, dims are `tokens` and `eval_tokens`.
    """
    unit, over = study.unit, study.task.unit
    names, metrics = study.task.evaluation_names, study.runs[0].program.task.metrics
    longest = max(run.steps for run in study.runs)
    table = study.timetable(longest)
    dense = [step for step, kind, _ in table if kind > 0]
    sparse = [step for step, kind, _ in table if kind > 1]
    curves = np.full((len(study.runs), len(dense), len(metrics)), np.nan, np.float32)
    sets = np.full((len(study.runs), len(names), len(sparse), len(metrics)), np.nan, np.float32)
    diverged = np.full(len(study.runs), np.nan, np.float32)
    for block in blocks:
        steps, scores = block.scores()
        for place, index in enumerate(block.runs):
            at = block.diverged[place]
            if 0 <= at < study.runs[index].steps:  # later its block trains on, and nobody looks
                diverged[index] = at * unit
            for step, row in zip(steps, scores, strict=True):
                if step > study.runs[index].steps or (0 <= at < step):
                    continue
                curves[index, dense.index(step)] = row[place, 0]
                if step in sparse:
                    sets[index, :, sparse.index(step)] = row[place]
    axes = dict(study.axes)
    shape = study.shape
    data: dict[str, Any] = {}
    for i, metric in enumerate(metrics):
        data[metric] = ([*axes, over], curves[..., i].reshape(*shape, -1))
        whole = sets[..., i].reshape(*shape, len(names), -1)
        data[f"eval_{metric}"] = ([*axes, "set", f"eval_{over}"], whole)
    horizon = np.array([run.steps * unit for run in study.runs], np.int64)
    data["horizon"] = (list(axes), horizon.reshape(shape))
    data["diverged_at"] = (list(axes), diverged.reshape(shape))
    coordinates = {
        **{axis: [_label(v) for v in labels] for axis, labels in axes.items()},
        over: np.array(dense) * unit,
        f"eval_{over}": np.array(sparse) * unit,
        "set": list(names),
    }
    found = xr.Dataset(data, coordinates)
    found["loss"].attrs["units"] = "nats"
    found[over].attrs["long_name"] = f"{over} seen"
    return found


def _label(value: Any) -> Any:
    return value if isinstance(value, int | float | str | np.generic) else str(value)


def load(folder: str | Path, study: Study | None = None) -> Trajectories:
    """The sweep in a folder. Raises UserError where there is none.

    `study`: what was trained, for what a run card cannot hold (arrays in memory, local functions).
    """
    return Trajectories(folder, study)
