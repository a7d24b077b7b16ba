"""The networks behind the figures of Singh et al. 2024: trained once, read by many figures.

A training is a sweep for given options; some need others, because which head is clamped, or which
network is grafted, is found in networks that were trained before. Horizons, clamps and grids are
those of the paper's code (its runs: 63 for one seed, 50 million sequences), with seeds as an axis.

The weights of all are initialised from seeds 5, 6, ...; classes, labels and features are those of
the options. Where one head of layer 1 alone is left, it is head 3, in every seed as in the paper.

With `quick` the same figures come from half the sequences (24 million for one seed instead of 51):
shorter horizons, as each function says, 50 checkpoints instead of 100, 6 of 16 strengths, 4 of 7
pairs, and neither 100 classes nor 10 labels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import ih_jax as ih
from ih_jax.errors import UserError
from ih_jax.experiments import grafted
from ih_jax.experiments.base import Found, Options, Training, evenly
from ih_jax.experiments.singh2024 import roles

HEADS = range(8)  # of a layer
DONORS = 3  # networks that are grafted into one
PLATEAU = (0.69, 0.80)  # nats: the loss of `main` where it stands still
HEAD = 3  # of layer 1: where one is left to do the induction

only_h3 = ih.ablate(1, [head for head in HEADS if head != HEAD])

CLAMPS: dict[str, ih.Clamp] = {
    "none": only_h3,
    "previous-token attention": ih.previous_token(0, 2) & only_h3,
    "layer1": ih.perfect_previous_layer() & only_h3,
    "match": ih.induction(1, HEAD) & only_h3,
    "copy": ih.copy_from(1, HEAD),
    "layer1+copy": ih.perfect_previous_layer() & ih.copy_from(1, HEAD),
}
LONG, SHORT = 800_000, 200_000  # sequences; a clamped run has learned long before
HORIZONS = {
    name: LONG if name in ("none", "previous-token attention") else SHORT for name in CLAMPS
}
STRENGTHS = (1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.4, 0.3, 0.2, 0.1, 0)
QUICK_STRENGTHS = (1, 0.8, 0.6, 0.5, 0.3, 0)
QUICK_PAIRS = (0, 2, 4, 6)


def main(options: Options, found: Found) -> ih.Sweep:
    """Every head free: a million sequences, 100 checkpoints, 200 evaluations.

    At least three seeds, since grafts need three networks.
    """
    horizon = options.horizon(1_000_000)
    return ih.sweep(
        options.task(),
        name="main",
        init=main_seeds(options),
        **options.at_least(DONORS).paired(main_seeds(options)),
        sequences=horizon,
        evaluate=evenly(horizon, 200),
        checkpoints=evenly(horizon, checkpoints(options)),
    )


def single_heads(options: Options, found: Found) -> ih.Sweep:
    """One head of layer 1, the others ablated: "only h0" to "only h7" (fig. 4b).

    A million sequences (quick: 600,000); checkpoints at the start and the end.
    """
    clamp = {f"only h{h}": ih.ablate(1, [o for o in HEADS if o != h]) for h in HEADS}
    return ends(options, "single_heads", clamp, options.horizon(1_000_000, quick=600_000))


def pairs(options: Options, found: Found) -> ih.Sweep:
    """Head 3 of layer 1 alone, "3", and with one other: "3+0" to "3+7" (fig. 17).

    A million sequences (quick: 600,000, and every second other head). Head 3 alone is trained in
    `single_heads`, too, where seven more stand beside it that fig. 17 does not ask for.
    """
    others = QUICK_PAIRS if options.quick else [head for head in HEADS if head != HEAD]
    clamp = {f"{HEAD}": only_h3}
    for other in others:
        clamp[f"{HEAD}+{other}"] = ih.ablate(1, [h for h in HEADS if h not in (HEAD, other)])
    return ends(options, "pairs", clamp, options.horizon(1_000_000, quick=600_000))


def clamps(options: Options, found: Found) -> ih.Sweep:
    """The six clamps of fig. 5b; checkpoints up to 600,000 sequences, for fig. 10.

    800,000 sequences (quick: 600,000) without a clamp and with previous-token attention, 200,000
    with the others.
    """
    horizons = {
        name: options.horizon(each, quick=600_000 if each == LONG else None)
        for name, each in HORIZONS.items()
    }
    kept = evenly(options.horizon(600_000), checkpoints(options))
    return ih.sweep(
        options.task(),
        name="clamps",
        clamp=options.choose(CLAMPS),
        init=options.inits,
        **options.paired(),
        sequences=horizons,
        checkpoints=sorted({*kept, *horizons.values()}),
    )


def scaling_labels(options: Options, found: Found) -> ih.Sweep:
    """As many labels as the options say, twice and thrice as many (fig. 6, lower row).

    Two million sequences without a clamp (quick: 1 million, and not twice), 300,000 with.
    """
    times = (1, 3) if options.quick else (1, 2, 3)
    return _scaling(
        options,
        "scaling_labels",
        class_counts(options)[:1],
        [options.labels * each for each in times],
    )


def scaling_classes(options: Options, found: Found) -> ih.Sweep:
    """Twice and four times as many classes as in `scaling_labels` (fig. 6, upper row).

    The rest is as there, padding of labels included, so that the two can be compared.
    """
    classes = class_counts(options)[2 if options.quick else 1 :]
    return _scaling(options, "scaling_classes", classes, [options.labels])


def grafts(options: Options, found: Found) -> ih.Sweep:
    """Layer 0 and embeddings of a trained network, layer 1 from the start (fig. 7).

    The network is that of `main` with the same seed, or one of the next two ("foreign 1",
    "foreign 2"; after the last seed comes the first) that saw the same data. 800,000 sequences
    (quick: 400,000). Raises UserError where no two networks differ in their initial weights.
    """
    if options.vary is not None and "init" not in options.vary:
        raise UserError(
            f"networks vary in {', '.join(options.vary)}, and grafts are between networks of other "
            "initial weights: let init vary, too"
        )
    names = ("same seed", "foreign 1", "foreign 2")
    if "main" in found:
        own = {
            seed: [
                ih.graft(grafted.at_end(found, "main", donor), upto=0)
                for donor in donors(options, seed)
            ]
            for seed in options.inits
        }
        clamp = {name: {seed: own[seed][k] for seed in own} for k, name in enumerate(names)}
    else:
        task = options.task()
        config = ih.Config(features=task.data.features, labels=task.logits)
        nothing = ih.graft(grafted.not_yet(config), upto=0)
        clamp = {name: dict.fromkeys(options.inits, nothing) for name in names}
    return ends(options, "grafts", clamp, options.horizon(800_000, quick=400_000))


def previous_token_heads(options: Options, found: Found) -> ih.Sweep:
    """Which heads of layer 0 attend, clamped, to the previous token; head 3 alone in layer 1.

    The strongest previous-token head of that seed's `main` network, the weakest, the three
    strongest, and all eight (fig. 8). 800,000 sequences (quick: 500,000).
    """
    chosen = roles.previous_token_heads(options, found)
    clamp = {
        name: {seed: _previous_token(tuple(heads[name])) for seed, heads in chosen.items()}
        for name in roles.PREVIOUS_TOKEN_CHOICES
    }
    horizon = options.horizon(800_000, quick=500_000)
    return ends(options, "previous_token_heads", clamp, horizon)


def strengths(options: Options, found: Found) -> ih.Sweep:
    """Attention of the strongest induction head held between labels (fig. 15); clamp "0.95": 0.95.

    The head is the strongest of that seed's `main` network. 600,000 sequences (quick: 400,000).
    """
    strongest = roles.induction_heads(options, found)
    clamp = {
        f"{s:g}": {seed: _between_labels(strongest[seed], s) for seed in options.inits}
        for s in (QUICK_STRENGTHS if options.quick else STRENGTHS)
    }
    return ends(options, "strengths", clamp, options.horizon(600_000, quick=400_000))


def checkpoints(options: Options) -> int:
    """How many, after the start, where a trajectory is looked at."""
    return 50 if options.quick else 100


def main_seeds(options: Options) -> list[int]:
    """The init seeds of `main`: at least three, and of a part also those grafted into it."""
    if options.seeds < DONORS:
        return list(range(options.first_seed, options.first_seed + DONORS))
    if not options.part:
        return options.inits
    return sorted({donor for seed in options.inits for donor in donors(options, seed)})


def donors(options: Options, seed: int) -> list[int]:
    """A network, and the next two of those that see the same data; after the last the first."""
    few = options.seeds < DONORS
    seeds = main_seeds(options) if few else options.same_data(seed)
    place = seeds.index(seed)
    return [seeds[(place + k) % len(seeds)] for k in range(DONORS)]


def class_counts(options: Options) -> tuple[int, int, int]:
    """Classes of fig. 6: as the options say, twice and four times as many.

    Where the data has fewer than four times as many (and two unseen), as many as fit.
    """
    available = options.task(classes=2).data.classes
    few = max(2, min(options.classes, (available - 2) // 4))
    return few, 2 * few, 4 * few


def _scaling(
    options: Options, name: str, classes: Sequence[int], labels: Sequence[int]
) -> ih.Sweep:
    chosen = {each: CLAMPS[each] for each in ("none", "layer1+copy", "match", "layer1")}
    horizons = dict.fromkeys(chosen, options.horizon(300_000))
    horizons["none"] = options.horizon(2_000_000, quick=1_000_000)
    most = class_counts(options)[-1]
    spare = options.task(classes=2).data.classes - most
    # As many unseen classes for every number of classes. Labels are padded, so that any number of
    # them has the same program and the same initial weights.
    task = options.task(
        classes=most, test_classes=min(100, spare), labels_of_program=3 * options.labels
    )
    return ih.sweep(
        task,
        name=name,
        clamp=chosen,
        init=options.inits,
        **options.paired(),
        classes=list(classes),
        labels=list(labels),
        sequences=horizons,
        checkpoints=sorted({0, *horizons.values()}),
    )


def ends(
    options: Options,
    name: str,
    clamp: dict[str, ih.Clamp] | dict[str, dict[int, ih.Clamp]],
    horizon: int,
) -> ih.Sweep:
    """Runs of one length, evaluated 200 times, kept at the start and the end."""
    return ih.sweep(
        options.task(),
        name=name,
        clamp=clamp,
        init=options.inits,
        **options.paired(),
        sequences=horizon,
        evaluate=evenly(horizon, 200),
        checkpoints=[0, horizon],
    )


# Of 10,000 networks many have one and the same clamp: it is made once.


@functools.cache
def _previous_token(heads: tuple[int, ...]) -> ih.Clamp:
    return ih.previous_token(0, heads) & only_h3


@functools.cache
def _between_labels(head: int, strength: float) -> ih.Clamp:
    return ih.induction(1, head, strength)


MAIN = Training("main", main, in_parts=True)
SINGLE_HEADS = Training("single_heads", single_heads, in_parts=True)
PAIRS = Training("pairs", pairs, in_parts=True)
CLAMPED = Training("clamps", clamps, in_parts=True)
SCALING_LABELS = Training("scaling_labels", scaling_labels, in_parts=True)
SCALING_CLASSES = Training("scaling_classes", scaling_classes, in_parts=True)
GRAFTS = Training("grafts", grafts, needs=(MAIN,), in_parts=True)
PREVIOUS_TOKEN_HEADS = Training(
    "previous_token_heads", previous_token_heads, needs=(MAIN,), in_parts=True
)
STRENGTHS_TRAINED = Training("strengths", strengths, needs=(MAIN,), in_parts=True)
