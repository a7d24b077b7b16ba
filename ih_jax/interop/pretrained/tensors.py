"""Tensors of safetensors files, as the weights of a network."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  so that numpy, and with it safetensors, knows bfloat16
import numpy as np
from jax import Array
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ih_jax import gate, memory, paths
from ih_jax.errors import UserError
from ih_jax.interop.pretrained import gguf_files
from ih_jax.interop.pretrained.family import Family, Source
from ih_jax.interop.pretrained.layout import Blocks, Config, Weights, bytes_of

FLOATS = ("F64", "F32", "F16", "BF16")
ALIGNED = 64  # bytes
# What other tools put before names.
PREFIXES = ("_orig_mod.", "module.", "model.", "transformer.")
# Heads that other tasks add, beside or in place of the map to logits.
EXTRA = re.compile(r"^(v_head|value_head|score|classifier|qa_outputs|reward_head)\.")
# Masks and tables that older files keep beside the weights.
IGNORED = re.compile(r"\.(attn|attention|self_attn)\.(bias|masked_bias|rotary_emb\.inv_freq)$")


class _Held(NamedTuple):
    """A tensor in an open file."""

    file: Path
    opened: Any
    name: str  # in the file


def read_weights(
    files: Sequence[Path], family: Family, found: Any, config: Config
) -> tuple[Weights, list[str]]:
    """Every tensor where it belongs, float32; and what was read past, in words.

    Args:
        files: safetensors files of one network.
        family: its reader.
        found: fields of its config.json.
        config: the same in our words.

    Raises:
        UserError: a file is not whole, tensors are not those of the config, hold NaN or infinity,
            or take more memory than is free.
    """
    folder = files[0].parent
    memory.check(bytes_of(config), f"{folder / 'config.json'}: a network of that size")
    outer = dict(family.outer(config, found))
    inner = family.inner(config, found)
    with contextlib.ExitStack() as stack:
        held: dict[str, _Held] = {}
        for file in files:
            opened = stack.enter_context(_open(file))
            for name in opened.keys():  # noqa: SIM118
                short = _short(name, family)
                if short in held:
                    raise UserError(
                        f"{folder} holds both {held[short].name} and {name}: one of them is enough"
                    )
                held[short] = _Held(file, opened, name)
        notes = _read_past(held, family)
        head = next((name for name in (family.head, "lm_head.weight") if name in held), None)
        if head or config.projected or not config.tied:
            tied = next(iter(outer["W_E"].tensors)) if config.tied else "lm_head.weight"
            outer["W_U"] = _unembedding(outer.get("W_U"), head or tied, config)
        _check(held, outer.values(), inner.values(), config, folder)

        def whole(source: Source, layers: tuple[int, ...]) -> Array:
            # One tensor at a time: there may be no room for all beside what is made of them.
            def take(layer: int) -> NDArray[Any]:
                return source.turn(*(_take(held[name.format(layer)]) for name in source.tensors))

            first = take(0)
            made = _empty((*layers, *first.shape))
            each = made.reshape(-1, *first.shape)
            for layer in range(len(each)):
                each[layer] = take(layer) if layer else first
            return jax.device_put(made, may_alias=True)

        made: dict[str, Any] = {field: whole(source, ()) for field, source in outer.items()}
        blocks = {field: whole(source, (config.layers,)) for field, source in inner.items()}
    for field, shape in _biases(config).items():
        blocks.setdefault(field, jnp.zeros((config.layers, *shape)))
    made.setdefault("norm_scale", None)
    made.setdefault("norm_bias", None if made["norm_scale"] is None else jnp.zeros(config.d_model))
    made.setdefault("W_U", made["W_E"])
    return Weights(blocks=Blocks(**blocks), W_pos=made.pop("W_pos", None), **made), notes


def _unembedding(source: Source | None, name: str, config: Config) -> Source:
    """Where W_U is: in the tensor of that name, which is the first where a family needs others."""
    if source is None:
        return Source({name: (config.vocabulary, config.d_model)})
    (_, shape), *others = source.tensors.items()
    return Source({name: shape, **dict(others)}, source.turn)


def _empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Float32 at an address where JAX takes it over, on a CPU, without a copy."""
    count = math.prod(shape)
    whole = np.empty(count + ALIGNED // 4, np.float32)
    first = -whole.ctypes.data % ALIGNED // 4
    return whole[first : first + count].reshape(shape)


def _short(name: str, family: Family) -> str:
    """A tensor's name without what the family or other tools put before it."""
    own = [f"{part}." for part in family.prefix.split(".") if part]
    while found := next((each for each in (*PREFIXES, *own) if name.startswith(each)), None):
        name = name.removeprefix(found)
    return name


def _read_past(held: dict[str, _Held], family: Family) -> list[str]:
    """Take extra heads out; what is read past, in words."""
    said = []
    others = sorted({each for each in PREFIXES[:2] for one in held.values() if each in one.name})
    if others:
        said.append(f"before names of tensors, {' and '.join(others)} was read past")
    extra = sorted(name for name in held if EXTRA.match(name))
    for name in extra:
        del held[name]
    if extra:
        more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
        said.append(f"left out, as no part of a language model: {', '.join(extra[:3])}{more}")
    return said


def check_whole(file: Path) -> None:
    """Raise UserError where a file's header does not say what is in it, or more than there is."""
    with _open(file):
        pass


def _open(file: Path) -> Any:
    if file.suffix == gguf_files.SUFFIX:
        return gguf_files.Opened(file)
    try:
        return safe_open(paths.regular(file), framework="numpy")
    except UserError:
        raise
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} is no whole safetensors file ({paths.reason(error)}): download it again, and "
            "not as a pointer of Git LFS"
        ) from None


