"""GPT-2 and GPT-NeoX (Pythia) networks that others have trained, read without torch.

A folder as Hugging Face's transformers writes it, config.json beside model.safetensors, becomes
float32 arrays of one layout for both kinds (`pretrained_network`).

Biderman et al. 2023, "Pythia". Glossary of shapes: as in `pretrained_network`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes  # noqa: F401  so that numpy, and with it safetensors, knows bfloat16
import numpy as np
from jax import Array
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ih_jax.errors import UserError
from ih_jax.interop.pretrained_network import ACTIVATIONS, Blocks, Config, Weights

HUB = "hub:"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
# Masks and tables that older files keep beside the weights.
IGNORED = re.compile(r"\.(attn|attention)\.(bias|masked_bias|rotary_emb\.inv_freq)$")


@dataclass(frozen=True)
class Pretrained:
    """A network that was read, and where it came from."""

    name: str
    source: str
    folder: Path
    config: Config
    weights: Weights
    sha256: dict[str, str]  # of each file of weights


def read(model: str | Path) -> Pretrained:
    """A network from a folder, or from the Hugging Face hub where `model` begins with "hub:".

    Args:
        model: a folder with config.json and model.safetensors (or its shards and their index), or
            "hub:OWNER/NAME", "hub:OWNER/NAME@REVISION".

    Raises:
        UserError: nothing is there, it is of another architecture, or its tensors are not those of
            its config; the line says which differ.
    """
    asked = str(model)
    if asked.startswith(HUB):
        repository, _, revision = asked.removeprefix(HUB).partition("@")
        folder = _from_hub(repository, revision or None)
        name = repository.split("/")[-1] + f"@{revision}" * bool(revision)
        source = f"{HUB}{repository}@{folder.name}"  # a snapshot's folder is its commit
    else:
        folder = Path(model)
        name, source = folder.resolve().name, asked
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {model}: give one with config.json and {WEIGHTS}, or {HUB}OWNER/"
            "NAME to load it from the Hugging Face hub"
        )
    config = read_config(folder)
    files = _files(folder)
    weights = _read_weights(folder, files, config)
    sha256 = {file.name: _sha256(file) for file in files}
    return Pretrained(name.replace("/", "-"), source, folder, config, weights, sha256)


def _from_hub(repository: str, revision: str | None) -> Path:
    """Load what is needed of a repository; what the hub's cache has is not loaded again."""
    try:
        from huggingface_hub import snapshot_download  # type: ignore[import-not-found]
    except ImportError:
        raise UserError(
            f"to load {HUB}{repository}, pip install huggingface_hub; or give a folder"
        ) from None
    try:
        found = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=["config.json", INDEX, "model*.safetensors", "tokenizer.json"],
        )
    except Exception as error:
        # The hub's client and its network library raise many kinds; each means: not loaded.
        raise UserError(
            f"{HUB}{repository} could not be loaded ({_first_line(error)}): is it OWNER/NAME or "
            "OWNER/NAME@REVISION, and is there a network?"
        ) from None
    return Path(found)


def _first_line(error: Exception) -> str:
    """What an error says first, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).split(". ")[0][:200].rstrip(".")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): load it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object: load it again")
    return found


def _files(folder: Path) -> list[Path]:
    """The files of weights in a folder."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        placed = _read_json(folder / INDEX).get("weight_map")
        names = sorted(set(placed.values())) if isinstance(placed, dict) else []
        files = [folder / Path(str(name)).name for name in names]
        absent = [file.name for file in files if not file.is_file()]
        if absent or not files:
            lacks = f"{', '.join(absent[:3])} of it is missing" if absent else "it names no file"
            raise UserError(f"{folder / INDEX}: {lacks}: load the weights again")
        return files
    raise UserError(
        f"{folder} holds no {WEIGHTS}, nor shards with their index; pickles (pytorch_model.bin) "
        "are not read: convert, with transformers, by model.save_pretrained(FOLDER)"
    )


