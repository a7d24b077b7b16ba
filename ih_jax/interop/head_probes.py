"""What a pretrained network is shown: random tokens, repeated and once, and a text.

Olsson et al. 2022, "In-context Learning and Induction Heads", appendix "Head activation
evaluators".

Glossary: B sequences of T tokens, V tokens in the vocabulary.
"""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax import paths
from ih_jax.errors import UserError
from ih_jax.interop.pretrained.layout import Config
from ih_jax.interop.pretrained.reading import Pretrained
from ih_jax.interop.pretrained.text import tokenizer

TOKENS, REPEATS, EXAMPLES = 25, 4, 10
LEAST = 4  # tokens that are repeated, at least
TEXT_TOKENS = 256  # of a text, at most
LEFT_OUT = 10  # the first and last tenth of the vocabulary are too common or too rare
RANDOM = ("prefix_matching", "induction_diagonal")


@dataclass(frozen=True)
class Probes:
    """What a network is shown."""

    repeated: Array  # [10, T]: random tokens, several times
    length: int  # how many random tokens
    begin: int  # where the second repeat begins
    single: Array  # [10, length]: random tokens, once
    text: Array  # [1, T], or [10, T] of random tokens
    told: dict[str, str]  # each score's probe, in words


class _Size(NamedTuple):
    length: int
    repeats: int


def probes(
    model: Pretrained,
    seed: int = 0,
    length: int | None = None,
    repeats: int | None = None,
    bos: str | int | None = None,
) -> Probes:
    """What to show a network: random tokens, and a text where its folder has a tokenizer.

    Byte-pair encodings number tokens roughly from common to rare. Random tokens come from the
    middle, neither from the first or last tenth of the vocabulary, or from all of it where it is
    small; special ones are left out.

    Args:
        model: the network.
        seed: of random tokens.
        length: how many random tokens are repeated; None: 25, or as many as fit.
        repeats: how often they stand there; None: 4, or as often as fits.
        bos: the token before each sequence; None: the one that config.json names; "none": none.

    Raises:
        UserError: the seed, the length, the repeats or the token are out of range, the vocabulary
            or the context is too small for them, or the tokenizer cannot be read.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}: give a whole number from 0 to {2**32 - 1}")
    config = model.config
    V = config.vocabulary
    first, why = _before(config, bos)
    usual = np.setdiff1d(np.arange(V), [*config.special, *first])
    middle = usual[(usual >= V // LEFT_OUT) & (usual < V - V // LEFT_OUT)]
    candidates = middle if len(middle) >= (length or TOKENS) else usual
    size = _size(config, len(candidates), len(first), length, repeats)
    keys = jax.random.split(jax.random.key(seed), 3)

    def begun(tokens: Array) -> Array:
        return jnp.pad(tokens, ((0, 0), (len(first), 0)), constant_values=(first or [0])[0])

    def draw(key: Array) -> Array:
        """[10, length], none twice in a sequence."""
        one = partial(
            jax.random.choice, a=jnp.asarray(candidates), shape=(size.length,), replace=False
        )
        return jax.vmap(lambda key: one(key))(jax.random.split(key, EXAMPLES))

    room = min(config.context, TEXT_TOKENS) - len(first)
    tokens, kind = _text(model.folder / "tokenizer.json", V, room)
    if tokens is None:
        tokens = jax.random.choice(keys[2], jnp.asarray(candidates), (EXAMPLES, room))
    once = f"{EXAMPLES} sequences of {size.length} random tokens, once, nothing before them"
    often = f"{EXAMPLES} sequences of {size.length} random tokens, {size.repeats} times each, {why}"
    return Probes(
        repeated=begun(jnp.tile(draw(keys[0]), (1, size.repeats))),
        length=size.length,
        begin=len(first) + size.length,
        single=draw(keys[1]),
        text=begun(tokens),
        told={
            **dict.fromkeys(RANDOM, often),
            **dict.fromkeys(("copying", "copying_logits"), once),
            "previous_token": f"{kind}: {tokens.shape[1]} tokens, {why}",
        },
    )


def _before(config: Config, bos: str | int | None) -> tuple[list[int], str]:
    """The token that sequences begin with, if any, and why, in words."""
    if bos is None:
        if config.bos is None:
            return [], "nothing before them (config.json names no token)"
        reason = f"{config.bos_from} of config.json"
        if config.bos_from == "eos_token_id":
            reason = "config.json has no bos_token_id, so its first eos_token_id"
        return [config.bos], f"token {config.bos} before them ({reason})"
    if bos == "none":
        return [], "nothing before them (as asked)"
    given = str(bos)
    token = int(given) if given.isascii() and given.isdigit() and len(given) < 12 else -1
    if not 0 <= token < config.vocabulary:
        raise UserError(
            f"bos is {given!r}: give none, or a token from 0 to {config.vocabulary - 1}"
        )
    return [token], f"token {token} before them (as asked)"


def _size(
    config: Config, candidates: int, before: int, length: int | None, repeats: int | None
) -> _Size:
    """How many tokens to repeat, and how often: what was asked, or the most that fits."""
    if length is not None and length < LEAST:
        raise UserError(f"length is {length}: give {LEAST} or more random tokens to repeat")
    if repeats is not None and repeats < 2:
        raise UserError(f"repeats is {repeats}: give 2 or more")
    room = config.context - before
    if (length or LEAST) > candidates:
        raise UserError(
            f"a vocabulary of {config.vocabulary} tokens has {candidates} that are not special: "
            f"{length or LEAST} are needed; give a smaller length"
        )
    n = length or min(TOKENS, candidates)
    often = repeats or min(REPEATS, max(2, room // n))
    n = length or min(n, room // often)
    if n < LEAST or n * often > room:
        asked = max(n, LEAST)
        raise UserError(
            f"{asked} random tokens {often} times, with {before} before them, are "
            f"{before + asked * often} tokens: this network's context is {config.context}; give a "
            "smaller length or fewer repeats"
        )
    return _Size(n, often)


def _text(path: Path, vocabulary: int, room: int) -> tuple[Array | None, str]:
    """A text as tokens [1, T], and what it is; None where there is no tokenizer."""
    if not paths.is_there(path):
        return None, f"{EXAMPLES} sequences of random tokens, since there is no {path.name}"
    try:
        reader = tokenizer(path, "remove it to measure on random tokens")
    except ImportError:
        return None, f"{EXAMPLES} sequences of random tokens, since tokenizers is not installed"
    with contextlib.redirect_stdout(io.StringIO()):
        import this  # prints itself
    said: Sequence[int] = reader.encode(
        codecs.decode(this.s, "rot13"), add_special_tokens=False
    ).ids
    tokens = said[:room]
    if len(tokens) < 2 or max(tokens) >= vocabulary:
        raise UserError(
            f"{path} makes {len(tokens)} tokens up to {max(tokens, default=0)} of a text: it "
            f"belongs to another network than this one of {vocabulary} tokens; remove it"
        )
    return jnp.array([tokens]), "the Zen of Python"
