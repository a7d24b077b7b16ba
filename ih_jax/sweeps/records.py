"""What a block of runs left on disk: its scores, its checkpoints, and how far it was trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ih_jax.sweeps import store


class BlockRecord:
    """One block on disk: its runs, their scores, and the parts that hold their weights."""

    def __init__(self, folder: Path, number: int, runs: Sequence[int]) -> None:
        self.folder = folder
        self.number = number
        self.runs = list(runs)

    @cached_property
    def parts(self) -> list[tuple[Path, dict[str, Any]]]:
        """The block's parts in order, each with what its manifest says."""
        found: list[tuple[Path, dict[str, Any]]] = []
        while True:
            path = store.part_path(self.folder, self.number, len(found))
            if not (path / "manifest.json").is_file():
                return found
            found.append((path, json.loads((path / "manifest.json").read_text())["about"]))

    def scores(self) -> tuple[list[int], np.ndarray]:
        """Steps [N] and scores [N, R, S, M]: evaluations, runs, evaluation sets, metrics."""
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
        """For each run, the step at which its loss was not finite; -1 if it always was."""
        return self.parts[-1][1]["diverged"] if self.parts else [-1] * len(self.runs)

    @property
    def trained_to(self) -> int:
        """The last step of which anything is on disk; -1 if nothing is."""
        if not self.parts:
            return -1
        about = self.parts[-1][1]
        return max(about["steps"] + about["score_steps"], default=-1)

    def steps(self) -> list[int]:
        """The steps at which weights were kept."""
        return [step for _, about in self.parts for step in about["steps"]]
