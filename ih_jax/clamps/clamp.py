"""Clamps: what a run holds fixed, as a recipe.

A `Clamp` is a tuple of parts, each a kind with its settings and its times, that combines (`a & b`),
is written as JSON and refuses parts that contradict. `clamp.arrays(config)` checks it against a
model and gives the `Holds` that a program takes; `Clamp.stack` gives those of many runs.

Where two parts meet, the later one of this list wins:

    site          what may meet there, the winner last
    resid_*, *_input   graft, perfect_previous_layer, mean and resample, hold and rule
    q, k, v       preserve, mean and resample, hold and rule, ablate
    attn_scores   temperature, no_previous_token, labels_only, hold and rule
    pattern       preserve, previous_token, induction, match_by_similarity, hold and rule
    logits        copy_from, hold and rule
    any           stop_gradient comes last of all

Two parts that give the same rows of the same head of the same site at the same time contradict
and are refused; what only one of them could decide is never settled in silence. `preserve`,
`graft` and `ablate` are made to be combined with the rest and contradict nothing. A kind of your
own that holds a site by a function stands where `rule` does.

Papers: Singh et al. 2024, sections 3 and 4, appendix B; Olsson et al. 2022 for `preserve`.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from ih_jax.clamps import as_json
from ih_jax.clamps.holds import Hold, Holds, stack
from ih_jax.clamps.kind import Decision, Kind
from ih_jax.clamps.place import Place
from ih_jax.clamps.slots import give_slots
from ih_jax.errors import UserError, given
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import GLOBAL_SITES


@dataclass(frozen=True)
class Part:
    """One thing held, and when."""

    held: Kind
    start: float = 0.0  # sequences (language: tokens) seen
    stop: float = float("inf")

    @property
    def timed(self) -> bool:
        """Whether it is not on all the time."""
        return self.start > 0 or self.stop < float("inf")

    def describe(self) -> str:
        """As a person would write it."""
        during = f".during({_count(self.start)}, {_count(self.stop)})" if self.timed else ""
        return self.held.describe() + during

    def holds(self, config: Config) -> list[Hold]:
        """What is held in a model. Raises UserError for a layer or head that it does not have."""
        place = Place(config, self.describe(), self.start, self.stop)
        found = list(self.held.holds(place))
        if not all(isinstance(each, Hold) for each in found):
            raise place.error("its holds(place) gives something else than place.hold(...) makes")
        return found


def _count(number: float) -> str:
    return f"{int(number):_}" if number == number // 1 else f"{number:g}"


@dataclass(frozen=True, repr=False)
class Clamp:
    """What one run holds fixed, as a recipe. `Clamp()` holds nothing."""

    parts: tuple[Part, ...] = ()

    @staticmethod
    def of(*kinds: Kind) -> Clamp:
        """The clamp of one kind, or of several together. Raises UserError if they contradict."""
        clamp = Clamp()
        for each in kinds:
            if not isinstance(each, Kind):
                raise UserError(f"Clamp.of({each!r}): give instances of kinds of clamps (ih.Kind)")
            clamp = clamp & Clamp((Part(each),))
        return clamp

    def __and__(self, other: Clamp) -> Clamp:
        """Both. Raises UserError, naming layer and head, if they contradict."""
        if isinstance(other, Kind):
            other = Clamp.of(other)
        if not isinstance(other, Clamp):
            return NotImplemented
        mine = [*self.parts]
        for part in other.parts:
            if part in mine:
                continue
            for earlier in mine:
                _refuse_contradiction(earlier, part)
            mine.append(part)
        return Clamp(tuple(mine))

    def __rand__(self, other: Kind) -> Clamp:
        """`kind & clamp`."""
        return Clamp.of(other) & self if isinstance(other, Kind) else NotImplemented

    def overlay(self, other: Clamp) -> Clamp:
        """Both, contradictions settled by the order of this module's table."""
        return Clamp((*self.parts, *other.parts))

    def during(self, start: float, stop: float) -> Clamp:
        """This clamp, on only from `start` up to `stop` sequences (language: tokens) seen.

        A part that has times of its own is on where both are. Raises UserError for times that are
        none or leave nothing, and for a part that holds weights.
        """
        times = f"{given(start)}, {given(stop)}"
        try:
            start, stop = float(start), float(stop)
        except (TypeError, ValueError, OverflowError):
            start = stop = math.nan
        if not 0 <= start < stop:
            raise UserError(f"during({times}): give 0 <= start < stop, in sequences seen")
        for part in self.parts:
            if part.held.of_weights:
                raise UserError(f"{part.describe()} holds weights, not activations: no during()")
            if max(start, part.start) >= min(stop, part.stop):
                raise UserError(
                    f"{part.describe()} is never on during({times}): give times that overlap"
                )
        return Clamp(
            tuple(
                replace(part, start=max(start, part.start), stop=min(stop, part.stop))
                for part in self.parts
            )
        )

    def arrays(self, config: Config) -> Holds:
        """The holds for a model. Raises UserError if a layer, head or site is not in it."""
        holds = [hold for part in self.parts for hold in part.holds(config)]
        frozen: Params | None = None
        replaced = None
        for part in self.parts:
            masks = part.held.frozen(config)
            if masks is not None:
                frozen = masks if frozen is None else jax.tree.map(np.maximum, frozen, masks)
            replaced = part.held.replaced(config) or replaced
        return Holds(tuple(give_slots(holds)), frozen, replaced)

    @staticmethod
    def stack(clamps: Sequence[Clamp], config: Config) -> Holds:
        """The holds of many runs along a new first axis; parts that a run lacks get gates of 0."""
        distinct = {id(clamp): clamp for clamp in clamps}  # a sweep has few clamps and many runs
        stacked = stack([clamp.arrays(config) for clamp in distinct.values()])
        number = {key: i for i, key in enumerate(distinct)}
        which = np.array([number[id(clamp)] for clamp in clamps])
        found: Holds = jax.tree.map(lambda leaf: leaf[which], stacked)
        return found

    def describe(self) -> str:
        """As a person would write it."""
        return " & ".join(part.describe() for part in self.parts) or "none"

    def __repr__(self) -> str:
        return self.describe() if self.parts else "Clamp()"

    def _repr_html_(self) -> str:
        """In a notebook: a line a part, with its times."""
        rows = [
            f"<tr><td><code>{html.escape(part.held.describe())}</code></td><td>{_times(part)}</td></tr>"
            for part in self.parts
        ]
        return (
            f"<table><tr><th>holds</th><th>when</th></tr>{''.join(rows)}</table>"
            if rows
            else ("<code>Clamp()</code>: holds nothing")
        )

    def to_json(self) -> str:
        """The recipe as JSON. Weights stand as run, step and checksum, rules as module and name."""
        return json.dumps([as_json.written(part.held, _during(part)) for part in self.parts])

    @staticmethod
    def from_json(
        text: str,
        weights: Mapping[str, Params] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Clamp:
        """The clamp that `to_json` wrote.

        Args:
            text: the JSON.
            weights: parameters by checksum, for grafts.
            functions: rules by name, "module:function"; others are imported from their module.

        Raises:
            UserError: the text is not such JSON, its kind is not registered (a kind of your own is
                once its module has been imported) or refuses the settings, weights are missing or
                differ from the checksum, or a rule is not found. Contradictions are not looked
                for: `overlay` may have settled them.
        """
        clamp = Clamp()
        for held, times in as_json.read(text, weights or {}, functions or {}):
            made = Clamp.of(held)
            clamp = clamp.overlay(made.during(*times) if times else made)
        return clamp


def _during(part: Part) -> list[float | None] | None:
    if not part.timed:
        return None
    return [part.start, None if np.isinf(part.stop) else part.stop]


def _times(part: Part) -> str:
    if not part.timed:
        return "always"
    until = "on" if np.isinf(part.stop) else f"to {_count(part.stop)}"
    return f"from {_count(part.start)} {until} seen"


# --- contradictions -----------------------------------------------------------------------------


def _refuse_contradiction(a: Part, b: Part) -> None:
    """Raises UserError, naming layer and head, if both decide the same thing at the same time."""
    if a.stop <= b.start or b.stop <= a.start or _gates_apart(a.held, b.held):
        return
    for mine in _decisions(a):
        for other in _decisions(b):
            if _meet(mine, other):
                raise UserError(
                    f"contradictory clamps: {a.describe()} and {b.describe()} both hold "
                    f"{_where(mine, other)}: leave one out, or give them different times with "
                    "during()"
                )


def _decisions(part: Part) -> list[Decision]:
    return sorted({Decision(*each) for each in part.held.decides()}, key=str)


def _meet(a: Decision, b: Decision) -> bool:
    if (a.site, a.layer) != (b.site, b.layer) or {a.rows, b.rows} == {"query", "label"}:
        return False
    return a.head == b.head or a.head is None or b.head is None


def _where(a: Decision, b: Decision) -> str:
    if a.site in (*GLOBAL_SITES, "stream", "weights"):
        return f"the {a.site}"
    head = a.head if a.head is not None else b.head
    return f"layer {a.layer}" + (f" head {head}" if head is not None else "")


def _gates_apart(a: Kind, b: Kind) -> bool:
    """Whether two kinds with gates of a user's own touch no element both."""
    gates = [getattr(each, "gate", None) for each in (a, b)]
    if None in gates:
        return False
    try:
        both = np.asarray(gates[0], np.float32) * np.asarray(gates[1], np.float32)
    except ValueError:  # gates of different shapes: `arrays` says which is wrong
        return False
    return not both.any()
