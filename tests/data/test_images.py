"""Drawings, encoders and files of features: what is read, what is refused, what comes out."""

from __future__ import annotations

import importlib
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import ih_jax as ih
from ih_jax.cli.main import main
from ih_jax.data.images import drawings, encoders, omniglot
from ih_jax.data.images.features import of_file

DATA = os.environ.get("IH_JAX_DATA_DIR")
CHARACTERS = ("Greek/character01", "Greek/character02", "Latin/character01")


def png(seed: int, size: int = 20) -> bytes:
    ink = np.random.default_rng(seed).uniform(size=(size, size)) > 0.8
    made = io.BytesIO()
    Image.fromarray(ink).convert("1").save(made, "PNG")  # light on dark: mostly ink
    return made.getvalue()


def archive(path: Path, more: dict[str, bytes] | None = None, characters: Any = CHARACTERS) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for i, name in enumerate(characters):
            for d in range(3):
                file.writestr(f"images_background/{name}/{i:04d}_{d:02d}.png", png(10 * i + d))
        for name, content in (more or {}).items():
            file.writestr(name, content)
    return path


def test_archives_and_folders_hold_the_same(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.zip")
    with zipfile.ZipFile(packed) as file:
        file.extractall(tmp_path / "folder")
    a, b = drawings.read(packed), drawings.read(tmp_path / "folder")
    assert a.characters == b.characters == CHARACTERS
    assert a.alphabets == ("Greek", "Latin")
    np.testing.assert_array_equal(a.images, b.images)
    assert a.images.shape == (3, 3, 20, 20)
    with Image.open(io.BytesIO(png(11))) as one:
        np.testing.assert_array_equal(a.images[1, 1], ~np.asarray(one))
    assert a.checksum == b.checksum


def test_what_several_archives_hold_is_taken_once(tmp_path: Path) -> None:
    a, b = (archive(tmp_path / f"{i}.zip", characters=CHARACTERS[i:]) for i in (0, 1))
    assert drawings.read(a, b).characters == CHARACTERS


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"images_background/Greek/readme.txt": b"hello"}, "which is no drawing"),
        ({"../../x.png": png(1)}, "leads out of the archive"),
        ({"/abs/a/x.png": png(1)}, "leads out of the archive"),
        ({"x/Greek/c/1.png": b"no image"}, "is no PNG image"),
        ({"x/Greek/c/1.png": png(1, 21)}, "one size"),
        ({"lonely.png": png(1)}, "is not alphabet/character/drawing.png"),
        ({"x/Greek/c/1.png": b"0" * (2**20 + 1)}, "bytes unpacked"),
    ],
)
def test_other_things_are_refused(tmp_path: Path, more: dict[str, bytes], message: str) -> None:
    with pytest.raises(ih.UserError, match=message) as error:
        drawings.read(archive(tmp_path / "a.zip", more))
    assert "\n" not in str(error.value)


def test_half_a_download_and_no_archive_are_refused(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("half.zip", "no whole zip"),
        ("none.zip", "does not exist"),
        ("empty", "holds no drawings"),
    ):
        with pytest.raises(ih.UserError, match=message):
            drawings.read(tmp_path / name)


def test_a_link_out_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(1))
    (tmp_path / "f" / "A" / "c").mkdir(parents=True)
    (tmp_path / "f" / "A" / "c" / "1.png").symlink_to(tmp_path / "x.png")
    with pytest.raises(ih.UserError, match="leads out of the folder"):
        drawings.read(tmp_path / "f")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    odd = tmp_path / "d" / os.fsdecode(b"caf\xe9") / "c"
    odd.mkdir(parents=True)
    (odd / "1.png").write_bytes(b"x")
    with pytest.raises(ih.UserError, match="is no UTF-8 text: rename it"):
        drawings.read(tmp_path / "d")


def test_eight_orientations() -> None:
    page = np.zeros((2, 1, 3, 3), np.uint8)
    page[:, :, 0, 1:] = 1
    page[:, :, 1, 0] = 1
    turned = drawings.turned(page, (0, 1, 2, 3), flips=True)
    assert turned.shape == (16, 1, 3, 3)
    assert len({one.tobytes() for one in turned[:8]}) == 8
    np.testing.assert_array_equal(turned[:8], turned[8:])


@pytest.mark.parametrize("name", ["pixels", "random-conv"])
def test_encoders_take_any_number_of_drawings(name: str) -> None:
    drawings = np.random.default_rng(0).uniform(size=(7, 5, 30, 30)) > 0.7
    encoder = encoders.make(name)
    found = encoder(drawings)
    assert found.shape == (7, 5, encoder.features)
    np.testing.assert_allclose(found[3, 2], encoder(drawings[3:4, 2:3])[0, 0], atol=1e-5)
    assert found.std() > 0


