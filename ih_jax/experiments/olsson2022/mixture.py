"""One model that copies, translates and matches patterns: are the same heads at work in all three?

Paper: Olsson et al. 2022, argument 4, on heads of a model of 13 billion parameters. In
olsson-behaviours three models are trained apart; here one reads a mixture of the three languages.
Command: ih-jax run olsson-mixture, some twenty core minutes a seed. Expected, if it is as in the
paper: heads that translate and that match patterns match prefixes of random tokens too, and one
head is needed in all three. Asked of five networks, 1005 to 1009, named before they ran (1000 to
1004 were, by a fault, trained on random blocks alone): in results/olsson/olsson-mixture.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from matplotlib.figure import Figure

from ih_jax.claims import Claim, in_most, more_than, of_networks
from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.data.languages.mixture import PARTS, Mixture
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import by_layer, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import Model
from ih_jax.experiments.olsson2022.trainings import MIXTURE
from ih_jax.measures import heads
from ih_jax.measures.base import measure as named
from ih_jax.measures.heads import BY_HEAD
from ih_jax.measures.removal import without_head
from ih_jax.model.params import Params
from ih_jax.sweeps.array_labels import Measure
from ih_jax.tasks.language import Language, token_losses

SEQUENCES = 64  # of each part
NEEDED = 0.1  # nats; where no head's removal costs more, no single head is needed


def measure(options: Options, found: Found) -> xr.Dataset:
    """By part: loss, accuracy, what removal of each head costs and what it attends to."""
    trained, model = found[MIXTURE.name], Model("mixture", MIXTURE.name)
    task = trained.study.runs[0].task
    assert isinstance(task, Language)
    assert isinstance(task.data, Mixture)
    batch, asked, right = asked_for(task.data, SEQUENCES)
    end = models.steps_of(trained, model)[-1:]
    seen = models.measured(trained, model, _of_parts(asked, right), batch, end)
    return seen.isel(checkpoint=0, drop=True).assign_coords(part=list(PARTS))


def asked_for(recipe: Mixture, sequences: int) -> tuple[Tokens, np.ndarray, np.ndarray]:
    """Sequences of each part, one part after the other, and what is asked in them.

    Returns:
        The sequences [B, T]; asked [part, B, T - 1], whether the next token can be told from those
        before it; right [part, B, T - 1, T], where one should look then (nothing for repeats).
    """
    drawn = []
    for part, key in zip(PARTS, jax.random.split(jax.random.key(3), len(PARTS)), strict=True):
        own = recipe.only(part)
        source = {name: jnp.asarray(value) for name, value in own.source().items()}
        drawn.append(np.asarray(own.sample(key, source, sequences).tokens))
    copied, translated, labelled = drawn
    tokens = np.concatenate(drawn)
    B, T = tokens.shape
    asked, right = np.zeros((3, B, T - 1), bool), np.zeros((3, B, T - 1, T), bool)
    first, second, third = (slice(i * sequences, (i + 1) * sequences) for i in range(3))
    asked[0, first] = recipe.repeated(copied)
    source_at = recipe.aligned(translated)
    asked[1, second] = source_at >= 0
    right[1, second] = source_at[..., None] == np.arange(T)
    right[2, third] = recipe.right_labels(labelled)[:, :-1]
    asked[2, third] = right[2, third].any(-1)
    return Tokens(jnp.asarray(tokens)), asked, right


def _of_parts(asked: np.ndarray, right: np.ndarray) -> Measure:
    by_part = ("part", *BY_HEAD)

    @named(dims={"loss": ("part",), "accuracy": ("part",), "removed": by_part, "attends": by_part})
    def of_network(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
        sites = forward(params, batch, clamp)
        told = batch.tokens[:, 1:] == sites["logits"][0][:, :-1].argmax(0).T

        def losses(of: object) -> Array:
            return _mean(token_losses(of, batch).T, asked)  # type: ignore[arg-type]

        whole, count = losses(sites), jnp.arange(params.config.heads)

        def cost(layer: int) -> Array:  # [H, part]
            return jax.lax.map(
                lambda head: (
                    losses(without_head(params, clamp, batch, sites, layer, head, "full")) - whole
                ),
                count,
            )

        removed = jnp.stack([cost(layer) for layer in range(params.config.layers)])  # [L, H, part]
        looks = [
            [
                _mean(jnp.sum(jnp.moveaxis(own[:-1], -1, 0) * right[part], axis=-1), asked[part])
                for part in (1, 2)
            ]
            for pattern in sites["pattern"]
            for own in pattern
        ]
        attends = jnp.asarray(looks).T.reshape(2, *removed.shape[:2])
        matching = heads.prefix_matching()(params, clamp, batch)
        return {
            "loss": whole,
            "accuracy": _mean(told.astype(jnp.float32), asked),
            "removed": jnp.moveaxis(removed, -1, 0),
            "attends": jnp.concatenate([matching[None], attends]),
        }

    return of_network


def _mean(values: Array, where: np.ndarray) -> Array:
    """Mean over sequences and positions [B, T - 1] where this is so, [..., B, T - 1]."""
    every = jnp.broadcast_to(values, where.shape)
    return jnp.sum(every * where, axis=(-2, -1)) / np.maximum(where.sum((-2, -1)), 1)


# --- what claims read ---------------------------------------------------------------------------


def _accuracy(part: str) -> Callable[[xr.Dataset], float]:
    return lambda seed: float(seed["accuracy"].sel(part=part))


def matches_too(part: str) -> Callable[[xr.Dataset], float]:
    """Prefix matching, on random tokens, of the head that attends most to what is asked for."""

    def value(seed: xr.Dataset) -> float:
        flat = seed["attends"].stack(place=("layer", "head"))
        best = int(flat.sel(part=part).argmax("place"))
        return float(flat.sel(part="repeats")[best])

    return value


def shared(seed: xr.Dataset) -> float:
    """The largest share of cost, over heads above layer 0, that a head has in all three parts.

    Shares are of the greatest cost of such a head in each part. NaN where no head is needed.
    """
    cost = seed["removed"].isel(layer=slice(1, None))
    greatest = cost.max(("layer", "head"))
    if float(greatest.min()) < NEEDED:
        return float("nan")
    return float((cost / greatest).min("part").max())


SOURCE = "argument 4 (specific examples)"
WHAT = {
    "repeats": "tokens of a block that has come round",
    "translations": "words of a translation",
    "templates": "labels of a template that came before",
}
CLAIMS = (
    *(
        Claim(
            f"{part} are learned",
            f"One model learns {part} beside the other two, without which nothing can be asked.",
            in_most("share", of_networks(_accuracy(part)), more_than(0.5)),
            paper="not a question there",
            estimand=f"share of {what} that are the most likely ones, above one half",
            kind="hypothesis",
            primary=False,
        )
        for part, what in WHAT.items()
    ),
    Claim(
        "the head that translates matches prefixes",
        "The head that attends to what is to be translated matches prefixes of random tokens.",
        in_most("prefix matching", of_networks(matches_too("translations")), more_than(0.5)),
        paper=".85, one head of a large model",
        source=f"{SOURCE}: translation",
        estimand="prefix matching of the head of highest attention to the source of the next word, "
        "above 0.5",
        grade="medium",
    ),
    Claim(
        "the head for patterns matches prefixes",
        "So does the head that attends to labels of the same template.",
        in_most("prefix matching", of_networks(matches_too("templates")), more_than(0.5)),
        paper=".94, one head of a large model",
        source=f"{SOURCE}: pattern matching",
        estimand="prefix matching of the head of highest attention to right labels, above 0.5",
        grade="medium",
    ),
    Claim(
        "one head serves all three",
        "One and the same head is needed to copy, to translate and to match patterns.",
        in_most("share", of_networks(shared), more_than(0.5)),
        paper="the same heads",
        source=SOURCE,
        estimand="over heads above layer 0, the largest of the least of three shares: what a "
        "head's removal (all after it computed anew) costs on the tokens asked for, over the "
        "greatest cost of one head; where in each part one costs a tenth of a nat or more",
        grade="medium",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """By seed: what is learned, and what the best heads do elsewhere."""
    rows = []
    for init in results["init"].values.tolist():
        seed = results.sel(init=init)
        both = seed["attends"].max(("layer", "head"))
        rows.append(
            (
                str(init),
                *(f"{float(each):.2f}" for each in seed["accuracy"].values),
                *(f"{float(each):.2f}" for each in both.values),
                f"{matches_too('translations')(seed):.2f}",
                f"{matches_too('templates')(seed):.2f}",
                f"{shared(seed):.2f}",
            )
        )
    header = (
        "init",
        *(f"{part}: accuracy" for part in PARTS),
        "prefix matching",
        "attention to sources",
        "to right labels",
        "prefix matching of the head that translates",
        "of that for patterns",
        "share in all three",
    )
    return [Table("By seed, best heads", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """What removal of each head costs in one part against another; attention likewise."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    rows = figure.subplots(2, 3)
    pairs = (("repeats", "translations"), ("repeats", "templates"), ("translations", "templates"))
    for axes, (name, label) in zip(
        rows, (("removed", "cost of removal (nats)"), ("attends", "attention")), strict=True
    ):
        for each, (x, y) in zip(axes, pairs, strict=True):
            by_layer(each, results[name].sel(part=x), results[name].sel(part=y))
            each.set(xlabel=x, ylabel=y)
            tidy(each, label if each is axes[0] else "")
    rows[0, 0].legend(frameon=False, fontsize=8)
    return figure


experiment = Experiment(
    name="olsson-mixture",
    title="One model that copies, translates and matches patterns",
    paper="Olsson et al. 2022, argument 4",
    summary="Two layers with MLPs read sequences that are, one third each, repeated blocks of "
    "random tokens, translations and templates, in one vocabulary. Every head is removed, and its "
    "cost on each of the three is told apart.",
    trainings=(MIXTURE,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 30.0,
)
