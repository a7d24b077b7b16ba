"""Reading what the authors' own code (github aadityasingh/icl-dynamics) writes and takes.

Its command-line options map to clamps (`clamp_from_options`) and its weight arrays to `Params`
(`params_from_arrays`). Golden numbers of that code stand in files that `parity` compares with.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ih_jax.clamps import clamp as clamps
from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.data.fewshot import Batch
from ih_jax.errors import UserError
from ih_jax.model.activations import public
from ih_jax.model.params import MLP, Attention, Block, Config, Norm, Params, Rows
from ih_jax.tasks.fewshot import query_loss

NESTED_PASS = "opto_specific_fn"
SWITCHES = (
    "opto_preserve_patterns",
    "opto_preserve_values",
    "opto_preserve_queries",
    "opto_preserve_keys",
    "opto_prev_token_only_label",
    "opto_disallow_prev_token_only_label",
    "opto_ablate_embedding",
)


OPTIONS = (
    *SWITCHES,
    NESTED_PASS,
    "opto_ablate_heads",
    "opto_induction_heads",
    "opto_induction_head_strength",
    "opto_prev_token_heads",
    "opto_prev_token_head_strength",
    "opto_disallow_prev_token_heads",
    "opto_match_heads",
    "opto_match_head_temperature",
    "opto_perfect_copy_from_head_pattern",
    "opto_set_head_temperature",
    "opto_final_layer_silence_non_label_attn",
    "opto_graft_in_model_ckpt",
    "opto_graft_in_model_cfg",
    "opto_graft_in_model_till_layer",
    "opto_graft_out_model_ckpt",
    "opto_graft_out_model_cfg",
    "opto_graft_out_model_from_layer",
)


@dataclass(frozen=True)
class Translation:
    """A clamp, and the clamp of the pass that its `base="clean"` parts read (usually none)."""

    clamp: Clamp
    base: Clamp = field(default_factory=Clamp)


def parse_options(text: str) -> dict[str, Any]:
    """{option: value} of a command line: True for a switch, a list of words for the others."""
    options: dict[str, Any] = {}
    name = ""
    for word in shlex.split(text):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[name] = True if name in SWITCHES else [value] if equals else []
        elif not name or options[name] is True:
            raise UserError(f"options {text!r}: {word!r} belongs to no option")
        else:
            options[name].append(word)
    return options


def _by_layer(words: Any) -> dict[int, list[int]]:
    """{layer: heads} of words "layer:head"."""
    found: dict[int, list[int]] = {}
    for word in words or ():
        layer, head = _integers(word, 2)
        found.setdefault(layer, []).append(head)
    return found


def _integers(word: str, count: int) -> list[int]:
    """The numbers of "layer:head". Raises UserError for anything else."""
    parts = str(word).split(":")
    if len(parts) != count or not all(part.isdecimal() for part in parts):
        raise UserError(f"{word!r} is no layer:head: give two whole numbers, such as 1:3")
    return [int(part) for part in parts]


def _shifted_stream(batch: Batch, activations: Any) -> jax.Array:
    """[T, D]: the stream of that code's pattern pass, the previous embedding at 1 .. T-2."""
    x = activations.resid_pre[0]
    return jnp.concatenate([x[:1], x[:-2], x[-1:]])


def _number(options: Mapping[str, Any], name: str, default: float) -> float:
    value = options.get(name)
    if value in (None, []):
        return default
    try:
        return float(value[0] if isinstance(value, list) else value)
    except ValueError:
        raise UserError(f"{name} is {value!r}: give a number") from None


