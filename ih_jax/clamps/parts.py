"""Parts: what a clamp is made of, the checks on what a user gives, and which parts contradict.

A part is data: the name of its constructor in `clamp` and what that was given, in values that
compare, hash and can be written as JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ih_jax.errors import UserError
from ih_jax.model.params import Params
from ih_jax.model.sites import GLOBAL_SITES, SITES, rank

Claim = tuple[str, int, int | None, str]  # (site, layer, head or None for all, rows)


@dataclass(frozen=True)
class Weights:
    """Weights from elsewhere; in JSON they stand as where they came from and a checksum."""

    params: Params
    run: str = ""
    step: int = 0

    @cached_property
    def checksum(self) -> str:
        """Of all leaves in order, hexadecimal."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weights) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)


@dataclass(frozen=True)
class Part:
    """One thing held: `kind` names its constructor, `settings` are what that was given."""

    kind: str
    settings: tuple[tuple[str, Any], ...]
    start: float = 0.0  # sequences (language: tokens) seen
    stop: float = float("inf")

    def __getitem__(self, name: str) -> Any:
        return dict(self.settings)[name]

    @property
    def timed(self) -> bool:
        return self.start > 0 or self.stop < float("inf")

    def describe(self) -> str:
        """As a person would write it."""

        def show(value: Any) -> str:
            if isinstance(value, Weights):
                return f"weights {value.run or value.checksum}"
            if callable(value):
                return name_of(value)
            text = repr(value)
            return text if len(text) <= 60 else f"<{np.shape(value)}>"

        shown = ", ".join(f"{name}={show(value)}" for name, value in self.settings)
        during = f".during({self.start:g}, {self.stop:g})" if self.timed else ""
        return f"{self.kind}({shown}){during}"


def name_of(function: Any) -> str:
    """module:name of a function."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}:{getattr(function, '__qualname__', type(function).__qualname__)}"


# --- checks on what a user gives ----------------------------------------------------------------


def index(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise UserError(f"{what} is {value!r}: give a whole number, counted from 0")
    return int(value)


def number(what: str, value: Any) -> float:
    try:
        given = float(value)
    except (TypeError, ValueError):
        given = float("nan")
    if not np.isfinite(given):
        raise UserError(f"{what} is {value!r}: give a finite number")
    return given


def head_indices(heads: Any) -> tuple[int, ...]:
    if isinstance(heads, Mapping | str) or not np.iterable(heads):
        heads = [heads]
    each = {index("head", head) for head in heads}
    if not each:
        raise UserError("no heads named: give one or more, counted from 0")
    return tuple(sorted(each))


def site_name(site: Any) -> str:
    return one_of("site", site, SITES)


def site_heads(site: str, heads: Any) -> tuple[int, ...] | None:
    if heads is None:
        return None
    if rank(site_name(site)) == 2:
        raise UserError(f"site {site} has no heads, but heads {heads} are named: leave them out")
    return head_indices(heads)


def one_of(what: str, value: Any, accepted: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in accepted:
        raise UserError(f"{what} is {value!r}: give one of {', '.join(accepted)}")
    return value


def nested(name: str, value: Any) -> Any:
    """An array as nested tuples, which compare, hash and go into JSON."""
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{name} is {value!r}: give a number or an array of numbers") from None
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a value that is not finite: give finite numbers")

    def tuples(x: Any) -> Any:
        return tuple(tuples(each) for each in x) if isinstance(x, list) else x

    return tuples(array.tolist())


def gate_values(gate: Any) -> Any:
    given = nested("gate", gate)
    array = np.asarray(given, np.float32)
    if not ((array >= 0) & (array <= 1)).all():
        raise UserError(f"gate is {gate!r}: give numbers between 0 (leaves) and 1 (holds)")
    return given


# --- contradictions -----------------------------------------------------------------------------


def _claims(part: Part) -> set[Claim]:
    """What this part alone may decide.

    Beside sites: "previous" (attention to the previous token), "labels_only", "stream" (all up to
    a layer) and "weights".
    """
    kind = part.kind
    claims: set[Claim] = set()
    if kind == "graft":
        claims.add(("stream" if part["upto"] is not None else "weights", 0, None, "all"))
    elif kind == "perfect_previous_layer":
        claims |= {(f"{name}_input", 1, None, "all") for name in part["inputs"]}
        claims |= {("resid_pre", 1, None, "all")} if "v" in part["inputs"] else set()
    elif kind == "copy_from":
        claims.add(("logits", 0, None, "query"))
    elif kind in ("mean", "resample", "hold", "rule"):
        layer = 0 if part["site"] in GLOBAL_SITES else part["layer"]
        claims |= {(part["site"], layer, head, "all") for head in part["heads"] or (None,)}
    elif kind == "temperature":
        # A clean pass gives the scores of all heads, so two of them cannot both be had.
        heads = [None] if part["base"] == "clean" else [head for head, _ in part["temperatures"]]
        claims |= {("attn_scores", part["layer"], head, "all") for head in heads}
    elif kind in ("previous_token", "no_previous_token"):
        # Under a pattern that is held, blocking the same attention would do nothing.
        sites = ["previous"] if kind == "no_previous_token" else ["previous", "pattern"]
        claims |= {(s, part["layer"], head, part["rows"]) for s in sites for head in part["heads"]}
    elif kind in ("induction", "match_by_similarity"):
        claims |= {("pattern", part["layer"], head, "query") for head in part["heads"]}
    elif kind == "labels_only":
        claims |= {("labels_only", part["layer"], head, "query") for head in part["heads"]}
    return claims


def refuse_contradiction(a: Part, b: Part) -> None:
    """Raises UserError, naming layer and head, if both decide the same thing at the same time."""
    if a.stop <= b.start or b.stop <= a.start or _gates_apart(a, b):
        return
    for site, layer, head, rows in sorted(_claims(a), key=str):
        for other_site, other_layer, other_head, other_rows in sorted(_claims(b), key=str):
            if (site, layer) != (other_site, other_layer):
                continue
            if not (head == other_head or head is None or other_head is None):
                continue
            if {rows, other_rows} == {"query", "label"}:
                continue
            which = head if head is not None else other_head
            where = f"layer {layer}" + (f" head {which}" if which is not None else "")
            if site in (*GLOBAL_SITES, "stream", "weights"):
                where = f"the {site}"
            raise UserError(
                f"contradictory clamps: {a.describe()} and {b.describe()} "
                f"both hold {where}: leave one out, or give them different times with during()"
            )


def _gates_apart(a: Part, b: Part) -> bool:
    """Whether two parts with gates of a user's own touch no element both."""
    if not {a.kind, b.kind} <= {"hold", "rule"}:
        return False
    try:
        both = np.asarray(a["gate"], np.float32) * np.asarray(b["gate"], np.float32)
    except ValueError:  # gates of different shapes: `arrays` says which is wrong
        return False
    return not both.any()
