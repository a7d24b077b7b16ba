"""What a block of runs left on disk: its scores, its checkpoints, and how far it was trained."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ih_jax import gate, paths
from ih_jax.errors import UserError
from ih_jax.sweeps import store


class BlockRecord:
    """One block on disk: its runs, their scores, and the parts that hold their weights."""

    def __init__(self, folder: Path, number: int, runs: Sequence[int]) -> None:
        self.folder = folder
        self.number = number
        self.runs = list(runs)
        self.path = store.part_path(folder, number, 0).parent

    @cached_property
    def parts(self) -> list[tuple[Path, dict[str, Any]]]:
        """The block's parts in order, each with what its manifest says."""
        found: list[tuple[Path, dict[str, Any]]] = []
        while True:
            path = store.part_path(self.folder, self.number, len(found))
            if not paths.is_there(path / "manifest.json"):
                return found
            before = found[-1][1] if found else None
            found.append((path, about_part(path, self.runs, before)))

    def scores(self) -> tuple[list[int], np.ndarray]:
        """Steps [N] and scores [N, R, S, M]: evaluations, runs, evaluation sets, metrics."""
        steps: list[int] = []
        scores: list[np.ndarray] = []
        for path, about in self.parts:
            if about["score_steps"]:
                steps += about["score_steps"]
                scores.append(store.load_scores(path))
        if len({each.shape[1:] for each in scores}) > 1:
            raise store.Damaged(f"{self.path} has scores of several shapes: they do not fit")
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
        return list(self.part_of)

    @cached_property
    def part_of(self) -> dict[int, int]:
        """At which steps weights were kept, in order, and the number of the part they are in."""
        return {step: i for i, (_, about) in enumerate(self.parts) for step in about["steps"]}


def about_part(path: Path, runs: Sequence[int], before: dict[str, Any] | None) -> dict[str, Any]:
    """What the manifest of a block's part says about it.

    Args:
        path: the part's folder.
        runs: those of the block.
        before: the same of the part before it; None: there is none.

    Raises:
        store.Damaged: it is none, of other runs, or its steps are out of order.
    """
    about = store.read_manifest(path).about
    try:
        said = gate.checked(about, store.About, f"{path / 'manifest.json'}: about")
    except UserError as error:
        raise store.Damaged(str(error)) from None
    steps = [*(before["steps"][-1:] if before else ()), *said.steps]
    in_order = all(a < b for a, b in itertools.pairwise(steps))
    if said.runs != list(runs) or len(said.diverged) != len(runs) or not in_order:
        raise store.Damaged(
            f"{path / 'manifest.json'} does not fit the card and the parts before it: its runs or "
            "steps are others, or out of order"
        )
    return about
