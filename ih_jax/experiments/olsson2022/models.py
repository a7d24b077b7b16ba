"""Which models an experiment compares, and how they are measured: one model after the other.

Models of several trainings stand side by side along a dim `model`; heads of shallower models are
NaN along `layer`. Checkpoints are in tokens seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ih_jax.claims import Bounds, Networks, networks_of
from ih_jax.claims import Measure as OfNetworks
from ih_jax.claims import phase_change as changes
from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.base import Found
from ih_jax.measures import context, heads
from ih_jax.measures.base import measure
from ih_jax.measures.heads import BY_HEAD
from ih_jax.measures.probes import each_piece
from ih_jax.model.params import Params
from ih_jax.sweeps.array_labels import Measure
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.language import token_losses

HEADS = 4  # of a layer
EXAMPLES = 500  # on which losses by token are measured
OF_EXAMPLE = 4  # of its tokens, whose losses are part of the vector of per-token losses
LOOKED_AT = 64  # sequences of the language on which attention to the previous token is measured
INDUCTION = 0.5  # prefix matching from which on a head is called one


@dataclass(frozen=True)
class Model:
    """One kind of network: a name, the training that has it, and its labels there."""

    name: str
    training: str
    labels: Mapping[str, Any] = field(default_factory=dict)
    inits: tuple[int, ...] = ()  # only these seeds; empty: all

    def runs(self, trained: Trajectories) -> list[int]:
        """Its runs, one per init."""
        inits = self.inits or trained.study.axes["init"]
        return [trained.run(init=seed, **{"clamp": "none", **self.labels}) for seed in inits]


def attention_only(layers: int) -> Model:
    """A model of `depths`: "2L"."""
    return Model(f"{layers}L", "olsson_depths", {"layers": layers, "mlp_ratio": None})


def with_mlp(layers: int) -> Model:
    """A model of `depths`: "2L MLP"."""
    return Model(f"{layers}L MLP", "olsson_depths", {"layers": layers, "mlp_ratio": 4.0})


def with_smeared_keys(layers: int) -> Model:
    """A model of `smeared`: "1L smeared"."""
    return Model(f"{layers}L smeared", "olsson_smeared", {"layers": layers})


def every(found: Found) -> list[Model]:
    """All models of `depths` and `smeared` that were trained (fewer with --quick)."""
    axes = found["olsson_depths"].study.axes
    kinds = {None: attention_only, 4.0: with_mlp}
    made = [kinds[ratio](n) for ratio in axes["mlp_ratio"] for n in axes["layers"]]
    if "olsson_smeared" in found:
        made += [with_smeared_keys(n) for n in found["olsson_smeared"].study.axes["layers"]]
    return made


def sample(trained: Trajectories, sequences: int, seed: int = 3) -> Tokens:
    """Fresh sequences of the language that a training used (for a text, of its held-out part)."""
    task = trained.study.runs[0].task
    source = jax.tree.map(jnp.asarray, task.run_arrays().evaluation[0])
    found = task.objective().sample(jax.random.key(seed), source, sequences)
    assert isinstance(found, Tokens)
    return found


def steps_of(trained: Trajectories, model: Model, every: int = 1) -> list[int]:
    """The steps at which its weights were kept, each `every`-th from the last one back."""
    steps = trained.steps(model.runs(trained)[0])
    return steps[::-1][::every][::-1]


def measured(
    trained: Trajectories,
    model: Model,
    function: Measure,
    probe: Tokens,
    steps: Sequence[int] | None = None,
) -> xr.Dataset:
    """A measure of one model's checkpoints, [init, checkpoint, ...]: the dims that it names.

    A measure that gives one array has it by its own name.
    """
    found = trained.measure(function, probe, runs=model.runs(trained), steps=steps)
    dataset = found.to_dataset() if isinstance(found, xr.DataArray) else found
    labels = {"clamp": "none", **model.labels}
    chosen = {}
    for axis, values in trained.study.axes.items():
        if axis != "init":
            wanted = str(labels.get(axis, values[0]))
            chosen[axis] = [str(value) for value in values].index(wanted)
    dataset = dataset.isel(chosen, drop=True).rename(tokens="checkpoint")
    # Models of several sizes stand side by side: their heads are counted there, not labelled.
    own = [name for name in dataset.coords if name not in ("init", "checkpoint")]
    return dataset.drop_vars(own)


def side_by_side(by_model: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Measures of several models along `model`; heads that a model lacks are NaN."""
    padded = []
    most = max((each.sizes.get("layer", 0) for each in by_model.values()), default=0)
    for each in by_model.values():
        for dim in ("layer", "later"):
            if dim in each.dims and each.sizes[dim] < most:
                each = each.pad({dim: (0, most - each.sizes[dim])}, constant_values=np.nan)
        padded.append(each.drop_vars([d for d in ("layer", "later") if d in each.coords]))
    names = xr.DataArray(list(by_model), dims="model", name="model")
    return xr.concat(padded, dim=names, join="outer")