def clamp_from_options(options: str | Mapping[str, Any], layers: int = 2) -> Translation:
    """The clamp that the authors' options (a command line, or the dict of a config.json) mean.

    Two things differ, where that code leaves its own meaning open: exemplars that are equally
    similar share a hard match's attention (there each gets all of it), and a label that stands
    twice is copied with the log-sum-exp of its scores (there with one of them).

    Two habits of that code are kept: where patterns are preserved in every layer, or a temperature
    is set in a layer, "only_label" has no effect, since all rows of that layer are taken from its
    cache; and reading from a head looks at a pass in which nothing is clamped.
    """
    if isinstance(options, str):
        options = parse_options(options)
    unknown = [name for name in options if name.startswith("opto_") and name not in OPTIONS]
    if unknown:
        raise UserError(f"options {', '.join(unknown)} are not known: {', '.join(OPTIONS)} are")
    o = {k: v for k, v in options.items() if v is not None and v is not False and v != []}
    grafts = [name for name in o if name.startswith("opto_graft")]
    if grafts:
        raise UserError(f"options {', '.join(grafts)}: grafts need weights: use clamp.graft")
    copy = o.get("opto_perfect_copy_from_head_pattern")
    ablated = Clamp()
    for layer, heads in _by_layer(o.get("opto_ablate_heads")).items():
        ablated = ablated.overlay(clamps.ablate(layer, heads))
    copied = Clamp()
    if copy is not None:
        layer, head = _integers(copy[0] if isinstance(copy, list) else copy, 2)
        copied = clamps.copy_from(layer, head, base="clean")
    specific = o.get(NESTED_PASS)
    if specific in (["perfect_prev_token_input"], "perfect_prev_token_input"):
        perfect = clamps.perfect_previous_layer()
        if not copied.parts:
            return Translation(perfect & ablated)
        if layer >= 2:  # beyond two layers that code shifts the whole stream of the pass it reads
            perfect = clamps.rule("resid_pre", _shifted_stream, layer=1)
        return Translation(copied, perfect)
    if specific not in (None, ["standard"], "standard"):
        raise UserError(f"--opto_specific_fn {specific}: known is perfect_prev_token_input")

    clamp = Clamp()
    if "opto_ablate_embedding" in o:
        clamp = clamps.hold("embed", 0.0)
    kept = [what for what in clamps.PRESERVED if f"opto_preserve_{what}" in o]
    if kept:
        clamp = clamp.overlay(clamps.preserve(*kept))
    temperatures: dict[int, dict[int, float]] = {}
    for word in o.get("opto_set_head_temperature", ()):
        where, _, t = word.rpartition(":")
        at, head = _integers(where, 2)
        temperatures.setdefault(at, {})[head] = _number({"t": t}, "t", 1.0)
    for layer, by_head in temperatures.items():
        clamp = clamp.overlay(clamps.temperature(layer, by_head, base="clean"))
    only_label = "opto_prev_token_only_label" in o and "patterns" not in kept
    strength = _number(o, "opto_prev_token_head_strength", 1.0)
    for layer, heads in _by_layer(o.get("opto_prev_token_heads")).items():
        rows = "label" if only_label else "all"
        clamp = clamp.overlay(clamps.previous_token(layer, heads, strength, rows))
    strength = _number(o, "opto_induction_head_strength", 1.0)
    for layer, heads in _by_layer(o.get("opto_induction_heads")).items():
        clamp = clamp.overlay(clamps.induction(layer, heads, strength))
    t = _number(o, "opto_match_head_temperature", 0.0)
    for layer, heads in _by_layer(o.get("opto_match_heads")).items():
        clamp = clamp.overlay(clamps.match_by_similarity(layer, heads, t))
    for layer, heads in _by_layer(o.get("opto_disallow_prev_token_heads")).items():
        label = "opto_disallow_prev_token_only_label" in o and layer not in temperatures
        clamp = clamp.overlay(clamps.no_previous_token(layer, heads, "label" if label else "all"))
    silent = o.get("opto_final_layer_silence_non_label_attn")
    if silent is not None:
        clamp = clamp.overlay(clamps.labels_only(layers - 1, [int(head) for head in silent]))
    return Translation(clamp.overlay(ablated).overlay(copied))


