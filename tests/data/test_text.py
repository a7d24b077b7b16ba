"""What must be true of real text as a language: what is encoded, packed, held out and drawn."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np
import pytest
from documents import DOCUMENTS, KINDS, that_tell_their_names, words

import ih_jax as ih
from ih_jax.data.languages import text as text_
from ih_jax.data.languages import tokenizing
from ih_jax.data.languages.recipe import of_card
from ih_jax.data.languages.text import Text, decode, encode


@pytest.fixture
def folder(tmp_path):
    return that_tell_their_names(tmp_path / "corpus")


def random_documents(root):
    """Files of which no two have much in common."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for i in range(DOCUMENTS):
        (root / f"{i:02d}.txt").write_bytes(rng.integers(97, 123, 500, np.uint8).tobytes())
    return root


def names_in(recipe, held_out):
    found = words(recipe, held_out).split("\0")
    return [int(each.split("of ")[1].split(",")[0]) for each in found if "of " in each]


def digest(recipe):
    rows = [recipe.source(held_out)["rows"].tobytes() for held_out in (False, True)]
    return blake2b(b"".join(rows), digest_size=8).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_encoded_text_decodes_to_itself(folder, kind):
    recipe = Text(str(folder), kind, 300, length=16)
    for said in ("line 3 of 4,\n\n  naïve 漢字 ==\n", "0\n" * 70_000, "", "\0"):
        tokens = encode(recipe, said)
        assert tokens.dtype == np.int32 and tokens.max(initial=0) < recipe.tokens
        assert decode(recipe, [recipe.bos, *tokens]) == said
    # Packing encodes in pieces; a text read whole has the same tokens.
    rows = recipe.source()["rows"].ravel()
    assert np.array_equal(encode(recipe, text_of(folder, recipe))[: rows.size], rows)


def text_of(folder, recipe):
    """The training text, read in the plainest way."""
    paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*.txt")}
    out = set(names_in(recipe, held_out=True))
    return "\0".join(
        paths[n].read_text(encoding="utf-8") for n in sorted(paths) if int(n[-6:-4]) not in out
    )


def test_vocabularies(folder):
    sizes = {kind: Text(str(folder), kind, 300, length=16).tokens for kind in KINDS}
    said = {c for path in folder.rglob("*.txt") for c in path.read_text(encoding="utf-8")}
    assert sizes == {"bytes": 256, "characters": len(said | {"\0"}), "bpe": 300}
    for kind in KINDS:
        recipe = Text(str(folder), kind, 300, length=16)
        names = recipe.token_names()
        assert recipe.vocabulary == recipe.tokens + 1 == len(names) == len(set(names))
        assert recipe.bos == recipe.tokens and names[-1] == "BOS" and "'='" in names
    few = Text(str(folder), "bpe", 100_000, length=16)  # nothing is left to merge
    assert 300 < few.tokens < 100_000
    assert any("line" in name for name in few.token_names())


def test_no_piece_goes_beyond_its_line(tmp_path):
    """So that a long text, encoded some lines at a time, has the tokens of all of it at once."""
    path = tmp_path / "code.py"
    path.write_text("def f(x):\n\n    return x\n\n\n        # indented\n" * 4000)
    recipe = Text(str(path), "bpe", 400, length=16)
    assert any("return" in name for name in recipe.token_names())
    assert not [piece for piece in recipe.contents.tokenizer.pieces if b"\n" in piece[:-1]]
    said = path.read_text()
    assert len(said) > 3 * tokenizing.PIECE
    by_line = [encode(recipe, line) for line in said.splitlines(keepends=True)]
    assert np.array_equal(encode(recipe, said), np.concatenate(by_line))


def test_a_text_without_a_line_break_is_cut():
    text = "ab " * tokenizing.LONGEST_LINE
    pieces = list(tokenizing._lines(text))
    assert len(pieces) == 3 and "".join(pieces) == text
    word = b"abcd" * 5_000
    bpe = tokenizing.of_bpe([word], 300)
    tokens = bpe.encode(word)
    assert b"".join(bpe.pieces[token] for token in tokens) == word
    assert len(tokens) < len(word) / 100


