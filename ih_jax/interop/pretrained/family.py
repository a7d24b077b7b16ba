"""What a reader of one family of networks gives, and the parts that several readers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ih_jax import gate
from ih_jax.errors import UserError, unknown
from ih_jax.interop.pretrained.network import ACTIVATIONS, Config

Epsilon = Annotated[float, msgspec.Meta(ge=0, le=1)]
Token = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)]
Tokens = Token | Annotated[list[Token], msgspec.Meta(max_length=1024)] | None
Width = Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class Source(NamedTuple):
    """Where a field of ours is found: tensors by name and shape, and how they become the field.

    In the names of a layer's tensors, "{}" stands for its number.
    """

    tensors: Mapping[str, tuple[int, ...]]
    turn: Callable[..., NDArray[Any]] = np.asarray  # of one array for each tensor, in this order


Sources = Mapping[str, Source]


@dataclass(frozen=True)
class Family:
    """A reader: what config.json says of such networks, and where their tensors are."""

    model: type[msgspec.Struct]  # the fields of config.json
    config: Callable[[Any, str], Config]  # of such fields; the second says of which file
    outer: Callable[[Config, Any], Sources]  # of each field of `Weights`
    inner: Callable[[Config, Any], Sources]  # of each field of `Blocks`, in every layer
    prefix: str  # of names of tensors, which may be missing
    head: str  # the tensor of W_U, where it is not W_E


class Rotary(msgspec.Struct, frozen=True):
    """Rotary positions, where config.json has an object of their own for them."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: gate.Positive | None = None
    partial_rotary_factor: gate.Share | None = None


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that every family has."""

    vocab_size: Width
    bos_token_id: Tokens = None
    eos_token_id: Tokens = None
    pad_token_id: Tokens = None


class Rotated(Common, frozen=True, kw_only=True):
    """Fields of families with rotary positions."""

    num_hidden_layers: gate.Size
    num_attention_heads: Width
    hidden_size: Width
    intermediate_size: Width
    max_position_embeddings: Width
    rope_parameters: Rotary | None = None
    rope_scaling: Rotary | None = None
    rope_theta: gate.Positive | None = None


def special_tokens(found: Common) -> dict[str, Any]:
    """Fields `bos` and `special` of a Config: the tokens that are in the vocabulary."""

    def listed(value: Tokens) -> list[int]:
        tokens = value if isinstance(value, list) else [] if value is None else [value]
        return [token for token in tokens if 0 <= token < found.vocab_size]

    begin, end, pad = map(listed, (found.bos_token_id, found.eos_token_id, found.pad_token_id))
    return {
        "bos": next(iter(begin + end), None),
        "special": tuple(dict.fromkeys(begin + end + pad)),
    }


def rotary(found: Rotated, where: str) -> Rotary:
    """The rotary positions in any of their spellings. Raises UserError for kinds not read here."""
    given = found.rope_parameters or found.rope_scaling or Rotary()
    kind = given.rope_type or given.type or "default"
    if kind != "default":
        raise UserError(f"{where} says rotary positions {kind!r}: only the default kind is read")
    return Rotary(
        rope_theta=given.rope_theta or found.rope_theta,
        partial_rotary_factor=given.partial_rotary_factor,
    )


def head_width(d_model: int, heads: int, names: tuple[str, str], where: str) -> int:
    """E, where heads share the stream's width. Raises UserError where they cannot."""
    if d_model % heads:
        raise UserError(
            f"{where} says {names[0]} {d_model} and {names[1]} {heads}: the first must be a "
            "multiple of the second"
        )
    return d_model // heads


def known_activation(name: str, where: str) -> str:
    """The name. Raises UserError for an activation that is not known."""
    if name not in ACTIVATIONS:
        raise UserError(f"{where}: {unknown('activation', name, ACTIVATIONS)}")
    return name


def layer_norm(field: str, name: str, width: int) -> dict[str, Source]:
    """A norm with scale and bias."""
    return {
        f"{field}_scale": Source({f"{name}.weight": (width,)}),
        f"{field}_bias": Source({f"{name}.bias": (width,)}),
    }
