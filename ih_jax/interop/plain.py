"""A network as plain safetensors with our own names, and back.

Names are those of `Params` ("W_E", "blocks.0.attention.W_QKV", "norm.scale"); the config is in the
file's metadata. Any tool that reads safetensors reads the file.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ih_jax import files, gate, memory, paths
from ih_jax.errors import UserError
from ih_jax.model.params import Config, Params, init

FORMAT = "ih_jax 1"


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the config in a file may be; `Config` has further rules."""

    features: gate.Count
    labels: gate.Size
    layers: gate.Size
    d_model: gate.Size
    heads: gate.Size
    mlp_ratio: gate.Amount | None
    positions: str
    position_base: gate.Positive
    max_positions: gate.Size
    norm: bool
    smeared_keys: bool
    embedding_std: gate.Positive | None = None  # files of before have none


def save(params: Params, path: str | Path) -> None:
    """Write one network's weights, float32, whole or not at all."""
    told = {"format": FORMAT, "config": json.dumps(dataclasses.asdict(params.config))}
    with files.atomic(Path(path)) as temporary:
        save_file(_named(params), temporary, told)


def load(path: str | Path) -> Params:
    """The network in a file that `save` wrote.

    Raises:
        UserError: there is none, it was written by something else, tensors are missing, unknown, of
            another shape or type than its config says, or not finite.
    """
    path = Path(path)
    try:
        opened = safe_open(paths.regular(path), framework="numpy")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no whole safetensors file ({paths.reason(error)})") from None
    with opened as file:
        told = file.metadata() or {}
        if told.get("format") != FORMAT:
            raise UserError(
                f"{path} was not written by ih_jax.interop.plain.save: its metadata say format "
                f"{told.get('format')!r}, not {FORMAT!r}"
            )
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), _config(told, path)))
        wanted, held = _named(shapes), set(file.keys())
        wrong = [f"{name} is missing" for name in wanted if name not in held]
        wrong += [f"{name} is unknown" for name in sorted(held - set(wanted))]
        arrays = []
        for name, leaf in wanted.items():
            if name not in held:
                continue
            array = gate.finite(file.get_tensor(name), f"{path}: {name}")
            if array.shape != leaf.shape or array.dtype != np.float32:
                wrong.append(f"{name} is {array.dtype} {array.shape}, not float32 {leaf.shape}")
            arrays.append(jnp.asarray(array))
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{path}: tensors are not those of its config: {', '.join(wrong[:3])}{more}"
        )
    found: Params = jax.tree.unflatten(jax.tree.structure(shapes), arrays)
    return found


def _named(params: Params) -> dict[str, Any]:
    """Every array by its path; as NumPy's, where it is an array and not a shape."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        if isinstance(leaf, jax.ShapeDtypeStruct)
        else np.ascontiguousarray(leaf, np.float32)
        for path, leaf in leaves
    }


def _config(told: dict[str, str], path: Path) -> Config:
    where = f"{paths.shown_path(path)}: config in its metadata"
    try:
        given = json.loads(told.get("config", ""))
    except (ValueError, RecursionError):
        raise UserError(f"{where} is not JSON: write the file again") from None
    found = gate.checked(given, _Fields, where)
    config = Config(**msgspec.structs.asdict(found))  # type: ignore[arg-type]
    size = config.layers * (4 + 2 * (config.mlp_ratio or 0)) * config.d_model**2
    size += (config.features + 2 * config.labels + config.max_positions) * config.d_model
    memory.check(int(4 * size), where)
    return config
