"""Half of the circuit lent for a while: what is left of it on real text once it is taken back?

Beyond Olsson et al. 2022: in `olsson-text` two layers do not change, within 98 million tokens even,
for want of a previous-token head. Here one head is held at the previous token for a while. Command:
ih-jax run olsson-lent (--text FILE_OR_FOLDER, --tokenizer bytes, characters or bpe), a minute or
two a network and core. Expected: what text does not form by itself in that time forms within 2
million tokens where the pattern is lent, is lost the moment it is taken back, and is built again,
now upon a previous-token head that the network has learned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, below, in_most, more_than, of_networks
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.trainings import LENT, LENT_OTHERWISE

# Of prefix matching. Below the first a network has no induction head (random tokens in blocks of 25
# give 1 / 50 by chance); from the second on, three times that, it has one; between, neither.
NONE, SOME = 0.1, 0.3
OWN = 0.5  # attention to the previous token: more than to all else together

COLOURS = {
    "none": "black",
    "lent to 1000": "#009E73",
    "lent to 2000": "#0072B2",
    "lent to 2000, then denied": "#D55E00",
}
LENT_TO = "lent to 2000"


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves on held-out text, and best head scores by layer, [clamp, init, ...].

    `released` [clamp] is when the pattern is taken back, in tokens; NaN where none was lent.
    """
    parts = []
    for training in (LENT, LENT_OTHERWISE):
        trained = found[training.name]
        probe = models.sample(trained, models.LOOKED_AT)
        seen = trained.measure(models.head_scores, probe)
        assert isinstance(seen, xr.Dataset)
        seen = seen.max("head").rename(tokens="checkpoint")
        curves_of = trained.results[["loss", "in_context_score"]]
        own = curves_of.rename(in_context_score="score").merge(seen)
        extra = [d for d in own.dims if d not in ("clamp", "init", "tokens", "checkpoint", "layer")]
        own = own.squeeze(extra, drop=True).drop_vars("layer", errors="ignore")
        when = {}
        for run in trained.study.runs:
            stops = [part.stop for part in run.clamp.parts if np.isfinite(part.stop)]
            when[str(run.names["clamp"])] = min(stops, default=np.nan)
        names = [str(each) for each in own["clamp"].values]
        parts.append(own.assign(released=("clamp", [when[name] for name in names])))
    results = xr.concat(parts, dim="clamp")
    results.attrs["text"] = found[LENT.name].study.runs[0].task.in_words()["data"]
    return results


def _matching(clamp: str) -> Callable[[xr.Dataset], float]:
    """Best prefix matching at the end."""

    def value(seed: xr.Dataset) -> float:
        own = seed["prefix_matching"].sel(clamp=clamp)
        return float(own.isel(checkpoint=-1).max())

    return value


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


AT_END = "the highest prefix matching of any head after 3.3 million tokens"
HAS, LACKS = f"{AT_END}, above {SOME}", f"{AT_END}, below {NONE}"
LEAST = f"below -{changes.LEAST} nats, less than which counts as no change elsewhere"
CLAIMS = (
    Claim(
        "not by itself",
        "By itself text forms no induction head in that time.",
        in_most("best", of_networks(_matching("none")), below(NONE)),
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
        in_most("best", of_networks(_matching(LENT_TO)), more_than(SOME)),
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
    Claim(
        "half as long is enough",
        "Lent for 1.0 million tokens it lasts as well.",
        in_most("best", of_networks(_matching("lent to 1000")), more_than(SOME)),
        paper="not done",
        estimand=HAS,
        kind="hypothesis",
    ),
    Claim(
        "denied, it does not come back",
        "What comes back needs a previous-token head in layer 0: denied one, it does not.",
        in_most("best", of_networks(_matching("lent to 2000, then denied")), below(NONE)),
        paper="not done",
        estimand=f"{LACKS}, where no head of layer 0 may attend to the previous token from the "
        "release on",
        kind="hypothesis",
    ),
)


def clamps(results: xr.Dataset) -> list[str]:
    """Those that were trained, as the figure and the table have them: none first."""
    there = [str(each) for each in results["clamp"].values]
    return [name for name in COLOURS if name in there]


def tables(results: xr.Dataset) -> list[Table]:
    """Per clamp, medians over seeds, and how many networks have an induction head."""
    rows = []
    for name in clamps(results):
        own = results.sel(clamp=name)
        end = own.isel(checkpoint=-1)
        best = end["prefix_matching"].max("layer")
        rows.append(
            (
                name,
                f"{float(own['loss'].isel(tokens=slice(-3, None)).median()):.3f}",
                f"{float(own['score'].isel(tokens=slice(-3, None)).median()):.2f}",
                f"{float(end['previous_token'].isel(layer=0).median()):.2f}",
                f"{float(best.median()):.2f}",
                f"{float(best.min()):.2f} to {float(best.max()):.2f}",
                f"{int((best > SOME).sum())} of {best.sizes['init']}",
            )
        )
    header = (
        "clamp (steps)",
        "held-out loss",
        "score",
        "previous token, layer 0",
        "prefix matching",
        "from, to",
        f"above {SOME}",
    )
    return [Table("At the end, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Prefix matching, previous-token head, score and loss over training, by clamp."""
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    every = figure.subplots(1, 4)
    for name in clamps(results):
        own, colour = results.sel(clamp=name), COLOURS[name]
        values = (
            own["prefix_matching"].max("layer"),
            own["previous_token"].isel(layer=0),
            own["score"],
            own["loss"],
        )
        for axes, each in zip(every, values, strict=True):
            curves(axes, each, colour, name, ls="--" if "denied" in name else "-")
    matching, previous, _, loss = every
    released = results["released"].values
    for axes in every:
        for at in np.unique(released[np.isfinite(released)]):
            axes.axvline(at, color=FAINT, lw=0.8, ls=":", zorder=0)
    low = float(np.nanmin(results["loss"]))
    loss.set(ylim=(low - 0.1, low + 1.5))
    matching.set(ylim=(0, 1))
    previous.set(ylim=(0, 1.02))
    titles = (
        "Best prefix matching",
        "Best previous-token head, layer 0",
        "In-context learning score",
        "Held-out loss (nats)",
    )
    for axes, title in zip(every, titles, strict=True):
        tidy(axes, title)
        over_sequences(axes, "tokens seen")
    figure.legend(
        *matching.get_legend_handles_labels(),
        frameon=False,
        loc="outside right upper",
        title="clamp (steps of 1,024 tokens)",
        alignment="left",
    )
    return figure


experiment = Experiment(
    name="olsson-lent",
    title="Half of the circuit lent for a while, on real text",
    paper="beyond Olsson et al. 2022 and Singh et al. 2024",
    summary="Two layers of two heads of 64 dimensions read real text: 3.3 million tokens, by "
    "default of the 5.1 of Python's source. One head of layer 0 is held at the previous token "
    "for the first 2,000 or 1,000 of 3,200 steps, or never. From the release on it is an ordinary "
    "head, whose queries and keys have not learned anything yet.",
    trainings=(LENT, LENT_OTHERWISE),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 40.0 + 5.0 * options.seeds,
)
