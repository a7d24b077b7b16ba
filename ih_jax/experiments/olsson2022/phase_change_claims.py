"""What Olsson et al. 2022, argument 1, say of the phase change, and what decides it."""

from __future__ import annotations

from ih_jax.claims import (
    Claim,
    Reported,
    below,
    in_most,
    more_than,
    no_difference,
    of_networks,
    yes,
)
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.olsson2022.models import deep, of_models, shallow
from ih_jax.experiments.olsson2022.phase_change_quantities import (
    FAR,
    FEW,
    TURN,
    best_at_end,
    bump_in_window,
    bump_over_two_layers,
    forms_in_window,
    forms_with_few,
    gained_before,
    in_a_fifth,
    move_after,
    of_two_layers,
    pairs_apart,
    slope,
    sparse,
    spread_of_sizes,
    steeper,
    turn,
    turn_of_one_layer,
    two_layer_kinds,
)

MACRO = "argument 1 (macroscopic co-occurrence)"
CLAIMS = (
    Claim(
        "a window",
        "Models of two layers or more get more than 75% of their in-context learning score in a "
        "narrow window of training.",
        in_most("so", of_models(deep, lambda s, n: in_a_fifth(s["score"].sel(model=n))), yes),
        paper="all models of two layers or more",
        source=f"{MACRO}: in-context learning score",
        estimand="whether a network gets 75% of its final score, and 0.15 nats (below which the "
        "paper sees no change), within a fifth of training; over networks (model and seed). The "
        "fifth is ours: the paper's window is 2.5 of 10 billion tokens",
        grade="strong",
    ),
    Claim(
        "one layer does not change",
        "One-layer models do not: their in-context learning score stays small.",
        in_most("one layer / two", of_models(shallow, of_two_layers), below(0.5)),
        paper="-.1 against -.4",
        reported=Reported((0.25,)),
        source=f"{MACRO}: in-context learning score",
        estimand="final score of a one-layer model over that of the two-layer model of its kind "
        "and seed, below one half (most of the score needs the second layer)",
        grade="strong",
    ),
    Claim(
        "they form in the window",
        "Induction heads form in the window in which in-context learning improves.",
        in_most("so", of_models(deep, forms_in_window), yes),
        paper="all models",
        source=f"{MACRO}: prefix matching",
        estimand="whether a network's best prefix matching passes half its final value between "
        "start and end of its window, which is told from the score alone",
        grade="strong",
    ),
    Claim(
        "induction heads appear",
        "At the end models of two layers or more have heads with high prefix matching.",
        in_most(
            "best",
            of_models(deep, best_at_end),
            more_than(0.5),
        ),
        paper=".6 to .95",
        source=f"{MACRO}: prefix matching",
        estimand="the highest prefix matching of a network's heads, above 0.5: more attention to "
        "what followed earlier than to all else together",
        primary=False,
        grade="strong",
    ),
    Claim(
        "constant after the change",
        "After the window the in-context learning score is about constant.",
        no_difference("move", of_models(deep, move_after), 0, 1 - changes.SHARE),
        paper="constant",
        source=f"{MACRO}: in-context learning score",
        estimand="the largest move of a network's score after its window, over its final value, "
        "within 0 to .25: no more than what the window, with its 75%, leaves",
        grade="strong",
    ),
    Claim(
        "the same for all sizes",
        "The final score is about the same for all models of two layers or more.",
        no_difference("largest distance", of_networks(spread_of_sizes), 0, 0.25),
        paper="about -.4 from 2 layers to 13 billion parameters",
        source=f"{MACRO}: in-context learning score",
        estimand="largest distance of a model's final score from the median of those of its seed, "
        "as a share of it, within a quarter, as in the paper's figure (-.3 to -.5)",
        grade="strong",
    ),
    Claim(
        "a bump in the loss",
        "The window is where the loss curve is not convex.",
        in_most("so", of_models(deep, bump_in_window), yes),
        paper="the only place that is not convex",
        source=f"{MACRO}: loss curves",
        estimand="whether a network's loss curve is highest above its convex hull within its "
        "window, or as long before it as it lasts",
        grade="strong",
    ),
    Claim(
        "no bump with one layer",
        "A one-layer model's loss curve has no such bump.",
        in_most("one layer / two", of_models(shallow, bump_over_two_layers), below(0.5)),
        paper="none",
        source=f"{MACRO}: loss curves",
        estimand="height of a one-layer model's largest bump over that of the two-layer model of "
        "its kind and seed, below one half",
        primary=False,
        grade="strong",
    ),
    Claim(
        "where the curves part",
        "Before the window loss curves lie on that of one layer; there they part from it.",
        in_most("before / end", of_models(two_layer_kinds, gained_before), below(0.5)),
        paper="the loss diverges there",
        source=f"{MACRO}: loss curves",
        estimand="what a network gains on the one-layer model of its kind and seed by the start of "
        "its window, over what it gains by the end, below one half",
        primary=False,
        grade="strong",
    ),
    Claim(
        "later tokens become easier",
        "After the change, unlike before, the loss falls along the whole context.",
        in_most("change of the slope", of_models(deep, steeper), below(0)),
        paper="about 0 before, -.1 to -.3 after",
        source=f"{MACRO}: loss by token index",
        estimand=f"slope of the loss over ln(index) beyond index {FAR}, at the end less that "
        "before the window; over the models of the first seed, of which losses by index are kept",
        grade="strong",
    ),
    Claim(
        "not before",
        "Before the window, and in one-layer models throughout, it is flat there.",
        no_difference(
            "slope",
            of_models(
                lambda results: [*deep(results), *shallow(results)],
                lambda s, n: slope(s, n, last=n in shallow(s)),
            ),
            -0.05,
            0.05,
        ),
        paper="about 0",
        source=f"{MACRO}: loss by token index",
        estimand="that slope before the window (one layer: at the end), within 0.05: half of the "
        "least that the paper shows after the change",
        primary=False,
        grade="strong",
    ),
    Claim(
        "the path turns",
        "The path of per-token losses turns sharply in the window.",
        in_most("degrees", of_models(deep, turn), more_than(TURN)),
        paper="about 90 degrees",
        source=f"{MACRO}: per-token losses",
        estimand="angle between the ways before and from the window's start on, in the first two "
        f"components of 2,000 per-token losses, above {TURN:.0f}: nearer to a right angle than to "
        "straight on",
        grade="strong",
    ),
    Claim(
        "one layer goes straight",
        "A one-layer model's path does not turn there.",
        in_most("degrees", of_models(shallow, turn_of_one_layer), below(TURN)),
        paper="no turn",
        source=f"{MACRO}: per-token losses",
        estimand="that angle of a one-layer model in the window of the two-layer model of its kind "
        "and seed (0: it has come to rest by then)",
        primary=False,
        grade="strong",
    ),
    Claim(
        "any pair of positions",
        "The choice of the two positions that define the score does not matter.",
        no_difference("distance", of_models(deep, pairs_apart), 0, 0.1),
        paper="the choice does not matter",
        source=f"{MACRO}: in-context learning score, a note",
        estimand="largest distance between the middles of a network's windows by five pairs of "
        "positions, as a share of training, within a tenth: half of the window's fifth",
        primary=False,
        grade="strong",
    ),
    Claim(
        "few snapshots: a window",
        f"The window is still seen with {FEW} snapshots, as of the paper's large models.",
        in_most("so", of_models(deep, lambda s, n: in_a_fifth(sparse(s, n))), yes),
        paper="14 or 15 snapshots of large models",
        source=f"{MACRO}: large models",
        estimand="the first claim, with so many snapshots only",
        primary=False,
        grade="medium",
    ),
    Claim(
        "few snapshots: heads in it",
        f"With {FEW} snapshots only, heads are still seen to form within the window.",
        in_most("so", of_models(deep, forms_with_few), yes),
        paper="14 or 15 snapshots of large models",
        source=f"{MACRO}: large models",
        estimand="the third claim, with so many snapshots only",
        primary=False,
        grade="medium",
    ),
)
