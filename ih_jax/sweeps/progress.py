"""How far a sweep has come, on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Speed(ProgressColumn):
    """Sequences or tokens a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self.unit}/s" if speed else "compiling")


@contextlib.contextmanager
def bar(show: bool, total: float, unit: str = "sequences") -> Iterator[Any]:
    """A function that is told how many sequences (or tokens) were seen, and shows them."""
    if not show:
        yield lambda seen: None
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _Speed(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as shown:
        task = shown.add_task("train", total=total)
        yield lambda seen: shown.advance(task, seen)
