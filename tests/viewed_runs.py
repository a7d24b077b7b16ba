"""Short sweeps that the tests of the viewer show."""

from pathlib import Path

import ih_jax as ih
from ih_jax.data.languages.synthetic import Bigrams
from ih_jax.sweeps.trajectory import Trajectories

NASTY = "x</script><img src=y onerror=\"document.title='bad'\">'"


def fewshot(folder: Path) -> Trajectories:
    """Four runs, one with a pulse, one of whose clamps has a name that is not safe in HTML."""
    clamp = {"none": None, NASTY: ih.induction(1, 3).during(1_000, 2_000) & ih.ablate(1, [0])}
    study = ih.sweep(
        ih.fewshot(classes=20, evaluation_sequences=32),
        clamp=clamp,
        init=[1, 2],
        sequences=4_000,
        learning_rate=1e-3,
    )
    return study.train(folder, progress=False)


def language(folder: Path) -> Trajectories:
    """Two runs of a language model."""
    task = ih.language(Bigrams(tokens=12, length=24, own=0.8), evaluation_sequences=32)
    study = ih.sweep(task, init=[0, 1], tokens=20_000, layers=2, checkpoints=[0, 10_000, 20_000])
    return study.train(folder, progress=False)
