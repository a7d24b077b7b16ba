"""Texts as the tokens of a network of other people, by the tokenizer.json beside its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ih_jax import gate, paths
from ih_jax.errors import UserError

MOST_GROWTH = 1_000  # times as long as it is, a text that a tokenizer has normalised


def tokenizer(path: Path, remedy: str) -> Any:
    """The tokenizer of a tokenizer.json, without its padding and truncation.

    Args:
        path: of the file.
        remedy: what else to do than to download it again, for the message.

    Raises:
        ImportError: tokenizers is not installed.
        UserError: the file cannot be read, or texts would grow more than `MOST_GROWTH`-fold.
    """
    from tokenizers import Tokenizer

    try:
        said = gate.parse_json(path)
    except UserError as error:
        raise UserError(f"{error}: download it again, or {remedy}") from None
    grown = _growth(said.get("normalizer") if isinstance(said, dict) else None)
    if grown > MOST_GROWTH:
        raise UserError(
            f"{paths.shown_path(path)}: its normalizer may make a text {grown:.3g} times as long, "
            f"and at most {MOST_GROWTH:,} is read: {remedy}"
        )
    try:
        made = Tokenizer.from_file(str(path))
        made.no_padding()  # to 10^10 tokens, say
        made.no_truncation()
        return made
    except Exception as error:  # whatever its parser, in Rust, raises
        raise UserError(
            f"{path} cannot be read ({paths.reason(error)}): download it again, or {remedy}"
        ) from None


def _growth(normalizer: Any) -> float:
    """How many times as long a text may become, by what the file says of its normalizer."""
    if not isinstance(normalizer, dict):
        return 1.0
    inner = normalizer.get("normalizers")
    if isinstance(inner, list):
        return math.prod(_growth(each) for each in inner)
    content = normalizer.get("content")
    return max(1.0, len(content)) if isinstance(content, str) else 1.0


def encode(path: Path, lines: Sequence[str], bos: int | None) -> list[list[int]]:
    """Texts of the same number of tokens, each with BOS before it, if there is one.

    Raises:
        UserError: the file is missing or cannot be read, or numbers of tokens differ.
    """
    if not paths.is_there(path):
        raise UserError(f"there is no {path}: put it there, or give tokens")
    made = tokenizer(path, "give tokens")
    first = [] if bos is None else [bos]
    rows = [first + made.encode(line, add_special_tokens=False).ids for line in lines]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise UserError(
            f"texts of {lengths[0]} to {lengths[-1]} tokens: give texts with the same number of "
            "tokens, or one at a time"
        )
    return rows
