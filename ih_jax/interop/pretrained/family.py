"""What a reader of one family of networks gives, and the parts that several readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ih_jax import gate
from ih_jax.errors import UserError, unknown
from ih_jax.interop.pretrained.layer import ACTIVATIONS
from ih_jax.interop.pretrained.layout import Config, Scaling

Epsilon = Annotated[float, msgspec.Meta(ge=0, le=1)]
Token = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)]
Tokens = Token | Annotated[list[Token], msgspec.Meta(max_length=1024)] | None
Base = Annotated[float, msgspec.Meta(gt=0, le=1e15)]  # of rotary frequencies: theta
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

    model: type[Common]  # the fields of config.json
    config: Callable[[Any, str], Config]  # of such fields; the second says of which file
    outer: Callable[[Config, Any], Sources]  # of each field of `Weights`
    inner: Callable[[Config, Any], Sources]  # of each field of `Blocks`, in every layer
    prefix: str  # of names of tensors, which may be missing
    head: str  # the tensor of W_U, where it is not W_E


class Rotary(msgspec.Struct, frozen=True):
    """Rotary positions, where config.json has an object of their own for them."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Base | None = None
    partial_rotary_factor: gate.Share | None = None
    factor: gate.Positive | None = None
    low_freq_factor: gate.Positive | None = None
    high_freq_factor: gate.Positive | None = None
    original_max_position_embeddings: Width | None = None


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that every family has."""

    vocab_size: Width
    is_causal: bool = True
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
    rope_theta: Base | None = None


def special_tokens(found: Common) -> dict[str, Any]:
    """Fields `bos`, `bos_from` and `special` of a Config: tokens that are in the vocabulary."""

    def listed(value: Tokens) -> list[int]:
        tokens = value if isinstance(value, list) else [] if value is None else [value]
        return [token for token in tokens if 0 <= token < found.vocab_size]

    begin, end, pad = map(listed, (found.bos_token_id, found.eos_token_id, found.pad_token_id))
    return {
        "bos": next(iter(begin + end), None),
        "bos_from": "bos_token_id" if begin else "eos_token_id" if end else "",
        "special": tuple(dict.fromkeys(begin + end + pad)),
    }


def rotary(found: Rotated) -> Rotary:
    """The rotary positions in any of their spellings; where there are two, as `transformers` reads
    them: rope_scaling stands for all of rope_parameters."""
    spelt = (each for each in (found.rope_scaling, found.rope_parameters) if each is not None)
    given = next((each for each in spelt if each != Rotary()), Rotary())
    return msgspec.structs.replace(given, rope_theta=given.rope_theta or found.rope_theta)


def scaling(given: Rotary, where: str) -> Scaling | None:
    """How rotary frequencies are stretched. Raises UserError for kinds not read here."""
    kind = given.rope_type or given.type or "default"
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        raise UserError(
            f"{where} says rotary positions {kind!r}: default, linear and llama3 are read; give "
            "a network with one of these"
        )
    if given.factor is None:
        raise UserError(f"{where} says rotary positions {kind!r} and no factor: give one above 0")
    if kind == "linear":
        return Scaling("linear", given.factor)
    ends = (given.low_freq_factor, given.high_freq_factor, given.original_max_position_embeddings)
    low, high, original = ends
    if low is None or high is None or original is None or low >= high:
        raise UserError(
            f"{where} says rotary positions 'llama3', low_freq_factor {low}, high_freq_factor "
            f"{high} and original_max_position_embeddings {original}: give all three, the first "
            "below the second"
        )
    return Scaling("llama3", given.factor, low, high, original)


def windowed(
    layer_types: list[str] | None, layers: int, otherwise: Iterable[bool], where: str
) -> tuple[bool, ...]:
    """Which layers have a sliding window.

    Args:
        layer_types: what config.json says of each layer, if it does.
        layers: L.
        otherwise: for each layer, where it does not.
        where: the subject of a message.

    Raises:
        UserError: there are more or fewer than L, or one is of another kind.
    """
    if layer_types is None:
        return tuple(otherwise)
    kinds = ("full_attention", "sliding_attention")
    if len(layer_types) != layers or not set(layer_types) <= set(kinds):
        raise UserError(
            f"{where} says {layers} layers and layer_types {gate.shown(layer_types)}: give one of "
            f"{' and '.join(kinds)} for each layer"
        )
    return tuple(each == kinds[1] for each in layer_types)


def head_width(d_model: int, heads: int, names: tuple[str, str], where: str) -> int:
    """E, where heads share the stream's width. Raises UserError where they cannot."""
    if d_model % heads:
        raise UserError(
            f"{where} says {names[0]} {d_model} and {names[1]} {heads}: the first must be a "
            "multiple of the second"
        )
    return d_model // heads


