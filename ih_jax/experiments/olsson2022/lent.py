"""Half of the circuit lent for a while: what is left of it on real text once it is taken back?

Beyond Olsson et al. 2022: with shortformer positions (a learned table that queries and keys read)
and without smeared keys, as in `olsson-text-smeared`, two layers do not change, within 98 million
tokens even, for want of a previous-token head. (With relative positions and larger embeddings they
do: `olsson-text`.) Here one head of such networks is held at the previous token for a while.
Command: ih-jax run olsson-lent (--text FILE_OR_FOLDER, --tokenizer bytes, characters or bpe), a
minute or two a network and core. Expected: what does not form by itself in that time forms within 2
million tokens where the pattern is lent, is lost the moment it is taken back, and is built again,
now upon a previous-token head that the network has learned.
"""

from __future__ import annotations

import xarray as xr

from ih_jax.claims import Claim, below, in_most, more_than, of_networks
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.olsson2022 import lending
from ih_jax.experiments.olsson2022.lending import HAS, LACKS, NONE, OWN, SOME, matching
from ih_jax.experiments.olsson2022.text_trainings import LENT

LENT_TO = "lent to 2000"


def measure(options: Options, found: Found) -> xr.Dataset:
    """See `lending.measured`."""
    return lending.measured(found[LENT.name])


def _looks(seed: xr.Dataset) -> tuple[float, float]:
    """Best prefix matching at the last look before the release, and at the release."""
    own = seed.sel(clamp=LENT_TO)
    best = own["prefix_matching"].max("layer")
    late = best["checkpoint"] >= float(own["released"])
    return float(best[~late][-1]), float(best[late][0])


def _while_lent(seed: xr.Dataset) -> float:
    return _looks(seed)[0]


def _kept(seed: xr.Dataset) -> float:
    """Best prefix matching at the release, over that at the last look before it."""
    before, at = _looks(seed)
    return at / before if before >= NONE else float("nan")  # else there was nothing to be lost


def _previous(seed: xr.Dataset) -> float:
    """Highest attention to the previous token in layer 0, at the end."""
    return float(seed["previous_token"].sel(clamp=LENT_TO).isel(checkpoint=-1, layer=0))


def _gains(seed: xr.Dataset) -> xr.DataArray:
    """Score of the network that is lent the pattern, less that of the one that never is."""
    return seed["score"].sel(clamp=LENT_TO) - seed["score"].sel(clamp="none")


def _gain_while_lent(seed: xr.Dataset) -> float:
    """At the last evaluation before the release."""
    gains = _gains(seed)
    early = gains["tokens"] < float(seed["released"].sel(clamp=LENT_TO))
    return float(gains[early][-1])


def _gain(seed: xr.Dataset) -> float:
    """Over the last three evaluations."""
    return float(_gains(seed)[-3:].median())


LEAST = f"below -{changes.LEAST} nats, less than which counts as no change elsewhere"
CLAIMS = (
    Claim(
        "not by itself",
        "By itself text forms no induction head in that time.",
        in_most("best", of_networks(matching("none")), below(NONE)),
        paper="not done; two layers change after 1 to 3 billion tokens",
        estimand=LACKS,
        kind="hypothesis",
    ),
    Claim(
        "while it is lent, it forms",
        "While one head of layer 0 is held at the previous token an induction head forms.",
        in_most("best", of_networks(_while_lent), more_than(SOME)),
        paper="not done",
        estimand="the highest prefix matching of any head at the last look before the release "
        f"(1.9 million tokens), above {SOME}",
        kind="hypothesis",
    ),
    Claim(
        "while it is lent, the context is used",
        "Meanwhile the network makes more use of its context than one that is lent nothing.",
        in_most("nats", of_networks(_gain_while_lent), below(-changes.LEAST)),
        paper="not done",
        estimand="in-context learning score at the last evaluation before the release, lent less "
        f"none, same seed: {LEAST}",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "taken back, it is lost",
        "The moment the pattern is taken back most of prefix matching is gone.",
        in_most("at / before", of_networks(_kept), below(0.5)),
        paper="not done",
        estimand="the highest prefix matching of any head at the release after 2.0 million tokens, "
        "over that at the last look before, below one half",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "lent, it lasts",
        "Lent for 2.0 million tokens, the circuit is there 1.2 million tokens after the pattern "
        "was taken back.",
        in_most("best", of_networks(matching(LENT_TO)), more_than(SOME)),
        paper="not done",
        estimand=HAS,
        kind="hypothesis",
    ),
    Claim(
        "on a head of its own",
        "It then rests on a previous-token head that the network has learned.",
        in_most("best", of_networks(_previous), more_than(OWN)),
        paper="not done",
        estimand="the highest attention to the previous token in layer 0 at the end, above "
        f"{OWN}: more than to all else together",
        kind="hypothesis",
    ),
    Claim(
        "lent, the context is used",
        "At the end it makes more use of its context than one that was lent nothing.",
        in_most("nats", of_networks(_gain), below(-changes.LEAST)),
        paper="not done",
        estimand=f"final in-context learning score, lent less none, same seed: {LEAST}",
        kind="hypothesis",
        primary=False,
    ),
)


experiment = Experiment(
    name="olsson-lent",
    title="Half of the circuit lent for a while, on real text",
    paper="beyond Olsson et al. 2022 and Singh et al. 2024",
    summary="Two layers of two heads of 64 dimensions, with shortformer positions, read real text: "
    "3.3 million tokens, by default of the 5.1 of Python's source. One head of layer 0 is held at "
    "the previous token for the first 2,000 of 3,200 steps, or never. From the release on it is an "
    "ordinary head, whose queries and keys have not learned anything yet.",
    trainings=(LENT,),
    measure=measure,
    claims=CLAIMS,
    draw=lending.draw,
    tables=lending.tables,
    seconds=lambda options: 40.0 + 5.0 * options.seeds,
)
