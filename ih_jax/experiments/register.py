"""The experiments of this package, in the order of their papers, and the sets they form."""

from __future__ import annotations

from ih_jax.errors import UserError, given, nearest
from ih_jax.experiments.base import Experiment
from ih_jax.experiments.beyond import factorial, predict, pulse, saddle
from ih_jax.experiments.findings import forecast, specialists, transplants, winner
from ih_jax.experiments.garg2022 import diversity
from ih_jax.experiments.olsson2022 import (
    ablations,
    behaviours,
    clamped,
    heads,
    lent,
    lent_otherwise,
    mixture,
    phase_change,
    reading,
    repeats,
    scaling,
    smeared_keys,
    smoke,
    text,
    text_smeared,
    universality,
    widths,
)
from ih_jax.experiments.reddy2024 import abruptness, phase_diagram
from ih_jax.experiments.singh2023 import lasting, transience
from ih_jax.experiments.singh2024 import (
    fig3,
    fig4,
    fig5a,
    fig5b,
    fig6,
    fig7,
    fig8,
    fig9,
    fig10,
    fig11,
    fig12,
    fig13,
    fig14,
    fig15,
    fig16,
    fig17,
    fig18,
    table1,
    table2,
)
from ih_jax.experiments.singh2025 import clamped as singh2025_clamped
from ih_jax.experiments.singh2025 import exemplars as singh2025_exemplars
from ih_jax.experiments.singh2025 import grafts as singh2025_grafts
from ih_jax.experiments.singh2025 import main as singh2025_main
from ih_jax.experiments.singh2025 import matched as singh2025_matched
from ih_jax.experiments.singh2025 import toy as singh2025_toy

SETS: dict[str, tuple[Experiment, ...]] = {
    "paper": tuple(
        m.experiment
        for m in (
            fig3,
            fig4,
            fig5a,
            fig5b,
            fig6,
            fig7,
            fig8,
            fig9,
            fig10,
            fig11,
            table1,
            fig12,
            fig13,
            fig14,
            fig15,
            fig16,
            table2,
            fig17,
            fig18,
        )
    ),
    "beyond": tuple(m.experiment for m in (saddle, factorial, pulse, predict)),
    "findings": tuple(m.experiment for m in (winner, specialists, transplants, forecast)),
    "olsson": tuple(
        m.experiment
        for m in (
            smoke,
            phase_change,
            smeared_keys,
            ablations,
            heads,
            reading,
            behaviours,
            mixture,
            scaling,
            widths,
            universality,
            clamped,
            repeats,
            text,
            text_smeared,
            lent,
            lent_otherwise,
        )
    ),
    "transience": tuple(m.experiment for m in (transience, lasting)),
    "coopetition": tuple(
        m.experiment
        for m in (
            singh2025_main,
            singh2025_exemplars,
            singh2025_matched,
            singh2025_grafts,
            singh2025_clamped,
            singh2025_toy,
        )
    ),
    "reddy2024": tuple(m.experiment for m in (phase_diagram, abruptness)),
    "garg2022": (diversity.experiment,),
}
SET_NAMES = {
    "paper": "Singh et al. 2024",
    "beyond": "beyond Singh et al. 2024",
    "findings": "Findings",
    "olsson": "Olsson et al. 2022",
    "transience": "Singh et al. 2023",
    "coopetition": "Singh et al. 2025",
    "reddy2024": "Reddy 2024",
    "garg2022": "Garg et al. 2022",
}


def registry() -> dict[str, Experiment]:
    """Every experiment by name."""
    return {each.name: each for some in SETS.values() for each in some}


def find(name: str) -> Experiment:
    """The experiment of this name. Raises UserError, suggesting the nearest, for an unknown one."""
    known = registry()
    if name not in known:
        near = nearest(name, (*SETS, *known))
        suggestion = f"did you mean {near!r}? " if near else ""
        raise UserError(
            f"unknown experiment {given(name)}: {suggestion}give one that `ih-jax list` shows, or "
            "a file whose name ends in .py"
        )
    return known[name]


def choose(name: str) -> tuple[Experiment, ...]:
    """The experiment of this name, or those of a set (`SETS`)."""
    return SETS[name] if name in SETS else (find(name),)