def test_a_file_of_features(tmp_path: Path) -> None:
    encoder = encoders.make("pixels")
    paths = [archive(tmp_path / "a.zip")]
    path = omniglot.prepare(paths, encoder, tmp_path / "cache", kept=2)
    data = of_file(path)
    assert (data.classes, data.exemplars, data.features) == (24, 2, 784)
    with h5py.File(path) as file:
        character, quarter, mirrored = (
            file[n][()] for n in ("character", "quarter_turns", "mirrored")
        )
    every = drawings.read(*paths).images
    for c in (0, 7, 23):
        one = every[character[c], :2]
        one = np.rot90(one[..., ::-1] if mirrored[c] else one, quarter[c], axes=(1, 2))
        np.testing.assert_allclose(data.select([c], [0, 1])[0], encoder(one), atol=1e-6)
    made = path.stat().st_mtime_ns
    assert omniglot.prepare(paths, encoder, tmp_path / "cache", kept=2) == path
    assert path.stat().st_mtime_ns == made
    assert omniglot.prepare(paths, encoder, tmp_path / "cache", kept=2, seed=1) != path
    assert [p.name for p in (tmp_path / "cache").iterdir() if "writing" in p.name] == []
    with pytest.raises(ih.UserError, match="drawings is 1,000, and characters have"):
        omniglot.prepare(paths, encoder, tmp_path / "cache", kept=1000)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    with h5py.File(out, "w") as file:
        file["x"] = np.ones((2, 2, 2))
    with pytest.raises(ih.UserError, match="was made otherwise"):
        omniglot.prepare([archive(tmp_path / "a.zip")], encoders.make("pixels"), tmp_path, out=out)


def test_a_failure_leaves_nothing_half_written(tmp_path: Path, monkeypatch: Any) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        omniglot.prepare([archive(tmp_path / "a.zip")], encoders.make("pixels"), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_no_character_is_on_both_sides(tmp_path: Path) -> None:
    many = [f"A/character{i:02d}" for i in range(12)]
    path = omniglot.prepare(
        [archive(tmp_path / "a.zip", characters=many)], encoders.make("pixels"), tmp_path / "c"
    )
    data = of_file(path)
    assert data.groups is not None
    task = ih.fewshot(data, classes=5, test_classes=20)
    classes = task.splits()["classes"]
    assert len(classes["test"]) == 20
    assert not set(data.groups[classes["train"]]) & set(data.groups[classes["test"]])
    with pytest.raises(ih.UserError, match="classes of other characters"):
        ih.fewshot(data, classes=40, test_classes=50)


def state_dict(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a ResNet-18 by torchvision's names."""
    random = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}

    def convolution(name: str, out: int, into: int, size: int) -> None:
        scale = (into * size**2) ** -0.5
        made[f"{name}.weight"] = scale * random.normal(size=(out, into, size, size))

    def norm(name: str, channels: int) -> None:
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5)):
            made[f"{name}.{part}"] = random.uniform(low, low + 1, channels)
        made[f"{name}.running_var"] = random.uniform(0.5, 1.5, channels)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    into = 64
    for stage, (channels, stride) in enumerate(encoders.STAGES, start=1):
        for block in (0, 1):
            at = f"layer{stage}.{block}"
            for i, source in ((1, into), (2, channels)):
                convolution(f"{at}.conv{i}", channels, source, 3)
                norm(f"{at}.bn{i}", channels)
            if block == 0 and stride > 1:
                convolution(f"{at}.downsample.0", channels, into, 1)
                norm(f"{at}.downsample.1", channels)
            into = channels
    return {name: array.astype(np.float32) for name, array in made.items()}


