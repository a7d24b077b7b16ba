"""A previous-token head lent for half as long on real text, and lent and then denied.

Beyond Olsson et al. 2022, as `olsson-lent`, whose networks see the same text in the same order.
Command: ih-jax run olsson-lent-otherwise (--text, --tokenizer as there). Expected: half as long is
enough; denied a previous-token head, a network does not get back what it had while it was lent one.
"""

from __future__ import annotations

import xarray as xr

from ih_jax.claims import Claim, below, in_most, more_than, of_networks
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.olsson2022 import lending
from ih_jax.experiments.olsson2022.lending import HAS, LACKS, NONE, SOME, matching
from ih_jax.experiments.olsson2022.text_trainings import LENT_OTHERWISE


def measure(options: Options, found: Found) -> xr.Dataset:
    """See `lending.measured`."""
    return lending.measured(found[LENT_OTHERWISE.name])


CLAIMS = (
    Claim(
        "half as long is enough",
        "Lent for 1.0 million tokens it lasts as well.",
        in_most("best", of_networks(matching("lent to 1000")), more_than(SOME)),
        paper="not done",
        estimand=HAS,
        kind="hypothesis",
    ),
    Claim(
        "denied, it does not come back",
        "What comes back needs a previous-token head in layer 0: denied one, it does not.",
        in_most("best", of_networks(matching("lent to 2000, then denied")), below(NONE)),
        paper="not done",
        estimand=f"{LACKS}, where no head of layer 0 may attend to the previous token from the "
        "release on",
        kind="hypothesis",
    ),
)


experiment = Experiment(
    name="olsson-lent-otherwise",
    title="Half of the circuit lent for half as long, or then denied",
    paper="beyond Olsson et al. 2022 and Singh et al. 2024",
    summary="As olsson-lent: one head of layer 0 is held at the previous token for the first 1,000 "
    "of 3,200 steps; or for the first 2,000, after which no head of layer 0 may attend to it.",
    trainings=(LENT_OTHERWISE,),
    measure=measure,
    claims=CLAIMS,
    draw=lending.draw,
    tables=lending.tables,
    seconds=lambda options: 40.0 + 5.0 * options.seeds,
)
