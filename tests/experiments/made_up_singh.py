"""Results of every experiment of Singh et al. 2024 in which all claims are so, made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

SEEDS = list(range(5, 21))
HEADS = list(range(8))
STRENGTH = np.array([0.42, 0.74, 0.71, 0.85, 0.29, 0.55, 0.10, 0.57])
N = np.arange(0, 1_000_001, 5_000)
SETS = ["fsl_train", "fsl_val_rl", "fsl_train_valex", "fsl_test_class"]


def phase(n: Any, start: float = 200e3, pace: float = 60e3, level: float = 0.72) -> Any:
    """A loss that falls to a plateau, waits there until `start`, and then falls to nothing."""
    n = np.asarray(n, float)
    early = 1.2 * np.exp(-n / 8e3)
    late = np.where(n < start, level, level * np.exp(-np.maximum(n - start, 0) / pace))
    return early + late + 0.001


def smooth(n: Any, pace: float = 20e3) -> Any:
    """A loss that falls from the start."""
    return 1.9 * np.exp(-np.asarray(n, float) / pace) + 0.001


def over(n: np.ndarray, *curves: np.ndarray, dims: tuple[str, ...] = ("init", "sequences")) -> Any:
    return (dims, np.stack(curves))


def fig3() -> xr.Dataset:
    losses = [phase(N, 180e3 + 2e3 * i) for i, _ in enumerate(SEEDS)]
    relabel = [phase(N, 300e3, level=1.0) for _ in SEEDS]
    every = np.stack([np.stack([a, b, a, b]) for a, b in zip(losses, relabel, strict=True)])
    rises = 1 / (1 + np.exp(-(N - 250e3 + 100e3 * (STRENGTH[:, None] - 0.5)) / 40e3))
    return xr.Dataset(
        {
            "loss": over(N, *losses),
            "accuracy": over(N, *[1 - loss / 3 for loss in losses]),
            "in_context_accuracy": over(N, *[np.where(loss > 0.6, 0.5, 0.99) for loss in losses]),
            "eval_loss": (("init", "set", "eval_sequences"), every),
            "strength": (
                ("init", "checkpoint", "head"),
                np.stack([(STRENGTH[:, None] * rises).T] * len(SEEDS)),
            ),
        },
        {
            "init": SEEDS,
            "sequences": N,
            "eval_sequences": N,
            "set": SETS,
            "checkpoint": N,
            "head": HEADS,
        },
    )


def ablations() -> xr.Dataset:
    n = len(SEEDS)
    only = np.tile(0.25 + 0.8 * STRENGTH, (n, 1))
    without = np.full((n, 8), 0.999)
    without[:, 3] = 0.98
    only_loss, without_loss = np.tile(2.0 * (0.9 - STRENGTH), (n, 1)), np.full((n, 8), 0.01)
    without_loss[:, 3] = 0.09
    return xr.Dataset(
        {
            "strength": (("init", "head"), np.tile(STRENGTH, (n, 1))),
            "only_accuracy": (("init", "head"), only),
            "without_accuracy": (("init", "head"), without),
            "only_loss": (("init", "head"), only_loss),
            "without_loss": (("init", "head"), without_loss),
            "loss": ("init", np.full(n, 0.002)),
            "accuracy": ("init", np.full(n, 0.9999)),
        },
        {"init": SEEDS, "head": HEADS},
    )


def fig4() -> xr.Dataset:
    starts = 500e3 * (1 - STRENGTH) + 150e3
    alone = np.stack([[phase(N, start) for start in starts] for _ in SEEDS])
    return (
        ablations()
        .assign(
            alone_loss=(("init", "head", "alone_sequences"), alone),
            loss_of_all=over(N, *[phase(N, 150e3)] * len(SEEDS)),
        )
        .assign_coords(alone_sequences=N, sequences=N)
    )


def fig6() -> xr.Dataset:
    paces = {"none": 150e3, "layer1+copy": 20e3, "match": 15e3, "layer1": 40e3}
    by_class = {"none": 1.2, "layer1+copy": 1.2, "match": 1.02, "layer1": 1.2}
    by_label = {"none": 2.0, "layer1+copy": 1.0, "match": 3.0, "layer1": 2.0}

    n = np.arange(0, 1_000_001, 10_000)

    def made(slow: dict[str, float]) -> np.ndarray:
        return np.stack(
            [
                [[smooth(n, paces[c] * factor) for factor in (1, slow[c])] for _ in SEEDS]
                for c in paces
            ]
        )

    return xr.Dataset(
        {
            "loss_by_classes": (("clamp", "init", "classes", "sequences"), made(by_class)),
            "loss_by_labels": (("clamp", "init", "labels", "sequences"), made(by_label)),
        },
        {
            "clamp": list(paces),
            "init": SEEDS,
            "classes": [50, 200],
            "labels": [5, 15],
            "sequences": n,
        },
    )


def fig7() -> xr.Dataset:
    paces = {"same seed": 15e3, "foreign 1": 120e3, "foreign 2": 110e3}
    return xr.Dataset(
        {
            "loss": (
                ("clamp", "init", "sequences"),
                np.stack([[smooth(N, pace)] * len(SEEDS) for pace in paces.values()]),
            ),
            "standard": (("init", "whole_sequences"), np.stack([phase(N)] * len(SEEDS))),
        },
        {"clamp": list(paces), "init": SEEDS, "sequences": N, "whole_sequences": N},
    )


def fig8() -> xr.Dataset:
    starts = {
        "strongest": 120e3,
        "weakest": 170e3,
        "three strongest": 100e3,
        "all heads": 400e3,
    }
    return xr.Dataset(
        {
            "loss": (
                ("clamp", "init", "sequences"),
                np.stack([[phase(N, start)] * len(SEEDS) for start in starts.values()]),
            ),
            "free": (("init", "free_sequences"), np.stack([phase(N)] * len(SEEDS))),
            "heads": (("clamp", "init"), np.full((4, len(SEEDS)), "1 2")),
        },
        {"clamp": list(starts), "init": SEEDS, "sequences": N, "free_sequences": N},
    )


def fig10() -> xr.Dataset:
    runs = {"none": phase(N), "previous-token attention": phase(N, 120e3), "match": smooth(N)}
    held = {
        "previous-token attention": phase(N, 220e3),
        "match": phase(N, 150e3, 200e3, 0.5),
        "layer1+copy": 1.0 - N / 1.1e6,
    }
    return xr.Dataset(
        {
            "loss": (
                ("clamp", "init", "sequences"),
                np.stack([[curve] * len(SEEDS) for curve in runs.values()]),
            ),
            "progress": (
                ("held", "init", "checkpoint"),
                np.stack([[curve] * len(SEEDS) for curve in held.values()]),
            ),
            "whole": (("init", "checkpoint"), np.stack([phase(N)] * len(SEEDS))),
            "previous_token": (("init", "checkpoint"), np.stack([N / 1.1e6] * len(SEEDS))),
        },
        {"clamp": list(runs), "held": list(held), "init": SEEDS, "sequences": N, "checkpoint": N},
    )


def fig11() -> xr.Dataset:
    n, back = len(SEEDS), np.array([0.1, 0.8, 0.9, 0.1, 0.1, 0.7, 0.1, 0.1])
    chosen, only = back > 0.4, 0.25 + 0.8 * STRENGTH
    keys, values = np.where(chosen, 0.8, 0.45), np.where(chosen, 0.22, 0.5)
    pair = np.broadcast_to(np.stack([keys, values]), (n, 8, 2, 8)).copy()
    score = np.full((2, n, 8, 8), 0.125)
    late = score.copy()
    late[0, :, chosen, :] += 0.03
    late[1, :, ~chosen, :] += 0.03
    return xr.Dataset(
        {
            "strength": (("init", "head"), np.tile(STRENGTH, (n, 1))),
            "previous_token": (("init", "early"), np.tile(back, (n, 1))),
            "only": (("init", "head"), np.tile(only, (n, 1))),
            "less": (("init", "head", "kept", "early"), np.tile(only[:, None, None], (n, 1, 2, 8))),
            "pair": (("init", "head", "kept", "early"), pair),
            "composition": (("input", "init", "early", "head"), late),
            "start": (("input", "init", "early", "head"), score),
        },
        {"init": SEEDS, "head": HEADS, "early": HEADS, "kept": ["pv", "pp"], "input": ["K", "V"]},
    )


def table1() -> xr.Dataset:
    n = len(SEEDS)
    accuracy = np.tile([[0.998, 0.70], [0.34, 0.993]], (n, 1, 1))
    strength = np.tile([0.9, 0.8, 0.7, 0.3, 0.2, 0.15, 0.1, 0.05], (n, 1))
    through = np.stack([0.01 + 0 * strength, 0.01 + strength], -1)
    return xr.Dataset(
        {
            "accuracy": (("init", "group", "kept"), accuracy),
            "by_count": (("init", "count", "group", "kept"), np.stack([accuracy] * 7, 1)),
            "one": (("init", "head", "kept"), through),
            "whole_accuracy": ("init", np.full(n, 0.9999)),
            "whole_loss": ("init", np.full(n, 0.002)),
            "strength": (("init", "head"), strength),
        },
        {
            "init": SEEDS,
            "group": ["previous-token heads", "other heads"],
            "kept": ["pp", "pv"],
            "head": HEADS,
            "count": range(1, 8),
        },
    )


def fig12() -> xr.Dataset:
    whole = phase(N)
    fades = 0.1 * np.exp(-np.maximum(N - 250e3, 0) / 60e3)
    rises = 0.4 + 1.5 * (1 - np.exp(-N / 200e3))
    accuracy = np.stack([np.full(len(N), a) for a in (0.9999, 0.9990, 0.3)], axis=-1)
    loss = np.stack([whole, whole + fades, whole + rises], axis=-1)
    dims, n = ("init", "checkpoint", "held"), len(SEEDS)
    return xr.Dataset(
        {
            "accuracy": (dims, np.stack([accuracy] * n)),
            "loss": (dims, np.stack([loss] * n)),
            "added": (dims, np.stack([loss - loss[:, :1]] * n)),
        },
        {"init": SEEDS, "checkpoint": N, "held": ["whole", "direct_l0", "without_l1"]},
    )


def fig14() -> xr.Dataset:
    n = len(SEEDS)
    whole = [0.117, 0.0436, 0.0099, 0.0048, 0.0026, 0.0019, 0.0016, 0.0016]
    less = [0.657, 0.146, 0.088, 0.056, 0.037, 0.032, 0.030, np.nan]
    return xr.Dataset(
        {
            "loss": (("init", "kind", "count"), np.tile([whole, less], (n, 1, 1))),
            "accuracy": (("init", "kind", "count"), np.tile([whole, less], (n, 1, 1))),
            "whole_loss": ("init", np.full(n, 0.0016)),
            "whole_accuracy": ("init", np.ones(n)),
            "order": (("init", "rank"), np.tile([3, 1, 2, 7, 5, 0, 4, 6], (n, 1))),
        },
        {"init": SEEDS, "kind": ["with", "less"], "count": range(1, 9)},
    )


def fig15() -> xr.Dataset:
    strengths = [-1.0, -0.4, 0.0, 0.2, 0.6, 1.0]
    train = {s: smooth(N, 20e3 / abs(s)) if s else phase(N) for s in strengths}
    ends = {-1.0: 1.0, -0.4: 2.0, 0.0: 0.1, 0.2: 0.37, 0.6: 0.01, 1.0: 0.001}
    every = np.stack(
        [
            np.stack(
                [np.stack([train[s], np.maximum(train[s], ends[s]), train[s], train[s]])]
                * len(SEEDS)
            )
            for s in strengths
        ]
    )
    return xr.Dataset(
        {
            "loss": (
                ("strength", "init", "sequences"),
                np.stack([[train[s]] * len(SEEDS) for s in strengths]),
            ),
            "eval_loss": (("strength", "init", "set", "eval_sequences"), every),
        },
        {"strength": strengths, "init": SEEDS, "set": SETS, "sequences": N, "eval_sequences": N},
    )


def fig16() -> xr.Dataset:
    n = len(SEEDS)
    only = np.tile(0.25 + 0.8 * STRENGTH, (n, 1))
    match = np.minimum(only + 0.06, 0.999)
    match[:, 3] = 0.99
    labels = np.tile(0.9, (n, 8, 5))
    for head in HEADS:
        labels[:, head, head % 5] = 0.3 if head != 3 else 0.95
    return xr.Dataset(
        {
            "strength": (("init", "head"), np.tile(STRENGTH, (n, 1))),
            "only_accuracy": (("init", "head"), only),
            "match_accuracy": (("init", "head"), match),
            "match_missed": (("init", "head"), 78_400 * (1 - match)),
            "corrected": (("init", "head", "other"), np.tile(0.5, (n, 8, 8))),
            "label_accuracy": (("init", "head", "label"), labels),
            "mistake_share": (("init", "head", "label"), np.full((n, 8, 5), 0.2)),
        },
        {"init": SEEDS, "head": HEADS, "other": HEADS, "label": range(5)},
    )


def table2() -> xr.Dataset:
    n = len(SEEDS)
    accuracy = np.tile(0.25 + 0.8 * STRENGTH, (n, 1))
    corrected = np.broadcast_to(0.8 * accuracy[:, None, :], (n, 8, 8)).copy()
    return xr.Dataset(
        {
            "strength": (("init", "head"), np.tile(STRENGTH, (n, 1))),
            "accuracy": (("init", "head"), accuracy),
            "missed": (("init", "head"), 78_400 * (1 - accuracy)),
            "corrected": (("init", "head", "other"), corrected),
        },
        {"init": SEEDS, "head": HEADS, "other": HEADS},
    )


def fig17() -> xr.Dataset:
    starts = {"3+0": 150e3, "3+2": 170e3, "3+4": 180e3, "3+6": 210e3}
    n = len(SEEDS)
    return xr.Dataset(
        {
            "loss": (
                ("clamp", "init", "sequences"),
                np.stack([[phase(N, start)] * n for start in starts.values()]),
            ),
            "alone": (("init", "alone_sequences"), np.stack([phase(N)] * n)),
            "all": (("init", "all_sequences"), np.stack([phase(N, 160e3)] * n)),
        },
        {
            "clamp": list(starts),
            "init": SEEDS,
            "sequences": N,
            "alone_sequences": N,
            "all_sequences": N,
        },
    )


def fig18() -> xr.Dataset:
    n = len(SEEDS)
    return ablations()[["strength", "only_accuracy", "only_loss"]].assign(
        time=(("init", "head"), np.tile(600e3 - 300e3 * STRENGTH, (n, 1))),
        censored=(("init", "head"), np.zeros((n, 8), bool)),
    )


GOOD: dict[str, Callable[[], xr.Dataset]] = {
    "fig3": fig3,
    "fig4": fig4,
    "fig6": fig6,
    "fig7": fig7,
    "fig8": fig8,
    "fig10": fig10,
    "fig11": fig11,
    "table1": table1,
    "fig12": fig12,
    "fig13": ablations,
    "fig14": fig14,
    "fig15": fig15,
    "fig16": fig16,
    "table2": table2,
    "fig17": fig17,
    "fig18": fig18,
}
