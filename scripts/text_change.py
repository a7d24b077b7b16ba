"""What brings a previous-token head on real text: trials of ways in which positions enter.

    python scripts/text_change.py train OUT.json --positions relative --embeddings 8
    python scripts/text_change.py train OUT.json --lent 0.5
    python scripts/text_change.py draw FIGURE.png TRIAL.json ...
    python scripts/text_change.py judge ONE-LAYER.json TWO-LAYERS.json

A trial trains one attention-only network (AdamW .9, .98, weight decay .01, 100 steps of warm-up, as
the recipes of `ih_jax.tasks.language`) and looks at held-out text and at all heads again and again.
Two ways in which positions may enter are made here from the network's own forward pass:

    sinusoids  fixed ones, added to the inputs of queries and keys (Press et al. 2021)
    relative   a number for each layer, head and distance, learned from 0 and added to the scores
               (Raffel et al. 2020, with every distance its own; not shared by the layers); a model
               has it too (`Config.positions`), where what it is multiplied by (`--gain`) is 8

With `--lent` a share of the attention of head 0 of layer 0 goes to the previous token throughout
(the first token attends to itself), the rest wherever the head has learned.

A trial is written anew at every look. Findings: docs/findings/text-change.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.figure import Figure

from ih_jax.data.batches import Tokens
from ih_jax.data.languages import token_files
from ih_jax.data.languages.text import Text
from ih_jax.data.languages.token_files import TokenFiles
from ih_jax.measures.heads import attention_by_offset, prefix_matching_attention
from ih_jax.measures.probes import repeated_tokens
from ih_jax.model import distances
from ih_jax.model.params import Config, Params, init
from ih_jax.model.sites import Sites, to_public
from ih_jax.model.transformer import forward
from ih_jax.tasks.language import in_context_score, token_losses

WARMUP, BETA2, DECAY = 100, 0.98, 0.01
HELD_OUT, AT_ONCE = 304, 16  # sequences of held-out text, and those that heads are looked at on
REPEATS = 4  # of a block of random tokens, for prefix matching
LAST = 5  # looks that the end is judged by
WINDOW = 8  # positions that each end of the in-context learning score averages over

# A network and its table of distances [layers, heads, T], of which None is for other positions.
Weights = tuple[Params, Array | None]


def sites_of(weights: Weights, batch: Tokens, gain: float, lent: float) -> Sites:
    """All sites; scores [H, T, T, B] get `gain` times the number of their distance.

    A share `lent` of the first head's pattern is attention to the previous token.
    """
    params, table = weights

    def tap(site: str, layer: int, value: Array, sites: Sites) -> Array:
        if lent and site == "pattern" and layer == 0:
            previous = np.eye(value.shape[1], k=-1, dtype=np.float32)
            previous[0, 0] = 1.0
            return value.at[0].set((1 - lent) * value[0] + lent * previous[..., None])
        if table is None or site != "attn_scores":
            return value
        own = gain * table[layer][:, : value.shape[1]]
        return value + distances.square(own)[..., None]

    return forward(params, batch, tap)


def first_weights(given: argparse.Namespace, tokens: int) -> Weights:
    """Before training, of a vocabulary of so many tokens."""
    own = {"sinusoids": "shortformer", "relative": "shortformer"}
    config = Config(
        features=0,
        labels=tokens,
        layers=given.layers,
        d_model=given.width,
        heads=given.heads,
        positions=own.get(given.positions, given.positions),
        position_base=given.base,
        max_positions=given.length,
    )
    params = init(jax.random.key(given.init), config)
    params = params.replace(W_E=given.embeddings * params.W_E)  # type: ignore[attr-defined]
    table = None
    if given.positions in own:
        d = np.arange(given.width)
        angle = np.arange(given.length)[:, None] / given.base ** (2 * (d // 2) / given.width)
        waves = given.amplitude * np.where(d % 2 == 0, np.sin(angle), np.cos(angle))
        fixed = waves if given.positions == "sinusoids" else np.zeros_like(waves)
        params = params.replace(W_pos=jnp.asarray(fixed, jnp.float32))
    if given.positions == "relative":
        table = jnp.zeros((given.layers, given.heads, given.length))
    return params, table


def train(given: argparse.Namespace) -> None:
    """Train one network and write what is seen of it."""
    is_folder = token_files.at(given.text) is not None
    recipe = (
        TokenFiles(Path(given.text), length=given.length)
        if is_folder
        else Text(given.text, "bpe", given.vocabulary, length=given.length)
    )
    source = jax.tree.map(jnp.asarray, recipe.source())
    held_out = jax.tree.map(jnp.asarray, recipe.source(held_out=True))
    sample = recipe.static().sample
    weights = first_weights(given, recipe.vocabulary)
    direction = optax.chain(
        optax.scale_by_adam(0.9, BETA2, eps=1e-8), optax.add_decayed_weights(DECAY)
    )
    fixed = given.positions in ("sinusoids", "relative")

    def loss(weights: Weights, batch: Tokens) -> Array:
        return jnp.mean(token_losses(sites_of(weights, batch, given.gain, given.lent), batch))

    @partial(jax.jit, static_argnums=3)
    def steps(weights: Weights, state: Any, first: Array, count: int) -> tuple[Weights, Any]:
        def one(i: Array, both: tuple[Weights, Any]) -> tuple[Weights, Any]:
            weights, state = both
            number = first + i
            batch = sample(jax.random.fold_in(jax.random.key(0), number), source, given.batch)
            updates, state = direction.update(jax.grad(loss)(weights, batch), state, weights)
            if fixed:
                params = updates[0].replace(W_pos=jnp.zeros_like(updates[0].W_pos))
                updates = (params, updates[1])
            rate = given.learning_rate * jnp.minimum(1.0, number / WARMUP)
            if given.decay_from:
                left = given.tokens - number * given.batch * given.length
                rate *= jnp.clip(left / (given.tokens - given.decay_from), 0.0, 1.0)
            return jax.tree.map(lambda p, u: p - rate * u, weights, updates), state

        return jax.lax.fori_loop(0, count, one, (weights, state))

    batches = [
        sample(jax.random.key(100 + i), held_out, AT_ONCE) for i in range(HELD_OUT // AT_ONCE)
    ]
    look = looking(given, recipe.vocabulary)
    state, done = direction.init(weights), 0
    at_once = max(1, round(given.every / (given.batch * given.length)))
    settings = {key: str(value) if key == "text" else value for key, value in vars(given).items()}
    for known in ("out", "do", "text"):
        settings.pop(known, None)
    trial: dict[str, Any] = {"settings": settings, "text": Path(given.text).name, "looks": []}
    began = time.process_time()
    while True:
        seen = {"tokens": done * given.batch * given.length, **look(weights, batches)}
        seen["cpu_seconds"] = round(time.process_time() - began, 1)
        trial["looks"].append(seen)
        Path(given.out).write_text(json.dumps(trial) + "\n")
        print(json.dumps(seen), flush=True)
        if seen["tokens"] >= given.tokens or not np.isfinite(seen["loss"]):
            return
        weights, state = steps(weights, state, jnp.int32(done), at_once)
        done += at_once


def looking(
    given: argparse.Namespace, tokens: int
) -> Callable[[Weights, list[Tokens]], dict[str, Any]]:
    """What is seen of a network: nats, and attention of every head by layer."""
    probe = repeated_tokens(tokens, given.length, None, REPEATS, 10, 0, ())
    second = 1 + (probe.positions - 1) // REPEATS
    early = round(given.length * 10 / 64)

    @jax.jit
    def losses(weights: Weights, batch: Tokens) -> Array:
        return token_losses(sites_of(weights, batch, given.gain, given.lent), batch).mean(-1)

    @jax.jit
    def heads(weights: Weights, batch: Tokens) -> tuple[Array, Array]:
        on_text = sites_of(weights, batch, given.gain, given.lent)["pattern"]
        on_repeats = sites_of(weights, probe, given.gain, given.lent)["pattern"]
        near = [attention_by_offset(to_public("pattern", each), 2) for each in on_text]
        matching = [
            prefix_matching_attention(to_public("pattern", each), probe.tokens, second)
            for each in on_repeats
        ]
        return jnp.stack(near), jnp.stack(matching)

    def look(weights: Weights, batches: list[Tokens]) -> dict[str, Any]:
        by_token = np.mean([np.asarray(losses(weights, each)) for each in batches], axis=0)
        score = in_context_score(jnp.asarray(by_token), early, given.length - 1, WINDOW)
        near, matching = (np.asarray(each, float) for each in heads(weights, batches[0]))
        return {
            "loss": round(float(by_token.mean()), 4),
            "score": round(float(score), 4),
            "own_token": near[..., 0].round(3).tolist(),
            "previous_token": near[..., 1].round(3).tolist(),
            "prefix_matching": matching.round(4).tolist(),
        }

    return look


def draw(given: argparse.Namespace) -> None:
    """Curves of trials side by side; those that differ in the number after the last dash alike."""
    figure = Figure(figsize=(15, 3.6), layout="constrained")
    panels = figure.subplots(1, 4)
    colours: dict[str, str] = {}
    for path in map(Path, given.trials):
        name, _, seed = path.stem.rpartition("-")
        group = name if seed.isdigit() else path.stem
        label = None if group in colours else group.replace("-", " ")
        colour = colours.setdefault(group, f"C{len(colours)}")
        looks = json.loads(path.read_text())["looks"]
        millions = [each["tokens"] / 1e6 for each in looks]
        curves = (
            [max(map(max, each["prefix_matching"])) for each in looks],
            [max(each["previous_token"][0]) for each in looks],
            [each["score"] for each in looks],
            [each["loss"] for each in looks],
        )
        for axes, values in zip(panels, curves, strict=True):
            axes.plot(millions, values, colour, label=label, lw=1.2, alpha=0.85)
    titles = (
        "Prefix matching, highest of any head",
        "To the previous token, layer 0",
        "In-context learning score (nats)",
        "Loss on held-out text (nats)",
    )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("million tokens seen")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:2]:
        axes.set_ylim(0, 0.8)
    low = min(panels[3].dataLim.y0, 3.0)
    panels[3].set_ylim(low - 0.1, low + 1.6)
    panels[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(given.out, dpi=120)


def judge(given: argparse.Namespace) -> None:
    """The statements of docs/findings/text-change.md, for two layers and one of the same seed."""
    one, two = [json.loads(Path(p).read_text())["looks"] for p in (given.one, given.two)]
    matching = [max(map(max, each["prefix_matching"])) for each in two]
    alone = max(max(map(max, each["prefix_matching"])) for each in one)
    previous = [max(each["previous_token"][0]) for each in two]
    apart = [b["score"] - a["score"] for a, b in zip(one, two, strict=False)]
    at = [each["tokens"] for each in two]
    fifth = at[-1] / 5 * 1.001
    parted = max(
        apart[i] - apart[j]
        for i in range(len(apart))
        for j in range(i, len(apart))
        if at[j] - at[i] <= fifth
    )
    for what, value in (
        ("tokens", at[-1]),
        ("tokens, one layer", one[-1]["tokens"]),
        ("prefix matching at the end", float(np.median(matching[-LAST:]))),
        ("highest prefix matching of one layer", alone),
        ("scores part, within a fifth", parted),
        ("previous token, layer 0, at the end", float(np.median(previous[-LAST:]))),
        ("score at the end", float(np.median([each["score"] for each in two[-LAST:]]))),
        ("score of one layer", float(np.median([each["score"] for each in one[-LAST:]]))),
        ("loss at the end", two[-1]["loss"]),
        ("loss of one layer", one[-1]["loss"]),
    ):
        print(f"{what:38} {value:.3f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="do", required=True)
    one = commands.add_parser("train")
    one.add_argument("out", help="the JSON file to write")
    one.add_argument("--text", default="python", help="text, or a folder of token files")
    kinds = ("shortformer", "rope", "sinusoidal", "learned", "sinusoids", "relative")
    one.add_argument("--positions", choices=kinds, default="shortformer")
    for name, default, meaning in (
        ("vocabulary", 512, "tokens of the byte-pair encoding"),
        ("length", 128, "tokens of a sequence"),
        ("batch", 8, "sequences of a step"),
        ("layers", 2, ""),
        ("width", 128, "d_model"),
        ("heads", 2, "of a layer"),
        ("init", 5, "seed of the weights"),
        ("tokens", 2_000_000, "to train on"),
        ("every", 200_000, "tokens between two looks"),
        ("learning-rate", 3e-3, ""),
        ("decay-from", 0, "tokens from which on the learning rate falls linearly to 0; 0: never"),
        ("embeddings", 1.0, "what embeddings are multiplied by at the start"),
        ("base", 10_000.0, "of rotary positions and sinusoids"),
        ("amplitude", 1.0, "of sinusoids"),
        ("gain", 4.0, "of relative positions"),
        ("lent", 0.0, "share of a head's attention that is lent to the previous token"),
    ):
        one.add_argument(f"--{name}", type=type(default), default=default, help=meaning)
    many = commands.add_parser("draw")
    many.add_argument("out", help="the figure to write")
    many.add_argument("trials", nargs="+", help="JSON files of trials")
    pair = commands.add_parser("judge")
    pair.add_argument("one", help="JSON file of a trial of one layer")
    pair.add_argument("two", help="JSON file of a trial of two layers")
    given = parser.parse_args()
    {"train": train, "draw": draw, "judge": judge}[given.do](given)


if __name__ == "__main__":
    main()
