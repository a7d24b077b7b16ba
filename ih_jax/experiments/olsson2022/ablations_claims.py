"""What is claimed of removing heads (Olsson et al. 2022, argument 3), and what decides it."""

from __future__ import annotations

from ih_jax.claims import (
    Claim,
    below,
    correlation,
    in_most,
    more_than,
    pooled,
)
from ih_jax.experiments.olsson2022.ablations_quantities import (
    MATTERS,
    alone,
    attention_only,
    before_the_window,
    furthest,
    matching_and_share,
    matters_most,
    mean_projection,
    more_recomputed,
    more_than_neither,
    most_opposite,
    of_both_kinds,
    peaked,
    removed_together,
    stand_out,
    strengthened,
    with_a_previous_token_head,
    with_mlps,
)
from ih_jax.experiments.olsson2022.models import of_models

SOURCE = "argument 3 (direct ablation)"
CURIOSITIES = "unexplained curiosities"
NOISE = 0.01  # share of the score that says nothing
AFTER = " (Stated after init seeds 5 to 9 had been seen.)"
CLAIMS = (
    Claim(
        "induction heads carry it: attention only",
        "In small attention-only models induction heads account for most of in-context learning.",
        in_most("share", of_models(attention_only, removed_together("patterns")), more_than(0.5)),
        paper="almost all of it",
        source=SOURCE,
        estimand="share of a network's score that is lost with all heads of prefix matching above "
        "0.5, patterns preserved, above one half; over networks (model and seed)",
        grade="strong",
    ),
    Claim(
        "the same, all recomputed",
        "So with full removal.",
        in_most("share", of_models(attention_only, removed_together("full")), more_than(0.5)),
        paper="almost all of it",
        source=SOURCE,
        estimand="the same, with everything after the heads computed anew",
        primary=False,
        grade="strong",
    ),
    Claim(
        "induction heads carry it: with MLPs",
        "In small models with MLPs they account for the majority of it.",
        in_most("share", of_models(with_mlps, removed_together("patterns")), more_than(0.5)),
        paper="the majority",
        source=SOURCE,
        estimand="the same share, of models with MLPs",
        grade="medium",
    ),
    Claim(
        "the more it matches, the more it carries",
        "It is the heads that match prefixes whose removal costs in-context learning.",
        pooled(
            "rank correlation",
            of_models(attention_only, matching_and_share),
            correlation(ranks=True),
        ),
        paper="induction heads stand out",
        source=SOURCE,
        estimand="rank correlation of prefix matching with the share of the score lost with a "
        "head, over all heads of attention-only networks",
        primary=False,
        grade="strong",
    ),
    Claim(
        "others do not",
        "No other head costs as much as an induction head.",
        in_most("difference", of_models(attention_only, stand_out), more_than(0)),
        paper="about 0",
        source=SOURCE,
        estimand="largest share of the score lost with a head of prefix matching above 0.5, less "
        "the largest with one that has neither that nor previous-token attention above 0.5",
        grade="strong",
    ),
    Claim(
        "back along the change",
        "Removing an induction head undoes the change of per-token losses in the window.",
        in_most("nats", of_models(of_both_kinds, mean_projection), below(0)),
        paper="strongly negative",
        source=f"{SOURCE}: before-and-after vector",
        estimand="mean projection, over a network's induction heads, of what removal does to "
        "per-token losses on the direction of the change",
        grade="strong",
    ),
    Claim(
        "furthest back",
        "The head whose removal goes furthest back is an induction head.",
        in_most("prefix matching", of_models(of_both_kinds, furthest), more_than(0.5)),
        paper="induction heads stand out",
        source=f"{SOURCE}: before-and-after vector",
        estimand="prefix matching of the head of most negative projection, above 0.5",
        primary=False,
        grade="strong",
    ),
    Claim(
        "the opposite sign",
        "Removing one of most other heads strengthens in-context learning a little.",
        in_most("share of other heads", of_models(of_both_kinds, strengthened), more_than(0.5)),
        paper="most other heads slightly",
        source=SOURCE,
        estimand="share, of a network's heads of neither kind, of those whose removal makes the "
        "score more negative, above one half",
        grade="medium",
    ),
    Claim(
        "not before the window",
        "Heads come to matter in the window.",
        in_most("before / end", of_models(of_both_kinds, before_the_window), below(0.5)),
        paper="effects appear in the window",
        source=SOURCE,
        estimand="largest effect of a head on a network's score before its window, over the "
        "largest at the end, below one half",
        primary=False,
        grade="strong",
    ),
    Claim(
        "by type: induction heads",
        "An induction head costs more than a head that is neither that nor a previous-token head."
        + AFTER,
        in_most("difference", of_models(of_both_kinds, more_than_neither), more_than(0)),
        paper="induction heads stand out",
        source=SOURCE,
        estimand="mean share of the score lost with one of a network's induction heads, less that "
        "with one of its heads of neither type, patterns preserved",
        primary=False,
        grade="strong",
    ),
    Claim(
        "by type: previous-token heads",
        "A previous-token head costs little while the patterns that rest on it are kept." + AFTER,
        in_most("share", of_models(of_both_kinds, with_a_previous_token_head), below(MATTERS)),
        paper="about 0",
        source=SOURCE,
        estimand="mean share of the score lost with one of a network's previous-token heads, "
        "patterns preserved, below a tenth",
        primary=False,
        grade="strong",
    ),
    Claim(
        "by type: previous-token heads, recomputed",
        "A previous-token head costs more when patterns are computed anew." + AFTER,
        in_most("difference", of_models(of_both_kinds, more_recomputed), more_than(0)),
        paper="not shown",
        estimand="the same share with everything after the head computed anew, less that with "
        "patterns preserved",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "curiosity: six layers",
        "In the six-layer attention-only model a head matters that is no induction head." + AFTER,
        in_most("share", of_models(alone("6L"), matters_most), more_than(MATTERS)),
        paper="one such head (n = 1)",
        source=CURIOSITIES,
        estimand="largest share of the score lost with a head of neither type, above a tenth",
        primary=False,
        grade="weak",
    ),
    Claim(
        "curiosity: four layers with MLPs",
        "In the four-layer model with MLPs no heads stand out as in other models." + AFTER,
        in_most("difference", of_models(alone("4L MLP"), peaked), below(0)),
        paper="not peaked (n = 1)",
        source=CURIOSITIES,
        estimand="largest effect on the score over the sum of all that serve it, less the mean of "
        "that over other models of two layers or more with MLPs of the same seed",
        primary=False,
        grade="weak",
    ),
    Claim(
        "curiosity: six layers with MLPs",
        "In the six-layer model with MLPs an induction head has the opposite effect." + AFTER,
        in_most("lowest share", of_models(alone("6L MLP"), most_opposite), below(-NOISE)),
        paper="one such head (n = 1)",
        source=CURIOSITIES,
        estimand="lowest share of the score lost with an induction head, below -.01: its removal "
        "strengthens the score by more than rounding and chance",
        primary=False,
        grade="weak",
    ),
)
