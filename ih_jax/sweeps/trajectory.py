"""Reading a sweep: its results, the weights of any run at any checkpoint, and measures over all.

t = load("runs/pulse")
t.results["loss"].sel(clamp="pulse").median("init").plot()
t.params(run=3, step=10_000)
t.measure(my_measure)
t.network(clamp="pulse", init=5)
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ih_jax import array_files, memory, paths
from ih_jax.data.batches import Sequences
from ih_jax.errors import UserError, given, real, whole, wholes
from ih_jax.model.params import Params
from ih_jax.sweeps import finding, store
from ih_jax.sweeps.array_labels import Measure
from ih_jax.sweeps.card_file import read_card
from ih_jax.sweeps.kept_parts import KeptParts
from ih_jax.sweeps.measuring import Probe, check_call, measured, over_checkpoints
from ih_jax.sweeps.network import Network
from ih_jax.sweeps.records import BlockRecord
from ih_jax.sweeps.results import assemble
from ih_jax.sweeps.runs import RunSpec
from ih_jax.sweeps.show import table
from ih_jax.sweeps.study import Study


class Trajectories:
    """A sweep on disk: the weights and scores of every run along its training."""

    # What shows a sweep stands downstream: `ih_jax` puts `reports.viewer.viewing.view` here.
    view: ClassVar[Callable[..., Any]]

    def __init__(self, folder: str | Path, study: Study | None = None) -> None:
        self.folder = paths.path("folder", folder)
        self.card = read_card(self.folder)
        if not self.card.get("study") or not self.card.get("blocks"):
            raise UserError(
                f"{self.folder}/card.json is not the card of a sweep: give the folder of one"
            )
        numbers = sorted(itertools.chain(*self.card["blocks"]))
        if self.card.get("runs", len(numbers)) != len(numbers) or numbers != [*range(len(numbers))]:
            raise UserError(
                f"{self.folder}/card.json: blocks does not hold each run once: it is damaged"
            )
        self.card.setdefault("runs", len(numbers))
        if study is not None and not isinstance(study, Study):
            raise UserError(f"study is {given(study)}: give what ih_jax.sweep made")
        if study is not None and len(study.runs) != len(numbers):
            raise UserError(
                f"the study has {len(study.runs):,} runs, {self.folder} {len(numbers):,}: give the "
                "study that was trained there"
            )
        self._study = study
        self._parts = KeptParts()

    @cached_property
    def study(self) -> Study:
        """The study: the one given, or made again from the card.

        Raises:
            UserError: the card is not enough: its data is gone or was an array in memory, a rule's
                function is not found by name, or weights were grafted. Then give the study.
        """
        if self._study is not None:
            return self._study
        try:
            found = Study.from_card(self.card["study"])
        except UserError as error:
            raise UserError(f"{error}; or give the study itself: load(folder, study)") from None
        if len(found.runs) != sum(map(len, self.card["blocks"])):
            raise UserError(
                f"{self.folder}/card.json: blocks has other runs than the {len(found.runs):,} of "
                "its study: the card is damaged"
            )
        return found

    @cached_property
    def results(self) -> xr.Dataset:
        """Curves by axis, evaluation set and sequences seen (see `assemble`).

        Raises store.Damaged where results.nc is not of as many runs as the card tells of.
        """
        path = self.folder / "results.nc"
        if not paths.is_there(path):
            return assemble(self.study, self.blocks)
        found = array_files.read_netcdf(path)
        runs = found["horizon"].size if "horizon" in found else 0
        if runs != self.card["runs"]:
            mended = "train it again" if self.forgotten else "delete that file, it is made again"
            raise store.Damaged(
                f"{path} is not of this training: it tells of {runs:,} runs, the card of "
                f"{self.card['runs']:,}: {mended}"
            )
        return found

    @cached_property
    def blocks(self) -> list[BlockRecord]:
        """All blocks of the sweep, whether finished or not."""
        return [
            BlockRecord(self.folder, number, runs)
            for number, runs in enumerate(self.card["blocks"])
        ]

    @cached_property
    def _place_of(self) -> np.ndarray:
        """[runs, 2]: of each run, the number of its block and its place there."""
        found = np.zeros((self.card["runs"], 2), np.int64)
        for number, runs in enumerate(self.card["blocks"]):
            found[runs, 0], found[runs, 1] = number, np.arange(len(runs))
        return found

    def _find(self, run: int) -> tuple[BlockRecord, int, RunSpec]:
        """The block of a run, its place there, and the run."""
        if self.forgotten:
            raise UserError(
                f"{self.folder} has no weights any more: they were {self.card['forgotten']}; "
                "to train it again, delete the folder and run the command of its card.json"
            )
        runs = self.study.runs
        is_whole = isinstance(run, int | np.integer) and not isinstance(run, bool)
        if not is_whole or not 0 <= run < len(runs):
            last = len(runs) - 1
            raise UserError(f"run {given(run)} is out of range: the sweep has runs 0..{last}")
        number, place = self._place_of[run]
        return self.blocks[number], int(place), runs[run]

    def run(self, **labels: Any) -> int:
        """The number of the run with these labels, such as clamp="none", init=5.

        An axis along which there is only one label may be left out. Raises UserError for an axis or
        a label that is not there, and where several runs have these labels.
        """
        return finding.number_of(self.study, labels)

    def steps(self, run: int) -> list[int]:
        """The steps at which a run's weights were kept, up to its horizon."""
        block, _, spec = self._find(run)
        return [step for step in block.steps() if step <= spec.steps]

    def last_step(self, run: int) -> int:
        """The last of `steps(run)`. Raises UserError where there is none yet."""
        kept = self.steps(run)
        if not kept:
            raise UserError(f"run {run} has no checkpoint yet: train on, with resume=True")
        return kept[-1]

    def params(self, run: int, step: int) -> Params:
        """A run's weights after `step` steps (`steps(run)` lists them).

        Raises:
            UserError: there is no such run, or its weights were not kept at that step.
            store.Damaged: what is on disk is not what was written.
        """
        return jax.tree.map(jnp.asarray, self.read(run, step))

    def read(self, run: int, step: int) -> Params:
        """As `params`, in NumPy; what was read last stays in memory. Raises as `params`."""
        block, place, spec = self._find(run)
        there = isinstance(step, numbers.Real) and step in block.part_of
        if not there or step > spec.steps:
            kept = self.steps(run)
            some = ", ".join(map(str, kept[:12])) + (" ..." if len(kept) > 12 else "")
            raise UserError(f"run {run} was not kept at step {given(step)}: give one of {some}")
        return self._parts.read(block, place, spec.config, step)

    def network(self, *, run: int | None = None, step: int | None = None, **labels: Any) -> Network:
        """The network of a run at a checkpoint, to look inside.

        Args:
            run: the number of the run, instead of its labels.
            step: after so many steps; None: at the last checkpoint.
            labels: which run, such as clamp="none", init=5. `sequences=200_000` (language:
                `tokens=`) says which checkpoint by what the run had seen, instead of `step`.

        Raises:
            UserError: there is no such run, or no weights were kept there.
        """
        unit, axes = self.study.task.unit, self.study.axes
        seen = labels.pop(unit) if unit in labels and unit not in axes else None
        if run is not None and labels:
            raise UserError(f"run {run} and labels {labels}: give either")
        number = self.run(**labels) if run is None else run
        last = self.last_step(number)
        if seen is not None:
            if step is not None:
                raise UserError(f"step {step} and {unit} {seen}: give either")
            real(unit, seen)
            step = finding.step_at(self.study, number, seen, self.steps(number))
        step = last if step is None else step
        params, spec = self.params(number, step), self.study.runs[number]
        name = ", ".join(f"{axis} {label}" for axis, label in spec.names.items())
        return Network(params, spec.clamp, spec.task, float(step * self.study.unit), name)

    def measure(
        self,
        function: Measure,
        probe: Probe | None = None,
        *,
        runs: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
        sequences: int = 1000,
        own: Mapping[int, Any] | None = None,
    ) -> xr.Dataset | xr.DataArray:
        """A measure of every run at every checkpoint.

        Args:
            function: `function(params, clamp, probe) -> array` or {name: array}, for one network;
                it is jitted, mapped over (run, checkpoint) and laid over all devices. `@ih.measure`
                names the dims of its arrays.
            probe: sequences that all networks see, or `probe(task) -> sequences`, where networks
                have tasks of their own; None: each run's own training evaluation set. A dict of
                sequences reaches the function as it is, for measures that compare several.
            runs: which runs, by number; None: all.
            steps: which checkpoints; None: all that were kept.
            sequences: how many sequences the probe has where it is None.
            own: {run: arrays} that differ between runs, such as clamps of a network's own heads;
                the function takes them as a fourth argument.

        Returns:
            The axes of the study, then `sequences` or `tokens` (seen at the checkpoint; NaN past a
            run's horizon), then the dims of the array: those that the measure names, else
            `<name>_0`, `<name>_1` ... A Dataset where the function gives a dict.

        Raises:
            UserError: nothing was kept at one of these steps, or the measure's dims do not fit its
                arrays.
        """
        if not callable(function):
            raise UserError(
                f"{given(function)} is no measure: give a function(params, clamp, probe)"
            )
        check_call(function, 3 if own is None else 4)
        if own is not None and not isinstance(own, Mapping):
            raise UserError(f"own is {given(own)}: give {{run: arrays}}")
        each = probe.values() if isinstance(probe, Mapping) else (probe,)
        if probe is not None and not (
            callable(probe) or all(isinstance(one, Sequences) for one in each)
        ):
            raise UserError(
                f"probe is {given(probe)}: give what a task's sample draws, or a dict of such"
            )
        length = self.study.task.context_length
        memory.check(
            4 * whole("sequences", sequences, least=1, most=10**30) * length,
            f"a probe of {given(sequences)} sequences",
        )
        wanted = list(range(len(self.study.runs))) if runs is None else wholes("runs", runs)
        of_run = {run: self.steps(run) for run in wanted}
        kept = sorted({step for each in of_run.values() for step in each})
        some_steps = set(kept if steps is None else wholes("steps", steps))
        absent = some_steps - set(kept)
        if absent or not some_steps:
            raise UserError(
                f"no weights were kept at steps {given(sorted(absent) or steps)} of runs "
                f"{given(runs)}: give some of {given(kept)}"
            )
        some = {run: [step for step in each if step in some_steps] for run, each in of_run.items()}
        lacking = [run for run in some if some[run] and (own is not None and run not in own)]
        if lacking:
            raise UserError(f"own is {given(own)}: give arrays for run {lacking[0]} too")
        place = self._place_on_disk()
        found = measured(self.study, self.read, function, some, probe, sequences, own, place)
        return over_checkpoints(self.study, function, some, found)

    @property
    def finished(self) -> bool:
        """Whether every run was trained to its end."""
        return bool(self.card.get("finished"))

    @property
    def forgotten(self) -> bool:
        """Whether its weights are gone, measured before; its curves are not."""
        return "forgotten" in self.card

    def _rows(self) -> dict[str, str]:
        card, counted = self.card, 0
        rows = {"folder": str(self.folder), "runs": str(card.get("runs", "?"))}
        try:
            study = self.study
        except UserError as error:  # a card can be read where its data is gone
            return {**rows, "study": str(error), "finished": "yes" if self.finished else "no"}
        rows["axes"] = "; ".join(f"{axis}: {finding.some(v)}" for axis, v in study.axes.items())
        steps = sorted({step for block in self.blocks for step in block.steps()})
        if steps:
            begin, end = (step * study.unit for step in (steps[0], steps[-1]))
            rows["checkpoints"] = f"{len(steps)}, {begin:,} to {end:,} {study.task.unit}"
        for block in self.blocks:
            to = block.trained_to
            counted += sum(study.runs[run].steps <= to for run in block.runs)
        rows["finished"] = "yes" if self.finished else f"no, {counted} of {len(study.runs)} runs"
        return rows

    def __repr__(self) -> str:
        return f"Trajectories({'; '.join(f'{k} {v}' for k, v in self._rows().items())})"

    def _repr_html_(self) -> str:
        return table("Trajectories", self._rows())

    def _place_on_disk(self) -> Callable[[int, int], tuple[int, int]]:
        """The block and the part in which a run's weights at a step are: each is read once."""
        place_of, blocks = self._place_of, self.blocks

        def place(run: int, step: int) -> tuple[int, int]:
            number = int(place_of[run, 0])
            return number, blocks[number].part_of[step]

        return place


def load(folder: str | Path, study: Study | None = None) -> Trajectories:
    """The sweep in a folder. Raises UserError where there is none.

    `study`: what was trained, for what a run card cannot hold (arrays in memory, local functions).
    """
    return Trajectories(folder, study)