def read_config(folder: Path) -> Config:
    """The config of the network in a folder.

    Raises:
        UserError: there is no config.json, or it is of a network that is not known here.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no config.json: give the whole folder of the network")
    found = _read_json(path)
    kind = found.get("model_type")
    if kind not in ("gpt2", "gpt_neox"):
        raise UserError(
            f"{path} says model_type {kind!r}: accepted are gpt2 and gpt_neox (Pythia's)"
        )

    def whole(name: str) -> int:
        value = found.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{path} says {name} {value!r}: a whole number above 0 is needed")
        return value

    def number(name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{path} says {name} {value!r}: a number is needed")
        return float(value)

    names = {
        "gpt2": ("n_layer", "n_head", "n_embd", "n_positions"),
        "gpt_neox": (
            "num_hidden_layers",
            "num_attention_heads",
            "hidden_size",
            "max_position_embeddings",
        ),
    }[kind]
    layers, heads, d_model, context = map(whole, names)
    vocabulary = whole("vocab_size")
    if d_model % heads:
        raise UserError(
            f"{path} says {names[2]} {d_model} and {names[1]} {heads}: heads of one "
            "width are needed"
        )
    ends = ("bos_token_id", "eos_token_id", "pad_token_id")
    special = [
        token
        for name in ends
        for token in _listed(found.get(name))
        if isinstance(token, int) and 0 <= token < vocabulary
    ]
    bos = next(
        (token for name in ends[:2] for token in _listed(found.get(name)) if token in special), None
    )
    said: dict[str, Any] = {
        "bos": bos,
        "special": tuple(dict.fromkeys(special)),
        "layers": layers,
        "heads": heads,
        "d_model": d_model,
        "context": context,
        "vocabulary": vocabulary,
    }
    scale = (d_model // heads) ** -0.5
    if kind == "gpt2":
        if found.get("add_cross_attention"):
            raise UserError(f"{path} says add_cross_attention: only decoders on their own are read")
        scale = scale if found.get("scale_attn_weights", True) else 1.0
        by_layer = bool(found.get("scale_attn_by_inverse_layer_idx", False))
        config = Config(
            "gpt2",
            **said,
            d_mlp=4 * d_model if found.get("n_inner") is None else whole("n_inner"),
            activation=str(found.get("activation_function", "gelu_new")),
            epsilon=number("layer_norm_epsilon", found.get("layer_norm_epsilon", 1e-5)),
            scales=tuple(scale / (i + 1 if by_layer else 1) for i in range(layers)),
            tied=bool(found.get("tie_word_embeddings", True)),
        )
    else:
        share, base = _rotary(found, path, number)
        config = Config(
            "gpt_neox",
            **said,
            d_mlp=whole("intermediate_size"),
            activation=str(found.get("hidden_act", "gelu")),
            epsilon=number("layer_norm_eps", found.get("layer_norm_eps", 1e-5)),
            scales=(scale,) * layers,
            tied=bool(found.get("tie_word_embeddings", False)),
            rotary=int(d_model // heads * share),
            rotary_base=base,
            parallel=bool(found.get("use_parallel_residual", True)),
            attention_bias=bool(found.get("attention_bias", True)),
        )
        if config.rotary % 2 and config.rotary == config.d_head:
            raise UserError(
                f"{path} has all {config.rotary} dimensions of a head rotated: in "
                "pairs, so an even number is needed"
            )
    if config.activation not in ACTIVATIONS:
        raise UserError(
            f"{path} says activation {config.activation!r}: accepted are {', '.join(ACTIVATIONS)}"
        )
    return config


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _rotary(
    found: Mapping[str, Any], path: Path, number: Callable[[str, Any], float]
) -> tuple[float, float]:
    """Share of a head's dimensions that are rotated, and the base, in any of their spellings."""
    given = found.get("rope_parameters") or found.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise UserError(f"{path} says rotary positions {given!r}: an object is needed")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind != "default":
        raise UserError(f"{path} says rotary positions {kind!r}: only the default kind is read")

    def first(default: float, *names: str) -> float:
        for where in (given, found):
            for name in names:
                if where.get(name) is not None:
                    return number(name, where[name])
        return default

    share = first(0.25, "partial_rotary_factor", "rotary_pct")
    base = first(10_000.0, "rope_theta", "rotary_emb_base")
    if not (0 <= share <= 1 and base > 0):
        raise UserError(
            f"{path} says rotary share {share:g} and base {base:g}: a share from 0 to "
            "1 and a base above 0 are needed"
        )
    return share, base


class _Source(NamedTuple):
    """A tensor of a file: its name, its shape, and how it becomes ours."""

    name: str
    shape: tuple[int, ...]
    turn: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray


