"""Training a study: blocks of runs over all devices, saved as they go, resumed where they stopped.

A block is a fixed number of runs that one compiled program trains on one device. Each device takes
the next free block, longest first. Blocks exchange nothing, so a run's bits do not depend on where
it trains or which runs train beside it. Processes on other machines may work in the same folder
(`sharing`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ih_jax import files, paths
from ih_jax.errors import UserError, given, whole
from ih_jax.sweeps import cards, sharing, store
from ih_jax.sweeps.blocks import BlockPlan, Plan, check_width, estimate_bytes, plan_blocks
from ih_jax.sweeps.card_file import read_card, write_card
from ih_jax.sweeps.hearing import OnScores
from ih_jax.sweeps.loop import State
from ih_jax.sweeps.presence import present
from ih_jax.sweeps.programs import (
    CHUNK,
    Programs,
    chunk_arrays,
    cores,
    first_state,
    fitting_programs,
    workers,
)
from ih_jax.sweeps.records import BlockRecord
from ih_jax.sweeps.results import assemble, save_results
from ih_jax.sweeps.stopping import stop_on_interrupt
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.sweeps.watching import Watch, watching
from ih_jax.sweeps.writer import Writer

HEAR_EVERY_SECONDS = 0.1


class Sweep(Study):
    """A study that can be trained."""

    def check(self) -> None:
        """Read the data and make all arrays. Raises UserError for what would stop training."""
        for group in self.groups:
            _ = group.arrays

    def train(
        self,
        folder: str | Path,
        *,
        resume: bool = False,
        share: str | None = None,
        width: int | None = None,
        progress: bool = True,
        on_scores: OnScores | None = None,
        about: dict[str, Any] | None = None,
    ) -> Trajectories:
        """Train every run.

        Args:
            folder: where everything is written; created if it does not exist.
            resume: continue an unfinished sweep of this same study in `folder`; in a finished one,
                train whatever is damaged again.
            share: None: this process trains the whole sweep. "claim": it works alongside other
                processes, on this machine or on others that see `folder`, each taking free blocks.
                "RANK/COUNT": it works alongside others, each with a fixed share. Both continue
                from what is in the folder.
            width: runs in a block; None: chosen to fit (a resumed sweep keeps its own).
            progress: show a progress bar, with the losses so far (median and range over runs).
            on_scores: `on_scores(study, runs, step, scores)` is called after each evaluation of a
                block: the numbers of its runs, the step, and {metric: [runs, evaluation sets]},
                NaN on the sets that were not evaluated and for a run that has diverged. It runs
                in a thread of its own beside training, which never waits for it: see `hearing`.
                An error in it is reported once, and stops nothing.
            about: further entries for the run card.

        Returns:
            The trained sweep, as `ih.load(folder)` would give it.

        Raises:
            UserError: the folder cannot be written, another process is writing it, or it holds
                another study.
            Interrupted: Ctrl-C was pressed; everything so far has been saved.
        """
        folder = paths.results_folder(paths.path("folder", folder))
        if width is not None:
            whole("width", width, least=1)
        mine = None if share is None else sharing.read_share(share)
        if not isinstance(about, Mapping | None) or not all(
            isinstance(k, str) for k in about or {}
        ):
            raise UserError(f"about is {given(about)}: give a dict of entries by name")
        self.check()
        trajectory = folder / "trajectory"
        began = time.monotonic()
        locks = [Path(each).name for each in store.LOCKS]
        with (
            store.new_folder(folder),
            files.made(trajectory, locks),
            _writing(trajectory, mine),
        ):
            with sharing.in_turn(trajectory):
                plan, programs = _begin(self, folder, resume or bool(mine), width, about or {})
            if programs is None:
                return Trajectories(folder, self)
            watch = Watch(self)
            with present(folder, lambda: watch.seen):
                try:
                    _train_blocks(self, plan, programs, folder, mine, watch, progress, on_scores)
                except BaseException:
                    if mine is None:  # or others may be writing the card
                        cards.spent(folder, plan.seconds + time.monotonic() - began)
                    raise
                with sharing.in_turn(trajectory):
                    _end(self, plan, folder, time.monotonic() - began)
        return Trajectories(folder, self)


def sweep(task: Any, **settings: Any) -> Sweep:
    """A study of `task`; see `study.Study` for the settings."""
    return Sweep(task, **settings)


def use_all_cores() -> None:
    """One XLA device per CPU core, unless JAX has already started or was configured otherwise.

    Two devices that each train their own blocks are faster than one that splits every product in
    two. Called when the package is imported, which changes nothing else in JAX. Set
    `IH_JAX_CONFIGURE_JAX=0` in the environment to leave JAX as it is.
    """
    if os.environ.get("IH_JAX_CONFIGURE_JAX") == "0":
        return
    with contextlib.suppress(RuntimeError):  # JAX has started: its devices are what they are
        if jax.config.values.get("jax_num_cpu_devices", -1) < 1:
            jax.config.update("jax_num_cpu_devices", cores())


def use_compilation_cache(folder: Path | None = None) -> None:
    """Keep compiled programs in the user's cache folder, so that the next start is quick.

    If JAX already has a cache folder (JAX_COMPILATION_CACHE_DIR), that one is used.
    """
    if folder is None and jax.config.values["jax_compilation_cache_dir"]:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder or files.cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _writing(
    trajectory: Path, share: sharing.Share | None
) -> contextlib.AbstractContextManager[None]:
    return sharing.one_of_many(trajectory) if share else sharing.only_writer(trajectory)


def _begin(
    study: Study, folder: Path, resume: bool, width: int | None, about: dict[str, Any]
) -> tuple[Plan, Programs | None]:
    """The blocks and programs for a folder; in a new one, also writes the run card.

    The programs are None where everything is done (unless `resume`: then a finished sweep is
    checked, and whatever is damaged is trained again). Raises UserError if the folder holds
    something else, or the sweep does not fit in memory or on disk.
    """
    if not paths.is_there(folder / "card.json"):
        _refuse_full_disk(study, folder)
        programs = fitting_programs(study, width)
        plan = Plan(programs.width, plan_blocks(study, programs.width), 0.0)
        write_card(folder, cards.make_card(study, plan, about))
        return plan, programs
    card = read_card(folder)
    cards.check_resumable(card, study, folder, width, resume)
    check_width(study, card["width"])
    plan = Plan(card["width"], plan_blocks(study, card["width"]), card.get("seconds") or 0.0)
    if card.get("finished") and not resume:
        return plan, None
    cards.check_packing(card, plan, folder)
    return plan, Programs(study, plan.width)


def _end(study: Study, plan: Plan, folder: Path, seconds: float) -> None:
    """Write the labelled results, if all blocks are done and no process has written them yet."""
    card = read_card(folder)
    if card.get("finished") and paths.is_there(folder / "results.nc"):
        return
    if all(_finished(folder, block) for block in plan.blocks):
        save_results(assemble(study, Trajectories(folder, study).blocks), folder / "results.nc")
        cards.finish(folder, card, plan.seconds + seconds)


def _finished(folder: Path, block: BlockPlan) -> bool:
    """Whether a block's last checkpoint is on disk; one that is damaged is trained again."""
    try:
        return BlockRecord(folder, block.number, block.runs).trained_to >= block.steps
    except store.Damaged:
        return False


