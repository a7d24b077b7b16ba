"""A network of other people, read from a folder or from the Hugging Face hub.

A folder as Hugging Face's transformers writes it, config.json beside model.safetensors, becomes
float32 arrays of one layout for all families (`network`). A family's reader is a file of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from ih_jax import gate, paths
from ih_jax.errors import UserError, unknown
from ih_jax.interop.pretrained import (
    bloom,
    gemma2,
    gguf_files,
    gpt2,
    gpt_neo,
    gpt_neox,
    gptj,
    llama,
    olmo,
    opt,
)
from ih_jax.interop.pretrained.family import Family
from ih_jax.interop.pretrained.layout import Config, Weights
from ih_jax.interop.pretrained.tensors import check_whole, read_weights

HUB = "hub:"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
STEP = re.compile(r"(step|checkpoint|ckpt|iter|epoch|tokens)[-_]?(\d{1,15})$", re.IGNORECASE)

# By the model_type of config.json. A further family: a file like theirs, and a line here.
FAMILIES: Mapping[str, Family] = {
    "gpt2": gpt2.FAMILY,
    "gpt_neo": gpt_neo.FAMILY,
    "gpt_neox": gpt_neox.FAMILY,
    "gptj": gptj.FAMILY,
    "opt": opt.FAMILY,
    "bloom": bloom.FAMILY,
    "llama": llama.LLAMA,
    "mistral": llama.MISTRAL,
    "qwen2": llama.QWEN2,
    "qwen3": llama.QWEN3,
    "olmo": olmo.OLMO,
    "olmo2": olmo.OLMO2,
    "gemma2": gemma2.FAMILY,
}


class _Kind(msgspec.Struct):
    model_type: str


class _Index(msgspec.Struct):
    weight_map: Annotated[dict[str, gate.Name], msgspec.Meta(min_length=1)]


class Place(NamedTuple):
    """Where a network is."""

    name: str
    source: str
    folder: Path
    gguf: Path | None = None  # the file that holds it all


@dataclass(frozen=True)
class Pretrained:
    """A network that was read, and where it came from."""

    name: str
    source: str
    folder: Path
    config: Config
    weights: Weights
    sha256: dict[str, str]  # of each file of weights
    notes: tuple[str, ...] = ()  # what was read past, or is not as one may think


def read(model: str | Path) -> Pretrained:
    """A network from a folder, or from the Hugging Face hub where `model` begins with "hub:".

    Args:
        model: a folder with config.json and model.safetensors (or its shards and their index), a
            GGUF file, or "hub:OWNER/NAME", "hub:OWNER/NAME@REVISION".

    Raises:
        UserError: nothing is there, it is of another architecture, its tensors are not those of its
            config, or hold NaN or infinity; the line says which.
    """
    return read_at(locate(model))


def locate(model: str | Path) -> Place:
    """Where a network is, downloaded if it is on the hub. Raises UserError as `read`."""
    given = paths.path("model", model)
    asked = str(model)
    if asked.startswith(HUB):
        repository, _, revision = asked.removeprefix(HUB).partition("@")
        folder = _from_hub(repository, revision or None)
        name = repository.split("/")[-1] + f"@{revision}" * bool(revision)
        source = f"{HUB}{repository}@{folder.name}"  # a snapshot's folder is its commit
    else:
        folder = given
        paths.is_there(folder)  # or the system cannot say
        name, source = folder.resolve().name, asked
        file = _gguf(folder)
        if file is not None:
            return Place(file.stem, asked, file.parent, file)
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {model}: give one with config.json and {WEIGHTS}, or {HUB}OWNER/"
            "NAME to download it from the Hugging Face hub"
        )
    return Place(name.replace("/", "-"), source, folder)


def read_at(place: Place) -> Pretrained:
    """The network at a place. Raises UserError as `read`."""
    family, found, config = _described(place)
    files = _files(place)
    weights, notes = read_weights(files, family, found, config)
    if place.gguf is not None:
        notes += gguf_files.Opened(place.gguf).notes()
    if config.window is not None and config.window > config.context:
        notes.append(
            f"its window of {config.window:,} tokens is longer than its context of "
            f"{config.context:,}: every token sees all before it"
        )
    if config.post_norm:
        notes.append(
            "its layers normalise the stream: copying is scored through the last norm alone, as if "
            "those between a head and the end were not there"
        )
    return Pretrained(*place[:3], config, weights, hashes(place), tuple(notes))


def hashes(place: Place) -> dict[str, str]:
    """The SHA-256 of each file of weights. Raises UserError where there are none, or not whole."""
    every = _files(place)
    for file in every:
        check_whole(file)  # at once; to read all of it may take long
    return {file.name: _sha256(file) for file in every}


def all_hashes(places: Sequence[Place]) -> dict[str, str]:
    """The same of several networks: of one by its files' names, of more with theirs before."""
    if len(places) == 1:
        return hashes(places[0])
    found = zip(names_apart(places), map(hashes, places), strict=True)
    return {f"{name}/{file}": sha for name, each in found for file, sha in each.items()}


