"""Making token files of a corpus, a document at a time: `data.languages.token_files` reads them.

The corpus is gone through twice, for a BPE three times: what there is; what it is trained on; then
its tokens. They are those of `data.languages.text`, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from ih_jax import files, paths
from ih_jax.data.languages import corpora, tokenizing
from ih_jax.data.languages.corpora import SEPARATOR
from ih_jax.data.languages.text import Kind, check_settings, cut, held_out_of
from ih_jax.data.languages.token_files import CARD, MERGES, SIDES, Card, Sides, file_of
from ih_jax.data.languages.tokenizing import Tokenizer
from ih_jax.errors import UserError

TOGETHER = 1 << 20  # bytes that are encoded together, or up to the end of the line
EVERYTHING = 10**12  # bytes

# What is told while it goes on: the stage, bytes of text done, and of how many (0: not known yet).
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Corpus:
    """A text, and what is to be made of it; see `data.languages.text.Text`."""

    corpus: str | Path
    tokenizer: Kind = "bpe"
    vocabulary_size: int = 4096
    limit: int = EVERYTHING
    held_out: float = 0.1
    download: bool = False

    def documents(self) -> Iterator[corpora.Document]:
        """Each once, by name."""
        return corpora.one_by_one(self.corpus, self.limit, self.download)


class _Seen(NamedTuple):
    """What is known of a corpus once it has been gone through."""

    names: dict[str, bytes]  # digests of what the documents hold
    bytes: int
    characters: dict[str, int]  # how many each has; of the tokenizer "bpe"
    known: set[str]  # characters that occur; of the tokenizer "characters"


def make(corpus: Corpus, out: Path, told: Told = lambda stage, done, of: None) -> Card:
    """Make a folder of token files, whole or not at all.

    Args:
        corpus: the text.
        out: the folder; it must not be there yet.
        told: is called as it goes on.

    Raises:
        UserError: a setting is out of range, the text is not there or changes meanwhile, the folder
            is there or cannot be made, or a package is missing.
    """
    check_settings(corpus.tokenizer, corpus.vocabulary_size, corpus.limit, corpus.held_out)
    if paths.is_there(out):
        raise UserError(f"{paths.shown_path(out)} is there already: give another folder")
    paths.results_folder(out)
    seen = _look(corpus, told)
    out_of_training = held_out_of([*seen.names], corpus.held_out) if len(seen.names) > 1 else set()
    tokenizer = _tokenizer(corpus, seen, out_of_training, told)
    dtype = np.dtype("<u2" if len(tokenizer.pieces) <= 1 << 16 else "<u4")
    with files.atomic(out) as folder:
        folder.mkdir()
        checksums, counts = _write(corpus, seen, out_of_training, tokenizer, dtype, folder, told)
        if tokenizer.merges:
            files.write_text(folder / MERGES, tokenizer.merges)
            checksums[MERGES] = blake2b(tokenizer.merges.encode()).hexdigest()
        card = Card(
            kind="token files",
            version=1,
            corpus=Path(corpus.corpus).name or str(corpus.corpus),
            documents=len(seen.names),
            bytes=seen.bytes,
            tokenizer=corpus.tokenizer,
            pieces=" ".join(piece.hex() for piece in tokenizer.pieces),
            dtype="uint16" if dtype.itemsize == 2 else "uint32",
            share_held_out=corpus.held_out,
            tokens=counts,
            checksums=checksums,
        )
        text = msgspec.json.format(msgspec.json.encode(card), indent=1).decode()
        files.write_text(folder / CARD, text + "\n")
    return card


def _look(corpus: Corpus, told: Told) -> _Seen:
    seen = _Seen({}, 0, {}, set())
    for name, text in corpus.documents():
        seen.names[name] = blake2b(text).digest()
        if corpus.tokenizer == "bpe":
            seen.characters[name] = len(text.decode("utf-8", "replace"))
        elif corpus.tokenizer == "characters":
            seen.known.update(text.decode("utf-8", "replace"))
        seen = seen._replace(bytes=seen.bytes + len(text))
        told("reading", seen.bytes, 0)
    return seen


def _tokenizer(corpus: Corpus, seen: _Seen, held_out: set[str], told: Told) -> Tokenizer:
    if corpus.tokenizer == "bytes":
        return tokenizing.BY_BYTE
    if corpus.tokenizer == "characters":
        between = {SEPARATOR.decode()} if len(seen.names) > 2 else set()
        return tokenizing.of_characters(["".join(sorted(seen.known | between)).encode()])

    def beginnings() -> Iterator[str]:
        if not held_out:  # a single document, without its end
            ((_, text),) = corpus.documents()
            whole = cut(text, corpus.held_out)[0].decode("utf-8", "replace")
            yield whole[: round(tokenizing.share_to_merge(len(whole)) * len(whole))]
            return
        share = tokenizing.share_to_merge(
            sum(count for name, count in seen.characters.items() if name not in held_out)
        )
        done = 0
        for name, text in corpus.documents():
            done += len(text)
            if name not in held_out:
                characters = text.decode("utf-8", "replace")
                yield characters[: round(share * len(characters))]
            told("finding merges", done, seen.bytes)

    return tokenizing.trained_bpe(beginnings(), corpus.vocabulary_size)


def _write(
    corpus: Corpus,
    seen: _Seen,
    held_out: set[str],
    tokenizer: Tokenizer,
    dtype: np.dtype[Any],
    folder: Path,
    told: Told,
) -> tuple[dict[str, str], Sides]:
    """Checksums by file, and counts of tokens."""
    done, again = 0, dict[str, bytes]()
    with (
        (folder / file_of("train")).open("wb") as train,
        (folder / file_of("held_out")).open("wb") as rest,
    ):
        sides = {
            side: _Side(file, tokenizer, dtype)
            for side, file in zip(SIDES, (train, rest), strict=True)
        }
        for name, text in corpus.documents():
            again[name] = blake2b(text).digest()
            if held_out:
                sides["held_out" if name in held_out else "train"].add(text)
            else:
                for side, part in zip(SIDES, cut(text, corpus.held_out), strict=True):
                    sides[side].add(part)
            done += len(text)
            told("encoding", done, seen.bytes)
        for each in sides.values():
            each.encode(to=len(each.waiting))
    if again != seen.names:
        raise UserError(
            f"corpus {str(corpus.corpus)!r} changed while it was read: make the token files again"
        )
    checksums = {file_of(name): each.digest.hexdigest() for name, each in sides.items()}
    return checksums, Sides(sides["train"].count, sides["held_out"].count)


class _Side:
    """Documents of one side on their way into its file."""

    def __init__(self, file: BinaryIO, tokenizer: Tokenizer, dtype: np.dtype[Any]) -> None:
        self.file, self.tokenizer, self.dtype = file, tokenizer, dtype
        self.digest, self.count = blake2b(), 0
        self.waiting, self.begun = bytearray(), False

    def add(self, text: bytes) -> None:
        """Another document."""
        self.waiting += (SEPARATOR if self.begun else b"") + text
        self.begun = True
        if len(self.waiting) >= TOGETHER:
            # Nothing is merged beyond the end of a line: cut there, tokens are those of the whole.
            self.encode(to=self.waiting.rfind(b"\n") + 1)

    def encode(self, to: int) -> None:
        """What waits, up to there."""
        tokens = self.tokenizer.encode(bytes(self.waiting[:to])).astype(self.dtype).tobytes()
        del self.waiting[:to]
        self.file.write(tokens)
        self.digest.update(tokens)
        self.count += len(tokens) // self.dtype.itemsize
