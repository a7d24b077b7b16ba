"""The clamp that the options of the authors' code mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from ih_jax.clamps import kinds as clamps
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.kinds.passes import PRESERVED
from ih_jax.data.batches import Batch
from ih_jax.interop.icl_dynamics.options import ClampOptions, checked_clamp_options


@dataclass(frozen=True)
class Translation:
    """A clamp, and the clamp of the pass that its `base="clean"` parts read (usually none)."""

    clamp: Clamp
    base: Clamp = field(default_factory=Clamp)


def clamp_from_options(
    options: str | Mapping[str, Any] | ClampOptions, layers: int = 2
) -> Translation:
    """The clamp that the authors' options (a command line, or the dict of a config.json) mean.

    Two things differ, where that code leaves its own meaning open: exemplars that are equally
    similar share a hard match's attention (there each gets all of it), and a label that stands
    twice is copied with the log-sum-exp of its scores (there with one of them).

    Two habits of that code are kept: where patterns are preserved in every layer, or a temperature
    is set in a layer, "only_label" has no effect, since all rows of that layer are taken from its
    cache; and reading from a head looks at a pass in which nothing is clamped.

    Raises:
        UserError: an option is not known, of another type or out of range, or needs weights.
    """
    o = options
    if not isinstance(o, ClampOptions):
        o = checked_clamp_options(o, "options")
    ablated = _by_layer(o.opto_ablate_heads, clamps.ablate)
    copied, source_layer = _copied(o)
    if o.opto_specific_fn == "perfect_prev_token_input":
        perfect = clamps.perfect_previous_layer()
        if source_layer is None:
            return Translation(perfect & ablated)
        if source_layer >= 2:  # there that code shifts the whole stream of the pass it reads
            perfect = clamps.rule("resid_pre", _shifted_stream, layer=1)
        return Translation(copied, perfect)
    # A later one wins where two meet.
    parts = [
        clamps.hold("embed", 0.0) if o.opto_ablate_embedding else Clamp(),
        clamps.preserve(*_kept(o)) if _kept(o) else Clamp(),
        *_patterns(o),
        _silenced(o.opto_final_layer_silence_non_label_attn, layers - 1),
        ablated,
        copied,
    ]
    return Translation(reduce(Clamp.overlay, parts, Clamp()))


def _patterns(o: ClampOptions) -> list[Clamp]:
    """The clamps of single heads' attention, the one that gives way first."""
    temperatures = _temperatures(o.opto_set_head_temperature)
    rows = "label" if o.opto_prev_token_only_label and "patterns" not in _kept(o) else "all"
    previous = _or(o.opto_prev_token_head_strength, 1.0)
    induction = _or(o.opto_induction_head_strength, 1.0)
    match = _or(o.opto_match_head_temperature, 0.0)

    def no_previous(layer: int, heads: list[int]) -> Clamp:
        label = o.opto_disallow_prev_token_only_label and layer not in temperatures
        return clamps.no_previous_token(layer, heads, "label" if label else "all")

    return [
        *(clamps.temperature(at, heads, base="clean") for at, heads in temperatures.items()),
        _by_layer(
            o.opto_prev_token_heads, lambda at, h: clamps.previous_token(at, h, previous, rows)
        ),
        _by_layer(o.opto_induction_heads, lambda at, h: clamps.induction(at, h, induction)),
        _by_layer(o.opto_match_heads, lambda at, h: clamps.match_by_similarity(at, h, match)),
        _by_layer(o.opto_disallow_prev_token_heads, no_previous),
    ]


def _by_layer(words: Sequence[str] | None, make: Callable[[int, list[int]], Clamp]) -> Clamp:
    """A clamp for each layer of words "layer:head", over each other."""
    found: dict[int, list[int]] = {}
    for word in words or ():
        layer, head = map(int, word.split(":"))
        found.setdefault(layer, []).append(head)
    return reduce(Clamp.overlay, (make(layer, heads) for layer, heads in found.items()), Clamp())


def _temperatures(words: Sequence[str] | None) -> dict[int, dict[int, float]]:
    """{layer: {head: temperature}} of words "layer:head:temperature"."""
    found: dict[int, dict[int, float]] = {}
    for word in words or ():
        layer, head, temperature = word.split(":")
        found.setdefault(int(layer), {})[int(head)] = float(temperature)
    return found


def _copied(o: ClampOptions) -> tuple[Clamp, int | None]:
    """The clamp that copies from a head, and that head's layer."""
    if o.opto_perfect_copy_from_head_pattern is None:
        return Clamp(), None
    layer, head = map(int, o.opto_perfect_copy_from_head_pattern.split(":"))
    return clamps.copy_from(layer, head, base="clean"), layer


def _kept(o: ClampOptions) -> list[str]:
    """What is preserved."""
    return [what for what in PRESERVED if getattr(o, f"opto_preserve_{what}")]


def _silenced(heads: list[int] | None, layer: int) -> Clamp:
    return Clamp() if heads is None else clamps.labels_only(layer, heads)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _shifted_stream(batch: Batch, activations: Any) -> jax.Array:
    """[T, D]: the stream of that code's pattern pass, the previous embedding at 1 .. T-2."""
    x = activations.resid_pre[0]
    return jnp.concatenate([x[:1], x[:-2], x[-1:]])