def _sources(c: Config) -> tuple[dict[str, _Source], dict[str, _Source]]:
    """Where each field of Weights and, by layer, of Blocks is found."""
    V, D, M, H, E = c.vocabulary, c.d_model, c.d_mlp, c.heads, c.d_head

    def norm(field: str, name: str) -> dict[str, _Source]:
        return {
            f"{field}_scale": _Source(f"{name}.weight", (D,)),
            f"{field}_bias": _Source(f"{name}.bias", (D,)),
        }

    if c.architecture == "gpt2":  # maps are [in, out]
        outer = {
            "W_E": _Source("wte.weight", (V, D)),
            "W_pos": _Source("wpe.weight", (c.context, D)),
            **norm("norm", "ln_f"),
        }
        inner = {
            **norm("norm1", "h.{}.ln_1"),
            **norm("norm2", "h.{}.ln_2"),
            "W_QKV": _Source(
                "h.{}.attn.c_attn.weight", (D, 3 * D), lambda a: a.T.reshape(3, H, E, D)
            ),
            "b_QKV": _Source("h.{}.attn.c_attn.bias", (3 * D,), lambda a: a.reshape(3, H, E)),
            "W_O": _Source("h.{}.attn.c_proj.weight", (D, D), lambda a: a.reshape(H, E, D)),
            "b_O": _Source("h.{}.attn.c_proj.bias", (D,)),
            "W_in": _Source("h.{}.mlp.c_fc.weight", (D, M)),
            "b_in": _Source("h.{}.mlp.c_fc.bias", (M,)),
            "W_out": _Source("h.{}.mlp.c_proj.weight", (M, D)),
            "b_out": _Source("h.{}.mlp.c_proj.bias", (D,)),
        }
        return outer, inner
    # Maps are [out, in]; queries, keys and values stand together within each head.
    at, mlp = "layers.{}.attention", "layers.{}.mlp"
    outer = {"W_E": _Source("embed_in.weight", (V, D)), **norm("norm", "final_layer_norm")}
    inner = {
        **norm("norm1", "layers.{}.input_layernorm"),
        **norm("norm2", "layers.{}.post_attention_layernorm"),
        "W_QKV": _Source(
            f"{at}.query_key_value.weight",
            (3 * D, D),
            lambda a: a.reshape(H, 3, E, D).swapaxes(0, 1),
        ),
        "W_O": _Source(f"{at}.dense.weight", (D, D), lambda a: a.T.reshape(H, E, D)),
        "W_in": _Source(f"{mlp}.dense_h_to_4h.weight", (M, D), np.transpose),
        "b_in": _Source(f"{mlp}.dense_h_to_4h.bias", (M,)),
        "W_out": _Source(f"{mlp}.dense_4h_to_h.weight", (D, M), np.transpose),
        "b_out": _Source(f"{mlp}.dense_4h_to_h.bias", (D,)),
    }
    if c.attention_bias:
        inner["b_QKV"] = _Source(
            f"{at}.query_key_value.bias", (3 * D,), lambda a: a.reshape(H, 3, E).swapaxes(0, 1)
        )
        inner["b_O"] = _Source(f"{at}.dense.bias", (D,))
    return outer, inner


def _read_weights(folder: Path, files: list[Path], config: Config) -> Weights:
    """Every tensor where it belongs, float32. Raises UserError as `read`."""
    outer, inner = _sources(config)
    prefix = {"gpt2": "transformer.", "gpt_neox": "gpt_neox."}[config.architecture]
    with contextlib.ExitStack() as stack:
        held: dict[str, tuple[Any, str]] = {}
        for file in files:
            try:
                opened = stack.enter_context(safe_open(file, framework="numpy"))
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{file} is no whole safetensors file ({_first_line(error)}): load it again, "
                    "and not as a pointer of Git LFS"
                ) from None
            held |= {name.removeprefix(prefix): (opened, name) for name in opened.keys()}  # noqa: SIM118
        head = next((name for name in ("embed_out.weight", "lm_head.weight") if name in held), None)
        if head or not config.tied:
            shape = (config.vocabulary, config.d_model)
            outer["W_U"] = _Source(head or "lm_head.weight", shape)
        wrong = _differences(held, outer, inner, config.layers)
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise UserError(
                f"{folder} holds no {config.architecture} of the size that its config.json says: "
                f"{', '.join(wrong[:3])}{more}"
            )

        def take(source: _Source, layer: int = 0) -> NDArray[Any]:
            opened, name = held[source.name.format(layer)]
            return source.turn(opened.get_tensor(name))

        def stacked(source: _Source) -> Array:
            first = take(source)
            whole = np.empty((config.layers, *first.shape), np.float32)
            for layer in range(config.layers):  # one tensor at a time: there may be no room for all
                whole[layer] = take(source, layer)
            return jnp.asarray(whole)

        found = {field: jnp.asarray(take(source), jnp.float32) for field, source in outer.items()}
        blocks = {field: stacked(source) for field, source in inner.items()}
    if not config.attention_bias:
        blocks["b_QKV"] = jnp.zeros((config.layers, 3, config.heads, config.d_head))
        blocks["b_O"] = jnp.zeros((config.layers, config.d_model))
    found.setdefault("W_U", found["W_E"])
    return Weights(blocks=Blocks(**blocks), W_pos=found.pop("W_pos", None), **found)


def _differences(
    held: Mapping[str, tuple[Any, str]],
    outer: Mapping[str, _Source],
    inner: Mapping[str, _Source],
    layers: int,
) -> list[str]:
    """In which tensors files differ from what is to be read, in words."""
    wanted = {source.name: source.shape for source in outer.values()}
    wanted |= {
        source.name.format(layer): source.shape
        for layer in range(layers)
        for source in inner.values()
    }
    wrong = [f"{name} is missing" for name in wanted if name not in held]
    for name in sorted(held):
        opened, stored = held[name]
        tensor = opened.get_slice(stored)
        shape, dtype = tuple(tensor.get_shape()), tensor.get_dtype()
        if name not in wanted:
            wrong += [] if IGNORED.search(f".{name}") else [f"{name} is unknown"]
        elif shape != wanted[name]:
            wrong.append(f"{name} has shape {list(shape)}, not {list(wanted[name])}")
        elif dtype not in FLOATS:
            wrong.append(f"{name} is of {dtype}, not {', '.join(FLOATS)}")
    return wrong
