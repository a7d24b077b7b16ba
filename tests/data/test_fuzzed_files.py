"""Whatever stands in a file of features or drawings: a result, or one line on what is wrong."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import h5py
import numpy as np
from fuzzing import NUMBERS, SCALARS, few, file_of, mutated, result_or_line
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

import ih_jax as ih
from ih_jax.data.images import drawings, encoders
from ih_jax.data.images.features import of_file
from ih_jax.data.languages import (
    Bigrams,
    Markov,
    Mixture,
    RandomRepeats,
    Repeats,
    Templates,
    Text,
    Translations,
)


def features(compression: str | None = None) -> bytes:
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        values = np.random.default_rng(0).normal(size=(12, 3, 4)).astype("f4")
        file.create_dataset("a/feat", data=values, compression=compression)
        file["character"] = np.arange(12)
        file.attrs["split_by"] = "character"
    return held.getvalue()


def drawing(side: int = 9) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.eye(side) > 0).save(held, "PNG")
    return held.getvalue()


def archive(images: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in images.items():
            file.writestr(name, content)
    return held.getvalue()


IMAGES = {f"i/Greek/c{i}/{d}.png": drawing() for i in range(3) for d in range(2)}


@few
@given(st.one_of(st.binary(max_size=200), mutated(features()), mutated(features("gzip"))))
def test_features(content: bytes) -> None:
    with file_of(content, "x.h5") as path:

        def read() -> Any:
            found = of_file(path)
            return found.select(range(found.classes), range(found.exemplars))

        found = result_or_line(read)
        assert found is None or np.isfinite(found).all()


@few
@given(st.one_of(st.binary(max_size=200), mutated(archive(IMAGES))))
def test_archives(content: bytes) -> None:
    with file_of(content, "x.zip") as path:
        result_or_line(lambda: drawings.read(path))


@few
@given(st.one_of(st.binary(max_size=200), mutated(drawing())))
def test_drawings(content: bytes) -> None:
    with file_of(archive({**IMAGES, "i/Greek/c1/9.png": content}), "x.zip") as path:
        result_or_line(lambda: drawings.read(path))


@few
@given(st.one_of(st.binary(max_size=200), mutated(save({"conv1.weight": np.ones((2, 2))}))))
def test_weights_of_an_encoder(content: bytes) -> None:
    with file_of(content, "x.safetensors") as path:
        assert result_or_line(lambda: encoders.read_resnet(path)) is None


@few
@given(st.binary(max_size=400), st.sampled_from(["bytes", "characters"]))
def test_text(content: bytes, tokenizer: Any) -> None:
    with file_of(content, "x.txt") as path:
        result_or_line(lambda: Text(path, tokenizer=tokenizer, length=8))


FIELDS = sorted({*ih.FewShot.__dataclass_fields__} - {"data"})
VALUES = st.one_of(SCALARS, st.lists(NUMBERS, max_size=3).map(tuple))


@few
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=2))
def test_settings_of_the_few_shot_task(settings: dict[str, Any]) -> None:
    result_or_line(lambda: ih.fewshot(**settings))


RECIPES = st.sampled_from(
    [ih.language, Bigrams, Markov, Mixture, RandomRepeats, Repeats, Templates, Translations]
)


@few
@given(RECIPES, st.sampled_from(["tokens", "length", "own", "paste", "shortest"]), SCALARS)
def test_settings_of_languages(make: Any, name: str, value: Any) -> None:
    if make is ih.language or name in getattr(make, "__dataclass_fields__", {}):
        result_or_line(lambda: make(**{name: value}))