def group_count(heads: int, groups: int | None, where: str) -> int:
    """G, heads of keys and values. Raises UserError where H heads cannot share them evenly."""
    if heads % (groups or heads):
        raise UserError(
            f"{where} says num_attention_heads {heads} and num_key_value_heads {groups}: the first "
            "must be a multiple of the second"
        )
    return groups or heads


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


def linear(
    field: str, name: str, inputs: int, outputs: int, bias: bool = True
) -> dict[str, Source]:
    """A map stored as [out, in], as torch does, with a bias or without."""
    made = {f"W_{field}": Source({f"{name}.weight": (outputs, inputs)}, np.transpose)}
    if bias:
        made[f"b_{field}"] = Source({f"{name}.bias": (outputs,)})
    return made


def by_head(c: Config) -> Callable[..., NDArray[Any]]:
    """Queries, keys and values, each [heads * E, ...], as [3, H, E, ...].

    Keys and values that heads share are repeated.
    """

    def turn(*parts: NDArray[Any]) -> NDArray[Any]:
        each = [part.reshape(-1, c.d_head, *part.shape[1:]) for part in parts]
        return np.stack([np.repeat(part, c.heads // len(part), axis=0) for part in each])

    return turn


def separate_heads(
    c: Config,
    at: str,
    names: tuple[str, str, str, str],
    groups: int | None = None,
    qkv_bias: bool = False,
    out_bias: bool = False,
    turn: Callable[..., NDArray[Any]] | None = None,
) -> dict[str, Source]:
    """Attention whose queries, keys, values and output are maps of their own, as [out, in].

    Args:
        c: the network.
        at: the name of attention in a layer, such as "layers.{}.self_attn".
        names: of the four maps.
        groups: heads of keys and values, G; None: H.
        qkv_bias: queries, keys and values have biases.
        out_bias: the output has one.
        turn: of the three maps to [3, H, E, ...]; None: `by_head`.
    """
    D, E, G = c.d_model, c.d_head, groups or c.heads
    heads = dict(zip(names[:3], (c.heads, G, G), strict=True))
    weights = {f"{at}.{name}.weight": (n * E, D) for name, n in heads.items()}
    turn = turn or by_head(c)
    made = {
        "W_QKV": Source(weights, turn),
        "W_O": Source({f"{at}.{names[3]}.weight": (D, c.heads * E)}, from_heads(c)),
    }
    if qkv_bias:
        made["b_QKV"] = Source({f"{at}.{name}.bias": (n * E,) for name, n in heads.items()}, turn)
    if out_bias:
        made["b_O"] = Source({f"{at}.{names[3]}.bias": (D,)})
    return made


def from_heads(c: Config) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The output map [D, H * E] as [H, E, D]."""
    return lambda a: a.T.reshape(c.heads, c.d_head, c.d_model)


def weightless_norm(field: str, width: int) -> dict[str, Source]:
    """A norm that has no tensors."""
    return {f"{field}_scale": Source({}, lambda: np.ones(width, np.float32))}


def joint_heads(c: Config, at: str, bias: bool = True) -> dict[str, Source]:
    """Attention whose queries, keys and values stand together within each head (NeoX, BLOOM)."""
    H, E, D = c.heads, c.d_head, c.d_model
    qkv = f"{at}.query_key_value"
    made = {
        "W_QKV": Source(
            {f"{qkv}.weight": (3 * D, D)}, lambda a: a.reshape(H, 3, E, D).swapaxes(0, 1)
        ),
        "W_O": Source({f"{at}.dense.weight": (D, D)}, from_heads(c)),
    }
    if bias:
        made["b_QKV"] = Source(
            {f"{qkv}.bias": (3 * D,)}, lambda a: a.reshape(H, 3, E).swapaxes(0, 1)
        )
        made["b_O"] = Source({f"{at}.dense.bias": (D,)})
    return made
