"""Slots: holds of one rule at one site, merged where they touch different heads.

Two clamps of one kind on different heads cost a program no more than one does; where they meet, as
two pulses on one head do, each has a slot of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ih_jax.clamps.holds import Hold
from ih_jax.model.params import Params


def give_slots(lowered: Iterable[Hold]) -> list[Hold]:
    """Holds of one rule at one site merged where their gates are apart, numbered where not."""
    merged: list[Hold] = []
    for hold in lowered:
        for index, other in enumerate(merged):
            if hold.key != replace(other, slot=hold.slot).key:
                continue
            if _apart(hold, other):
                merged[index] = _merge(other, hold)
                break
            hold = replace(hold, slot=other.slot + 1)
        else:
            merged.append(hold)
    return merged


def _apart(a: Hold, b: Hold) -> bool:
    """Whether two holds of one rule touch different heads and take arguments a head only."""
    if not (a.rule.elementwise and a.rule == b.rule):
        return False
    if a.gate.shape != b.gate.shape or a.gate.size == 1:
        return False
    for value in (*a.arguments.values(), *b.arguments.values()):
        if isinstance(value, Params) or np.shape(value) != a.gate.shape:
            return False
    return not np.any((np.asarray(a.gate) > 0) & (np.asarray(b.gate) > 0))


def _merge(a: Hold, b: Hold) -> Hold:
    mine = np.asarray(a.gate) > 0

    def times(name: str, default: float) -> np.ndarray | None:
        first, second = (getattr(hold, name) for hold in (a, b))
        if first is None and second is None:
            return None
        full = np.full(a.gate.shape, default, np.float32)
        return np.where(mine, full if first is None else first, full if second is None else second)

    return replace(
        a,
        gate=np.where(mine, a.gate, b.gate),
        arguments={k: np.where(mine, v, b.arguments[k]) for k, v in a.arguments.items()},
        start=times("start", 0.0),
        stop=times("stop", np.inf),
        soft=a.soft or b.soft,
    )