def _train_blocks(
    study: Study,
    plan: Plan,
    programs: Programs,
    folder: Path,
    share: sharing.Share | None,
    watch: Watch,
    show: bool,
    on_scores: OnScores | None,
) -> None:
    blocks = sharing.Blocks(
        plan.blocks,
        lambda block: store.part_path(folder, block.number, 0).parent,
        share,
    )
    stop = threading.Event()
    total = sum(block.steps * len(block.runs) for block in blocks.todo) * study.unit
    with (
        watching(watch, study, total, show, on_scores),
        stop_on_interrupt(stop, folder),
    ):

        def work(device: jax.Device) -> None:
            with ThreadPoolExecutor(1) as saver:
                try:
                    while True:
                        with blocks.next(stop) as given:
                            if given is None:
                                return
                            # When sharing, do not read what another process has just written.
                            if share and _finished(folder, given):
                                store.forget_states(folder, given.number)
                                watch.skip(given, given.steps)
                                continue
                            _train_block(study, given, programs, device, folder, saver, stop, watch)
                except BaseException:
                    stop.set()  # the other devices finish their chunk and save
                    raise

        devices = workers()
        with ThreadPoolExecutor(len(devices)) as pool:
            working = [pool.submit(work, device) for device in devices]
            # In short waits: if the system delivers Ctrl-C to another thread, Python handles it
            # only once this one runs.
            while wait(working, HEAR_EVERY_SECONDS).not_done:
                pass
        for worker in working:
            worker.result()


def _train_block(
    study: Study,
    plan: BlockPlan,
    programs: Programs,
    device: jax.Device,
    folder: Path,
    saver: ThreadPoolExecutor,
    stop: threading.Event,
    watch: Watch,
) -> None:
    writer = Writer(folder, plan, saver)
    done, at = writer.last_good(programs.state(plan.group))
    watch.skip(plan, at)
    if at >= plan.steps:
        return
    compiled = programs.of(plan.group, device)
    block, state = first_state(compiled, plan.members, device)
    if done is not None:
        state = jax.device_put(done, device)
    table = study.timetable(plan.steps)
    first = next((i for i, (step, _, _) in enumerate(table) if step > at), len(table))
    if done is None:
        first = 0
    for some in _chunks(table[first:]):
        state, scores = compiled.advance(state, block, *chunk_arrays(at, some, device))
        scores = np.asarray(scores)[: len(some)]
        before, at = at, some[-1][0]
        writer.add(some, scores, state)
        watch.chunk(plan, at - before, *_evaluated(plan, some, scores, state))
        if at >= plan.steps or stop.is_set() or writer.due():
            writer.flush(state, at)
        if stop.is_set():
            break
    writer.wait()


def _evaluated(
    plan: BlockPlan, some: Sequence[tuple[int, int, bool]], scores: np.ndarray, state: State
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Of a chunk: the steps of its evaluations, their scores, and where runs diverged."""
    lanes = len(plan.runs)
    kept = [i for i, (_, kind, _) in enumerate(some) if kind]
    diverged = np.array(state.diverged)[:lanes]  # a copy: the state is donated to the next chunk
    return [some[i][0] for i in kept], scores[kept, :lanes], diverged


def _chunks(table: Sequence[tuple[int, int, bool]]) -> Iterator[list[tuple[int, int, bool]]]:
    """The timetable in pieces of at most CHUNK entries that end where weights are kept."""
    some: list[tuple[int, int, bool]] = []
    for entry in table:
        some.append(entry)
        if entry[2] or len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some


def _refuse_full_disk(study: Study, folder: Path) -> None:
    """Raise UserError if the weights to be kept do not fit on the disk."""
    needed, free = estimate_bytes(study), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the disk of {folder} has {free / 1e9:.2f} GB free, but the sweep writes about "
            f"{needed / 1e9:.2f} GB: keep fewer checkpoints (checkpoints=), or give a folder on "
            "another disk"
        )