def test_merges_make_text_shorter(folder):
    rows = [len(Text(str(folder), "bpe", n, length=16).source()["rows"]) for n in (257, 280, 400)]
    assert rows[0] > rows[1] > rows[2]


def test_documents_in_order_each_on_one_side(folder):
    recipe = Text(str(folder), length=16, held_out=0.2)
    train, out = (names_in(recipe, held_out) for held_out in (False, True))
    assert sorted(train + out) == list(range(DOCUMENTS)) and len(out) == 0.2 * DOCUMENTS
    order = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.txt"))
    place = {int(name[-6:-4]): i for i, name in enumerate(order)}
    for names in (train, out):
        assert [place[n] for n in names] == sorted(place[n] for n in names)
    # A larger share holds out those of a smaller one, and others.
    assert set(out) < set(names_in(replace(recipe, held_out=0.5), True))
    said = words(recipe)
    assert text_of(folder, recipe).startswith(said)
    assert 0 <= len(text_of(folder, recipe).encode()) - len(said.encode()) < 15


def test_no_held_out_row_is_trained_on(tmp_path):
    root = random_documents(tmp_path / "random")
    (root / "b").mkdir()
    for i in range(DOCUMENTS):  # copies, on either side by their names
        shutil.copy(root / f"{i:02d}.txt", root / "b" / f"copy{i}.txt")
    recipe = Text(str(root), length=21, held_out=0.3)
    assert recipe.contents.documents == DOCUMENTS
    # Rows of two packings are not aligned: half a row anywhere in the other text would do.
    train = words(recipe)
    rows = recipe.source(held_out=True)["rows"]
    assert len(rows) > 100
    assert not [row for row in rows if decode(recipe, row[:10]) in train]


