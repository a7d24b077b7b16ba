"""A network of other people, read from a folder or from the Hugging Face hub.

A folder as Hugging Face's transformers writes it, config.json beside model.safetensors, becomes
float32 arrays of one layout for all families (`network`). A family's reader is a file of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ih_jax import gate
from ih_jax.errors import UserError, unknown
from ih_jax.interop.pretrained import gpt2, gpt_neox, llama
from ih_jax.interop.pretrained.family import Family
from ih_jax.interop.pretrained.network import Config, Weights
from ih_jax.interop.pretrained.tensors import read_weights

HUB = "hub:"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# By the model_type of config.json. A further family: a file like theirs, and a line here.
FAMILIES: Mapping[str, Family] = {
    "gpt2": gpt2.FAMILY,
    "gpt_neox": gpt_neox.FAMILY,
    "llama": llama.LLAMA,
    "mistral": llama.MISTRAL,
    "qwen2": llama.QWEN2,
    "qwen3": llama.QWEN3,
}


class _Kind(msgspec.Struct):
    model_type: str


class _Index(msgspec.Struct):
    weight_map: Annotated[dict[str, gate.Name], msgspec.Meta(min_length=1)]


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
        UserError: nothing is there, it is of another architecture, its tensors are not those of its
            config, or hold NaN or infinity; the line says which.
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
            "NAME to download it from the Hugging Face hub"
        )
    family, found, config = _described(folder)
    files = _files(folder)
    weights = read_weights(files, family, found, config)
    sha256 = {file.name: _sha256(file) for file in files}
    return Pretrained(name.replace("/", "-"), source, folder, config, weights, sha256)


def read_config(folder: Path) -> Config:
    """The config of the network in a folder.

    Raises:
        UserError: there is no config.json, a field is missing, of another type or out of range, or
            the network is of a family that is not read here.
    """
    return _described(folder)[2]


def _described(folder: Path) -> tuple[Family, Any, Config]:
    """The family of the network in a folder, the fields of its config.json, and its config."""
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder} holds no config.json: give the whole folder of the network")
    given = gate.parse_json(path)
    kind = gate.checked(given, _Kind, gate.shown_path(path)).model_type
    if kind not in FAMILIES:
        raise UserError(f"{path}: {unknown('model_type', kind, FAMILIES)}")
    family = FAMILIES[kind]
    found = gate.checked(given, family.model, gate.shown_path(path))
    return family, found, family.config(found, gate.shown_path(path))


def _files(folder: Path) -> list[Path]:
    """The files of weights in a folder."""
    if (folder / WEIGHTS).exists():
        return [gate.regular(folder / WEIGHTS)]
    index = folder / INDEX
    if index.exists():
        placed = gate.read_json(index, _Index).weight_map
        files = [folder / Path(name).name for name in sorted(set(placed.values()))]
        absent = [file.name for file in files if not file.exists()]
        if absent:
            raise UserError(
                f"{index}: {', '.join(absent[:3])} of it is missing: download the weights again"
            )
        return [gate.regular(file) for file in files]
    raise UserError(
        f"{folder} holds no {WEIGHTS}, nor shards with their index; pickles (pytorch_model.bin) "
        "are not read: convert, with transformers, by model.save_pretrained(FOLDER)"
    )


def _from_hub(repository: str, revision: str | None) -> Path:
    """Download what is needed of a repository; what the hub's cache has is not downloaded again."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            f"to download {HUB}{repository}, pip install huggingface_hub; or give a folder"
        ) from None
    try:
        found = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=["config.json", INDEX, "model*.safetensors", "tokenizer.json"],
        )
    except Exception as error:
        # The hub's client and what it is built on raise many kinds; each means: not downloaded.
        raise UserError(
            f"{HUB}{repository} could not be downloaded ({gate.reason(error)}): is it OWNER/NAME "
            "or OWNER/NAME@REVISION, and is there an internet connection?"
        ) from None
    return Path(found)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
