"""What is claimed of heads where spans repeat, and of the change on a second language."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ih_jax.claims import (
    Claim,
    Reported,
    at_most,
    below,
    correlation,
    in_most,
    more_than,
    of_networks,
    pooled,
    yes,
)
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import INDUCTION

SHIFTS = tuple(range(1, 11))  # tokens after a match


def best_shift(seed: xr.Dataset, language: str) -> int:
    """The shift after a match to which the best head of layer 1 attends most."""
    return SHIFTS[int(np.argmax(seed["shift"].sel(language=language).values))]


def _final(seed: xr.Dataset, model: str) -> float:
    return float(seed["score"].sel(model=model).isel(tokens=slice(-20, None)).median())


def _over_two_layers(seed: xr.Dataset, model: str) -> float:
    return _final(seed, model) / models.enough(_final(seed, "2L"))


def _best(seed: xr.Dataset, what: str, model: str, layer: int = -1) -> float:
    """The highest of a layer's heads (by default the model's last layer's) at the end."""
    own = seed[what].sel(model=model).isel(checkpoint=-1).max("head").values
    own = own[np.isfinite(own)]
    return float(own[layer])


def _window(seed: xr.Dataset) -> bool:
    scores = seed["score"].sel(model="2L")
    nats, share = changes.largest_fall(scores.values, scores["tokens"].values)
    return nats >= changes.LEAST and share >= changes.SHARE


def _rises_inside(seed: xr.Dataset) -> bool:
    """Whether the best prefix matching of 2L passes half its final value in the window."""
    window = models.window_of(seed, "2L")
    best = models.best(seed["prefix_matching"].sel(model="2L"))
    over = best["checkpoint"].values
    half = over[int(np.argmax(best.values >= best.values[-1] / 2))]
    width = over[1] - over[0]
    inside = window is not None and window.start - width <= half <= window.end + width
    return bool(inside)


def _sooner(seed: xr.Dataset) -> float:
    smeared, plain = (models.window_of(seed, name) for name in ("2L smeared", "2L"))
    return float("nan") if smeared is None or plain is None else smeared.middle / plain.middle


def _matches_more(seed: xr.Dataset) -> float:
    """Best prefix matching of one layer with smeared keys, less that without."""
    smeared, plain = (_best(seed, "prefix_matching", n) for n in ("1L smeared", "1L"))
    return smeared - plain


def _joint(seed: xr.Dataset) -> float:
    return float(seed["joint"].sel(model="2L")) / -models.enough(_final(seed, "2L"))


def _stand_out(seed: xr.Dataset) -> float:
    """Nats of the score lost with the induction head that matters most, less with another head."""
    own = seed.sel(model="2L").isel(checkpoint=-1)
    matches = own["prefix_matching"] >= INDUCTION
    other = ~matches & (own["previous_token"] < INDUCTION)
    return float(own["removed"].where(matches).max() - own["removed"].where(other).max())


def _ov(seed: xr.Dataset) -> np.ndarray:
    """[heads]: OV eigenvalues of induction heads."""
    own = seed.sel(model="2L")
    matches = own["prefix_matching"].isel(checkpoint=-1).values >= INDUCTION
    found: np.ndarray = own["ov"].values[matches]
    return found


def _median(samples: list[np.ndarray]) -> float:
    values = np.concatenate(samples)
    return float(np.median(values)) if values.size else float("nan")


def _trace(seed: xr.Dataset) -> np.ndarray:
    """[heads, 2]: QK trace and prefix matching in layer 1."""
    own = seed.sel(model="2L").isel(layer=1)
    prefix = own["prefix_matching"].isel(checkpoint=-1).values
    return np.stack([own["cosine"].values, prefix], axis=1)


def _turn(seed: xr.Dataset, model: str) -> float:
    window = models.window_of(seed, "2L")
    if window is None:
        return float("nan")
    path = seed["path"].sel(model=model)
    angle = changes.turning_angle(path.values, path["checkpoint"].values, window)
    return 0.0 if model == "1L" and np.isnan(angle) else angle  # it has come to rest


def _missed(seed: xr.Dataset) -> float:
    """Best prefix matching on spans of 16; NaN where nothing is learned there."""
    learned = float(seed["final"].sel(language="spans of 16")) <= -changes.LEAST
    matching = float(seed["shift"].sel(language="spans of 16", after=1))
    return matching if learned else float("nan")


def _shorter_matches(seed: xr.Dataset) -> float:
    """Best prefix matching on spans of 2 less that on spans of 16."""
    short, long = (float(seed["shift"].sel(language=f"spans of {n}", after=1)) for n in (2, 16))
    return short - long


