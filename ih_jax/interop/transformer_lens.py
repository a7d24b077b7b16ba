"""Export: a network as safetensors, with the names and the config of TransformerLens.

The exemplars and labels that a network of ours reads become a vocabulary: token i below the
number of training classes is the first training exemplar of class i, then come the labels.
Sequences are x1 y1 x2 y2 ... xq as token numbers; logits are over labels. Clamps are no part of a
network: the metadata say in words which one it was trained with.

TransformerLens 2 and 3 read the file as it is, 4 through its `convert_tl_checkpoint`. Positions
"shortformer" are read plainly only: processing (folded norms, centred weights) changes their
logits, in silence, and 4 refuses them. `note` says so.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ih_jax import files
from ih_jax.errors import UserError
from ih_jax.model.embedding import position_columns
from ih_jax.model.params import Norm, Params
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.base import Task
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.language import Language

Arrays = dict[str, NDArray[np.float32]]


def export(
    trained: Trajectories, path: str | Path, run: int = 0, step: int | None = None
) -> dict[str, Any]:
    """Write one checkpoint of one run, and return its TransformerLens config.

    Args:
        trained: a sweep.
        path: the file, whole or not at all; config, token names and clamp are in its metadata.
        run: by number.
        step: a step at which weights were kept; None: the last.

    Warns where processing would change the network's logits: see `note`.

    Raises:
        UserError: there is no such run or step, or TransformerLens has no such model (smeared
            keys, relative positions).
    """
    path = Path(path)
    params = trained.params(run, trained.last_step(run) if step is None else step)
    spec = trained.study.runs[run]
    embedded, tokens = _vocabulary(params, spec.task)
    arrays = arrays_of(params, embedded)
    config = config_of(params, len(tokens), spec.task.context_length)
    told = {
        "config": json.dumps(config),
        "tokens": json.dumps(tokens),
        "clamp": spec.clamp.describe(),
        "run": json.dumps({name: str(label) for name, label in spec.names.items()}),
    }
    said = note(config)
    if said:
        told["note"] = said
        warnings.warn(said, stacklevel=2)
    with files.atomic(path) as temporary:
        save_file(arrays, temporary, told)
    return config


def note(config: dict[str, Any]) -> str:
    """What to know before TransformerLens loads a network of this config; or nothing."""
    if config["positional_embedding_type"] != "shortformer":
        return ""
    return (
        'positions "shortformer": load this network in TransformerLens 2 or 3 without processing '
        "(load_state_dict alone); folded norms and centred weights change its logits, and 4 "
        "refuses it"
    )


def _vocabulary(params: Params, task: Task) -> tuple[NDArray[np.float32], list[str]]:
    """Embeddings [V, D] and names of tokens; of a few-shot model exemplars, then labels."""
    if isinstance(task, Language):
        return np.asarray(params.W_E).T, task.data.token_names()
    if not isinstance(task, FewShot):
        raise UserError(
            f"{type(task).__name__}: networks of this task read no tokens, as TransformerLens' do: "
            'give --names own (names="own")'
        )
    source = task.source("train")
    exemplars = np.asarray(source.table, np.float32).reshape(-1, params.config.features)
    embedded = exemplars @ np.asarray(params.W_E).T + np.asarray(params.b_E)
    tokens = [f"class {c}" for c in np.asarray(source.class_labels).tolist()]
    tokens += [f"label {label}" for label in range(params.config.labels)]
    return np.concatenate([embedded, np.asarray(params.W_L).T]), tokens


def config_of(params: Params, vocabulary: int, length: int) -> dict[str, Any]:
    """Arguments of TransformerLens' `HookedTransformerConfig`."""
    config = params.config
    if params.blocks[0].attention.smear is not None:
        raise UserError("TransformerLens has no smeared keys: this network cannot be exported")
    if config.positions == "relative":
        raise UserError(
            "TransformerLens has no positions learned for each distance: this network cannot be "
            "exported"
        )
    kinds = {"rope": "rotary", "shortformer": "shortformer"}  # others are added to the embedding
    kind = kinds.get(config.positions, "standard")
    mlp = params.blocks[0].mlp
    found = {
        "n_layers": config.layers,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "n_heads": config.heads,
        "n_ctx": len(_positions(params)) if kind != "rotary" else length,
        "d_vocab": vocabulary,
        "d_vocab_out": config.labels,
        "attn_only": mlp is None,
        "positional_embedding_type": kind,
        "normalization_type": "LN" if config.norm else None,
        "eps": 1e-5,
        "act_fn": None if mlp is None else "gelu_new",
        "d_mlp": None if mlp is None else len(mlp.W_in),
    }
    if kind == "rotary":
        found |= {
            "rotary_dim": config.d_head,
            "rotary_base": int(config.position_base),
            "rotary_adjacent_pairs": True,
        }
    return found


def arrays_of(params: Params, embedded: NDArray[np.float32]) -> Arrays:
    """Weights by TransformerLens' names, tokens embedded as [V, D]; biases that ours lack are 0."""
    config = params.config
    heads, width, inner = config.heads, config.d_model, config.d_head
    found: dict[str, Any] = {
        "embed.W_E": embedded,
        "unembed.W_U": np.asarray(params.W_U).T,
        "unembed.b_U": np.asarray(params.b_U),
    }
    if config.positions != "rope":
        found["pos_embed.W_pos"] = _positions(params)

    def add_norm(name: str, norm: Norm | None) -> None:
        if norm is not None:
            found[f"{name}.w"], found[f"{name}.b"] = np.asarray(norm.scale), np.asarray(norm.bias)

    add_norm("ln_final", params.norm)
    for layer, block in enumerate(params.blocks):
        at = f"blocks.{layer}"
        add_norm(f"{at}.ln1", block.norm1)
        for name in ("Q", "K", "V"):
            found[f"{at}.attn.W_{name}"] = np.asarray(getattr(block.attention, f"W_{name}"))
            found[f"{at}.attn.b_{name}"] = np.zeros((heads, inner))
        found[f"{at}.attn.W_O"] = np.asarray(block.attention.W_O)
        found[f"{at}.attn.b_O"] = np.zeros(width)
        if block.mlp is not None:
            add_norm(f"{at}.ln2", block.norm2)
            found[f"{at}.mlp.W_in"] = np.asarray(block.mlp.W_in).T
            found[f"{at}.mlp.b_in"] = np.asarray(block.mlp.b_in)
            found[f"{at}.mlp.W_out"] = np.asarray(block.mlp.W_out).T
            found[f"{at}.mlp.b_out"] = np.asarray(block.mlp.b_out)
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def _positions(params: Params) -> NDArray[np.float32]:
    """[positions, D], whatever they are added to."""
    length = params.config.max_positions
    return np.asarray(position_columns(params, length), np.float32).T
