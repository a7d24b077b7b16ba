"""Texts as the tokens of a network of other people, by the tokenizer.json beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ih_jax import paths
from ih_jax.errors import UserError


def tokenizer(path: Path, remedy: str) -> Any:
    """The tokenizer of a tokenizer.json.

    Args:
        path: of the file.
        remedy: what else to do than to download it again, for the message.

    Raises:
        ImportError: tokenizers is not installed.
        UserError: the file cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(paths.regular(path)))
    except UserError:
        raise
    except Exception as error:  # whatever its parser, in Rust, raises
        raise UserError(
            f"{path} cannot be read ({paths.reason(error)}): download it again, or {remedy}"
        ) from None


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
