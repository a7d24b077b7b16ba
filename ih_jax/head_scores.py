"""Which heads of a pretrained network are induction heads, and which previous-token heads.

Scores of each head from its attention and its output alone: Olsson et al. 2022, "In-context
Learning and Induction Heads", appendix "Head activation evaluators". An induction head matches a
prefix *and* copies. `measure` gives the scores, `write` the folder

    heads.nc        the scores, [layer, head], and what they are of
    README.md       the first heads by prefix matching
    figure.png, figure.svg

Glossary: L layers, H heads, B sequences of T tokens, V tokens in the vocabulary.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import xarray as xr
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from ih_jax import store
from ih_jax.errors import UserError
from ih_jax.experiments.drawing import FAINT, QUIET, tidy
from ih_jax.measure.heads import (
    copying_logits,
    copying_ratio,
    prefix_matching_attention,
    previous_token_attention,
)
from ih_jax.pretrained import Pretrained
from ih_jax.pretrained_network import Config, Weights, direct_unembedding, forward

TOKENS, REPEATS, EXAMPLES = 25, 4, 10
TEXT_TOKENS = 256  # of a text, at most
LEFT_OUT = 10  # a tenth of the vocabulary at either end is neither common nor rare enough
ENOUGH = 0.5  # of prefix matching or previous token, for a head to be called by it
SHOWN = 12  # heads in tables
SCORES = {
    "prefix_matching": "prefix matching",
    "copying": "copying",
    "copying_logits": "copying logits",
    "previous_token": "previous token",
}
MAPPED = ("prefix_matching", "copying", "previous_token")
MEANING = {
    "prefix_matching": (
        "0 to 1", "attention, from the second time on, to what followed earlier occurrences of the "
        "current token"),
    "copying": (
        "-1 to 1", "4 r - 1, where r = a / (a + T): a is how much the head raises the tokens that "
        "it attends to, T how much it raises all of the sequence; low where attention is spread"),
    "copying_logits": (
        "logits", "how much more the head gives to what it attends to than to the others of the "
        "sequence, before the division of the last norm; above 0 it copies, however spread"),
    "previous_token": ("0 to 1", "attention to the token before"),
}  # fmt: skip
KINDS = ("induction", "anti-copying", "previous token")  # the first that a head is
HEADER = ("head", *SCORES.values(), "kind")


@dataclass(frozen=True)
class Probes:
    """What a network is shown."""

    repeated: Array  # [10, T]: 25 random tokens four times
    begin: int  # where the second time begins
    single: Array  # [10, 25]: random tokens, once
    text: Array  # [1, T], or [10, T] of random tokens
    told: dict[str, str]  # in words


def probes(model: Pretrained, seed: int = 0) -> Probes:
    """What to show a network: random tokens, and a text where its folder has a tokenizer.

    Tokens are from the middle of the vocabulary, whose order in byte-pair encodings is that of
    commonness, roughly: without the first and the last tenth, and without special tokens.

    Raises:
        UserError: the vocabulary or the context is too small, or the tokenizer cannot be read.
    """
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
    begins = "no token before (config.json names none)"
    if first:
        begins = f"token {config.bos} before"
    once = f"{EXAMPLES} sequences of {TOKENS} random tokens, once, none before"
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
    if not path.is_file():
        return None, f"{EXAMPLES} sequences of random tokens, for there is no {path.name}"
    try:
        from tokenizers import Tokenizer  # type: ignore[import-not-found]
    except ImportError:
        return None, f"{EXAMPLES} sequences of random tokens, for tokenizers is not installed"
    with contextlib.redirect_stdout(io.StringIO()):
        import this  # prints itself
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # whatever its parser, in Rust, raises
        raise UserError(
            f"{path} cannot be read ({str(error).splitlines()[0][:200]}): load it again, or remove "
            "it to measure on random tokens"
        ) from None
    tokens = tokenizer.encode(codecs.decode(this.s, "rot13"), add_special_tokens=False).ids[:room]
    if len(tokens) < 2 or max(tokens) >= vocabulary:
        raise UserError(
            f"{path} makes {len(tokens)} tokens up to {max(tokens, default=0)} of a text: it is of "
            f"another network than this one of {vocabulary} tokens; remove it"
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
        UserError: as `probes`; or weights are not finite, and scores are not.
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
        raise UserError(f"{model.folder}: scores are not finite: are its weights?")
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
    W_U = direct_unembedding(weights)

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


# --- what is shown ------------------------------------------------------------------------------


def write(found: xr.Dataset, folder: Path) -> None:
    """heads.nc, README.md and the figure, each whole or not at all. `folder` is there."""
    _write_whole(folder / "heads.nc", lambda path: found.to_netcdf(path, engine="h5netcdf"))
    with matplotlib.rc_context({"svg.hashsalt": str(found.attrs["name"])}):
        figure = draw(found)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            save = partial(figure.savefig, format=kind, dpi=200, metadata=metadata)
            _write_whole(folder / f"figure.{kind}", save)
    store.write_text(folder / "README.md", readme(found))


def check_free(model: Pretrained, folder: Path) -> None:
    """Raise UserError where a folder holds scores of other weights: they are not written over."""
    path = folder / "heads.nc"
    if not path.is_file():
        return
    try:
        with xr.open_dataset(path, engine="h5netcdf") as found:
            before = found.attrs.get("sha256")
    except Exception:  # h5netcdf and HDF5 raise many kinds; whatever it is, it is not ours to lose
        before = None
    if before != json.dumps(model.sha256):
        raise UserError(f"{path} is there, of other weights: give another folder with --out")


def _write_whole(path: Path, save: Callable[[Path], Any]) -> None:
    """Let `save` write a file under another name, which takes its own when it is whole."""
    partial_file = path.with_name(f".{path.name}.writing")
    try:
        save(partial_file)
        os.replace(partial_file, path)
    finally:
        partial_file.unlink(missing_ok=True)


def first_heads(found: xr.Dataset, score: str, count: int = SHOWN) -> list[tuple[int, int]]:
    """Layer and head of those first in a score, the highest first."""
    values = found[score].values
    order = np.argsort(-values, axis=None, kind="stable")[:count]
    return [
        (int(layer), int(head))
        for layer, head in np.stack(np.unravel_index(order, values.shape), 1)
    ]


def rows(found: xr.Dataset) -> list[tuple[str, ...]]:
    """The first heads by prefix matching: layer.head, the three scores, what it is called."""
    kind = kinds(found)
    return [
        (f"{at[0]}.{at[1]}", *(f"{found[name].values[at]:.2f}" for name in SCORES), str(kind[at]))
        for at in first_heads(found, "prefix_matching")
    ]


def table(found: xr.Dataset) -> Table:
    """The first heads by prefix matching, for the terminal."""
    made = Table(*HEADER, box=None, padding=(0, 2, 0, 0))
    for row in rows(found):
        made.add_row(*row)
    return made


def sentences(found: xr.Dataset) -> list[str]:
    """Which heads are of which kind, in words."""
    kind, said = kinds(found), []
    by = ("prefix_matching", "prefix_matching", "previous_token")
    for name, score in zip(KINDS, by, strict=True):
        every = first_heads(found, score, found[score].size)
        named = [f"{layer}.{head}" for layer, head in every if kind[layer, head] == name]
        highest = f" (highest {SCORES[score]} {found[score].values[every[0]]:.2f})"
        none = f"none{highest if found[score].values[every[0]] < ENOUGH else ''}"
        said.append(f"{name} heads: {', '.join(named) or none}")
    return said


def readme(found: xr.Dataset) -> str:
    """The folder's README, in Markdown."""
    attributes = found.attrs
    told = json.loads(attributes["probes"])
    sizes = f"{found.sizes['layer']} layers of {found.sizes['head']} heads"
    lines = [
        f"# Heads of {attributes['name']}",
        f"{attributes['architecture']}, {sizes}, from `{attributes['model']}`. Scores as in Olsson "
        'et al. 2022, "In-context Learning and Induction Heads". Heads are layer.head, from 0.',
        "![Scores of every head](figure.png)",
        "\n".join(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in sentences(found)),
        f"A head with prefix matching of {ENOUGH} or more is called an induction head where its "
        "copying logits are above 0, and anti-copying where they are not; any other is called a "
        f"previous-token head where that score is {ENOUGH} or more.",
        f"## First {len(rows(found))} by prefix matching",
        _markdown(HEADER, rows(found)),
        "## What was measured",
        _markdown(
            ("score", "range", "what it is", "on"),
            [(SCORES[name], *MEANING[name], told[name]) for name in SCORES],
        ),
        f"Random tokens are of seed {attributes['seed']}.",
        _markdown(("weights", "SHA-256"), [*json.loads(attributes["sha256"]).items()]),
    ]
    return "\n\n".join(lines) + "\n"


