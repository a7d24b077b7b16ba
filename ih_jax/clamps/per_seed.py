"""Clamps that differ between initialisation seeds.

The head that becomes the strongest in one network is not that of another, and a graft is of one
network into one. `sweep(clamp={"strongest": {5: induction(1, 3), 6: induction(1, 5)}})` gives each
network its own, under one name on the axis of clamps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.kind import Kind
from ih_jax.errors import UserError, several


@dataclass(frozen=True)
class PerSeed:
    """One clamp for each seed of the initial weights."""

    clamps: Mapping[int, Clamp]

    def of(self, init: int) -> Clamp:
        """The clamp of this seed. Raises UserError if it has none."""
        if init not in self.clamps:
            raise UserError(
                f"no clamp for init {init}: this one is given for init {several(self.clamps)}; "
                "add it, or leave that seed out"
            )
        return self.clamps[init]

    def describe(self) -> str:
        """As a person would write it."""
        return "; ".join(f"init {seed}: {each.describe()}" for seed, each in self.clamps.items())

    def to_json(self) -> str:
        """A JSON object of recipes by seed (that of one clamp is a list)."""
        return json.dumps({seed: json.loads(each.to_json()) for seed, each in self.clamps.items()})


def from_json(text: str) -> Clamp | PerSeed:
    """What `to_json` of either wrote. Raises UserError as `Clamp.from_json` does."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None  # Clamp.from_json says what is wrong
    if not isinstance(found, dict):
        return Clamp.from_json(text)
    return PerSeed({int(seed): Clamp.from_json(json.dumps(each)) for seed, each in found.items()})


def by_name(clamp: object) -> dict[str, Clamp | PerSeed]:
    """Clamps by name of what `sweep` is given. Raises UserError where that is something else."""
    if isinstance(clamp, Clamp | Kind | None):
        return {"none": _one("none", clamp)}
    if not isinstance(clamp, Mapping) or not clamp:
        raise UserError(f"clamp is {clamp!r}: give a Clamp or {{name: Clamp}}")
    found = {str(name): _one(name, each) for name, each in clamp.items()}
    if len(found) < len(clamp):
        raise UserError(f"clamp has a name twice, of {list(clamp)}: give each another")
    return found


def _one(name: object, each: object) -> Clamp | PerSeed:
    if isinstance(each, PerSeed | Clamp):
        return each
    if isinstance(each, Kind):
        return Clamp.of(each)
    if isinstance(each, Mapping) and each:
        if all(
            str(seed).isdecimal() and isinstance(one, Clamp | None) for seed, one in each.items()
        ):
            return PerSeed({int(seed): one or Clamp() for seed, one in each.items()})
    elif each is None:
        return Clamp()
    raise UserError(
        f"clamp {name!r} is {each!r}: give a Clamp, such as ablate(1, 3), or {{init: Clamp}}"
    )
