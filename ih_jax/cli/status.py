"""`ih-jax status`: how a sweep, or the trainings of an experiment, stand."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from ih_jax.cli.options import Status as Command
from ih_jax.reports import folders
from ih_jax.reports.folders import Told
from ih_jax.sweeps.status import Status, status

console = Console(markup=False, emoji=False)


def show(command: Command) -> None:
    """Print a few lines."""
    told = folders.look(command.folder)
    found = [status(each, command.check) for each in told.sweeps]
    if told.experiment:
        lines = _of_experiment(command.folder, told, found)
    else:
        lines = {command.folder.name or str(command.folder): _now(found[0]), **_of_sweep(found[0])}
        lines["next"] = _next(found[0], told, command.folder)
    width = max(map(len, lines))
    for name, words in lines.items():
        console.print(f"{name:{width}}  {words}", soft_wrap=True, highlight=False)


def _of_experiment(folder: Path, told: Told, found: list[Status]) -> dict[str, str]:
    state = "done" if told.finished else "not finished"
    if any(each.state == "training" for each in found):
        state = "training now"
    lines = {told.title: state}
    for each in found:
        losses = f"; loss {_losses(each)}" if np.isfinite(each.losses).any() else ""
        lines[each.folder.name] = f"{_now(each)}; {_on_disk(each)}{losses}"
        lines |= {
            f"by ({each.folder.name})": words
            for name, words in _of_sweep(each).items()
            if name == "by"
        }
        for damage in each.damage:
            lines[f"damaged ({each.folder.name})"] = damage
    for name, _ in told.missing:
        lines[name] = "not begun" if not told.finished else "gone"
    lines["next"] = _next_of_experiment(folder, told, found)
    return lines


def _of_sweep(found: Status) -> dict[str, str]:
    lines = {}
    who = list(_who(found))
    if who:
        lines["by"] = "; ".join(who)
    lines["on disk"] = _on_disk(found)
    if np.isfinite(found.losses).any():
        lines["losses"] = _losses(found)
    if found.damage:
        more = f", and {len(found.damage) - 1} more" if len(found.damage) > 1 else ""
        lines["damaged"] = found.damage[0] + more
    return lines


def _now(found: Status) -> str:
    """State, progress and time in words."""
    if found.state == "done":
        words = f"done, in {_time(found.seconds)}" if found.seconds else "done"
        return f"{words}, but damaged" if found.damage else words
    share = found.seen / found.total if found.total else float("nan")
    progress = f", {100 * share:.0f}%" if np.isfinite(share) else ""
    if found.state == "stopped":
        return f"stopped{progress}"
    left = found.seconds_left
    return f"training now{progress}" + (f", about {_time(left)} left" if np.isfinite(left) else "")


def _who(found: Status) -> Iterator[str]:
    for each in found.processes:
        ago = _time(max(0.0, time.time() - each.heard))
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.began))
        last = f"last heard of {ago} ago"
        if each.alive:
            last = f"{each.speed:,.0f} {found.unit}/s" if each.speed else "compiling"
        yield f"process {each.pid} on {each.host}, since {began}, {last}"


def _on_disk(found: Status) -> str:
    runs = f"{found.runs_done} of {found.runs} runs done"
    if found.runs_done == found.runs:
        runs = f"{found.runs} runs"
    return f"{runs}, {found.checkpoints:,} checkpoints, {found.megabytes:,.1f} MB"


def _losses(found: Status) -> str:
    known = found.losses[np.isfinite(found.losses)]
    words = f"median {np.median(known):.3f}"
    if len(known) > 1:
        words += f", {known.min():.3f} to {known.max():.3f} over {len(known)} runs"
    return words + (f"; {found.diverged} diverged" if found.diverged else "")


def _next(found: Status, told: Told, folder: Path) -> str:
    """The command that is to be given now."""
    where = shlex.quote(str(folder))
    look = f"ih-jax view {where} --open"
    if found.state == "training":
        return f"{look} (as far as it is)"
    if found.state == "done" and not found.damage:
        return f"{look}, or ih_jax.load({str(folder)!r}) in Python"
    if found.state == "stopped" and told.command and told.command.startswith("ih-jax run"):
        return _resumed(told.command)
    again = f"ih.Sweep.from_card(ih.load({str(folder)!r}).card['study'])"
    what = "trains what is damaged again" if found.damage else "continues"
    python = f"import ih_jax as ih; {again}.train({str(folder)!r}, resume=True)"
    return f"python -c {shlex.quote(python)} ({what})"


def _next_of_experiment(folder: Path, told: Told, found: list[Status]) -> str:
    where = shlex.quote(str(folder))
    if any(each.state == "training" for each in found):
        return f"ih-jax view {where} --open (as far as it is)"
    damaged = [each for each in found if each.state == "done" and each.damage]
    if damaged:
        return _next(damaged[0], told, damaged[0].folder)
    if told.finished:
        return f"ih-jax view {where} --open"
    return _resumed(told.command or f"ih-jax run {told.title}")


def _resumed(command: str) -> str:
    return command if "--resume" in command.split() else f"{command} --resume"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