def curves_of(trained: Trajectories, model: Model, name: str) -> xr.DataArray:
    """A curve of the results that training wrote, [init, tokens]."""
    labels = {"clamp": "none", **model.labels}
    values = trained.results[name]
    chosen = {
        axis: [str(value) for value in own].index(str(labels.get(axis, own[0])))
        for axis, own in trained.study.axes.items()
        if axis != "init"
    }
    return values.isel(chosen, drop=True)


@measure(dims=dict.fromkeys(("previous_token", "prefix_matching"), BY_HEAD))
def head_scores(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
    """A measure: previous-token and prefix-matching scores of every head, [L, H] each."""
    some = Tokens(batch.tokens[:LOOKED_AT])
    return {
        "previous_token": heads.previous_token_score(params, clamp, some),
        "prefix_matching": heads.prefix_matching()(params, clamp, some),
    }


def watched(batch: Tokens) -> Callable[[Params, Holds, Tokens], dict[str, Array]]:
    """A measure for a batch of this size: what can be seen of a network while it learns.

    token_loss [T - 1] (`context.loss_by_token`), vector [4 B] (losses at four random positions of
    each sequence) and `head_scores`.
    """
    positions = context.random_positions(OF_EXAMPLE * len(batch.tokens), batch.positions)

    @measure(
        dims={
            "token_loss": ("index",),
            "vector": ("example",),
            "previous_token": BY_HEAD,
            "prefix_matching": BY_HEAD,
        },
        name="watched",
    )
    def of_network(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
        def of(piece: Tokens, at: Array) -> tuple[Array, Array]:
            losses = token_losses(forward(params, piece, clamp), piece)  # [T - 1, B]
            return losses.mean(-1), jnp.take_along_axis(losses, at.T - 1, axis=0)

        by_token, vector = each_piece(of, batch, jnp.asarray(positions.reshape(-1, OF_EXAMPLE)))
        return {
            "token_loss": by_token.mean(0),
            "vector": vector.reshape(-1),
            **head_scores(params, clamp, batch),
        }

    return of_network


def watch(found: Found, models: Sequence[Model]) -> dict[str, xr.Dataset]:
    """What `watched` gives at every checkpoint of these models, by the name of the model."""
    seen = {}
    for model in models:
        trained = found[model.training]
        batch = sample(trained, EXAMPLES)
        seen[model.name] = measured(trained, model, watched(batch), batch)
    return seen


def common_seeds(*trained: Trajectories) -> list[int]:
    """The init seeds that all trainings have, in the order of the first."""
    others = [each.study.axes["init"] for each in trained[1:]]
    return [i for i in trained[0].study.axes["init"] if all(i in own for own in others)]


def best(scores: xr.DataArray) -> xr.DataArray:
    """The highest score of all heads."""
    return scores.max(("layer", "head"))


def window_of(seed: xr.Dataset, model: str, name: str = "score") -> changes.Window | None:
    """The phase change of one model in the results of one seed."""
    scores = seed[name].sel(model=model)
    return changes.phase_change(scores.values, scores["tokens"].values)


def enough(score: float) -> float:
    """A final score to take shares of; NaN if there is none: they would be shares of noise."""
    return score if score <= -changes.LEAST else float("nan")


def curves(found: Found, models: Sequence[Model], **named: str) -> xr.Dataset:
    """Curves that training wrote, [model, init, tokens], under new names; on one grid of tokens."""
    return side_by_side(
        {
            model.name: xr.Dataset(
                {new: curves_of(found[model.training], model, old) for new, old in named.items()}
            )
            for model in models
        }
    )


def deep(results: xr.Dataset) -> list[str]:
    """Models of two layers or more, without smeared keys."""
    names = [str(name) for name in results["model"].values]
    return [name for name in names if not name.startswith("1L") and "smeared" not in name]


def shallow(results: xr.Dataset) -> list[str]:
    """Models of one layer, without smeared keys."""
    names = [str(name) for name in results["model"].values]
    return [name for name in names if name.startswith("1L") and "smeared" not in name]


def of_models(
    names: Callable[[xr.Dataset], Sequence[str]],
    value: Callable[[xr.Dataset, str], float | bool | Bounds | np.ndarray],
) -> OfNetworks:
    """A measure of claims with a value for each network: each of some models, with each seed.

    Models of one seed differ in shape, so that they share no weights: they count as independent.
    What all share (the language and its draw) a rate over them is conditional on.
    """

    def measure(results: xr.Dataset) -> Networks:
        inits = results["init"].values.tolist()
        some = names(results)
        return networks_of(
            {f"{n}, init {i}": value(results.sel(init=i), n) for i in inits for n in some}
        )

    return measure