def _take(held: _Held) -> NDArray[Any]:
    # A file of its own for each: what was read of a mapped file is in memory until it is closed.
    with held.opened if held.file.suffix == gguf_files.SUFFIX else _open(held.file) as opened:
        found = opened.get_tensor(held.name)
        if found.dtype == np.float64:
            with np.errstate(over="ignore"):  # what float32 cannot hold is named below
                found = found.astype(np.float32)
        return gate.finite(found, f"{held.file}: {held.name}")


def _biases(c: Config) -> dict[str, tuple[int, ...]]:
    """The shape of each bias of a layer, for those that a family has not."""
    wide = dict.fromkeys(("b_in", "b_gate") if c.gated else ("b_in",), (c.d_mlp,))
    narrow = dict.fromkeys(("b_O", "b_out"), (c.d_model,))
    return {**narrow, **wide, "b_QKV": (3, c.heads, c.d_head)}


def _check(
    held: Mapping[str, _Held],
    outer: Iterable[Source],
    inner: Iterable[Source],
    config: Config,
    folder: Path,
) -> None:
    """Raise UserError where files differ from what is to be read; it names the tensors."""
    if config.layers > len(held):
        raise UserError(
            f"{folder}: config.json says {config.layers:,} layers, and the files of weights hold "
            f"{len(held)} tensors in all"
        )
    wanted = {name: shape for source in outer for name, shape in source.tensors.items()}
    wanted |= {
        name.format(layer): shape
        for source in inner
        for layer in range(config.layers)
        for name, shape in source.tensors.items()
    }
    wrong = [f"{name} is missing" for name in wanted if name not in held]
    for name in sorted(held):
        tensor = held[name].opened.get_slice(held[name].name)
        shape, dtype = tuple(tensor.get_shape()), tensor.get_dtype()
        if name not in wanted:
            wrong += [] if IGNORED.search(f".{name}") else [f"{name} is unknown"]
        elif shape != wanted[name]:
            wrong.append(f"{name} has shape {list(shape)}, not {list(wanted[name])}")
        elif dtype not in FLOATS:
            wrong.append(f"{name} is of {dtype}, not {', '.join(FLOATS)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{folder} holds no {config.architecture} of the size that its config.json says: "
            f"{', '.join(wrong[:3])}{more}"
        )
