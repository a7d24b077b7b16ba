"""The networks of Reddy 2024, at a scale that two cores reach.

In the paper 63 dimensions, 32 labels, 8 pairs, and a first layer whose tokens carry one-hot
positions; two layers of one head without norms, then a classifier of three layers; stochastic
gradient descent at rate 0.01 on batches of 128, millions of sequences. Here 16 dimensions, 8
labels, 4 pairs, 20,000 sequences in batches of 64 with Adam; learned positions added to embedded
tokens (the same as one-hot ones that an embedding reads), and an MLP in either layer in the place
of the classifier.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import ih_jax as ih
from ih_jax.experiments.base import Found, Options, Training

SETTING: dict[str, Any] = {
    "dimensions": 16,
    "pairs": 4,
    "labels": 8,
    "batch": 64,
    "evaluation_sequences": 500,
}
SEQUENCES = 20_000
LOOKS = 25  # checkpoints after the start
CLASSES = (8, 64, 512)
BURSTS = (1, 2)
BETWEEN, MANY = CLASSES[1], CLASSES[-1]


def of(options: Options, name: str, clamp: Any = None, **settings: Any) -> ih.Sweep:
    """A study of this setting; `settings` override fields of the task and of the runs."""
    seen = options.horizon(SEQUENCES)
    fields = {**SETTING, "most_classes": MANY, "classes": BETWEEN}
    fields |= {k: settings.pop(k) for k in ("labels",) if k in settings}
    return ih.sweep(
        ih.GaussianClasses(**fields),
        name=name,
        clamp=clamp,
        init=options.inits,
        order={init: init for init in options.inits},
        centres_seed={init: init for init in options.inits},
        learning_rate=3e-3,
        d_model=32,
        sequences=seen,
        evaluate="grid",
        checkpoints=sorted({int(n) for n in np.linspace(0, seen, LOOKS + 1)}),
        **settings,
    )


def grid(options: Options, found: Found) -> ih.Sweep:
    """Classes x burstiness: 6 networks a seed."""
    return of(options, "grid", classes=list(CLASSES), burst=list(BURSTS))


def noisy(options: Options, found: Found) -> ih.Sweep:
    """64 classes whose items differ as much from each other as classes do (epsilon 1)."""
    return of(options, "noisy", noise=1.0)


def skewed(options: Options, found: Found) -> ih.Sweep:
    """64 classes, the k-th with frequency 1 / k."""
    return of(options, "skewed", zipf=1.0)


def no_spare_labels(options: Options, found: Found) -> ih.Sweep:
    """512 classes, and as many labels as pairs."""
    return of(options, "no_spare_labels", labels=SETTING["pairs"], classes=MANY)


def given(options: Options, found: Found) -> ih.Sweep:
    """64 classes, the first layer's head held on the token before."""
    return of(options, "given", clamp={"previous token": ih.previous_token(0, 0)})


GRID = Training("reddy_grid", grid)
NOISY = Training("reddy_noisy", noisy)
SKEWED = Training("reddy_skewed", skewed)
NO_SPARE_LABELS = Training("reddy_no_spare_labels", no_spare_labels)
GIVEN = Training("reddy_given", given)
