"""The networks of what goes beyond Singh et al. 2024: a factorial, pulses, and what is predicted.

As in `singh2024.trainings`, whose clamps and classes these are.
"""

from __future__ import annotations

import ih_jax as ih
from ih_jax.experiments.base import Found, Options, Training
from ih_jax.experiments.singh2024.trainings import CLAMPS, HEAD, class_counts, ends, only_h3

PULSED = ("layer1", "match", "copy")  # clamps of subcircuits A; A and B; C

# What is given of layer 0, the match and the copy. Of the 5 x 2 x 2 cells these 11 differ: copied
# logits are scores, so that neither values nor a held pattern count, and a held pattern needs no
# queries and keys (`EQUIVALENT`).
LAYER0: dict[str, ih.Clamp] = {
    "": ih.Clamp(),
    "previous token": ih.previous_token(0, 2),
    "q, k": ih.perfect_previous_layer(("q", "k")),
    "v": ih.perfect_previous_layer(("v",)),
    "both": ih.perfect_previous_layer(),
}
EQUIVALENT = {  # a cell -> the one that stands for it
    ("q, k", "match", ""): ("", "match", ""),
    ("both", "match", ""): ("v", "match", ""),
    **{(layer0, "match", "copy"): (layer0, "", "copy") for layer0 in LAYER0},
    ("v", "", "copy"): ("", "", "copy"),
    ("both", "", "copy"): ("q, k", "", "copy"),
    ("v", "match", "copy"): ("", "", "copy"),
    ("both", "match", "copy"): ("q, k", "", "copy"),
}
FACTORIAL_SEEDS = 8

Cell = tuple[str, str, str]  # what is given of layer 0, match, copy; "": learned


def cell_clamp(cell: Cell) -> ih.Clamp:
    """The clamp of a cell of `factorial`."""
    layer0, match, copy = cell
    clamp = LAYER0[layer0]
    clamp = clamp & ih.induction(1, HEAD) if match else clamp
    return clamp & ih.copy_from(1, HEAD) if copy else clamp & only_h3


def cell_name(cell: Cell) -> str:
    """As figures and results call it: what is given, or "nothing"."""
    return " + ".join(filter(None, cell)) or "nothing"


CELLS: list[Cell] = [(a, b, c) for c in ("", "copy") for b in ("", "match") for a in LAYER0]
FACTORIAL = {cell_name(cell): cell_clamp(cell) for cell in CELLS if cell not in EQUIVALENT}


def factorial(options: Options, found: Found) -> ih.Sweep:
    """Every distinct way to give layer 0, the match and the copy, or to let it be learned.

    At least eight seeds. 800,000 sequences (quick: 600,000) where the match is learned and layer 0
    does not give it its inputs, 300,000 where less is left.
    """
    whole = options.at_least(FACTORIAL_SEEDS)
    inits = options.inits
    if inits[-1] == options.all_networks[-1]:  # of parts the last trains those that are added
        inits = [*inits, *whole.all_networks[options.seeds :]]
    horizons = {
        name: options.horizon(800_000, quick=600_000)
        if name in ("nothing", "previous token", "v")
        else options.horizon(300_000)
        for name in FACTORIAL
    }
    return ih.sweep(
        options.task(),
        name="factorial",
        clamp=FACTORIAL,
        init=inits,
        **whole.paired(inits),
        sequences=horizons,
        checkpoints=sorted({0, *horizons.values()}),
    )


def pulses(options: Options, found: Found) -> ih.Sweep:
    """Layer 1, match or copy clamped for a while only: "match 100000+50000" from 100,000 on.

    600,000 sequences (quick: 500,000, and fewer onsets and durations); none: without a pulse.
    """
    onsets, durations = pulse_grid(options)
    clamp = {"none": only_h3}
    for name in PULSED:
        for onset in onsets:
            for duration in durations:
                pulse = CLAMPS[name].during(onset, onset + duration)
                # All but head 3 stay ablated when the pulse is over.
                clamp[f"{name} {onset}+{duration}"] = only_h3.overlay(pulse)
    return ends(options, "pulses", clamp, options.horizon(600_000, quick=500_000))


def predicted(options: Options, found: Found) -> ih.Sweep:
    """Classes x labels x Zipf exponents, without a clamp and with those of B, C and both.

    1.5 million sequences without (quick: 1 million), 300,000 with.
    """
    chosen = {each: CLAMPS[each] for each in ("none", "layer1+copy", "match", "layer1")}
    horizons = dict.fromkeys(chosen, options.horizon(300_000))
    horizons["none"] = options.horizon(1_500_000, quick=1_000_000)
    few, more, _ = class_counts(options)
    spare = options.task(classes=2).data.classes - more
    task = options.task(
        classes=more, test_classes=min(100, spare), labels_of_program=2 * options.labels
    )
    return ih.sweep(
        task,
        name="predicted",
        clamp=chosen,
        init=options.inits,
        **options.paired(),
        classes=[few, more],
        labels=[options.labels, 2 * options.labels],
        zipf=[0.0, 1.0],
        sequences=horizons,
        checkpoints=sorted({0, *horizons.values()}),
    )


def pulse_grid(options: Options) -> tuple[list[int], list[int]]:
    """Onsets and durations of pulses, in sequences."""
    scaled = [
        [options.horizon(n) if n else 0 for n in each]
        for each in (
            (0, 100_000, 250_000) if options.quick else (0, 50_000, 100_000, 200_000, 300_000),
            (10_000, 50_000) if options.quick else (5_000, 10_000, 25_000, 50_000, 100_000),
        )
    ]
    return scaled[0], scaled[1]


FACTORIAL_CELLS = Training("factorial", factorial, in_parts=True)
PULSES = Training("pulses", pulses, in_parts=True)
PREDICTED = Training("predicted", predicted, in_parts=True)