def test_of_one_document_the_end_is_held_out(tmp_path):
    path = tmp_path / "one.txt"
    said = "".join(f"{i:06d} é\n" for i in range(1000))
    path.write_text(said, encoding="utf-8")
    recipe = Text(str(path), "characters", length=8)
    whole = words(recipe) + words(recipe, held_out=True)
    assert recipe.tokens == len(set(said))  # no zero byte
    assert abs(recipe.source(True)["rows"].size / len(whole) - 0.1) < 0.01
    assert said.startswith(words(recipe)) and words(recipe, True)[:-8] in said[len(said) // 2 :]
    assert "\ufffd" not in whole


def test_rows_are_small_cached_and_frozen(folder):
    recipe = Text(str(folder), length=16)
    rows = recipe.source()["rows"]
    again = Text(str(folder), length=16)
    assert rows.dtype == np.uint16 and rows.shape[1] == 15 and not rows.flags.writeable
    assert recipe.source()["rows"] is rows and again == recipe and hash(again) == hash(recipe)
    assert again.source()["rows"] is rows and again.source(True)["rows"] is not rows
    assert replace(recipe, length=32).source()["rows"].shape[1] == 31
    assert replace(recipe, tokenizer="bpe", vocabulary_size=300).tokens == 300
    # In a study: one array for all runs.
    assert ih.language(recipe, batch=4).run_arrays().train["rows"] is rows
    assert ih.language(again).run_arrays().evaluation[0]["rows"] is recipe.source(True)["rows"]


def test_a_program_knows_vocabulary_and_length_only(folder, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("something else " * 50)
    one, two = Text(str(folder), length=16), Text(str(other), length=16, limit=700)
    assert one.static() == two.static() and hash(one.static()) == hash(two.static())
    assert ih.language(one).objective() == ih.language(two).objective()
    assert one.static() != replace(one, length=17).static()
    assert one.static() != replace(one, tokenizer="characters").static()
    assert one.static().static() == one.static() and "corpus" not in str(one.static())


def test_draws_are_uniform_rows_after_bos(tmp_path):
    recipe = Text(str(random_documents(tmp_path / "random")), length=16, limit=3000)
    source = recipe.source()
    count, many = len(source["rows"]), 40_000
    key = jax.random.key(0)
    draw = jax.jit(recipe.static().sample, static_argnums=2)
    batch = np.asarray(draw(key, source, many).tokens)
    assert batch.shape == (many, 16) and batch.dtype == np.int32
    assert (batch[:, 0] == recipe.bos).all() and (batch[:, 1:] < recipe.tokens).all()
    assert np.array_equal(batch, recipe.sample(key, source, many).tokens)
    which, times = np.unique(batch[:, 1:], axis=0, return_counts=True)
    assert np.array_equal(which, np.unique(source["rows"], axis=0)) and len(which) == count
    assert abs(times - many / count).max() < 5 * np.sqrt(many / count)


def test_checksum_is_of_names_and_contents(folder, tmp_path):
    first = Text(str(folder), length=16).describe()
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied)
    assert Text(str(copied), length=16).describe()["checksum"] == first["checksum"]
    assert Text(str(copied), length=32).describe()["checksum"] == first["checksum"]
    seen = {first["checksum"], Text(str(copied), length=16, limit=9000).describe()["checksum"]}
    (copied / "00.txt").rename(copied / "0-.txt")  # the same place in the order
    seen.add(Text(str(copied), length=16).describe()["checksum"])
    (copied / "b" / "01.txt").write_bytes(b"another")
    seen.add(Text(str(copied), length=16).describe()["checksum"])
    assert len(seen) == 4
    # What ends a name is told from what begins a text.
    for name, said in (("a", "bc"), ("ab", "c")):
        root = tmp_path / f"two_{name}"
        root.mkdir()
        (root / name).write_text(said + "=" * 99)
        (root / "z").write_text("-" * 99)
        seen.add(Text(str(root), length=16).describe()["checksum"])
    assert len(seen) == 6


def test_card_makes_the_recipe_again_or_refuses(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    recipe = Text("corpus", "characters", length=16, held_out=0.25)
    card = json.loads(json.dumps(recipe.describe()))
    monkeypatch.chdir("/")
    again = of_card(card)
    assert digest(again) == digest(recipe)
    assert again.describe() == card and Path(card["corpus"]) == folder
    # The checksum binds the recipe of the card, not those made from it.
    assert replace(again, limit=9000).describe()["checksum"] != card["checksum"]
    with (folder / "00.txt").open("a") as file:
        file.write("x")
    with pytest.raises(ih.UserError, match="is no longer the text of the run card"):
        of_card(card)
    for path in folder.rglob("*.txt"):
        path.write_text("x" if path.name == "00.txt" else "y")
    with pytest.raises(ih.UserError, match="is no longer the text of the run card"):
        of_card(card)


def test_card_refuses_what_another_trainer_makes_of_the_same_text(folder, monkeypatch):
    card = Text(str(folder), "bpe", 300, length=16).describe()
    text_._KNOWN.clear()
    train = tokenizing.of_bpe
    monkeypatch.setattr(tokenizing, "of_bpe", lambda documents, size: train(documents, size - 1))
    with pytest.raises(ih.UserError, match="is no longer the text"):
        of_card(card)


def test_other_processes_have_the_same_tokens(folder):
    recipe = Text(str(folder), "bpe", 400, length=16)
    program = (
        "import json, sys; from hashlib import blake2b\n"
        "from ih_jax.data.languages.recipe import of_card\n"
        "r = of_card(json.loads(sys.argv[1]))\n"
        "rows = b''.join(r.source(h)['rows'].tobytes() for h in (False, True))\n"
        "print(r.tokens, blake2b(rows, digest_size=8).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, json.dumps(recipe.describe())],
        env={**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [str(recipe.tokens), digest(recipe)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Text, "missing.txt"), "no text at 'missing.txt'.*'python' or 'tfds:NAME'"),
        (partial(Text, "empty.txt"), "'empty.txt' holds no text"),
        (partial(Text, "hollow"), "'hollow' holds no text"),
        (partial(Text, "binary"), "'binary' holds no text"),
        (partial(Text, "short.txt"), "has 36 training tokens, a sequence of length 128 needs 127"),
        (partial(Text, "short.txt", length=6), "has 4 held-out tokens.* needs 5"),
        (partial(Text, "short.txt", "words"), "'words': give one of bytes, characters, bpe"),
        (partial(Text, "short.txt", "bpe", 256), "vocabulary_size is 256: give .* 257 or more"),
        (partial(Text, "short.txt", "bpe", 1e3), "vocabulary_size is 1000.0: give a whole number"),
        (partial(Text, "short.txt", limit=0), "limit is 0: give a whole number of 1 or more"),
        (partial(Text, "short.txt", held_out=1.0), "held_out is 1.0: give a share above 0"),
        (partial(Text, "short.txt", held_out=0), "held_out is 0: give a share above 0"),
        (partial(Text, "short.txt", length=3), "length 3: give"),
        (partial(Text, "short.txt", length=4, checksum="00"), r"on the card 00\): put it back"),
        (
            partial(Text, checksum="00"),
            "'python' is no longer .* put it back as it was, with the Python",
        ),
        (partial(Text, "dull.txt", "characters"), "tokens 1, .*: give 2 or more"),
    ],
)
def test_mistakes_are_one_clear_line(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IH_JAX_DATA_DIR", raising=False)
    Path("short.txt").write_text("forty characters, and not a single more.")
    Path("dull.txt").write_text("a" * 5000)
    Path("binary").write_bytes(b"\0" * 5000)
    Path("empty.txt").touch()
    Path("hollow").mkdir()
    assert len(Text("short.txt", length=5).source(held_out=True)["rows"]) == 1  # just enough
    with pytest.raises(ih.UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_mistakes_of_encoding_and_decoding(folder):
    recipe = Text(str(folder), "characters", length=16)
    with pytest.raises(ih.UserError, match="the character 'ß' does not occur"):
        encode(recipe, "line ß")
    for wrong in (-1, recipe.bos + 1):
        with pytest.raises(ih.UserError, match=f"token {wrong}: give 0 to {recipe.bos}"):
            decode(recipe, [0, wrong])


def test_without_the_package_of_tokenizers(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ih.UserError, match="'bpe' needs the package tokenizers: pip install"):
        Text(str(folder), "bpe", 301, length=16)
    assert Text(str(folder), "characters", length=16).tokens > 2


def test_a_language_model_learns_it_and_is_found_again(folder, tmp_path):
    recipe = Text(str(folder), "characters", length=16)
    task = ih.language(recipe, batch=8, evaluation_sequences=32)
    study = ih.sweep(
        task,
        tokens=16 * 8 * 60,
        layers=1,
        d_model=16,
        heads=2,
        learning_rate=1e-2,
        warmup_steps=1,
        evaluate=[0],
    )
    out = tmp_path / "run"
    study.train(out, progress=False)
    uniform = np.log(recipe.vocabulary)
    before, after = ih.load(out).results["loss"].values.ravel()
    assert after < 0.7 * uniform < before
    card = json.loads((out / "card.json").read_text())["study"]["task"]["language"]
    assert card["corpus"] == str(folder) and card["checksum"] == recipe.contents.checksum
    again = ih.load(out).study
    assert again.task == task and again.describe() == study.describe()
    (folder / "00.txt").unlink()
    with pytest.raises(ih.UserError, match=r"no longer the text.*or give the study itself"):
        _ = ih.load(out).study
    # Who still has the study has its text.
    assert ih.load(out, study).params(0, 0).config.labels == recipe.vocabulary
