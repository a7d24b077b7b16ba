"""Which strategy a network follows, in the scores of the evaluation sets: context, or weights.

Results have dims [run, init, set, sequences]; functions take those of one network (one `init`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr

from ih_jax.claims import Claim, Reported, in_most, of_networks, yes

METRICS = ("eval_loss", "eval_accuracy", "eval_in_context_accuracy")
# Five standard errors of a share of 500 sequences: what chance does not make of one half.
MARGIN = 5 * math.sqrt(0.25 / 500)
SETS = {  # colours as in the paper's figures
    "train_eval": "#000000",
    "icl": "#1f78b4",
    "iwl_copy_avail": "#33a02c",
    "flip_icl": "#e31a1c",
    "pure_iwl": "#999999",
}
READS = (
    "in-context accuracy on icl, one half by chance; a margin of .11, five standard errors of 500 "
    "sequences"
)
FLIP = (
    "in-context accuracy on flip_icl, which is 1 for the context and 0 for weights; a margin of "
    "five standard errors of 500 sequences (.11) around one half"
)


def reads(one: xr.Dataset, run: str) -> np.ndarray:
    """[sequences], how often one network reads a new label from the context, of its two labels."""
    return np.asarray(one["eval_in_context_accuracy"].sel(run=run, set="icl").values)


def flipped(one: xr.Dataset, run: str) -> np.ndarray:
    """[sequences], how often one network answers as the context says where weights say otherwise.

    Among the two labels of the context.
    """
    scores = one["eval_in_context_accuracy"].sel(run=run, set="flip_icl")
    return np.asarray(scores.values)


def comes(run: str) -> Callable[[xr.Dataset], bool]:
    """Whether new labels are read from the context at some time, better than by chance."""
    return lambda one: bool(np.nanmax(reads(one, run)) > 0.5 + MARGIN)


def wins(run: str, who: str) -> Callable[[xr.Dataset], bool | None]:
    """Whether the context ("context") or weights win on `flip_icl` at the end; None: neither."""

    def value(one: xr.Dataset) -> bool | None:
        lead = float(flipped(one, run)[-1]) - 0.5
        return None if abs(lead) <= MARGIN else (lead > 0) == (who == "context")

    return value


def transient(run: str) -> Callable[[xr.Dataset], bool]:
    """Whether in-context learning comes in a run, and is worse than its best at the end."""

    def value(one: xr.Dataset) -> bool:
        curve = reads(one, run)
        return comes(run)(one) and bool(np.nanmax(curve) - curve[-1] > MARGIN)

    return value


def won(run: str) -> Callable[[xr.Dataset], bool]:
    """Whether the context wins on `flip_icl` at some time."""
    return lambda one: bool(np.nanmax(flipped(one, run)) > 0.5 + MARGIN)


def fate(run: str) -> tuple[Claim, ...]:
    """What is asked of the main run: in-context learning comes, wins, goes, and loses.

    The paper's three statements, and that it wins at first where weights say otherwise.
    """

    def of(name: str, says: str, what: str, value: Callable[..., bool | None], how: str) -> Claim:
        return Claim(
            name,
            says,
            in_most(what, of_networks(value), yes),
            paper="so",
            reported=Reported(share=(1, 1)),
            source="section 3, fig. 1b",
            estimand=f"share of networks {how}",
        )

    return (
        of(
            "in-context learning comes",
            "Where labels are the classes' own, in-context learning emerges first.",
            "comes",
            comes(run),
            f"above chance at some time: {READS}",
        ),
        Claim(
            "while it is there it wins",
            "At first the context wins where weights say otherwise.",
            in_most("context wins", of_networks(won(run)), yes),
            source="ours",
            estimand=f"share of networks in which the context wins at some time: {FLIP}",
            kind="hypothesis",
        ),
        of(
            "and goes",
            "Later in-context learning disappears.",
            "comes and goes",
            transient(run),
            f"in which it comes and ends below its best: {READS}",
        ),
        of(
            "and weights decide",
            "In the end weights win where they disagree with the context.",
            "weights win",
            wins(run, "weights"),
            f"in which weights win at the end: {FLIP}",
        ),
    )
