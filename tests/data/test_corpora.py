"""What must be true of where text is from: folders, files, Python itself, tensorflow-datasets."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from documents import KINDS, that_tell_their_names, words

import ih_jax as ih
from ih_jax.data.languages import corpora
from ih_jax.data.languages.recipe import of_card
from ih_jax.data.languages.text import Text


@pytest.fixture
def folder(tmp_path):
    return that_tell_their_names(tmp_path / "corpus")


def test_only_text_below_the_folder_is_read(folder, tmp_path):
    clean = Text(str(folder), length=16).describe()["checksum"]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (folder / "to_file.txt").symlink_to(outside / "secret.txt")
    (folder / "to_folder").symlink_to(outside)
    (folder / ".hidden").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden")
    (folder / "binary").write_bytes(b"text\0more")
    (folder / "empty.txt").touch()
    os.mkfifo(folder / "pipe")  # to open it would wait for ever
    assert Text(str(folder), length=16).describe()["checksum"] == clean
    # The folder itself may be a link.
    (tmp_path / "link").symlink_to(folder)
    assert Text(str(tmp_path / "link"), length=16).describe()["checksum"] == clean


def test_limit_cuts_no_character_in_two(tmp_path):
    path = tmp_path / "wide.txt"
    path.write_text("漢字" * 100, encoding="utf-8")
    for limit in range(120, 126):
        recipe = Text(str(path), "characters", limit=limit, length=4)
        assert recipe.contents.bytes == limit // 3 * 3
        assert recipe.token_names() == ["'字'", "'漢'", "BOS"]
    several = tmp_path / "several"
    several.mkdir()
    for i in range(5):
        (several / f"{i}.txt").write_text(f"{i}" * 100)
    recipe = Text(str(several), "characters", limit=250, length=4)
    assert (recipe.contents.documents, recipe.contents.bytes) == (3, 250)


def test_what_is_no_utf8(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("déjà vu, ".encode("latin-1") * 40)
    assert "b'\\xe9'" in Text(str(path), length=8).token_names()
    assert bytes(Text(str(path), length=8).source()["rows"].ravel()[:4].tolist()) == b"d\xe9j\xe0"
    for kind in KINDS:
        assert words(Text(str(path), kind, 300, length=8)).startswith("d\ufffdj\ufffd vu, ")


def test_standard_library_is_the_default():
    recipe = Text()
    assert recipe.tokens == 256 and recipe.contents.bytes > 3_000_000
    said = {name for name, _ in corpora.read("python", 20_000_000)}
    assert {"argparse.py", "json/decoder.py"} <= said
    parts = {part for name in said for part in Path(name).parts}
    left_out = {"test", "tests", "idle_test", "idlelib", "site-packages", "__pycache__"}
    assert parts.isdisjoint(left_out) and not any(p.startswith("_sysconfigdata") for p in parts)
    held_out = recipe.source(True)["rows"].size / recipe.contents.bytes
    assert 0.03 < held_out < 0.2
    assert recipe.describe()["corpus"] == "python" and of_card(recipe.describe()) == recipe


def test_shakespeare(monkeypatch):
    where = Path(os.environ.get("IH_JAX_DATA_DIR", "/nowhere")) / "tinyshakespeare.txt"
    if not where.is_file():
        pytest.skip("IH_JAX_DATA_DIR names no folder with tinyshakespeare.txt")
    recipe = Text("tinyshakespeare.txt", "characters")
    assert recipe.tokens == 65 and words(recipe).startswith("First Citizen:\n")
    assert sum(recipe.contents.tokens.values()) == recipe.contents.bytes == 1_115_394
    # A card names a file of that folder as it was named.
    assert of_card(recipe.describe()) == recipe


def of_tfds(monkeypatch, records, asked=None):
    """A `tensorflow_datasets` that has these records."""

    def load(name, **settings):
        if asked is not None:
            asked.append((name, settings))
        if isinstance(records, Exception):
            raise records
        return records

    module = SimpleNamespace(load=load, as_numpy=lambda each: each)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    corpora._of_tfds.cache_clear()


def test_tensorflow_datasets(monkeypatch):
    asked = []
    records = [{"label": 1, "text": f"{i} says something\n".encode() * 9} for i in range(20)]
    of_tfds(monkeypatch, records, asked)
    recipe = Text("tfds:invented/plain", length=16)
    assert asked == [
        ("invented/plain", {"split": "train", "download": False, "try_gcs": False}),
    ]
    assert recipe.contents.documents == 20 and recipe.describe()["corpus"] == "tfds:invented/plain"
    assert words(recipe, held_out=True).count("\0") == 1
    Text("tfds:invented/plain", length=16, download=True)
    assert asked[1][1]["download"] is True
    of_tfds(monkeypatch, [{"abstract": b"the only text " * 9, "year": 1990}])
    assert "only text" in words(Text("tfds:another", length=8))
    corpora._of_tfds.cache_clear()


@pytest.mark.parametrize(
    ("records", "download", "message"),
    [
        (AssertionError("could not find data\nin ..."), False, r"could not find data.*download=Tr"),
        (OSError("no network"), True, "could not load nothing.*no network"),
        (ImportError("no TensorFlow"), False, r"needs TensorFlow.*ih_jax\[omniglot\]"),
        ([{"image": np.zeros(3)}], False, "no feature that is its text"),
        ([{"a": b"x", "b": b"y"}], False, "no feature that is its text"),
        ([], False, "no feature that is its text"),
    ],
)
def test_mistakes_with_tensorflow_datasets(monkeypatch, records, download, message):
    of_tfds(monkeypatch, records)
    with pytest.raises(ih.UserError, match=message) as error:
        Text("tfds:nothing", download=download)
    assert "\n" not in str(error.value)


def test_nothing_is_looked_up_in_communities(monkeypatch):
    asked = []
    of_tfds(monkeypatch, [], asked)
    with pytest.raises(ih.UserError, match="'tfds:huggingface:x': give a set of"):
        Text("tfds:huggingface:x", download=True)
    assert not asked


def test_data_folder_is_looked_in(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IH_JAX_DATA_DIR", str(folder))
    there = Text("b", length=16)
    assert there.describe()["corpus"] == "b"
    assert there.describe()["checksum"] == Text(str(folder / "b"), length=16).contents.checksum
    with pytest.raises(ih.UserError, match=r"no text at 'd' nor in IH_JAX_DATA_DIR \("):
        Text("d")
