"""Clamps: what a run holds fixed, as a recipe.

A `Clamp` is a tuple of small parts that combines (`a & b`), is written as JSON and refuses parts
that contradict. `clamp.arrays(config)` checks it against a model and gives the `Holds` that a
program takes; `Clamp.stack` gives those of many runs.

Where two parts meet, the later one of this list wins:

    site          what may meet there, the winner last
    resid_*, *_input   graft, perfect_previous_layer, mean and resample, hold and rule
    q, k, v       preserve, mean and resample, hold and rule, ablate
    attn_scores   temperature, no_previous_token, labels_only, hold and rule
    pattern       preserve, previous_token, induction, match_by_similarity, hold and rule
    logits        copy_from, hold and rule
    any           stop_gradient comes last of all

Two parts that give the same rows of the same head of the same site at the same time contradict
and are refused; what only one of them could decide is never settled in silence. `preserve`,
`graft` and `ablate` are made to be combined with the rest and contradict nothing.

Papers: Singh et al. 2024, sections 3 and 4, appendix B; Olsson et al. 2022 for `preserve`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ih_jax.clamps import as_json, lowering
from ih_jax.clamps.holds import Holds, stack
from ih_jax.clamps.parts import (
    Part,
    Weights,
    gate_values,
    head_indices,
    index,
    nested,
    number,
    one_of,
    refuse_contradiction,
    site_heads,
    site_name,
)
from ih_jax.errors import UserError
from ih_jax.model.params import Config, Params

__all__ = [
    "Clamp",
    "Part",
    "Weights",
    "ablate",
    "copy_from",
    "freeze",
    "graft",
    "hold",
    "induction",
    "labels_only",
    "match_by_similarity",
    "mean",
    "no_previous_token",
    "perfect_previous_layer",
    "preserve",
    "previous_token",
    "resample",
    "rule",
    "stop_gradient",
    "temperature",
]

PRESERVED = lowering.PRESERVED
BASES = ("clamped", "clean")
ROWS = ("all", "label")


@dataclass(frozen=True)
class Clamp:
    """What one run holds fixed, as a recipe. `Clamp()` holds nothing."""

    parts: tuple[Part, ...] = ()

    def __and__(self, other: Clamp) -> Clamp:
        """Both. Raises UserError, naming layer and head, if they contradict."""
        mine = [*self.parts]
        for part in other.parts:
            if part in mine:
                continue
            for earlier in mine:
                refuse_contradiction(earlier, part)
            mine.append(part)
        return Clamp(tuple(mine))

    def overlay(self, other: Clamp) -> Clamp:
        """Both, contradictions settled by the order of this module's table."""
        return Clamp((*self.parts, *other.parts))

    def during(self, start: float, stop: float) -> Clamp:
        """This clamp, on only from `start` up to `stop` sequences (language: tokens) seen."""
        start, stop = float(start), float(stop)
        if not 0 <= start < stop:
            raise UserError(f"during({start}, {stop}): give 0 <= start < stop, in sequences seen")
        for part in self.parts:
            if part.kind == "freeze" or (part.kind == "graft" and part["after"] is not None):
                raise UserError(f"{part.describe()} holds weights, not activations: no during()")
        return Clamp(tuple(replace(part, start=start, stop=stop) for part in self.parts))

    def arrays(self, config: Config) -> Holds:
        """The holds for a model. Raises UserError if a layer, head or site is not in it."""
        return lowering.arrays(self.parts, config)

    @staticmethod
    def stack(clamps: Sequence[Clamp], config: Config) -> Holds:
        """The holds of many runs along a new first axis; parts that a run lacks get gates of 0."""
        return stack([clamp.arrays(config) for clamp in clamps])

    def describe(self) -> str:
        """As a person would write it."""
        return " & ".join(part.describe() for part in self.parts) or "none"

    def to_json(self) -> str:
        """The recipe as JSON. Weights stand as run, step and checksum, rules as module and name."""
        return json.dumps([as_json.part_to_json(part) for part in self.parts])

    @staticmethod
    def from_json(
        text: str,
        weights: Mapping[str, Params] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Clamp:
        """The clamp that `to_json` wrote.

        Args:
            text: the JSON.
            weights: parameters by checksum, for grafts.
            functions: rules by name, "module:function"; others are imported from their module.

        Raises:
            UserError: the text is not such JSON, a constructor refuses its settings, weights are
                missing or differ from the checksum, or a rule is not found. Contradictions are
                not looked for: `overlay` may have settled them.
        """
        clamp = Clamp()
        for made, times in as_json.read(text, CONSTRUCTORS, weights or {}, functions or {}):
            clamp = clamp.overlay(made.during(*times) if times else made)
        return clamp


# --- constructors -------------------------------------------------------------------------------


def ablate(layer: int, heads: int | Sequence[int]) -> Clamp:
    """The heads' values are 0, so they write nothing (Singh et al. 2024, section 3)."""
    return _clamp("ablate", layer=index("layer", layer), heads=head_indices(heads))


def previous_token(
    layer: int, heads: int | Sequence[int], strength: float = 1.0, rows: str = "all"
) -> Clamp:
    """The pattern attends to the previous token with `strength`, to itself with the rest.

    Row 0 attends to itself. rows="label" clamps the rows of label tokens only.
    """
    one_of("rows", rows, ROWS)
    return _clamp(
        "previous_token",
        layer=index("layer", layer),
        heads=head_indices(heads),
        strength=number("strength", strength),
        rows=rows,
    )


def induction(
    layer: int, heads: int | Sequence[int], strength: float = 1.0, normalise: bool = False
) -> Clamp:
    """The query attends with `strength` to each label token that carries the target label.

    Each other label token gets 1 - `strength`. With two pairs in context that sums to 1, as in the
    paper (its "induction strength" axis is 2 * strength - 1); with more, `normalise=True` shares
    `strength` among the right tokens and the rest among the others.

    In a language model every token attends: with `strength`, in equal shares, to the tokens that
    followed its earlier occurrences, and with the rest to the first token (BOS), which a token that
    did not occur before gets whole (Olsson et al. 2022, "prefix matching").
    """
    return _clamp(
        "induction",
        layer=index("layer", layer),
        heads=head_indices(heads),
        strength=number("strength", strength),
        normalise=bool(normalise),
    )


def match_by_similarity(layer: int, heads: int | Sequence[int], temperature: float = 0.0) -> Clamp:
    """The query attends to labels by cosine similarity of raw exemplars (appendix B).

    Temperature 0 takes the most similar one; equal ones share the attention.
    """
    temperature = number("temperature", temperature)
    if temperature < 0:
        raise UserError(f"match_by_similarity: temperature is {temperature}: give 0 or more")
    return _clamp(
        "match_by_similarity",
        layer=index("layer", layer),
        heads=head_indices(heads),
        temperature=temperature,
    )


def no_previous_token(layer: int, heads: int | Sequence[int], rows: str = "all") -> Clamp:
    """The heads cannot attend to the previous token (score -1e9; rows="label": from labels)."""
    one_of("rows", rows, ROWS)
    return _clamp(
        "no_previous_token", layer=index("layer", layer), heads=head_indices(heads), rows=rows
    )


def labels_only(layer: int, heads: int | Sequence[int]) -> Clamp:
    """The query attends to label tokens only (score -1e9 elsewhere)."""
    return _clamp("labels_only", layer=index("layer", layer), heads=head_indices(heads))


def temperature(layer: int, temperatures: Mapping[int, float], base: str = "clamped") -> Clamp:
    """Attention scores divided by a temperature for each head named.

    base="clean" takes the scores of *all* heads of the layer from a pass without any clamp, as the
    authors' code does.
    """
    one_of("base", base, BASES)
    if not isinstance(temperatures, Mapping) or not temperatures:
        raise UserError(f"temperature: {temperatures!r}: give {{head: temperature > 0}}")
    pairs = tuple(
        sorted((index("head", h), number("temperature", t)) for h, t in temperatures.items())
    )
    if min(t for _, t in pairs) <= 0:
        raise UserError(f"temperature: {dict(temperatures)}: give {{head: temperature > 0}}")
    return _clamp("temperature", layer=index("layer", layer), temperatures=pairs, base=base)


def perfect_previous_layer(inputs: Sequence[str] | set[str] = ("q", "k", "v")) -> Clamp:
    """Layer 1 reads what a perfect layer 0 would give it (the paper's "Layer 1" clamp).

    Its query and key inputs are the embeddings in which positions 1 .. T-2 hold the *previous*
    token's embedding; its value input and the residual stream are the plain embeddings. Fewer
    inputs leave the others with what layer 0 learned ("v" stands for values and the stream).
    """
    chosen = tuple(sorted(set(inputs)))
    if not chosen or not set(chosen) <= {"q", "k", "v"}:
        raise UserError(f"perfect_previous_layer: inputs are {chosen}: give some of q, k, v")
    return _clamp("perfect_previous_layer", inputs=chosen)


def copy_from(layer: int, head: int, base: str = "clamped") -> Clamp:
    """The query's logits are one head's attention scores on the labels in context, else -1e9.

    Gradients flow through the scores. base="clean" reads them from a pass without any clamp.
    """
    one_of("base", base, BASES)
    return _clamp("copy_from", layer=index("layer", layer), head=index("head", head), base=base)


def preserve(*what: str) -> Clamp:
    """Patterns, values, queries or keys come from a clean pass of the same weights.

    With `ablate` this is pattern- or value-preserving ablation (Olsson et al. 2022).
    """
    if not what:
        raise UserError(f"preserve: nothing named: give some of {', '.join(PRESERVED)}")
    for each in what:
        one_of("preserve", each, tuple(PRESERVED))
    return _clamp("preserve", what=tuple(sorted(set(what))))


def graft(weights: Params | Weights, *, upto: int | None = None, after: int | None = None) -> Clamp:
    """Part of the network is another one, and does not learn (Singh et al. 2024, fig. 7).

    `upto=l`: the residual stream after layer l, embeddings included, is that of `weights`.
    `after=l`: the layers after l, the final norm and the unembedding are those of `weights`.
    """
    if (upto is None) == (after is None):
        raise UserError(f"graft(upto={upto}, after={after}): give exactly one of the two")
    if isinstance(weights, Params):
        weights = Weights(weights)
    if not isinstance(weights, Weights):
        raise UserError(f"graft: weights are a {type(weights).__name__}: give Params or Weights")
    return _clamp(
        "graft",
        weights=weights,
        upto=None if upto is None else index("upto", upto),
        after=None if after is None else index("after", after),
    )


def mean(site: str, layer: int, heads: int | Sequence[int] | None = None) -> Clamp:
    """A site is its mean over the batch (mean ablation); `heads` where it has heads."""
    return _clamp(
        "mean", site=site_name(site), layer=index("layer", layer), heads=site_heads(site, heads)
    )


def resample(site: str, layer: int, heads: int | Sequence[int] | None = None) -> Clamp:
    """A site is that of another sequence of the batch (resample ablation)."""
    return _clamp(
        "resample", site=site_name(site), layer=index("layer", layer), heads=site_heads(site, heads)
    )


def stop_gradient(site: str, layer: int = 0, heads: int | Sequence[int] | None = None) -> Clamp:
    """No gradient flows back through a site."""
    return _clamp(
        "stop_gradient",
        site=site_name(site),
        layer=index("layer", layer),
        heads=site_heads(site, heads),
    )


def freeze(*parameters: str) -> Clamp:
    """These weights keep their initial values.

    Names are those of `Params`, a prefix naming all below it: "W_E", "blocks.0",
    "blocks.1.attention.W_Q" (W_Q, W_K and W_V are parts of W_QKV), "norm".
    """
    if not parameters or not all(isinstance(name, str) for name in parameters):
        raise UserError('freeze: no parameter named: give some, such as "W_E" or "blocks.0"')
    return _clamp("freeze", parameters=tuple(parameters))


def hold(
    site: str,
    value: Any,
    *,
    layer: int = 0,
    heads: int | Sequence[int] | None = None,
    gate: Any = 1.0,
) -> Clamp:
    """A site is a constant where `gate` is 1.

    Args:
        site: a name of `ih_jax.model.sites.SITES`.
        value: broadcastable to the site's public shape without batch, such as [H, Tq, Tk].
        layer: which layer; "embed" and "logits" have none.
        heads: which heads hold it, at sites that have heads; None: all.
        gate: in [0, 1], broadcastable to the same shape; between 0 and 1 it blends.
    """
    return _clamp(
        "hold",
        site=site_name(site),
        layer=index("layer", layer),
        heads=site_heads(site, heads),
        value=nested("value", value),
        gate=gate_values(gate),
    )


def rule(
    site: str,
    function: Callable[..., Any],
    *,
    layer: int = 0,
    heads: int | Sequence[int] | None = None,
    gate: Any = 1.0,
    query_only: bool = False,
    **arguments: Any,
) -> Clamp:
    """A rule of one's own gives a site's value.

    Args:
        site: a name of `ih_jax.model.sites.SITES`.
        function: `function(batch, activations, **arguments) -> value`, for one sequence:
            `batch.examples` [P, F], `batch.labels` [P] (language: `batch.tokens` [T]);
            `activations` has every site computed so
            far without a batch axis (`activations.pattern[-1]` is [H, Tq, Tk]), the value that
            stands at `site` included; the value broadcasts to the site's public shape.
        layer: which layer.
        heads: which heads hold it, at sites that have heads; None: all.
        gate: in [0, 1], broadcastable to the site's public shape; between 0 and 1 it blends.
        query_only: promise that the function is right when the last layer has only the query's
            row (Tq = 1); training is then faster.
        arguments: numbers or arrays, passed to the function; runs may differ in them. A name
            cannot be one of those above.
    """
    if not callable(function):
        raise UserError(f"rule: function is {function!r}: give a function(batch, activations)")
    given = tuple(sorted((name, nested(name, v)) for name, v in arguments.items()))
    return _clamp(
        "rule",
        site=site_name(site),
        function=function,
        layer=index("layer", layer),
        heads=site_heads(site, heads),
        gate=gate_values(gate),
        arguments=given,
        query_only=bool(query_only),
    )


CONSTRUCTORS: dict[str, Callable[..., Clamp]] = {
    made.__name__: made
    for made in (
        ablate,
        previous_token,
        induction,
        match_by_similarity,
        no_previous_token,
        labels_only,
        temperature,
        perfect_previous_layer,
        copy_from,
        preserve,
        graft,
        mean,
        resample,
        stop_gradient,
        freeze,
        hold,
        rule,
    )
}


def _clamp(kind: str, **settings: Any) -> Clamp:
    """A clamp of one part. Settings have the names of the constructor's parameters."""
    return Clamp((Part(kind, tuple(sorted(settings.items()))),))