def _markdown(header: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *body)
    )


def draw(found: xr.Dataset) -> Figure:
    """Copying against prefix matching, and each score by layer and head."""
    figure = Figure(figsize=(8.6, 7.4), layout="constrained")
    panels = figure.subplots(2, 2)
    _scatter(figure, panels[0, 0], found)
    for axes, name in zip(panels.flat[1:], MAPPED, strict=True):
        _map(figure, axes, found, name)
    figure.suptitle(f"Heads of {found.attrs['name']}", x=0.01, ha="left", fontsize=12)
    return figure


def _scatter(figure: Figure, axes: Axes, found: xr.Dataset) -> None:
    """Every head, coloured by layer; induction heads are up and to the right."""
    x, y = found["prefix_matching"].values, found["copying"].values
    layers = np.broadcast_to(found["layer"].values[:, None], x.shape)
    colours = matplotlib.colormaps["viridis"].resampled(max(2, found.sizes["layer"]))
    ends = (-0.5, max(2, found.sizes["layer"]) - 0.5)
    dots = axes.scatter(x.ravel(), y.ravel(), c=layers.ravel(), cmap=colours, vmin=ends[0],
                        vmax=ends[1], s=26, edgecolors=QUIET, linewidths=0.4, zorder=3)  # fmt: skip
    axes.axvline(ENOUGH, lw=0.8, ls="--", color=FAINT, zorder=0)
    kind = kinds(found)
    named = [at for at in first_heads(found, "prefix_matching", 8) if kind[at] == KINDS[0]]
    for number, at in enumerate(named):
        right = number % 2 == 0
        axes.annotate(f"{at[0]}.{at[1]}", (x[at], y[at]), (5 if right else -5, 3), fontsize=7.5,
                      textcoords="offset points", ha="left" if right else "right",
                      color=QUIET, zorder=4)  # fmt: skip
    axes.set(xlim=(-0.04, 1.12), ylim=(-1.08, 1.08), xlabel="prefix matching", ylabel="copying")
    bar = figure.colorbar(dots, ax=axes, label="layer", pad=0.01)
    bar.locator = matplotlib.ticker.MaxNLocator(integer=True, nbins=8)
    bar.outline.set_visible(False)
    tidy(axes, "every head, the first induction heads by name")


def _map(figure: Figure, axes: Axes, found: xr.Dataset, name: str) -> None:
    """One score of every head, the first layer at the bottom."""
    lowest = -1 if name == "copying" else 0
    drawn = axes.imshow(found[name].values, origin="lower", aspect="auto", interpolation="nearest",
                        cmap="Blues", vmin=lowest, vmax=1)  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.set(xlabel="head", ylabel="layer")
    bar = figure.colorbar(drawn, ax=axes, pad=0.01)
    bar.outline.set_visible(False)
    tidy(axes, SCORES[name])
