"""Which heads of a pretrained network are induction heads, and which previous-token heads.

Scores of each head from its attention and its output alone: Olsson et al. 2022, "In-context
Learning and Induction Heads", appendix "Head activation evaluators". An induction head matches a
prefix *and* copies.

Glossary: L layers, H heads, B sequences of T tokens, V tokens in the vocabulary.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from numpy.typing import NDArray

from ih_jax import gate
from ih_jax.errors import UserError
from ih_jax.interop.pretrained.network import Config, Weights, direct_unembedding, forward
from ih_jax.interop.pretrained.reading import Pretrained
from ih_jax.measures.heads import (
    copying_logits,
    copying_ratio,
    prefix_matching_attention,
    previous_token_attention,
)

TOKENS, REPEATS, EXAMPLES = 25, 4, 10
TEXT_TOKENS = 256  # of a text, at most
LEFT_OUT = 10  # the first and last tenth of the vocabulary are too common or too rare
ENOUGH = 0.5  # of prefix matching or previous token, for a head to be called by it
SCORES = {
    "prefix_matching": "prefix matching",
    "copying": "copying",
    "copying_logits": "copying logits",
    "previous_token": "previous token",
}
KINDS = ("induction", "anti-copying", "previous token")  # a head is the first that fits


@dataclass(frozen=True)
class Probes:
    """What a network is shown."""

    repeated: Array  # [10, T]: 25 random tokens four times
    begin: int  # where the second repeat begins
    single: Array  # [10, 25]: random tokens, once
    text: Array  # [1, T], or [10, T] of random tokens
    told: dict[str, str]  # each score's probe, in words


def probes(model: Pretrained, seed: int = 0) -> Probes:
    """What to show a network: random tokens, and a text where its folder has a tokenizer.

    Byte-pair encodings number tokens roughly from common to rare. Random tokens come from the
    middle: neither from the first or last tenth of the vocabulary, nor special ones.

    Raises:
        UserError: the seed is out of range, the vocabulary or the context is too small, or the
            tokenizer cannot be read.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}: give a whole number from 0 to {2**32 - 1}")
    config = model.config
    V = config.vocabulary
    middle = np.arange(V // LEFT_OUT, V - V // LEFT_OUT)
    candidates = middle[~np.isin(middle, config.special)]
    if len(candidates) < TOKENS:
        raise UserError(
            f"a vocabulary of {V} tokens has {len(candidates)} that are neither in its first or "
            f"last tenth nor special: {TOKENS} are needed"
        )
    first = [] if config.bos is None else [config.bos]
    length = len(first) + TOKENS * REPEATS
    if config.context < length:
        raise UserError(
            f"a context of {config.context} tokens is too short: the probe of prefix matching is "
            f"{length} tokens long"
        )
    keys = jax.random.split(jax.random.key(seed), 3)

    def begun(tokens: Array) -> Array:
        return jnp.pad(tokens, ((0, 0), (len(first), 0)), constant_values=config.bos or 0)

    def draw(key: Array) -> Array:
        """[10, 25], none twice in a sequence."""
        one = partial(jax.random.choice, a=jnp.asarray(candidates), shape=(TOKENS,), replace=False)
        return jax.vmap(lambda key: one(key))(jax.random.split(key, EXAMPLES))

    room = min(config.context, TEXT_TOKENS) - len(first)
    tokens, why = _text(model.folder / "tokenizer.json", V, room)
    if tokens is None:
        tokens = jax.random.choice(keys[2], jnp.asarray(candidates), (EXAMPLES, room))
    begins = "nothing before them (config.json names no token)"
    if first:
        begins = f"token {config.bos} before them"
    once = f"{EXAMPLES} sequences of {TOKENS} random tokens, once, nothing before them"
    return Probes(
        repeated=begun(jnp.tile(draw(keys[0]), (1, REPEATS))),
        begin=len(first) + TOKENS,
        single=draw(keys[1]),
        text=begun(tokens),
        told={
            "prefix_matching": f"{EXAMPLES} sequences of {TOKENS} random tokens, {REPEATS} times "
            f"each, {begins}",
            **dict.fromkeys(("copying", "copying_logits"), once),
            "previous_token": f"{why}: {tokens.shape[1]} tokens, {begins}",
        },
    )


def _text(path: Path, vocabulary: int, room: int) -> tuple[Array | None, str]:
    """A text as tokens [1, T], and what it is; None where there is no tokenizer."""
    if not path.exists():
        return None, f"{EXAMPLES} sequences of random tokens, since there is no {path.name}"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None, f"{EXAMPLES} sequences of random tokens, since tokenizers is not installed"
    with contextlib.redirect_stdout(io.StringIO()):
        import this  # prints itself
    try:
        tokenizer = Tokenizer.from_file(str(gate.regular(path)))
    except UserError:
        raise
    except Exception as error:  # whatever its parser, in Rust, raises
        raise UserError(
            f"{path} cannot be read ({gate.reason(error)}): download it again, or remove it "
            "to measure on random tokens"
        ) from None
    tokens = tokenizer.encode(codecs.decode(this.s, "rot13"), add_special_tokens=False).ids[:room]
    if len(tokens) < 2 or max(tokens) >= vocabulary:
        raise UserError(
            f"{path} makes {len(tokens)} tokens up to {max(tokens, default=0)} of a text: it "
            f"belongs to another network than this one of {vocabulary} tokens; remove it"
        )
    return jnp.array([tokens]), "the Zen of Python"


# --- measuring ----------------------------------------------------------------------------------


def measure(
    model: Pretrained, seed: int = 0, tell: Callable[[str], None] = lambda what: None
) -> xr.Dataset:
    """Scores of every head, [layer, head].

    `MEANING` says what they are: prefix_matching and previous_token, 0 to 1, of attention; copying,
    -1 to 1, and copying_logits of what a head adds to logits by the direct path, through the last
    norm but for its division.

    Args:
        model: from `pretrained.read`.
        seed: of random tokens.
        tell: is told what is measured next.

    Raises:
        UserError: as `probes`; or scores are not finite, since weights are too large.
    """
    shown = probes(model, seed)
    weights, config = model.weights, model.config
    found: dict[str, Array] = {}
    tell(SCORES["prefix_matching"])
    found["prefix_matching"] = _prefix_matching(weights, shown.repeated, config, shown.begin)
    tell(SCORES["copying"])
    found["copying"], found["copying_logits"] = _copying(weights, shown.single, config)
    tell(SCORES["previous_token"])
    found["previous_token"] = _previous_token(weights, shown.text, config)
    scores = {name: (("layer", "head"), np.asarray(found[name], np.float32)) for name in SCORES}
    if not all(np.isfinite(values).all() for _, values in scores.values()):
        raise UserError(f"{model.folder}: scores are not finite: its weights are too large")
    return xr.Dataset(
        scores,
        {"layer": np.arange(config.layers), "head": np.arange(config.heads)},
        {
            "name": model.name,
            "model": model.source,
            "architecture": config.architecture,
            "sha256": json.dumps(model.sha256),
            "seed": seed,
            "probes": json.dumps(shown.told),
        },
    )


@partial(jax.jit, static_argnames=("config", "begin"))
def _prefix_matching(weights: Weights, tokens: Array, config: Config, begin: int) -> Array:
    def of(pattern: Array, z: Array, W_O: Array) -> Array:
        return prefix_matching_attention(pattern, tokens, begin)

    found: Array = forward(weights, config, tokens, of)[1]
    return found


@partial(jax.jit, static_argnames="config")
def _copying(weights: Weights, tokens: Array, config: Config) -> tuple[Array, Array]:
    W_U = direct_unembedding(weights, config)

    def of(pattern: Array, z: Array, W_O: Array) -> tuple[Array, Array]:
        given = (z, pattern, W_O, W_U, tokens)
        return 4 * copying_ratio(*given) - 1, copying_logits(*given)

    found: tuple[Array, Array] = forward(weights, config, tokens, of)[1]
    return found


@partial(jax.jit, static_argnames="config")
def _previous_token(weights: Weights, tokens: Array, config: Config) -> Array:
    def of(pattern: Array, z: Array, W_O: Array) -> Array:
        return previous_token_attention(pattern)

    found: Array = forward(weights, config, tokens, of)[1]
    return found


def kinds(found: xr.Dataset) -> NDArray[np.str_]:
    """What each head is called, [layer, head]: one of the KINDS or "".

    By the sign of copying_logits, not by the size of copying: that falls with the spread of
    attention, as where much of it rests on the first token, even if all that is written is copied.
    """
    matches = found["prefix_matching"].values >= ENOUGH
    copies = found["copying_logits"].values > 0
    previous = found["previous_token"].values >= ENOUGH
    return np.select((matches & copies, matches, previous), KINDS, "")
