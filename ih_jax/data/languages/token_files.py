"""Text as tokens on disk, made once and read where they lie: for corpora larger than memory likes.

A folder of token files, which `ih-jax text` makes (`data.languages.making_tokens`):

    train.bin, held_out.bin  tokens of either side, documents packed as in `data.languages.text`:
                             uint16 or uint32, little-endian, nothing else
    card.json                what they are: `Card`
    merges.json              of a BPE: that of the package tokenizers

Sequences are windows that begin anywhere. The files are mapped into memory, and a CPU reads of them
what a window needs; an accelerator has a copy in its own memory.

Glossary of shapes: B sequences, N tokens of a side, T tokens of a sequence (BOS included), V tokens
without BOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ih_jax import gate, paths
from ih_jax.data.batches import Tokens
from ih_jax.data.languages import corpora, tokenizing
from ih_jax.data.languages.recipe import Recipe, recipe, with_bos
from ih_jax.data.languages.text import Kind, name_of
from ih_jax.data.languages.tokenizing import Tokenizer
from ih_jax.errors import UserError

SIDES = ("train", "held_out")
CARD, MERGES = "card.json", "merges.json"
AT_ONCE = 1 << 22  # bytes of a file that are looked at together
MOST = 2**31 - 1  # tokens of a side: where a window begins is an int32
AGAIN = "make the token files again, with ih-jax text"


class Sides(msgspec.Struct):
    """How many tokens each side has."""

    train: gate.Count
    held_out: gate.Count


class Card(msgspec.Struct):
    """The card.json of a folder of token files."""

    kind: Literal["token files"]
    version: Literal[1]
    corpus: str  # its name, not its path
    documents: gate.Count
    bytes: gate.Count  # of text
    tokenizer: Kind
    pieces: str  # [V] what each token stands for, in hexadecimal, with spaces between
    dtype: Literal["uint16", "uint32"]
    share_held_out: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    tokens: Sides
    checksums: dict[str, str]  # of each file but this, BLAKE2b in hexadecimal

    @property
    def checksum(self) -> str:
        """Of all files, and what their tokens stand for."""
        digest = blake2b(f"{self.pieces}\n{self.tokenizer}\n{self.dtype}".encode())
        for name, own in sorted(self.checksums.items()):
            digest.update(f"\n{name} {own}".encode())
        return digest.hexdigest()[:32]

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self.pieces.split())


@dataclass(frozen=True, eq=False)
class Contents:
    """A folder of token files, opened."""

    card: Card
    tokenizer: Tokenizer
    train: NDArray[Any]  # [N], mapped
    held_out: NDArray[Any]  # [N'], mapped


@dataclass(frozen=True)
class Windows(Recipe):
    """Windows of some tokens: all that a program knows of them."""

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """B windows of `source["tokens"]`, [N], that begin anywhere, BOS before each."""
        tokens, width = source["tokens"], self.length - 1
        begin = jax.random.randint(key, (sequences, 1), 0, len(tokens) - width + 1)
        return with_bos(self, tokens[begin + jnp.arange(width)[None]])


@recipe
@dataclass(frozen=True)
class TokenFiles(Recipe):
    """Real text from a folder of token files.

    Attributes:
        folder: which `ih-jax text` made (also looked for in the folder that the environment
            variable IH_JAX_DATA_DIR names).
        tokens: V, computed.
        length: T, BOS included.

    The files are read through once, to compare them with the checksums of their card. A `checksum`,
    that of a run card, says which they have to be.

    Raises:
        UserError: the folder is missing or holds no token files, they are damaged, too short for
            the length, or not those of the checksum.
    """

    folder: str | Path = "tokens"
    tokens: int = field(init=False, default=tokenizing.BYTES)
    length: int = field(default=128, kw_only=True)
    checksum: InitVar[str | None] = field(default=None, kw_only=True)

    def __post_init__(self, checksum: str | None) -> None:
        super().__post_init__()  # the length, before anything is read
        card = self.contents.card
        if checksum not in (None, card.checksum):
            raise UserError(
                f"folder {str(self.folder)!r} no longer has the tokens of the run card (checksum "
                f"{card.checksum}, on the card {checksum}): put them back as they were"
            )
        for side in SIDES:
            found = getattr(card.tokens, side)
            if found < self.length - 1:
                raise UserError(
                    f"folder {str(self.folder)!r} has {found} {side} tokens, a sequence of length "
                    f"{self.length} needs {self.length - 1}: give more text or a smaller length"
                )
        # Frozen like what was given, though known only now.
        object.__setattr__(self, "tokens", card.vocabulary)
        super().__post_init__()

    @cached_property
    def contents(self) -> Contents:
        """The files, mapped; the same arrays for recipes of the same files."""
        return _opened(corpora.find(self.folder))

    def static(self) -> Windows:
        """Vocabulary and length decide the program."""
        return Windows(self.tokens, self.length)

    def source(self, held_out: bool = False) -> Mapping[str, np.ndarray]:
        """{"tokens": [N]}, mapped, uint16 or uint32."""
        return {"tokens": self.contents.held_out if held_out else self.contents.train}

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See `Windows`."""
        return self.static().sample(key, source, sequences)

    def describe(self) -> dict[str, Any]:
        """Where they are, the length, and the checksum of what was read."""
        return {
            "recipe": type(self).__name__,
            "folder": str(corpora.find(self.folder).absolute()),  # a card is read in other folders
            "length": self.length,
            "checksum": self.contents.card.checksum,
        }

    def token_names(self) -> list[str]:
        """As those of `data.languages.text.Text`."""
        return [*map(name_of, self.contents.tokenizer.pieces), "BOS"]

    def in_words(self) -> str:
        """For a reader of results."""
        card = self.contents.card
        return (
            f"TokenFiles (corpus {card.corpus}, {card.bytes / 1e6:.3g} MB, "
            f"{card.tokens.train / 1e6:.3g} million tokens to train on, documents "
            f"{card.documents}, held out {card.share_held_out:.0%}, tokenizer {card.tokenizer}, "
            f"tokens {self.tokens}, length {self.length})"
        )


