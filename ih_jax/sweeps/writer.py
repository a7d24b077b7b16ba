"""Writing a block's weights, scores and state as it trains, and finding where to resume."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ih_jax.sweeps import store
from ih_jax.sweeps.blocks import BlockPlan
from ih_jax.sweeps.loop import State
from ih_jax.sweeps.records import BlockRecord

SAVE_EVERY_SECONDS = 20.0


class Writer:
    """Gathers a block's checkpoints and scores, and writes them in the background."""

    def __init__(self, folder: Path, plan: BlockPlan, saver: ThreadPoolExecutor) -> None:
        self.folder, self.plan, self.saver = folder, plan, saver
        self.part = 0
        self.pending: Future[None] | None = None
        self._clear()

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.weights: list[Any] = []
        self.score_steps: list[int] = []
        self.scores: list[np.ndarray] = []
        self.since = time.monotonic()

    def _state_path(self, part: int) -> Path:
        return store.part_path(self.folder, self.plan.number, part).with_name(f"state-{part:04d}")

    def last_good(self, like: State) -> tuple[State | None, int]:
        """The newest intact state to resume from, and its step; (None, 0) if there is none.

        Parts written after it are deleted: those steps are trained again. A block that is whole has
        no state any more: (None, its last step).
        """
        parts: list[dict[str, Any]] = []
        while (path := store.part_path(self.folder, self.plan.number, len(parts))).exists():
            try:
                parts.append(store.load_part(path)[1])
            except store.Damaged as damage:
                print(f"{damage}: training again from the last intact checkpoint")
                break
        else:
            record = BlockRecord(self.folder, self.plan.number, self.plan.runs)
            with contextlib.suppress(store.Damaged):
                if record.trained_to >= self.plan.steps:
                    store.forget_states(self.folder, self.plan.number)
                    return None, self.plan.steps
        for part in reversed(range(len(parts))):
            try:
                leaves, about = store.load_part(self._state_path(part))
                state = store.rebuild(like, leaves, "state")
            except store.Damaged:
                if part == len(parts) - 1 and self._state_path(part).exists():
                    print(f"{self._state_path(part)} is damaged: going back to an earlier one")
                continue
            self._drop_from(part + 1)
            self.part = part + 1
            return state, about["step"]
        self._drop_from(0)
        return None, 0

    def _drop_from(self, part: int) -> None:
        folder = store.part_path(self.folder, self.plan.number, 0).parent
        for path in sorted(folder.glob("*-*")) if folder.is_dir() else ():
            number = path.name.split("-")[1].split(".")[0]
            if path.name.endswith(".writing") or int(number) >= part:
                store.forget_state(path)

    def add(self, some: Sequence[tuple[int, int, bool]], scores: np.ndarray, state: State) -> None:
        for (step, kind, _), row in zip(some, scores, strict=True):
            if kind:
                self.score_steps.append(step)
                self.scores.append(row[: len(self.plan.runs)])
        if some[-1][2]:
            self.steps.append(some[-1][0])
            lanes = len(self.plan.runs)
            # A copy: the state is donated to the next chunk.
            self.weights.append(jax.tree.map(lambda leaf: np.array(leaf[:lanes]), state.params))

    def due(self) -> bool:
        return time.monotonic() - self.since > SAVE_EVERY_SECONDS

    def flush(self, state: State, step: int) -> None:
        """Write what was gathered, and the state to resume from."""
        self.wait()
        tree: dict[str, Any] = {}
        if self.weights:
            tree["params"] = jax.tree.map(lambda *leaves: np.stack(leaves), *self.weights)
        if self.scores:
            tree["scores"] = np.stack(self.scores)
        diverged = np.asarray(state.diverged)[: len(self.plan.runs)].tolist()
        about = {
            "steps": self.steps,
            "score_steps": self.score_steps,
            "diverged": diverged,
            "runs": list(self.plan.runs),
            # Of each run, the last on its training set: `ih-jax status` need not read any array.
            "losses": self.scores[-1][:, 0, 0].tolist() if self.scores else None,
        }
        # At the end there is nothing to go on with: three quarters of what would be on disk.
        kept = {"state": jax.tree.map(np.array, state)} if step < self.plan.steps else None
        part, self.part = self.part, self.part + 1
        path = store.part_path(self.folder, self.plan.number, part)

        def write() -> None:
            # The state first, so that there is always a state to resume from for the parts on disk.
            if kept is not None:
                store.save_part(self._state_path(part), kept, {"step": step})
            store.save_part(path, tree, about)
            for old in range(part - 1 if kept is not None else part):
                store.forget_state(self._state_path(old))

        self.pending = self.saver.submit(write)
        self._clear()

    def wait(self) -> None:
        if self.pending is not None:
            self.pending.result()
            self.pending = None