def params_from_arrays(arrays: Mapping[str, np.ndarray], config: Config) -> Params:
    """`Params` of named weights: `weight` is [out, in], `qkv` [3 D, D] by q, k, v and head."""
    H, E, D = config.heads, config.d_head, config.d_model

    def get(name: str) -> jax.Array:
        if name not in arrays:
            raise UserError(f"weights lack {name}: they have {', '.join(sorted(arrays))}")
        return jnp.asarray(arrays[name], jnp.float32)

    def norm(name: str) -> Norm | None:
        return Norm(get(f"{name}.weight"), get(f"{name}.bias")) if config.norm else None

    def block(layer: int) -> Block:
        at = f"blocks.{layer}"
        attention = Attention(
            get(f"{at}.attn.qkv.weight").reshape(3, H, E, D),
            get(f"{at}.attn.proj.weight").reshape(D, H, E),
            None,
        )
        if config.mlp_ratio is None:
            return Block(norm(f"{at}.norm1"), attention, None, None)
        fc1, fc2 = f"{at}.mlp.fc1", f"{at}.mlp.fc2"
        mlp = MLP(
            get(f"{fc1}.weight"), get(f"{fc1}.bias"), get(f"{fc2}.weight"), get(f"{fc2}.bias")
        )
        return Block(norm(f"{at}.norm1"), attention, norm(f"{at}.norm2"), mlp)

    return Params(
        W_E=get("example_embed.weight"),
        b_E=get("example_embed.bias"),
        W_L=get("label_embed.weight"),
        W_pos=get("pos_embed.weight").T if config.positions == "learned" else None,
        blocks=tuple(block(layer) for layer in range(config.layers)),
        norm=norm("norm"),
        W_U=get("unembed.weight"),
        b_U=get("unembed.bias"),
        config=config,
    )


def arrays_from_params(params: Params) -> dict[str, jax.Array]:
    """The inverse of `params_from_arrays`: weights by the authors' names."""
    D = params.config.d_model
    if params.b_E is None or params.W_L is None:
        raise UserError("a language model has no names in the authors' few-shot code")
    named = {
        "example_embed.weight": params.W_E,
        "example_embed.bias": params.b_E,
        "label_embed.weight": params.W_L,
        "unembed.weight": params.W_U,
        "unembed.bias": params.b_U,
    }

    def add_norm(name: str, norm: Norm | None) -> None:
        if norm is not None:
            named[f"{name}.weight"], named[f"{name}.bias"] = norm.scale, norm.bias

    if params.config.positions == "learned" and params.W_pos is not None:
        named["pos_embed.weight"] = params.W_pos.T
    add_norm("norm", params.norm)
    for layer, block in enumerate(params.blocks):
        at = f"blocks.{layer}"
        named[f"{at}.attn.qkv.weight"] = block.attention.W_QKV.reshape(3 * D, D)
        named[f"{at}.attn.proj.weight"] = block.attention.W_out.reshape(D, D)
        add_norm(f"{at}.norm1", block.norm1)
        add_norm(f"{at}.norm2", block.norm2)
        if block.mlp is not None:
            named[f"{at}.mlp.fc1.weight"] = block.mlp.W_in
            named[f"{at}.mlp.fc1.bias"] = block.mlp.b_in
            named[f"{at}.mlp.fc2.weight"] = block.mlp.W_out
            named[f"{at}.mlp.fc2.bias"] = block.mlp.b_out
    return named


# --- golden numbers -----------------------------------------------------------------------------

POSITIONS = {"rope": "rope", "sinusoidal": "sinusoidal", "ape": "learned", "learned": "learned"}


def _golden_config(recorded: Mapping[str, Any], features: int, max_positions: int) -> Config:
    return Config(
        features=features,
        labels=recorded["num_labels"],
        layers=recorded["depth"],
        d_model=recorded["d_model"],
        heads=recorded["num_heads"],
        mlp_ratio=recorded.get("mlp_ratio"),
        positions=POSITIONS[recorded["positions"]],  # type: ignore[arg-type]
        norm=recorded["norm"],
        max_positions=max_positions,
    )


def parity(path: Path | str) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Largest absolute error per quantity of every variant of every group of a golden file.

    The file's layout: `meta` is JSON in bytes, `{group: {config, variants: {name: options}}}`;
    arrays are `group/examples`, `group/labels`, `group/params.NAME` and, under a variant,
    `logits` (at the query), `pattern.LAYER`, `loss` and `grad.NAME`.

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
        config = _golden_config(described["config"], own["examples"].shape[-1], pos.shape[1])
        params = params_from_arrays(weights, config)
        batch = Batch.of(jnp.asarray(own["examples"]), jnp.asarray(own["labels"]))
        for variant, options in described["variants"].items():
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
