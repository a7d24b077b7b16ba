"""Do weights tell copying better where they are read as the network reads them?

Paper: Olsson et al. 2022, argument 5, whose OV eigenvalues assume that heads read embeddings and
that logits read heads, without norms and without a layer between. Command: ih-jax run olsson-ov
(networks of olsson-widths). Expected: the score through the norms and layer 0 tells copying as the
plain one does, or better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from jax import Array
from matplotlib.figure import Figure
from scipy import stats

from ih_jax.claims import Claim, correlation, of_networks, pooled
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import by_layer, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import INDUCTION
from ih_jax.experiments.olsson2022.trainings import WIDTHS_TRAINED
from ih_jax.measures import circuits, heads
from ih_jax.measures.base import measure as named
from ih_jax.measures.heads import BY_HEAD
from ih_jax.model.params import Params

SCORES = ("prefix_matching", "copying_logits", "ov", "ov_read")


@named(dims=dict.fromkeys(SCORES, BY_HEAD))
def scores(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
    """A measure: prefix matching, copying, and both scores of OV eigenvalues, [L, H] each."""
    return {
        "prefix_matching": heads.prefix_matching()(params, clamp, batch),
        "copying_logits": heads.copying()(params, clamp, batch)["logits"],
        "ov": circuits.ov_copying(params),
        "ov_read": circuits.ov_copying_read(params),
    }


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores of every head at the end, [width, init, layer, head]."""
    trained = found[WIDTHS_TRAINED.name]
    probe = models.sample(trained, models.LOOKED_AT)
    end = trained.steps(0)[-1:]
    seen = trained.measure(scores, probe, steps=end)
    assert isinstance(seen, xr.Dataset)
    last = seen.isel(tokens=-1, drop=True).rename(d_model="width")
    extra = [d for d in last.dims if d not in ("width", "init", "layer", "head")]
    own = last.squeeze(extra, drop=True).drop_vars(("layer", "head"), errors="ignore")
    return own.transpose("width", "init", ...)


def _columns(*names: str) -> Callable[[xr.Dataset], np.ndarray]:
    """[heads, names] of one seed, of all widths together."""

    def value(seed: xr.Dataset) -> np.ndarray:
        return np.stack([seed[name].values.ravel() for name in names], axis=1)

    return value


def _better(samples: list[np.ndarray]) -> float:
    """Rank correlation of copying with the score that is read, less that with the plain one."""
    copying, plain, read = np.concatenate(samples).T
    return float(stats.spearmanr(copying, read)[0] - stats.spearmanr(copying, plain)[0])


def _of_induction(seed: xr.Dataset) -> np.ndarray:
    """[heads]: the score that is read, of heads that match prefixes."""
    matching, read = _columns("prefix_matching", "ov_read")(seed).T
    found: np.ndarray = read[matching >= INDUCTION]
    return found


def _median(samples: list[np.ndarray]) -> float:
    values = np.concatenate(samples)
    return float(np.median(values)) if values.size else float("nan")


SOURCE = "argument 5 (mechanistic plausibility): OV eigenvalues"
CLAIMS = (
    Claim(
        "read so, weights tell copying",
        "What a head's weights say of copying, read through the norms and layer 0, agrees with "
        "what it does.",
        pooled(
            "rank correlation",
            of_networks(_columns("ov_read", "copying_logits")),
            correlation(ranks=True),
        ),
        paper="agree (plain scores)",
        source=SOURCE,
        estimand="rank correlation of the ratio of OV eigenvalues, with what a head reads of each "
        "token in place of its embedding, with copying, all heads; seeds are resampled",
        primary=False,
        grade="medium",
    ),
    Claim(
        "better than plainly",
        "They tell it better than those read as if there were neither norms nor a layer before.",
        pooled("difference", of_networks(_columns("copying_logits", "ov", "ov_read")), _better),
        paper="not done",
        estimand="that rank correlation, less the one of plain eigenvalues with copying, over the "
        "same heads; seeds are resampled",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "positive for induction heads",
        "Read so, OV eigenvalues of induction heads are positive.",
        pooled("median", of_networks(_of_induction), _median),
        paper="near 1 (plain scores)",
        source=SOURCE,
        estimand="median ratio of OV eigenvalues, read so, of heads of prefix matching above 0.5",
        primary=False,
        grade="medium",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """By layer, medians over heads and seeds: both scores, and how well they tell copying."""
    rows = []
    for layer in range(results.sizes["layer"]):
        own = results.isel(layer=layer)
        copying, plain, read = _columns("copying_logits", "ov", "ov_read")(own).T
        rows.append(
            (
                str(layer),
                f"{np.median(plain):.2f}",
                f"{np.median(read):.2f}",
                *(f"{_correlation(copying, each):.2f}" for each in (plain, read)),
            )
        )
    header = (
        "layer",
        "plain",
        "read through norms and layer 0",
        "plain with copying",
        "read so with copying",
    )
    return [Table("OV eigenvalues, medians; rank correlations over heads", header, rows)]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(stats.spearmanr(x, y)[0]) if np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")


def draw(results: xr.Dataset) -> Figure:
    """Copying against both scores, and the scores against each other, by layer."""
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    every = figure.subplots(1, 3)
    plain, read = "OV eigenvalue ratio, plain", "read through norms and layer 0"
    for axes, (x, across), (y, up) in zip(
        every,
        (("ov", plain), ("ov_read", read), ("ov", plain)),
        (("copying_logits", "copying (signed logits)"),) * 2 + (("ov_read", read),),
        strict=True,
    ):
        by_layer(axes, results[x], results[y])
        axes.set(xlabel=across, ylabel=up)
        tidy(axes)
    figure.legend(*every[0].get_legend_handles_labels(), frameon=False, loc="outside right upper")
    return figure


experiment = Experiment(
    name="olsson-ov",
    title="OV eigenvalues, read as the network reads",
    paper="Olsson et al. 2022, argument 5",
    summary="The plain score of a head's OV circuit goes from embeddings to logits as if nothing "
    "stood between. Here it is beside one in which the head reads each token as layer 0 and its "
    "own norm leave it, and the logits read the head through the final norm.",
    trainings=(WIDTHS_TRAINED,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 30.0,
)
