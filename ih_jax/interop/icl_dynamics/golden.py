"""Golden numbers of the authors' code, and how far ours are from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ih_jax import gate
from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics.clamps import Translation, clamp_from_options
from ih_jax.interop.icl_dynamics.options import POSITIONS, GoldenOptions
from ih_jax.interop.icl_dynamics.weights import arrays_from_params, params_from_arrays
from ih_jax.model.activations import public
from ih_jax.model.params import Config, Params, Rows
from ih_jax.tasks.fewshot_scores import query_loss


def golden_config(recorded: Mapping[str, Any], features: int, max_positions: int) -> Config:
    """The network of a group. Raises UserError for a field that is missing or out of range."""
    o = gate.checked(dict(recorded), GoldenOptions, "config of golden numbers")
    return Config(
        features=features,
        labels=o.num_labels,
        layers=o.depth,
        d_model=o.d_model,
        heads=o.num_heads,
        mlp_ratio=o.mlp_ratio,
        positions=POSITIONS[o.positions],
        norm=o.norm,
        max_positions=max_positions,
    )


def parity(
    path: Path | str, only: tuple[str, str] | None = None
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Largest absolute error per quantity of every variant of every group of a golden file.

    The file's layout: `meta` is JSON in bytes, `{group: {config, variants: {name: options}}}`;
    arrays are `group/examples`, `group/labels`, `group/params.NAME` and, under a variant,
    `logits` (at the query), `pattern.LAYER`, `loss` and `grad.NAME`.

    With `only`, (group, variant), just that one.

    Loss and gradients come from the pass that training differentiates (rows="query").

    Yields:
        (group, variant, {"logits" | "pattern" | "loss" | "gradient": error}).
    """
    with np.load(path) as archive:
        files = {name: archive[name] for name in archive.files}
    meta = json.loads(bytes(files["meta"]).decode())
    for group, described in meta.items():
        own = {k[len(group) + 1 :]: v for k, v in files.items() if k.startswith(f"{group}/")}
        weights = {k[7:]: v for k, v in own.items() if k.startswith("params.")}
        pos = weights.get("pos_embed.weight", np.zeros((0, 32)))
        config = golden_config(described["config"], own["examples"].shape[-1], pos.shape[1])
        params = params_from_arrays(weights, config)
        batch = Batch.of(jnp.asarray(own["examples"]), jnp.asarray(own["labels"]))
        for variant, options in described["variants"].items():
            if only not in (None, (group, variant)):
                continue
            expected = {
                k[len(variant) + 1 :]: v for k, v in own.items() if k.startswith(f"{variant}/")
            }
            translation = clamp_from_options(options or "", config.layers)
            yield group, variant, _errors(params, batch, translation, expected)


def _errors(
    params: Params, batch: Batch, translation: Translation, expected: Mapping[str, np.ndarray]
) -> dict[str, float]:
    config = params.config
    holds, base = translation.clamp.arrays(config), translation.base.arrays(config)

    def sites(params: Params, rows: Rows, holds: Holds = holds) -> Any:
        given = forward(params, batch, base, rows) if holds.needs_given else None
        return forward(params, batch, holds, rows, given)

    def loss(params: Params) -> jax.Array:
        return query_loss(sites(params, "query"), batch)

    with jax.default_matmul_precision("highest"):
        value, gradients = jax.jit(jax.value_and_grad(loss))(params)
        activations = jax.jit(lambda p: public(sites(p, "all")))(params)
    found = {"loss": value, "logits": activations.logits[:, -1]}
    found |= {f"pattern.{layer}": p for layer, p in enumerate(activations.pattern)}
    found |= {f"grad.{name}": g for name, g in arrays_from_params(gradients).items()}
    odd = sorted(set(expected) - set(found))
    if odd or not expected:
        raise UserError(f"golden numbers are of {', '.join(odd) or 'nothing'}: ours of {[*found]}")
    errors: dict[str, float] = {}
    for name, golden in expected.items():
        quantity = {"grad": "gradient"}.get(name.split(".")[0], name.split(".")[0])
        if np.shape(found[name]) != golden.shape:
            raise UserError(f"{name} has shape {golden.shape}, ours {np.shape(found[name])}")
        error = float(np.max(np.abs(np.asarray(found[name]) - golden)))
        errors[quantity] = max(errors.get(quantity, 0.0), error if np.isfinite(error) else np.inf)
    return errors
