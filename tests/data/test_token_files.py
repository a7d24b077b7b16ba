"""What must be true of token files: they hold the tokens of a text, mapped, or are refused."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.cli.main import main
from ih_jax.data.languages import corpora, making_tokens, token_files
from ih_jax.data.languages.making_tokens import Corpus, make
from ih_jax.data.languages.recipe import of_card
from ih_jax.data.languages.text import Text, decode, encode
from ih_jax.data.languages.token_files import TokenFiles
from ih_jax.experiments.base import Options
from ih_jax.experiments.olsson2022 import text_trainings

KINDS = ("bytes", "characters", "bpe")
LENGTH = 16


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Documents of many lines, one whose end is cut within a character, one without a line end."""
    root = tmp_path_factory.mktemp("text")
    for i in range(12):
        said = "".join(f"line {j} of {i}, naïve 漢字 {'=' * (i + j)}\n" for j in range(12))
        (root / f"{i:02d}.txt").write_text(said, encoding="utf-8")
    (root / "broken.txt").write_bytes("漢".encode()[:2])
    (root / "flat.txt").write_bytes(b"x" * 300)
    return root


@pytest.fixture(scope="module")
def made(text, tmp_path_factory):
    """The folder of each kind, encoded a few lines at a time."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making_tokens, "TOGETHER", 100)
        for kind in KINDS:
            make(Corpus(text, kind, 300), root / kind)
    return root


@pytest.fixture
def folder(made, tmp_path):
    """One to do damage to."""
    return Path(shutil.copytree(made / "bpe", tmp_path / "tokens"))


@pytest.mark.parametrize("kind", KINDS)
def test_they_hold_the_tokens_of_the_text(text, made, kind):
    ours, known = TokenFiles(made / kind, length=LENGTH), Text(str(text), kind, 300, length=LENGTH)
    assert ours.token_names() == known.token_names()
    for held_out in (False, True):
        rows = known.source(held_out)["rows"].ravel()
        tokens = ours.source(held_out)["tokens"]
        assert np.array_equal(tokens[: rows.size], rows)
        assert tokens.size - rows.size < LENGTH - 1  # what is left over makes no row
    said = "line 3 of 4, naïve 漢字 ==\n"
    assert decode(ours, encode(ours, said)) == said


def test_of_one_document_the_end_is_held_out(text, tmp_path):
    make(Corpus(text / "03.txt", "bpe", 300, held_out=0.25), tmp_path / "one")
    ours = TokenFiles(tmp_path / "one", length=LENGTH)
    sides = [decode(ours, ours.source(held_out)["tokens"]) for held_out in (False, True)]
    assert "".join(sides) == (text / "03.txt").read_text(encoding="utf-8")
    assert 0.2 < len(sides[1]) / len("".join(sides)) < 0.3


def test_what_holds_more_than_65536_tokens_takes_four_bytes(tmp_path):
    some = [chr(c) for c in range(0x100, 0x100 + 90_000) if not 0xD800 <= c < 0xE000]
    (tmp_path / "all.txt").write_text("".join(some), encoding="utf-8")
    card = make(Corpus(tmp_path / "all.txt", "characters"), tmp_path / "tokens")
    assert card.dtype == "uint32"
    ours = TokenFiles(tmp_path / "tokens", length=LENGTH)
    tokens = np.concatenate([ours.source(held_out)["tokens"] for held_out in (False, True)])
    assert decode(ours, tokens) == "".join(some)


def test_they_are_mapped_and_shared(made):
    first, again = (TokenFiles(made / "bpe", length=n) for n in (LENGTH, 32))
    tokens = first.source()["tokens"]
    assert isinstance(tokens, np.memmap) and not tokens.flags.writeable
    assert again.source()["tokens"] is tokens


def test_sequences_are_windows_that_begin_anywhere(made):
    recipe = TokenFiles(made / "bytes", length=5)
    tokens = recipe.source()["tokens"]
    short = {"tokens": tokens[:9]}  # six windows of four
    found = np.asarray(recipe.sample(jax.random.key(0), short, 600).tokens)
    assert (found[:, 0] == recipe.bos).all()
    windows = {tuple(tokens[i : i + 4].tolist()): 0 for i in range(6)}
    assert len(windows) == 6
    for row in found[:, 1:].tolist():
        windows[tuple(row)] += 1
    assert all(60 <= count <= 140 for count in windows.values()), windows


def test_programs_know_vocabulary_and_length_only(made):
    recipe = TokenFiles(made / "bpe", length=LENGTH)
    assert recipe.static() == replace(recipe.static(), tokens=recipe.tokens, length=LENGTH)
    assert not hasattr(recipe.static(), "folder")


def test_a_card_makes_the_recipe_again_or_refuses(folder, text):
    recipe = TokenFiles(folder, length=LENGTH)
    card = json.loads(json.dumps(recipe.describe()))
    assert of_card(card) == replace(recipe, folder=card["folder"])
    shutil.rmtree(folder)
    make(Corpus(text, "bytes"), folder)
    with pytest.raises(ih.UserError, match="no longer has the tokens of the run card"):
        of_card(card)


def changed(name, change):
    def do(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return do


def on_card(**values):
    return changed("card.json", lambda said: json.dumps({**json.loads(said), **values}).encode())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            changed("train.bin", lambda b: b[:-2]),
            "has .* bytes, its card says .* tokens of 2 bytes",
        ),
        (changed("train.bin", lambda b: b[:-2] + b"\1\0"), "train.bin is not what its card"),
        (changed("held_out.bin", lambda b: b"\xff\xff" + b[2:]), "held_out.bin is not what its"),
        (changed("merges.json", lambda b: b + b" "), "merges.json is not what its card describes"),
        (lambda folder: (folder / "merges.json").unlink(), "merges.json"),
        (
            lambda folder: (folder / "train.bin").unlink(),
            "is no folder of token files, without train.bin: give",
        ),
        (changed("card.json", lambda b: b[:-5]), "card.json"),
        (on_card(version=2), "card.json: version"),
        (on_card(tokenizer="words"), "card.json: tokenizer"),
        (on_card(pieces="61 62"), "is not what its card describes"),
        (on_card(pieces="zz"), "is not what its card describes"),
        (on_card(tokenizer="bytes"), "the tokenizer is not what its card describes"),
        (on_card(dtype="uint32"), "bytes, its card says"),
    ],
)
def test_damage_is_one_clear_line(folder, damage, message):
    damage(folder)
    with pytest.raises(ih.UserError, match=message) as error:
        TokenFiles(folder, length=LENGTH)
    assert "\n" not in str(error.value)
    assert token_files.at(folder) == folder  # with a file lost it is no folder of text


def test_a_text_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "huge.txt", "wb") as file:
        file.truncate(10**12)  # of which nothing is on the disk
    with pytest.raises(ih.UserError, match=r"its text takes 1,000\.0 GB of memory"):
        make(Corpus(tmp_path / "huge.txt", "bytes"), tmp_path / "out")
    with pytest.raises(ih.UserError, match="holds no text"):  # zero bytes are none
        make(Corpus(tmp_path / "huge.txt", "bytes", limit=1000), tmp_path / "out")


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (partial(TokenFiles, "nowhere"), "no text at 'nowhere'"),
        (partial(TokenFiles, "."), "is no folder of token files, without card.json, train.bin"),
        (partial(make, Corpus("nowhere"), Path("out")), "no text at 'nowhere'"),
        (partial(make, Corpus("."), Path("out")), "holds no text"),
        (partial(make, Corpus(".", "words"), Path("out")), "give one of bytes, characters, bpe"),
        (partial(make, Corpus(".", vocabulary_size=5), Path("out")), "vocabulary_size is 5"),
        (partial(make, Corpus(".", held_out=1.0), Path("out")), "held_out is 1.0"),
        (partial(make, Corpus("."), Path("full")), "full is there already: give another folder"),
        (partial(make, Corpus(".", download=True), Path("out")), "is not downloaded, tfds:NAME is"),
    ],
)
def test_mistakes_are_one_clear_line_and_leave_nothing(make_it, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IH_JAX_DATA_DIR", raising=False)
    Path("full").mkdir()
    with pytest.raises(ih.UserError, match=message) as error:
        make_it()
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_short_text_is_refused_by_length(made):
    with pytest.raises(ih.UserError, match=r"has \d+ held_out tokens, a sequence of length 5000"):
        TokenFiles(made / "bytes", length=5000)


def test_a_text_that_changes_meanwhile_is_refused(text, tmp_path, monkeypatch):
    looks = []

    def documents(*given):
        looks.append(given)
        for name, said in real(*given):
            yield name, said + b"!" * (len(looks) - 1)

    real = corpora.one_by_one
    monkeypatch.setattr(corpora, "one_by_one", documents)
    with pytest.raises(ih.UserError, match="changed while it was read"):
        make(Corpus(text, "bytes"), tmp_path / "tokens")
    assert not list(tmp_path.iterdir())


def test_the_command_makes_what_experiments_read(text, tmp_path, capsys):
    out = tmp_path / "tokens"
    command = ["text", str(text), "--out", str(out), "--vocabulary", "300", "--quiet"]
    assert main(command) == 0
    assert "300 different ones" in " ".join(capsys.readouterr().out.split())
    study = text_trainings.lent(Options(seeds=1, text={"corpus": str(out), "length": 24}), {})
    assert isinstance(study.task.data, TokenFiles)
    assert (study.task.data.tokens, study.task.context_length) == (300, 24)
    with pytest.raises(ih.UserError, match="has token files already: leave it out"):
        text_trainings.lent(Options(text={"corpus": str(out), "tokenizer": "bpe"}), {})
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    odd = tmp_path / "[b]:heart:"  # what a terminal's markup would take for its own
    assert main(["text", str(text), "--tokenizer", "bytes", "--out", str(odd), "--quiet"]) == 0
    assert "[b]:heart:" in "".join(capsys.readouterr().out.split())
    assert main(["text", str(text), "--tokenizer", "bytes", "--vocabulary", "300"]) == 2
    assert "--vocabulary does not apply" in capsys.readouterr().err