SECOND = "a second language (pasted spans, two layers): "
CLAIMS = (
    Claim(
        "bigrams: one token after",
        "On bigrams the best head of layer 1 attends to the token right after a match.",
        in_most("shift", of_networks(lambda s: best_shift(s, "bigrams")), at_most(1)),
        paper="the definition of an induction head",
        estimand="shift after a match to which the best head attends most",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "long spans: further after",
        "Where long spans repeat it attends further after a match.",
        in_most("shift", of_networks(lambda s: best_shift(s, "spans of 16")), more_than(1)),
        paper="not said; seen in a trial of the recipe",
        estimand="the same on spans of 16",
        kind="hypothesis",
    ),
    Claim(
        "what prefix matching misses",
        "Such heads learn from the context, and prefix matching does not see them.",
        in_most("prefix matching", of_networks(_missed), below(0.5)),
        paper="not said; seen in a trial of the recipe",
        estimand="the highest prefix matching on spans of 16, below 0.5, where the score reaches "
        f"-{changes.LEAST} nats",
        kind="hypothesis",
    ),
    Claim(
        "the length of what repeats decides",
        "The shorter what repeats, the more heads match prefixes.",
        in_most("difference", of_networks(_shorter_matches), more_than(0)),
        paper="not said",
        estimand="the highest prefix matching on spans of 2 less that on spans of 16, paired",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "second language: a window",
        "Two layers get more than 75% of their score in a narrow window.",
        in_most("so", of_networks(_window), yes),
        paper="all models of two layers or more",
        source="argument 1",
        estimand=f"{SECOND}whether 75% of the score, and 0.15 nats, are got in a fifth of training",
        primary=False,
    ),
    Claim(
        "second language: an induction head in it",
        "A head of layer 1 comes to match prefixes.",
        in_most("best", of_networks(lambda s: _best(s, "prefix_matching", "2L")), more_than(0.5)),
        paper=".6 to .95",
        source="argument 1",
        estimand=f"{SECOND}the highest prefix matching in layer 1 at the end, above 0.5",
        primary=False,
    ),
    Claim(
        "second language: it forms in the window",
        "It forms in the window.",
        in_most("so", of_networks(_rises_inside), yes),
        paper="all models",
        source="argument 1",
        estimand=f"{SECOND}whether the best prefix matching passes half its final value there",
        primary=False,
    ),
    Claim(
        "second language: a previous-token head",
        "A head of layer 0 comes to attend to the previous token.",
        in_most(
            "best",
            of_networks(lambda s: _best(s, "previous_token", "2L", layer=0)),
            more_than(0.5),
        ),
        paper=".7 to .99",
        source="argument 5",
        estimand=f"{SECOND}the highest attention to the previous token in layer 0, above 0.5",
        primary=False,
    ),
    Claim(
        "second language: one layer lacks the score",
        "One layer stays far behind two.",
        in_most("1L / 2L", of_networks(lambda s: _over_two_layers(s, "1L")), below(0.5)),
        paper="-.1 against -.4",
        reported=Reported((0.25,)),
        source="argument 1",
        estimand=f"{SECOND}final score of one layer over that of two, below one half",
        primary=False,
    ),
    Claim(
        "second language: one layer smeared, heads",
        "With smeared keys one layer has induction heads, without it has none.",
        in_most("difference", of_networks(_matches_more), more_than(0.5)),
        paper="induction heads in one layer",
        source="argument 2: smeared keys",
        estimand=f"{SECOND}the highest prefix matching with smeared keys less that without",
        primary=False,
    ),
    Claim(
        "second language: one layer smeared, score",
        "With smeared keys one layer shows the phase change.",
        in_most(
            "1L smeared / 2L",
            of_networks(lambda s: _over_two_layers(s, "1L smeared")),
            more_than(0.5),
        ),
        paper="it does",
        source="argument 2: smeared keys",
        estimand=f"{SECOND}its final score over that of two layers without, above one half",
        primary=False,
    ),
    Claim(
        "second language: two layers smeared sooner",
        "Two layers change sooner with smeared keys.",
        in_most("with / without", of_networks(_sooner), below(1)),
        paper="sooner",
        source="argument 2: smeared keys",
        estimand=f"{SECOND}tokens to the middle of the window, with over without",
        primary=False,
    ),
    Claim(
        "second language: induction heads carry it",
        "Induction heads account for most of in-context learning.",
        in_most("share", of_networks(_joint), more_than(0.5)),
        paper="almost all of it",
        source="argument 3",
        estimand=f"{SECOND}share of the score lost with all induction heads, patterns preserved",
        primary=False,
    ),
    Claim(
        "second language: others do not",
        "No other head costs as much as an induction head.",
        in_most("nats", of_networks(_stand_out), more_than(0)),
        paper="about 0",
        source="argument 3",
        estimand=f"{SECOND}the most of the score lost with an induction head, less the most with a "
        "head that is neither one nor a previous-token head",
        primary=False,
    ),
    Claim(
        "second language: OV eigenvalues",
        "OV eigenvalues of induction heads are positive.",
        pooled("median", of_networks(_ov), _median),
        paper="near 1",
        source="argument 5",
        estimand=f"{SECOND}median ratio of OV eigenvalues of induction heads",
        primary=False,
    ),
    Claim(
        "second language: QK trace",
        "The trace of the QK circuit agrees with prefix matching.",
        pooled("rank correlation", of_networks(_trace), correlation(ranks=True)),
        paper="agree",
        source="argument 5",
        estimand=f"{SECOND}rank correlation over heads of layer 1",
        primary=False,
    ),
    Claim(
        "second language: the path turns",
        "The path of per-token losses turns in the window.",
        in_most("degrees", of_networks(lambda s: _turn(s, "2L")), more_than(45)),
        paper="about 90 degrees",
        source="argument 1",
        estimand=f"{SECOND}angle above 45 degrees: nearer to a right angle than to straight on",
        primary=False,
    ),
    Claim(
        "second language: one layer goes straight",
        "That of one layer does not.",
        in_most("degrees", of_networks(lambda s: _turn(s, "1L")), below(45)),
        paper="no turn",
        source="argument 1",
        estimand=f"{SECOND}the same angle of one layer (0: it has come to rest)",
        primary=False,
    ),
)
