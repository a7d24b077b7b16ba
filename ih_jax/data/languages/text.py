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

import os
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol, get_args
from weakref import WeakValueDictionary

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ih_jax.data.batches import Tokens
from ih_jax.data.languages import corpora, tokenizing
from ih_jax.data.languages.corpora import PYTHON, SEPARATOR, Document
from ih_jax.data.languages.recipe import Recipe, recipe, with_bos
from ih_jax.data.languages.tokenizing import BYTES, Tokenizer
from ih_jax.errors import UserError

Kind = Literal["bytes", "characters", "bpe"]


@dataclass(frozen=True)
class Rows(Recipe):
    """Rows of some text: all that a program knows of it, so that texts may share one."""

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """B rows of `source["rows"]`, [N, T - 1], uniform and with replacement, BOS before each."""
        rows = source["rows"]
        return with_bos(self, rows[jax.random.randint(key, (sequences,), 0, len(rows))])


@recipe
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
        check_settings(self.tokenizer, self.vocabulary_size, self.limit, self.held_out)
        _refuse_text(self, checksum)
        # Frozen like what was given, though known only now.
        object.__setattr__(self, "tokens", len(self.contents.tokenizer.pieces))
        super().__post_init__()

    @cached_property
    def contents(self) -> Contents:
        """What was read, and its tokens."""
        return _contents(corpora.read(self.corpus, self.limit, self.download), self)

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
        found = {"corpus": str(corpus), "checksum": self.contents.checksum}
        return {"recipe": type(self).__name__, **own, **found}

    def token_names(self) -> list[str]:
        """What each token stands for, as Python writes it (b'...' if it is no UTF-8), and BOS."""
        return [*map(name_of, self.contents.tokenizer.pieces), "BOS"]

    def in_words(self) -> str:
        """For a reader of results."""
        found = self.contents
        return (
            f"Text (corpus {self.corpus}, {found.bytes / 1e6:.3g} MB, documents {found.documents}, "
            f"held out {self.held_out:.0%}, tokenizer {self.tokenizer}, tokens {self.tokens}, "
            f"length {self.length})"
        )


class _HasTokenizer(Protocol):
    @property
    def tokenizer(self) -> Tokenizer: ...


class OfText(Protocol):
    """A recipe of text: `Text`, or `data.languages.token_files.TokenFiles`."""

    @property
    def contents(self) -> _HasTokenizer:
        """What was read."""

    @property
    def bos(self) -> int:
        """The token that begins every sequence."""


def encode(recipe: OfText, text: str) -> NDArray[np.int32]:
    """Tokens of a text. Raises UserError for a character that the vocabulary lacks."""
    return recipe.contents.tokenizer.encode(text.encode("utf-8", "replace")).astype(np.int32)


def decode(recipe: OfText, tokens: ArrayLike) -> str:
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


def check_settings(tokenizer: object, vocabulary_size: object, limit: object, share: Any) -> None:
    """Raises UserError for what is wrong whatever the text."""
    if tokenizer not in get_args(Kind):
        kinds = ", ".join(get_args(Kind))
        raise UserError(f"tokenizer is {tokenizer!r}: give one of {kinds}")
    for name, value, least in (
        ("vocabulary_size", vocabulary_size, BYTES + 1),
        ("limit", limit, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{name} is {value!r}: give a whole number of {least} or more")
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
        tokenizer = tokenizing.BY_BYTE
    elif recipe.tokenizer == "characters":
        tokenizer = tokenizing.of_characters(texts)
    else:
        tokenizer = tokenizing.of_bpe(parts[0], recipe.vocabulary_size)
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
        train, held_out = cut(documents[0][1], share)
        return [train], [held_out]
    out = held_out_of([name for name, _ in documents], share)
    kept = [text for name, text in documents if name not in out]
    return kept, [text for name, text in documents if name in out]


def cut(text: bytes, share: float) -> tuple[bytes, bytes]:
    """The beginning of a single document, and its end, which is held out."""
    whole = corpora.up_to(text, round(len(text) * (1 - share)))
    return whole, text[len(whole) :]


def held_out_of(names: Sequence[str], share: float) -> set[str]:
    """The names of held-out documents, of two or more: one at least, and not all."""
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda n: blake2b(os.fsencode(n)).digest())[:count])


def name_of(piece: bytes) -> str:
    """A token's piece of text as Python writes it."""
    try:
        return repr(piece.decode())
    except UnicodeDecodeError:
        return repr(piece)
