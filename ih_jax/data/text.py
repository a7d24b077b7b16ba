"""Real text as a language: documents, a tokenizer, and rows of tokens to draw from.

    bytes       256 tokens
    characters  those that occur in the text, held-out documents included
    bpe         byte-level byte-pair encoding, trained on the training documents

Packing: documents in the order of their names, a zero byte between two (it is in no document: what
holds one is taken for binary), cut into rows of T - 1 tokens. What is left at the end is dropped.
The held-out documents are a text of their own. A document that is there twice is read once, so that
none is both trained on and held out.

Glossary of shapes: N rows, T tokens of a sequence (BOS included), V tokens without BOS.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from weakref import WeakValueDictionary

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ih_jax.data.language import RECIPES, Recipe, with_bos
from ih_jax.data.tokens import Tokens
from ih_jax.errors import UserError

Kind = Literal["bytes", "characters", "bpe"]
Document = tuple[str, bytes]  # its name, what it holds
PYTHON, TFDS = "python", "tfds:"
# Beside the library, tests, and what differs between machines with the same Python.
NOT_PYTHON = ("*-packages", "idlelib", "test", "tests", "idle_test", "_sysconfigdata*")
SEPARATOR = b"\0"
BYTES = 256
MERGES_FROM = 5_000_000  # characters that a BPE is trained on; more would not change much
# What an encoder remembers of each token is large: characters of a piece, and pieces of a call.
PIECE, TOGETHER = 50_000, 32


@dataclass(frozen=True)
class Rows(Recipe):
    """Rows of some text: all that a program knows of it, so that texts may share one."""

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """B rows of source["rows"] [N, T - 1], uniform and with replacement, BOS before each."""
        rows = source["rows"]
        return with_bos(self, rows[jax.random.randint(key, (sequences,), 0, len(rows))])


@dataclass(frozen=True)
class Text(Recipe):
    """Real text, read when the recipe is made.

    Attributes:
        corpus: "python", the source of Python's own standard library; "tfds:NAME", the training
            split of a set of tensorflow-datasets; else the path of a file or folder (also looked
            for in the folder that the environment variable IH_JAX_DATA_DIR names). Of a folder all
            text files are read, below it too, but no hidden ones and no symbolic links.
        tokenizer: "bytes", "characters" or "bpe"; the last two read UTF-8, with U+FFFD for what is
            none.
        vocabulary_size: of "bpe": V at most, 257 or more; fewer where nothing is left to merge.
        limit: bytes that are read at most; documents beyond are not.
        held_out: share of documents that are not trained on, chosen by a hash of their names; of a
            single document its end.
        download: may tensorflow-datasets load what is not there?
        tokens: V, computed.
        length: T, BOS included.

    The text is read again for every recipe made, its tokens are kept as long as a recipe of them.
    A `checksum`, that of a run card, says which text it has to be.

    Raises:
        UserError: a setting is out of range, the text is not there, too short or not that of the
            checksum, or a package is missing.
    """

    corpus: str | Path = PYTHON
    tokenizer: Kind = "bytes"
    vocabulary_size: int = 512
    limit: int = 20_000_000
    held_out: float = 0.1
    download: bool = field(default=False, compare=False)
    tokens: int = field(init=False, default=BYTES)
    length: int = field(default=128, kw_only=True)
    checksum: InitVar[str | None] = field(default=None, kw_only=True)

    def __post_init__(self, checksum: str | None) -> None:
        super().__post_init__()  # the length, before the text is read
        _refuse_settings(self)
        _refuse_text(self, checksum)
        # Frozen like what was given, though known only now.
        object.__setattr__(self, "tokens", len(self.contents.tokenizer.pieces))
        super().__post_init__()

    @cached_property
    def contents(self) -> Contents:
        """What was read, and its tokens."""
        return _contents(read(self.corpus, self.limit, self.download), self)

    def static(self) -> Rows:
        """Vocabulary and length decide the program."""
        return Rows(self.tokens, self.length)

    def source(self, held_out: bool = False) -> Mapping[str, np.ndarray]:
        """{"rows": [N, T - 1]}, uint16 where that holds V; the same array for equal recipes."""
        return {"rows": self.contents.held_out if held_out else self.contents.train}

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See `Rows`."""
        return self.static().sample(key, source, sequences)

    def describe(self) -> dict[str, Any]:
        """The settings, without leave to download, and the checksum of what was read."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        del own["download"]
        path = Path(self.corpus).expanduser()
        # A card is read in other folders.
        corpus = path.absolute() if self.corpus != PYTHON and path.exists() else self.corpus
        told = {"corpus": str(corpus), "checksum": self.contents.checksum}
        return {"recipe": type(self).__name__, **own, **told}

    def token_names(self) -> list[str]:
        """What each token stands for, as Python writes it (b'...' if it is no UTF-8), and BOS."""
        return [*map(_name, self.contents.tokenizer.pieces), "BOS"]

    def in_words(self) -> str:
        """For a reader of results."""
        found = self.contents
        return (
            f"Text (corpus {self.corpus}, {found.bytes / 1e6:.3g} MB, documents {found.documents}, "
            f"held out {self.held_out:.0%}, tokenizer {self.tokenizer}, tokens {self.tokens}, "
            f"length {self.length})"
        )


def encode(recipe: Text, text: str) -> NDArray[np.int32]:
    """Tokens of a text. Raises UserError for a character that the vocabulary lacks."""
    return recipe.contents.tokenizer.encode(text.encode("utf-8", "replace")).astype(np.int32)


def decode(recipe: Text, tokens: ArrayLike) -> str:
    """The text of tokens [any]; BOS is left out, U+FFFD stands for what is no UTF-8.

    Raises:
        UserError: a token is out of range.
    """
    given = np.asarray(tokens)
    wrong = given[(given < 0) | (given > recipe.bos)]
    if wrong.size:
        raise UserError(f"token {wrong[0]}: give 0 to {recipe.bos} (BOS)")
    pieces = recipe.contents.tokenizer.pieces
    return b"".join(pieces[t] for t in given if t != recipe.bos).decode("utf-8", "replace")


class Tokenizer(NamedTuple):
    """From text to tokens and back."""

    pieces: tuple[bytes, ...]  # [V] what each token stands for
    encode: Callable[[bytes], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Contents:
    """A text in tokens, ready to be drawn from."""

    checksum: str  # hexadecimal, of all documents and what the tokens stand for
    documents: int
    bytes: int
    tokens: Mapping[str, int]  # "training" and "held-out"
    tokenizer: Tokenizer
    train: NDArray[Any]  # [N, T - 1]
    held_out: NDArray[Any]  # [N', T - 1]


# Equal recipes have the very same arrays, as long as one of them lives: runs that share an array
# share its memory.
_KNOWN: WeakValueDictionary[Any, Contents] = WeakValueDictionary()


def _refuse_settings(recipe: Text) -> None:
    """Raises UserError for what is wrong whatever the text."""
    if recipe.tokenizer not in get_args(Kind):
        kinds = ", ".join(get_args(Kind))
        raise UserError(f"tokenizer is {recipe.tokenizer!r}: give one of {kinds}")
    for name, least in (("vocabulary_size", BYTES + 1), ("limit", 1)):
        value = getattr(recipe, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{name} is {value!r}: give a whole number of {least} or more")
    share = recipe.held_out
    if isinstance(share, bool | str) or not 0 < share < 1:
        raise UserError(f"held_out is {share!r}: give a share above 0 and below 1, such as 0.1")


def _refuse_text(recipe: Text, checksum: str | None) -> None:
    """Raises UserError for a text that is another than it was, or too short."""
    corpus, found = f"corpus {str(recipe.corpus)!r}", recipe.contents
    if checksum not in (None, found.checksum):
        python = ", with the Python of that card" if recipe.corpus == PYTHON else ""
        raise UserError(
            f"{corpus} is no longer the text of the run card (checksum {found.checksum}, on the "
            f"card {checksum}): put it back as it was{python}"
        )
    for which, tokens in found.tokens.items():
        if tokens < recipe.length - 1:
            raise UserError(
                f"{corpus} has {tokens} {which} tokens, a sequence of length {recipe.length} "
                f"needs {recipe.length - 1}: give more text or a smaller length"
            )


def _contents(documents: list[Document], recipe: Text) -> Contents:
    """Tokens of these documents, made where no living recipe has them."""
    digest = blake2b(digest_size=16)
    for name, text in documents:
        digest.update(f"{len(os.fsencode(name))} {len(text)} ".encode())
        digest.update(os.fsencode(name) + text)
    merged = recipe.tokenizer == "bpe" and recipe.vocabulary_size
    key = digest.digest(), recipe.tokenizer, merged, recipe.held_out, recipe.length
    found = _KNOWN.get(key)
    if found is not None:
        return found
    parts = split(documents, recipe.held_out)
    texts = [SEPARATOR.join(part) for part in parts]
    if recipe.tokenizer == "bytes":
        tokenizer = BY_BYTE
    elif recipe.tokenizer == "characters":
        tokenizer = of_characters(texts)
    else:
        tokenizer = of_bpe(parts[0], recipe.vocabulary_size)
    for piece in tokenizer.pieces:  # other versions of a trainer may find others
        digest.update(piece + SEPARATOR)
    small = len(tokenizer.pieces) <= 1 << 16
    tokens = [tokenizer.encode(text).astype(np.uint16 if small else np.int32) for text in texts]
    width = recipe.length - 1
    rows = [each[: len(each) // width * width].reshape(-1, width) for each in tokens]
    for each in rows:
        each.setflags(write=False)  # many hold it
    made = Contents(
        checksum=digest.hexdigest(),
        documents=len(documents),
        bytes=sum(len(text) for _, text in documents),
        tokens={"training": len(tokens[0]), "held-out": len(tokens[1])},
        tokenizer=tokenizer,
        train=rows[0],
        held_out=rows[1],
    )
    return _KNOWN.setdefault(key, made)


def split(documents: list[Document], share: float) -> tuple[list[bytes], list[bytes]]:
    """Documents to train on and held-out ones, both in order and neither empty.

    Held out are those whose names have the smallest hashes; of one document, its end.
    """
    if len(documents) == 1:
        text = documents[0][1]
        whole = _up_to(text, round(len(text) * (1 - share)))
        return [whole], [text[len(whole) :]]
    count = min(max(1, round(share * len(documents))), len(documents) - 1)
    names = sorted((name for name, _ in documents), key=lambda n: blake2b(os.fsencode(n)).digest())
    out = set(names[:count])
    train = [text for name, text in documents if name not in out]
    return train, [text for name, text in documents if name in out]


def _up_to(text: bytes, end: int) -> bytes:
    """The first `end` bytes, or up to three less where that would cut a character in two."""
    at = end
    while 0 < at < len(text) and end - at < 3 and text[at] & 0xC0 == 0x80:
        at -= 1
    return text[:at]


def _name(piece: bytes) -> str:
    try:
        return repr(piece.decode())
    except UnicodeDecodeError:
        return repr(piece)


# Tokenizers.


BY_BYTE = Tokenizer(
    tuple(bytes([byte]) for byte in range(BYTES)), lambda text: np.frombuffer(text, np.uint8)
)


def of_characters(texts: Sequence[bytes]) -> Tokenizer:
    """A token for each character that occurs, in the order of code points."""
    known = sorted(set[str]().union(*(text.decode("utf-8", "replace") for text in texts)))
    token_of = np.full(0x110000, -1, np.int32)
    token_of[list(map(ord, known))] = np.arange(len(known))

    def encode(text: bytes) -> NDArray[Any]:
        characters = text.decode("utf-8", "replace")
        found = token_of[np.frombuffer(characters.encode("utf-32-le"), np.uint32)]
        if (found < 0).any():
            new = characters[int(found.argmin())]
            raise UserError(f"the character {new!r} does not occur in the corpus: leave it out")
        return found

    return Tokenizer(tuple(character.encode() for character in known), encode)


def of_bpe(documents: Sequence[bytes], size: int) -> Tokenizer:
    """Byte-level byte-pair encoding of at most `size` tokens, none beyond the end of a line.

    Raises:
        UserError: the package is missing.
    """
    try:
        import tokenizers
        from tokenizers import models, pre_tokenizers, trainers
    except ImportError:
        raise UserError(
            "tokenizer 'bpe' needs the package tokenizers: pip install tokenizers, "
            "or take 'bytes' or 'characters'"
        ) from None
    by_byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    by_line = pre_tokenizers.Split("\n", "merged_with_previous")
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([by_line, by_byte])
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    texts = [text.decode("utf-8", "replace") for text in documents]
    share = min(1, MERGES_FROM / max(1, sum(map(len, texts))))
    some = (text[: round(share * len(text))] for text in texts)
    bpe.train_from_iterator((piece for text in some for piece in _lines(text)), trainer)
    byte_of = _byte_of()
    order = sorted(bpe.get_vocab().items(), key=lambda pair: pair[1])
    pieces = tuple(bytes(byte_of[character] for character in piece) for piece, _ in order)

    def encode(text: bytes) -> NDArray[Any]:
        lines = _lines(text.decode("utf-8", "replace"))
        found = [np.zeros(0, np.int32)]
        while some := list(islice(lines, TOGETHER)):
            found += [np.array(each.ids, np.int32) for each in bpe.encode_batch(some)]
        return np.concatenate(found)

    return Tokenizer(pieces, encode)


def _lines(text: str) -> Iterator[str]:
    """`text` in pieces of about `PIECE` characters that end where a line does."""
    at = 0
    while at < len(text):
        end = text.find("\n", at + PIECE) + 1 or len(text)
        yield text[at:end]
        at = end


def _byte_of() -> dict[str, int]:
    """The byte that a character of a byte-level piece stands for (GPT-2's `bytes_to_unicode`)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(BYTES) if byte not in own]
    return {chr(b): b for b in own} | {chr(BYTES + i): b for i, b in enumerate(others)}


# Reading.


def read(corpus: str | Path, limit: int, download: bool = False) -> list[Document]:
    """The documents of a corpus, each once, by name, up to `limit` bytes.

    Raises:
        UserError: there is no such corpus, no text in it, or it cannot be read.
    """
    if str(corpus).startswith(TFDS):
        documents: Iterable[Document] = _of_tfds(str(corpus).removeprefix(TFDS), limit, download)
    elif corpus == PYTHON:
        documents = _of_folder(Path(sysconfig.get_path("stdlib")), limit, ".py", NOT_PYTHON)
    else:
        path = _find(corpus)
        documents = _of_folder(path, limit) if path.is_dir() else [("", _bytes(path, limit))]
    found: list[Document] = []
    known: set[bytes] = set()
    for name, text in documents:
        if limit <= 0:
            break
        if text and SEPARATOR not in text and text not in known:
            known.add(text)
            found.append((name, _up_to(text, limit)))
            limit -= len(text)
    if not found:
        raise UserError(
            f"corpus {str(corpus)!r} holds no text (hidden files, symbolic links and files with "
            "zero bytes are none): give another"
        )
    return found


def _find(corpus: str | Path) -> Path:
    """The file or folder, or that of the same name in IH_JAX_DATA_DIR. Raises UserError."""
    folder = os.environ.get("IH_JAX_DATA_DIR")
    path = Path(corpus).expanduser()
    for candidate in (path, *([Path(folder) / path] if folder else [])):
        if candidate.is_file() or candidate.is_dir():
            return candidate
    also = f" nor in IH_JAX_DATA_DIR ({folder})" if folder else ""
    raise UserError(
        f"no text at {str(corpus)!r}{also}: give a file, a folder, {PYTHON!r} or '{TFDS}NAME'"
    )


def _of_folder(
    root: Path, limit: int, suffix: str = "", but: Sequence[str] = ()
) -> Iterator[Document]:
    """Files below `root`, by relative path; links might lead out of it, and are left out.

    Only those whose names end with `suffix`, and neither files nor folders of the patterns `but`.
    """

    def wanted(name: str) -> bool:
        return not any(fnmatchcase(name, pattern) for pattern in (".*", *but))

    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = filter(wanted, folders)
        for path in (Path(folder, name) for name in files if wanted(name)):
            if path.name.endswith(suffix) and path.is_file() and not path.is_symlink():
                found[path.relative_to(root).as_posix()] = path
    for name in sorted(found):
        yield name, _bytes(found[name], limit)


def _bytes(path: Path, limit: int) -> bytes:
    """The start of a file, with what shows whether the limit cuts a character in two."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): mend that, or move it away"
        ) from None


@functools.lru_cache(maxsize=2)
def _of_tfds(name: str, limit: int, download: bool) -> tuple[Document, ...]:
    """The first texts of the training split of a set, up to the limit."""
    if ":" in name:  # of a community: to look for it is to ask the network
        raise UserError(f"corpus '{TFDS}{name}': give a set of tensorflow-datasets' own")
    found: list[Document] = []
    read = 0
    try:
        import tensorflow_datasets as tfds

        records = tfds.load(name, split="train", download=download, try_gcs=False)
        for number, record in enumerate(tfds.as_numpy(records)):
            texts = [key for key, value in record.items() if isinstance(value, bytes)]
            if "text" not in texts and len(texts) != 1:
                break
            found.append((f"{number:09d}", record["text" if "text" in texts else texts[0]]))
            read += len(found[-1][1])
            if read > limit:
                break
    except ImportError as error:
        raise UserError(
            f"tensorflow-datasets needs TensorFlow ({error}): pip install 'ih_jax[omniglot]', or "
            "give a file or folder as corpus"
        ) from None
    except Exception as error:  # of TensorFlow, of the network, of checksums
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        more = "" if download else "download=True to load it from the network, "
        raise UserError(
            f"tensorflow-datasets could not load {name} ({reason}): give {more}"
            "another set, or a file or folder as corpus"
        ) from None
    if not found:
        raise UserError(f"{name} has no feature that is its text: give another set")
    return tuple(found)


RECIPES[Text.__name__] = Text
