"""Tokenizers: bytes, the characters of a text, or a byte-level BPE trained on it.

Glossary of shapes: V tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ih_jax.errors import UserError

BYTES = 256
MERGES_FROM = 5_000_000  # characters that a BPE is trained on; more would not change much
# What an encoder remembers of each token is large: characters of a piece, and pieces of a call.
PIECE, TOGETHER = 50_000, 32
LONGEST_LINE = 20 * PIECE  # characters; a longer one is cut, or all of it would be one piece
# A trainer's time grows with the square of a word's length: it is trained on parts of such words.
LONG_WORD = re.compile(r"(\S{1000}|\s{1000})")


class Tokenizer(NamedTuple):
    """From text to tokens and back."""

    pieces: tuple[bytes, ...]  # [V] what each token stands for
    encode: Callable[[bytes], NDArray[Any]]
    merges: str = ""  # of a BPE: the JSON of the package tokenizers, which `of_merges` reads again


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
    texts = [text.decode("utf-8", "replace") for text in documents]
    share = share_to_merge(sum(map(len, texts)))
    return trained_bpe((text[: round(share * len(text))] for text in texts), size)


def share_to_merge(characters: int) -> float:
    """How much of each document, from its beginning, a BPE is trained on."""
    return min(1, MERGES_FROM / max(1, characters))


def trained_bpe(texts: Iterable[str], size: int) -> Tokenizer:
    """As `of_bpe`, of all of these texts, which are gone through once."""
    tokenizers = _package()
    by_byte = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    by_line = tokenizers.pre_tokenizers.Split("\n", "merged_with_previous")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([by_line, by_byte])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    pieces = (part for text in texts for piece in _lines(text) for part in LONG_WORD.split(piece))
    bpe.train_from_iterator(filter(None, pieces), trainer)
    return _of_trained(bpe)


def of_merges(merges: str) -> Tokenizer:
    """The BPE that has these `Tokenizer.merges`.

    Raises:
        UserError: the package is missing, or this is no such JSON.
    """
    tokenizers = _package()
    try:
        return _of_trained(tokenizers.Tokenizer.from_str(merges))
    except Exception as error:  # of the package, and KeyError for a piece that is not of bytes
        raise UserError(
            f"the merges of a BPE cannot be read ({type(error).__name__}): make the token files "
            "again, with ih-jax text"
        ) from None


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "tokenizer 'bpe' needs the package tokenizers: pip install tokenizers, "
            "or take 'bytes' or 'characters'"
        ) from None
    return tokenizers


def _of_trained(bpe: Any) -> Tokenizer:
    byte_of = _byte_of()
    order = sorted(bpe.get_vocab().items(), key=lambda pair: pair[1])
    pieces = tuple(bytes(byte_of[character] for character in piece) for piece, _ in order)

    def encode(text: bytes) -> NDArray[Any]:
        lines = _lines(text.decode("utf-8", "replace"))
        found = [np.zeros(0, np.int32)]
        while some := list(islice(lines, TOGETHER)):
            found += [np.array(each.ids, np.int32) for each in bpe.encode_batch(some)]
        return np.concatenate(found)

    return Tokenizer(pieces, encode, bpe.to_str())


def _lines(text: str) -> Iterator[str]:
    """`text` in pieces of about `PIECE` characters that end where a line does, if it ever does."""
    at = 0
    while at < len(text):
        end = text.find("\n", at + PIECE, at + LONGEST_LINE) + 1 or at + LONGEST_LINE
        yield text[at:end]
        at = end


def _byte_of() -> dict[str, int]:
    """The byte that a character of a byte-level piece stands for (GPT-2's `bytes_to_unicode`)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(BYTES) if byte not in own]
    return {chr(b): b for b in own} | {chr(BYTES + i): b for i, b in enumerate(others)}