def names_apart(places: Sequence[Place]) -> list[str]:
    """The places' names; where two have the same, with the folder above, or the whole source."""
    ways: tuple[Callable[[Place], str], ...] = (
        lambda place: place.name,
        lambda place: f"{_above(place).name}/{place.name}",
        lambda place: place.source,
    )
    every = ([name(place) for place in places] for name in ways)
    return next(
        (names for names in every if len(set(names)) == len(names)), [*map(ways[-1], places)]
    )


def _above(place: Place) -> Path:
    """The folder that the file or folder of a network is in."""
    return place.folder.resolve() if place.gguf else place.folder.resolve().parent


def step_of(name: str) -> int | None:
    """The number at the end of a checkpoint's name: 500 of "checkpoint-500", 1000 of "step1000"."""
    found = STEP.search(name)
    return int(found[2]) if found else None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder that holds no network itself, in the order of their steps."""
    if not folder.is_dir() or paths.is_there(folder / "config.json"):
        return []
    inside = [each for each in sorted(folder.iterdir()) if (each / "config.json").is_file()]
    numbered = [(step_of(each.name), each) for each in inside]
    return [each for step, each in sorted((s, e) for s, e in numbered if s is not None)]


def read_config(folder: Path) -> Config:
    """The config of the network in a folder.

    Raises:
        UserError: there is no config.json, a field is missing, of another type or out of range, or
            the network is of a family that is not read here.
    """
    return config_at(Place("", "", folder))


def config_at(place: Place) -> Config:
    """The config of the network at a place. Raises UserError as `read_config`."""
    return _described(place)[2]


def _described(place: Place) -> tuple[Family, Any, Config]:
    """The family of a network, the fields of its config.json, and its config."""
    folder = place.folder
    if place.gguf is not None:
        with gguf_files.Opened(place.gguf) as opened:
            return _fields(opened.config(), paths.shown_path(place.gguf))
    path = folder / "config.json"
    if not paths.is_there(path):
        inside = [each.name for each in checkpoints(folder)]
        raise UserError(
            f"{folder} holds no config.json: give the whole folder of the network"
            + f", such as one of {', '.join(inside[:4])} in it" * bool(inside)
        )
    return _fields(gate.parse_json(path), paths.shown_path(path))


def _fields(given: Any, where: str) -> tuple[Family, Any, Config]:
    kind = gate.checked(given, _Kind, where).model_type
    if kind not in FAMILIES:
        raise UserError(f"{where}: {unknown('model_type', kind, FAMILIES)}")
    family = FAMILIES[kind]
    found = gate.checked(given, family.model, where)
    if not found.is_causal:
        raise UserError(
            f"{where} says is_causal false: only networks that see no later token are read"
        )
    return family, found, family.config(found, where)


def _gguf(path: Path) -> Path | None:
    """The GGUF file that this is, or the only one in a folder without config.json."""
    if path.suffix == gguf_files.SUFFIX and not path.is_dir():
        return paths.regular(path)
    if path.is_dir() and not paths.is_there(path / "config.json"):
        inside = sorted(path.glob(f"*{gguf_files.SUFFIX}"))
        if len(inside) > 1:
            names = ", ".join(each.name for each in inside[:4])
            raise UserError(f"{path} holds {len(inside)} GGUF files: give one of {names}")
        return inside[0] if inside else None
    return None


def _files(place: Place) -> list[Path]:
    """The files of weights of a network."""
    if place.gguf is not None:
        return [place.gguf]
    folder = place.folder
    if paths.is_there(folder / WEIGHTS):
        return [paths.regular(folder / WEIGHTS)]
    index = folder / INDEX
    if paths.is_there(index):
        placed = gate.read_json(index, _Index).weight_map
        files = [folder / Path(name).name for name in sorted(set(placed.values()))]
        absent = [file.name for file in files if not paths.is_there(file)]
        if absent:
            raise UserError(
                f"{index}: {', '.join(absent[:3])} of it is missing: download the weights again"
            )
        return [paths.regular(file) for file in files]
    raise UserError(
        f"{folder} holds no {WEIGHTS}, nor shards with their index; pickles (pytorch_model.bin) "
        "are not read: convert them, with transformers, by "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
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
            f"{HUB}{repository} could not be downloaded ({paths.reason(error)}): is it OWNER/NAME "
            "or OWNER/NAME@REVISION, and is there an internet connection?"
        ) from None
    return Path(found)


def _sha256(path: Path) -> str:
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)  # of gigabytes, which are asked for before and after they are read
def _digest(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
