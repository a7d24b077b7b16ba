"""How far a sweep has come, on the terminal: losses over runs, speed and time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[float], None]


class _Loss(ProgressColumn):
    """Median and range over runs."""

    def __init__(self, losses: np.ndarray) -> None:
        super().__init__()
        self.losses = losses

    def render(self, task: Task) -> Text:
        return Text(in_words(self.losses))


class _Speed(ProgressColumn):
    """Sequences or tokens a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self.unit}/s" if speed else "compiling")


def in_words(losses: np.ndarray) -> str:
    """Median and range of losses [runs], those that are known; "" where none is."""
    known = losses[np.isfinite(losses)]
    if not len(known):
        return ""
    middle = f"loss {np.median(known):.3f}"
    return middle if len(known) == 1 else f"{middle} ({known.min():.3f}–{known.max():.3f})"


@contextlib.contextmanager
def bar(show: bool, total: float, unit: str, losses: np.ndarray) -> Iterator[Advance]:
    """A function that is told how many sequences (or tokens) were seen, and shows them.

    Beside them stand the losses [runs] as they are at the time; NaN where there is none yet.
    """
    if not show:
        yield lambda seen: None
        return
    columns = (
        BarColumn(14),  # all of it fits into 80 columns
        TextColumn("{task.percentage:>3.0f}%"),
        _Loss(losses),
        _Speed(unit),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns) as shown:
        task = shown.add_task("training", total=total)
        yield lambda seen: shown.advance(task, seen)
