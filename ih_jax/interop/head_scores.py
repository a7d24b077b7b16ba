"""Which heads of a pretrained network are induction heads, and which previous-token heads.

Scores of each head from its attention and its output alone: Olsson et al. 2022, "In-context
Learning and Induction Heads", appendix "Head activation evaluators". An induction head matches a
prefix *and* copies.

Glossary: L layers, H heads, B sequences of T tokens, V tokens in the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from numpy.typing import NDArray

from ih_jax.errors import UserError
from ih_jax.interop.head_probes import Probes, probes
from ih_jax.interop.pretrained import reading
from ih_jax.interop.pretrained.layout import Config, Weights
from ih_jax.interop.pretrained.network import forward, through_last_norm
from ih_jax.interop.pretrained.reading import Pretrained
from ih_jax.measures.heads import (
    copying_logits_of,
    copying_ratio_of,
    logits_of_sample,
    prefix_matching_attention,
    previous_token_attention,
    rows_of,
)

ENOUGH = 0.5  # of prefix matching or previous token, for a head to be called by it
SCORES = {
    "prefix_matching": "prefix matching",
    "copying": "copying",
    "copying_logits": "copying logits",
    "previous_token": "previous token",
    "induction_diagonal": "diagonal",
}
KINDS = ("induction", "anti-copying", "previous token")  # a head is the first that fits
Tell = Callable[[str], None]


def measure(
    model: Pretrained,
    seed: int = 0,
    tell: Tell = lambda what: None,
    *,
    length: int | None = None,
    repeats: int | None = None,
    bos: str | int | None = None,
) -> xr.Dataset:
    """Scores of every head, [layer, head].

    `head_report.MEANING` says what they are: prefix_matching, induction_diagonal and
    previous_token, 0 to 1, of attention; copying, -1 to 1, and copying_logits of what a head adds
    to logits by the direct path, through the last norm but for its division. What a head that
    attends to all alike has is in `attrs["null"]`.

    Args:
        model: from `pretrained.reading.read`.
        tell: is told what is measured next.
        seed, length, repeats, bos: as `head_probes.probes`.

    Raises:
        UserError: as `probes`; or scores are not finite, since weights are too large.
    """
    shown = probes(model, seed, length, repeats, bos)
    tell(f"scores of {model.name}")
    found = _measured(model, shown)
    return found.assign_attrs(
        name=model.name,
        model=model.source,
        architecture=model.config.architecture,
        sha256=json.dumps(model.sha256),
        notes=json.dumps(model.notes),
        seed=seed,
        probes=json.dumps(shown.told),
        null=json.dumps(null(shown)),
    )


def measure_series(
    models: Sequence[str | Path],
    name: str,
    seed: int = 0,
    tell: Tell = lambda what: None,
    *,
    length: int | None = None,
    repeats: int | None = None,
    bos: str | int | None = None,
) -> xr.Dataset:
    """Scores of every head of several checkpoints, [step, layer, head], by one program.

    All see the same probes, of which the text is by the first one's tokenizer. `step` is the number
    at the end of each name (checkpoint-500, step1000); where one has none, their order.

    Args:
        models: as `pretrained.reading.read` takes them; one is in memory at a time.
        name: what the series is called.
        seed, tell, length, repeats, bos: as `measure`.

    Raises:
        UserError: as `read` and `measure`; or a network is of another shape than the first.
    """
    places = [reading.locate(model) for model in models]
    steps = [reading.step_of(place.name) for place in places]
    numbers = [step for step in steps if step is not None]
    in_order = len(set(numbers)) < len(places)
    if in_order:
        numbers = list(range(len(places)))
    names = reading.names_apart(places)
    each: list[xr.Dataset] = []
    sha256: dict[str, str] = {}
    notes: dict[str, None] = {}
    shown: Probes | None = None
    first = reading.config_at(places[0])
    for place, own in zip(places, names, strict=True):
        # Before its weights, which may be large, are read; what was read before is let go by then.
        _refuse_other_shape(places[0].source, first, place.source, reading.config_at(place))
        model = reading.read_at(place)
        shown = shown or probes(model, seed, length, repeats, bos)
        tell(f"scores of {model.name} ({len(each) + 1} of {len(places)})")
        each.append(_measured(model, shown))
        sha256 |= {f"{own}/{file}": found for file, found in model.sha256.items()}
        notes |= dict.fromkeys(model.notes)
        del model
    assert shown is not None
    if in_order and len(places) > 1:
        notes[
            "steps are the order of the networks, whose names do not end in numbers of their own"
        ] = None
    order = np.argsort(numbers, kind="stable")
    found = xr.concat([each[i] for i in order], dim="step").assign_coords(
        step=[numbers[i] for i in order],
        checkpoint=("step", [names[i] for i in order]),
    )
    return found.assign_attrs(
        name=name,
        model=", ".join(places[i].source for i in order),
        architecture=first.architecture,
        sha256=json.dumps(sha256),
        notes=json.dumps([*notes]),
        seed=seed,
        probes=json.dumps(shown.told),
        null=json.dumps(null(shown)),
    )


def _refuse_other_shape(of: str, first: Config, source: str, other: Config) -> None:
    """Raise UserError where two networks of a series are not of one shape."""
    differ = [
        f"{field.name} {getattr(other, field.name)}, not {getattr(first, field.name)}"
        for field in fields(Config)
        if getattr(first, field.name) != getattr(other, field.name)
    ]
    if differ:
        raise UserError(
            f"{source} has {', '.join(differ[:3])} as {of}: a series is of networks of one shape; "
            "give these each a run of their own"
        )


def _measured(model: Pretrained, shown: Probes) -> xr.Dataset:
    config = model.config
    found = _scores(
        model.weights, shown.repeated, shown.single, shown.text, config, shown.begin, shown.length
    )
    scores = {name: (("layer", "head"), np.asarray(found[name], np.float32)) for name in SCORES}
    if not all(np.isfinite(values).all() for _, values in scores.values()):
        raise UserError(f"{model.folder}: scores are not finite: its weights are too large")
    numbered = {"layer": np.arange(config.layers), "head": np.arange(config.heads)}
    return xr.Dataset(scores, numbered)


@partial(jax.jit, static_argnames=("config", "begin", "length"))
def _scores(
    weights: Weights,
    repeated: Array,
    single: Array,
    text: Array,
    config: Config,
    begin: int,
    length: int,
) -> dict[str, Array]:
    """Each of SCORES, [L, H]."""
    rows = through_last_norm(weights, config, rows_of(weights.W_U, single))

    def matching(pattern: Array, z: Array, W_O: Array) -> dict[str, Array]:
        return _matching(pattern, repeated, begin, length)

    def copying(pattern: Array, z: Array, W_O: Array) -> dict[str, Array]:
        given = (logits_of_sample(z, W_O, rows), pattern, single)
        return {
            "copying": 4 * copying_ratio_of(*given) - 1,
            "copying_logits": copying_logits_of(*given),
        }

    def previous(pattern: Array, z: Array, W_O: Array) -> dict[str, Array]:
        return {"previous_token": previous_token_attention(pattern)}

    found: dict[str, Array] = {}
    for tokens, of in ((repeated, matching), (single, copying), (text, previous)):
        found |= forward(weights, config, tokens, of)[1]
    return found


def _matching(pattern: Array, tokens: Array, begin: int, length: int) -> dict[str, Array]:
    """Prefix matching and the diagonal, [H] each."""
    diagonal = jnp.diagonal(pattern, offset=1 - length, axis1=2, axis2=3)  # of rows length - 1 ...
    return {
        "prefix_matching": prefix_matching_attention(pattern, tokens, begin),
        "induction_diagonal": diagonal[..., begin - (length - 1) :].mean((0, 2)),
    }


def null(shown: Probes) -> dict[str, float]:
    """Each score of a head that attends to all tokens so far alike, and raises all alike."""

    def uniform(tokens: Array) -> Array:
        T = tokens.shape[1]
        rows = jnp.tril(jnp.ones((T, T))) / jnp.arange(1, T + 1)[:, None]
        return jnp.broadcast_to(rows[None, None], (len(tokens), 1, T, T))

    matched = _matching(uniform(shown.repeated), shown.repeated, shown.begin, shown.length)
    previous = previous_token_attention(uniform(shown.text))
    return {
        **{name: float(value[0]) for name, value in matched.items()},
        "copying": 4 / (1 + shown.length) - 1,
        "copying_logits": 0.0,
        "previous_token": float(previous[0]),
    }


def kinds(found: xr.Dataset) -> NDArray[np.str_]:
    """What each head is called, [layer, head] or [step, layer, head]: one of the KINDS or "".

    By the sign of copying_logits, not by the size of copying: that falls with the spread of
    attention, as where much of it rests on the first token, even if all that is written is copied.
    """
    matches = found["prefix_matching"].values >= ENOUGH
    copies = found["copying_logits"].values > 0
    previous = found["previous_token"].values >= ENOUGH
    return np.select((matches & copies, matches, previous), KINDS, "")