def hugging_face(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same by the names of Hugging Face's transformers."""
    found = {}
    for name, array in named.items():
        *where, part, end = name.split(".")
        kind = "convolution" if array.ndim == 4 else "normalization"
        if not where:
            found[f"resnet.embedder.embedder.{kind}.{end}"] = array
            continue
        stage, block = int(where[0].removeprefix("layer")) - 1, where[1]
        at = f"resnet.encoder.stages.{stage}.layers.{block}"
        if where[2:] == ["downsample"]:
            found[f"{at}.shortcut.{kind}.{end}"] = array
        else:
            found[f"{at}.layer.{int(part[-1]) - 1}.{kind}.{end}"] = array
    return found


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    from safetensors.numpy import save_file

    save_file(arrays, path)
    return path


def test_both_ways_to_name_weights_are_one_network(tmp_path: Path) -> None:
    named = state_dict()
    a, _ = encoders.read_resnet(save(tmp_path / "a.safetensors", named))
    b, _ = encoders.read_resnet(save(tmp_path / "b.safetensors", hugging_face(named)))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    features = encoders.make("resnet18", tmp_path / "a.safetensors")(np.eye(20)[None])
    assert features.shape == (1, 512)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named.pop("layer3.0.downsample.0.weight"), "downsample.0.weight is missing"),
        (lambda named: named.update({"layer1.2.conv1.weight": np.ones(3)}), "is unknown"),
        (lambda named: named.update({"conv1.weight": np.ones((64, 3, 3, 3))}), "has shape"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    named = state_dict()
    change(named)
    with pytest.raises(ih.UserError, match=message):
        encoders.read_resnet(save(tmp_path / "a.safetensors", named))


def test_the_resnet_is_that_of_transformers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
    )
    network = transformers.ResNetModel(config).eval()
    own = {
        name.removeprefix("resnet."): torch.from_numpy(array)
        for name, array in hugging_face(state_dict()).items()
    }
    missing = network.load_state_dict(own, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing)
    x = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).pooler_output[..., 0, 0].numpy()
    variables = encoders.to_flax(state_dict())
    found = encoders.ResNet18().apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_commands(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IH_JAX_DATA_DIR", raising=False)
    packed = str(archive(tmp_path / "a.zip"))
    out = str(tmp_path / "f.h5")
    assert main(["features", "--images", packed, "--encoder", "pixels", "--out", out]) == 0
    assert "24 classes of 3 drawings" in capsys.readouterr().out
    for choice in (["omniglot", "--images", packed, "--encoder", "pixels"], [out], ["glyphs"]):
        picture = tmp_path / "picture.png"
        assert main(["data", *choice, "--out", str(picture)]) == 0
        assert "drawings nearer to another class" in capsys.readouterr().out
        with Image.open(picture) as image:
            assert min(image.size) > 100
        picture.unlink()
    assert main(["data", "omniglot"]) == 2
    assert "set IH_JAX_DATA_DIR" in capsys.readouterr().err
    assert main(["run", "fig5b", "--images", packed]) == 2
    assert "--images does not apply to data glyphs" in capsys.readouterr().err


@pytest.mark.skipif(DATA is None, reason="needs Omniglot's archives: set IH_JAX_DATA_DIR")
def test_tensorflow_datasets_yields_the_same_drawings(tmp_path: Path, monkeypatch: Any) -> None:
    """Its real builder; its download step finds the small archives, in the large ones' places."""
    pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    assert DATA is not None
    folders = {}
    for name, split in (("small1", "train"), ("small2", "eval")):
        folders[split] = folders[name] = tmp_path / name
        with zipfile.ZipFile(Path(DATA) / f"images_background_{name}.zip") as file:
            file.extractall(tmp_path / name)
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda self, urls: {key: str(folders[key]) for key in urls},
    )
    builder = importlib.import_module("tensorflow_datasets.image_classification.omniglot")
    get_names = builder._get_names

    def all_names(folders: Any) -> tuple[set[str], list[str]]:
        """The names found, filled up to the 50 and 1,623 that the builder insists on."""
        alphabets, labels = get_names(folders)
        alphabets |= {f"~{i}" for i in range(50 - len(alphabets))}
        return alphabets, [*labels, *(f"~{i}" for i in range(1623 - len(labels)))]

    monkeypatch.setattr(builder, "_get_names", all_names)
    theirs = omniglot.from_tfds(tmp_path / "tfds")
    ours = drawings.read(*sorted(Path(DATA).glob("images_background_small?.zip")))
    assert theirs.characters == ours.characters
    for a, b in zip(theirs.images, ours.images, strict=True):
        assert {one.tobytes() for one in a} == {one.tobytes() for one in b}


def test_no_character_is_counted_twice_in_a_folder_of_large_and_small_archives(
    tmp_path: Path,
) -> None:
    large = archive(tmp_path / "images_background.zip")
    archive(tmp_path / "images_background_small1.zip", characters=CHARACTERS[:1])
    # Some of the large sets: the small ones may have more, and what both have counts once.
    assert omniglot.drawings_of([tmp_path], tmp_path).characters == CHARACTERS
    other = "Futurama/character01"
    evaluation = archive(tmp_path / "images_evaluation.zip", characters=[other])
    assert omniglot.archives_in(tmp_path) == [large, evaluation]
    found = omniglot.drawings_of([tmp_path], tmp_path)
    assert sorted(found.characters) == sorted([*CHARACTERS, other])
    every = omniglot.drawings_of(sorted(tmp_path.glob("*.zip")), tmp_path)
    assert every.checksum == found.checksum


@pytest.mark.skipif(DATA is None, reason="needs Omniglot's archives: set IH_JAX_DATA_DIR")
def test_the_small_sets_have_242_characters() -> None:
    assert DATA is not None
    small = sorted(Path(DATA).glob("images_background_small?.zip"))
    found = drawings.read(*small)
    assert found.images.shape == (242, 20, 105, 105)
    whole = omniglot.archives_in(Path(DATA))
    if len(whole) == 2 and whole != small:  # the large sets lie beside them
        assert len(drawings.read(*whole).characters) == 1623
    assert 0.05 < found.images.mean() < 0.12  # ink is little