def at(corpus: str | Path) -> Path | None:
    """The folder of token files that a corpus is; None for another corpus.

    Raises UserError for a path with nothing there.
    """
    if corpus == corpora.PYTHON or str(corpus).startswith(corpora.TFDS):
        return None
    folder = corpora.find(corpus)
    # With one of them lost it is no folder of text either.
    return folder if len(_lost(folder)) < 2 else None


def _lost(folder: Path) -> list[str]:
    """Which files of a folder of tokens are not there, or are no files."""
    return [name for name in (CARD, *map(file_of, SIDES)) if not (folder / name).is_file()]


def file_of(side: str) -> str:
    """The name of the file of a side."""
    return f"{side}.bin"


_KNOWN: WeakValueDictionary[Any, Contents] = WeakValueDictionary()


def _opened(folder: Path) -> Contents:
    """The files of a folder, checked where no living recipe has them. Raises UserError."""
    lost = _lost(folder)
    if lost:
        raise UserError(
            f"{paths.shown_path(folder)} is no folder of token files, without {', '.join(lost)}: "
            "give one that ih-jax text made, whole"
        )
    there = [folder / name for name in (CARD, *map(file_of, SIDES))]
    stats = [paths.regular(path).stat() for path in there]
    key = folder.resolve(), *((s.st_size, s.st_mtime_ns, s.st_ino) for s in stats)
    found = _KNOWN.get(key)
    if found is not None:
        return found
    card = gate.read_json(there[0], Card)
    sides = {side: _mapped(folder / file_of(side), side, card) for side in SIDES}
    made = Contents(card, _tokenizer(folder, card), sides["train"], sides["held_out"])
    return _KNOWN.setdefault(key, made)


def _mapped(path: Path, side: str, card: Card) -> NDArray[Any]:
    """The tokens of a side. Raises UserError where they are not those that the card describes."""
    dtype, count = np.dtype(card.dtype).newbyteorder("<"), getattr(card.tokens, side)
    size = path.stat().st_size
    if size != count * dtype.itemsize:
        raise UserError(
            f"{paths.shown_path(path)} has {size:,} bytes, its card says {count:,} tokens of "
            f"{dtype.itemsize} bytes: {AGAIN}"
        )
    if count > MOST:
        raise UserError(f"{paths.shown_path(path)} has {count:,} tokens: give at most {MOST:,}")
    digest, highest = blake2b(), -1
    with path.open("rb") as file:
        while some := file.read(AT_ONCE):
            digest.update(some)
            highest = max(highest, int(np.frombuffer(some, dtype).max()))
    if digest.hexdigest() != card.checksums.get(path.name) or highest >= card.vocabulary:
        raise UserError(f"{paths.shown_path(path)} is not what its card describes: {AGAIN}")
    return np.memmap(path, dtype, "r") if count else np.zeros(0, dtype)


def _tokenizer(folder: Path, card: Card) -> Tokenizer:
    """From the card, and for a BPE from its merges. Raises UserError."""
    try:
        pieces = tuple(bytes.fromhex(piece) for piece in card.pieces.split())
        if card.tokenizer == "bytes":
            made = tokenizing.BY_BYTE
        elif card.tokenizer == "characters":
            made = tokenizing.of_characters([b"".join(pieces)])
        else:
            merges = paths.read_bytes(folder / MERGES, gate.MOST_BYTES)
            if blake2b(merges).hexdigest() != card.checksums.get(MERGES):
                raise UserError(
                    f"{paths.shown_path(folder / MERGES)} is not what its card describes: {AGAIN}"
                )
            made = tokenizing.of_merges(merges.decode())
        if made.pieces == pieces:
            return made
    except ValueError as error:  # of `fromhex` and `decode`
        if isinstance(error, UserError):
            raise
    raise UserError(
        f"{paths.shown_path(folder)}: the tokenizer is not what its card describes: {AGAIN}"
    )
