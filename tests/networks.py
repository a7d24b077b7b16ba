"""Small networks and sequences for tests, and one whose weights are set by hand."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ih_jax.clamps.apply import apply
from ih_jax.data.batches import Batch
from ih_jax.model.activations import Activations
from ih_jax.model.params import Config, Params, init

# Tests compile hundreds of programs and run each once: what makes them fast is not worth its time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_look = jax.jit(apply, static_argnames="rows", compiler_options=QUICK)


def look(params: Params, batch: Batch, clamp: Any = None, **settings: Any) -> Activations:
    """`apply`, compiled, as NumPy arrays. The clamp is arrays."""
    return jax.device_get(_look(params, batch, clamp, **settings))


def small(**settings: Any) -> Config:
    """2 layers of 4 heads of 4 dimensions."""
    return Config(**({"features": 6, "labels": 4, "d_model": 16, "heads": 4} | settings))


def network(config: Config, seed: int = 0) -> Params:
    """Weights drawn so that every part has its say: larger than initial ones, no bias at 0."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=leaf.shape)
        if len(leaf.shape) == 1:
            return np.float32(0.3 * noise + (path[-1].name == "scale"))
        return np.float32(1.5 * noise / config.d_model**0.5)

    shapes = jax.eval_shape(lambda: init(jax.random.key(0), config))
    made: Params = jax.tree_util.tree_map_with_path(draw, shapes)
    return made


def copies(tree: Any, count: int) -> Any:
    """A stack of one thing, along a new first axis.

    Every run of a program has its own weights, as in training. Weights shared by clamps that are
    vmapped (in_axes=None) crash XLA's YNNPACK fusions on CPU (JAX 0.10.2).
    """
    return jax.tree.map(lambda x: np.stack([x] * count), tree)


def sequences(config: Config, count: int = 6, pairs: int = 2, seed: int = 0) -> Batch:
    """Contexts of distinct classes and of two labels; the query is of one of the classes."""
    rng = np.random.default_rng(seed)
    examples = rng.normal(size=(count, pairs + 1, config.features))
    labels = np.stack([rng.permutation(config.labels)[np.arange(pairs) % 2] for _ in range(count)])
    which = rng.integers(pairs, size=count)
    examples[:, -1] = examples[np.arange(count), which]
    labels = np.concatenate([labels, labels[np.arange(count), which][:, None]], axis=1)
    return Batch.of(np.asarray(examples, np.float32), np.asarray(labels, np.int32))


def query_loss(activations: Activations, batch: Batch) -> jax.Array:
    """Nats, written again and otherwise than in the package."""
    assert activations.logits is not None
    log_p = jax.nn.log_softmax(activations.logits[:, -1], axis=-1)
    return -jnp.mean(jnp.take_along_axis(log_p, batch.labels[:, -1:], axis=1))


# --- a network set by hand ----------------------------------------------------------------------

CLASSES, LABELS, POSITIONS = 6, 3, 8
CIRCUIT = Config(
    features=CLASSES,
    labels=LABELS,
    d_model=24,
    heads=2,
    positions="shortformer",
    max_positions=POSITIONS,
    norm=False,
)


def circuit() -> Params:
    """Head 0 of layer 0 looks at the previous token, head 0 of layer 1 matches and copies.

    The stream has room for the exemplar, the label, what the previous token was, and (in inputs of
    queries and keys only) the position. Heads 1 do nothing.
    """
    exemplar = np.arange(CLASSES)
    label = CLASSES + np.arange(LABELS)
    previous = CLASSES + LABELS + np.arange(CLASSES)
    position = 2 * CLASSES + LABELS + np.arange(POSITIONS)
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), CIRCUIT))
    zero: Params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    sharp = 40 * CIRCUIT.d_head**0.5

    def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray) -> Any:
        """Of head 0, from [E, D] three times and [D, E]."""
        E, D = CIRCUIT.d_head, CIRCUIT.d_model
        qkv = np.zeros((3, CIRCUIT.heads, E, D), np.float32)
        W_out = np.zeros((D, CIRCUIT.heads, E), np.float32)
        qkv[:, 0], W_out[:, 0] = [q, k, v], out
        return dataclasses.replace(zero.blocks[0].attention, W_QKV=qkv, W_out=W_out)

    def maps(rows: np.ndarray, columns: np.ndarray, scale: float = 1.0) -> np.ndarray:
        made = np.zeros((CIRCUIT.d_head, CIRCUIT.d_model), np.float32)
        made[rows, columns] = scale
        return made

    at = np.arange(POSITIONS)
    look_back = maps(np.maximum(at - 1, 0), position, sharp)
    classes, labels = np.arange(CLASSES), np.arange(LABELS)
    # The first token has itself as its previous one: subtracting it leaves label tokens alone.
    key = maps(classes, previous) - maps(classes, exemplar)
    first = attention(
        look_back, maps(at, position), maps(classes, exemplar), maps(classes, previous).T
    )
    second = attention(
        maps(classes, exemplar, sharp), key, maps(labels, label), maps(labels, label).T
    )

    def one_hot(rows: np.ndarray, count: int) -> np.ndarray:
        made = np.zeros((CIRCUIT.d_model, count), np.float32)
        made[rows, np.arange(count)] = 1
        return made

    return dataclasses.replace(
        zero,
        W_E=one_hot(exemplar, CLASSES),
        W_L=one_hot(label, LABELS),
        W_pos=one_hot(position, POSITIONS).T,
        W_U=10 * one_hot(label, LABELS).T,
        blocks=tuple(
            dataclasses.replace(block, attention=each)
            for block, each in zip(zero.blocks, (first, second), strict=True)
        ),
    )


def circuit_sequences() -> Batch:
    """Every sequence of two classes and two labels: [360] of 5 tokens."""
    made = [
        ((a, b, (a, b)[q]), (y, z, (y, z)[q]))
        for a, b in itertools.permutations(range(CLASSES), 2)
        for y, z in itertools.permutations(range(LABELS), 2)
        for q in (0, 1)
    ]
    rows, labels = (np.asarray([each[i] for each in made], np.int32) for i in (0, 1))
    return Batch(np.eye(CLASSES, dtype=np.float32), rows, labels)


def accuracy(activations: Activations, batch: Batch) -> float:
    """Of the query's most likely label."""
    assert activations.logits is not None
    return float(np.mean(activations.logits[:, -1].argmax(-1) == batch.labels[:, -1]))
