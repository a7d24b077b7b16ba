"""How a study becomes blocks: runs that train together, and how wide a block is."""

from __future__ import annotations

from dataclasses import dataclass

from ih_jax.sweeps.study import Study


@dataclass(frozen=True)
class BlockPlan:
    """One block: which runs of which group, in its lanes (the last may stand twice)."""

    number: int
    group: int
    members: tuple[int, ...]  # places in the group's runs, as many as the block is wide
    runs: tuple[int, ...]  # numbers of the study's runs, without the ones that fill up
    steps: int  # the longest horizon among its runs


@dataclass(frozen=True)
class Plan:
    """How a study becomes blocks. A resumed sweep has the same."""

    width: int
    blocks: tuple[BlockPlan, ...]
    seconds: float  # spent before, by sweeps that this one resumes


@dataclass(frozen=True)
class StepCost:
    """What a step of a block costs on a kind of device: proportional to runs + `overhead`.

    `widest` is the width beyond which a run costs more again. `ih-jax bench` measures both.
    """

    overhead: float  # in runs
    widest: int


def choose_width(study: Study, devices: int, cost: StepCost) -> int:
    """The power of two with the shortest time by `cost`, devices standing idle included."""
    widths = [2**i for i in range(cost.widest.bit_length()) if 2**i <= cost.widest]

    def time_of(width: int) -> float:
        busy = [0.0] * devices
        for block in plan_blocks(study, width):
            busy[busy.index(min(busy))] += block.steps * (width + cost.overhead)
        return max(busy)

    return min(widths, key=time_of)


def plan_blocks(study: Study, width: int) -> tuple[BlockPlan, ...]:
    """Blocks of `width` runs with like horizons, the longest first.

    Runs are taken in order of horizon. A block costs its longest run whatever the others do, so
    this wastes least; a run that ends before its block is trained on, and what comes after its
    horizon is not read.
    """
    found: list[tuple[int, int, list[int]]] = []
    for number, group in enumerate(study.groups):
        order = sorted(range(len(group.runs)), key=lambda i: -group.runs[i].steps)
        for begin in range(0, len(order), width):
            members = order[begin : begin + width]
            found.append((group.runs[members[0]].steps, number, members))
    found.sort(key=lambda each: -each[0])
    blocks = []
    for number, (horizon, group_number, members) in enumerate(found):
        runs = tuple(study.groups[group_number].runs[i].index for i in members)
        filled = tuple(members + members[-1:] * (width - len(members)))
        blocks.append(BlockPlan(number, group_number, filled, runs, horizon))
    return tuple(blocks)


def estimate_bytes(study: Study) -> int:
    """What the trajectories of a study take on disk, before compression."""
    total = 0
    for run in study.runs:
        numbers = run.config.d_model * (run.config.features + 12 * run.config.d_model)
        kept = sum(1 for step in study.checkpoints if step <= run.steps)
        total += 4 * numbers * (kept + 6)
    return total
