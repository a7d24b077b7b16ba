"""Batches of sequences of one's own: exemplars with labels, vectors, a text, or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ih_jax import gate, memory
from ih_jax.data.batches import Batch, Sequences, Tokens, Vectors
from ih_jax.data.languages import text as texts
from ih_jax.data.languages.token_files import TokenFiles
from ih_jax.errors import UserError, given, whole
from ih_jax.model.params import Config
from ih_jax.tasks.base import Task
from ih_jax.tasks.language import Language

GIVE = "give examples and labels, vectors (with labels or without), text, or tokens"


def own_batch(
    config: Config,
    task: Task | None,
    *,
    examples: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    text: str | Sequence[str] | None = None,
    tokens: ArrayLike | None = None,
) -> Sequences:
    """The batch of what was given, checked against the network that will read it.

    Arguments and errors are those of `Network.batch_of`; `task` says how a text is encoded.
    """
    sources = {"examples": examples, "vectors": vectors, "text": text, "tokens": tokens}
    kinds = [name for name, value in sources.items() if value is not None]
    if len(kinds) != 1:
        raise UserError(GIVE if not kinds else f"{' and '.join(kinds)} together: {GIVE}")
    kind = kinds[0]
    if labels is not None and kind in ("text", "tokens"):
        raise UserError(f"{kind} and labels together: {GIVE}")
    if config.language and kind in ("examples", "vectors"):
        raise UserError("this network reads tokens: give tokens, or text")
    if not config.language and kind == "tokens":
        raise UserError(f"this network does not read tokens: {GIVE.partition(', text')[0]}")
    if examples is not None:
        if labels is None:
            raise UserError("examples without labels: give a label for each example")
        return _of_examples(config, _numbers("examples", examples), _array("labels", labels))
    if vectors is not None:
        own = None if labels is None else _array("labels", labels)
        return _of_vectors(config, _numbers("vectors", vectors), own)
    if text is not None:
        return _of_text(config, task, texts_of(text))
    return _of_tokens(config, _array("tokens", tokens))


def check_count(sequences: object, seed: object, tokens: int, config: Config) -> None:
    """Raises UserError for numbers that no batch is drawn with, or that memory does not hold."""
    count = whole("sequences", sequences, least=1, most=10**15)
    whole("seed", seed)
    memory.check(4 * count * tokens * config.d_model, f"a batch of {count:,} sequences")


def texts_of(text: Any) -> list[str]:
    """A text, or several, as a list. Raises UserError for anything else."""
    lines = [text] if isinstance(text, str) else text
    if not isinstance(lines, Sequence) or not all(isinstance(each, str) for each in lines):
        raise UserError(f"text is {given(text)}: give a text, or a list of them")
    return list(lines)


def _numbers(name: str, value: Any) -> np.ndarray:
    found = _array(name, value, np.float32)
    return gate.finite(found, name)


def _array(name: str, value: Any, dtype: Any = None) -> np.ndarray:
    """Raises UserError for what is no array."""
    try:
        return np.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is {given(value)}: give an array of numbers") from error


def _of_examples(config: Config, examples: np.ndarray, labels: np.ndarray) -> Batch:
    """From [B, P, F] and [B, P], or both without B."""
    if examples.ndim == 2:
        examples, labels = examples[None], labels[None]
    if examples.shape[2:] != (config.features,) or labels.shape != examples.shape[:2]:
        raise UserError(
            f"examples {examples.shape} and labels {labels.shape}: give [B, P, {config.features}] "
            "and [B, P], or both without B"
        )
    _refuse_out_of_range(labels, 0, config.labels, "label")
    return Batch.of(jnp.asarray(examples), jnp.asarray(labels, jnp.int32))


def _of_vectors(config: Config, vectors: np.ndarray, labels: np.ndarray | None) -> Vectors:
    """From [B, T, F] and [B, T], or both without B."""
    if vectors.ndim == 2:
        vectors, labels = vectors[None], None if labels is None else labels[None]
    if vectors.shape[2:] != (config.features,):
        raise UserError(
            f"vectors {vectors.shape}: give [B, T, {config.features}], or [T, {config.features}] "
            "of one sequence"
        )
    if labels is None:
        return Vectors(jnp.asarray(vectors))
    if labels.shape != vectors.shape[:2]:
        raise UserError(
            f"labels {labels.shape} for vectors {vectors.shape}: give one at each position, -1 "
            "where the vector itself is read"
        )
    _refuse_out_of_range(labels, -1, config.labels, "label")
    return Vectors(jnp.asarray(vectors), jnp.asarray(labels, jnp.int32))


def _of_text(config: Config, task: Task | None, lines: list[str]) -> Tokens:
    data = task.data if isinstance(task, Language) else None
    if not isinstance(data, texts.Text | TokenFiles):
        raise UserError(f"this network was not trained on a text: {GIVE.replace(' text,', '')}")
    rows = [[data.bos, *texts.encode(data, line).tolist()] for line in lines]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise UserError(
            f"texts of {lengths[0] - 1} to {lengths[-1] - 1} tokens: give texts with the same "
            "number of tokens, or one at a time"
        )
    return _of_tokens(config, np.asarray(rows))


def _of_tokens(config: Config, tokens: np.ndarray) -> Tokens:
    """From [B, T] or [T]."""
    rows = tokens[None] if tokens.ndim == 1 else tokens
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise UserError(f"tokens {tokens.shape}: give [B, T] or [T], with at least 2 tokens")
    _refuse_out_of_range(rows, 0, config.labels, "token")
    return Tokens(jnp.asarray(rows, jnp.int32))


def _refuse_out_of_range(array: np.ndarray, first: int, end: int, what: str) -> None:
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{what}s are {array.dtype}: give whole numbers, {first} to {end - 1}")
    if array.size and (array.min() < first or array.max() >= end):
        raise UserError(
            f"{what}s {array.min()} to {array.max()}: give whole numbers, {first} to {end - 1}"
        )
