"""How a study becomes blocks: runs that train together, and how wide a block is."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

from ih_jax import memory
from ih_jax.sweeps.study import Study

MOST_AT_ONCE = 64  # runs that train side by side, as `estimate_bytes` counts


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
    horizons = [sorted((run.steps for run in group.runs), reverse=True) for group in study.groups]

    def time_of(width: int) -> float:
        busy = [0.0] * devices
        # Those of `plan_blocks`: of a block, the longest run counts.
        for steps in sorted(itertools.chain(*(own[::width] for own in horizons)), reverse=True):
            busy[busy.index(min(busy))] += steps * (width + cost.overhead)
        return max(busy)

    return min(widths, key=time_of)


def check_width(study: Study, width: int) -> None:
    """Raises UserError for blocks of more runs than fit in memory."""
    each = 16 * max(group.program.config.weights for group in study.groups)
    memory.check(width * each, f"a block of {width:,} runs")


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
    """What the trajectories of a study take on disk while it trains, before compression."""
    total = 0
    for common, count in Counter(run.common for run in study.runs).items():
        numbers = common.config.weights
        kept = sum(1 for step in study.checkpoints if step <= common.steps)
        # A block has two states to go on from while it trains.
        total += 4 * numbers * (count * kept + 6 * min(count, MOST_AT_ONCE))
    return total
