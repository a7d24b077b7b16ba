"""Few-shot sequences: exemplar-label pairs and a query, x1 y1 x2 y2 xq.

Paper: Singh et al. 2024, section 2 and appendix A; mixtures, random query labels and flips as in
the generator that its authors share between their papers on in-context learning.

Everything random about a batch is one block of uniforms [columns, B]. A column has one purpose, and
one function maps the uniforms of one sequence to that sequence. So a draw of classes cannot depend
on what the labels are, and a batch costs one call of the random number generator.

Glossary of shapes:
    B  sequences in a batch           C  classes              M  label pairs, padded
    P  exemplars: context and query   E  exemplars a class    K  components of the mixture
    F  features of an exemplar        V  rows of a batch's table of exemplars
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ih_jax.data.batches import Batch, Leaf
from ih_jax.errors import check_fields

Scheme = Literal["relabel", "flip", "none"]
# What an item is in its sequence; BURSTY is of the query's class.
Kind = IntEnum("Kind", [("OTHER", 0), ("BURSTY", 1), ("DISTRACTOR", 2), ("QUERY", 3)])


@dataclass(frozen=True)
class Burst:
    """One component of a mixture: what a context is made of."""

    burstiness: int = 1  # items of the query's class, at least
    distractor: bool = True  # as many items of one other class (if burstiness > 0)
    no_support: bool = False  # the rest is of neither the query's nor the distractor's class
    unique_rest: bool = False  # the same, and no two items of the rest share a class

    def __post_init__(self) -> None:
        check_fields(self)

    def counts(self, pairs: int) -> tuple[int, int, int]:
        """Items of the query's class, of the distractor and of the rest in a context."""
        distractors = self.burstiness * self.distractor
        return self.burstiness, distractors, pairs - self.burstiness - distractors


@dataclass(frozen=True)
class Layout:
    """What decides shapes and program. The default is the paper's (Singh et al. 2024, section 2).

    Scheme "relabel" gives the query's class and the distractor one label pair, in random order, and
    leaves other items the raw label of their class; "flip" gives the query's class and the
    distractor each other's raw label; "none" leaves raw labels. A random query label is written
    before the scheme has its say. Raises ValueError for options that contradict each other.
    """

    pairs: int = 2  # exemplar-label pairs in the context, P - 1
    mixture: tuple[Burst, ...] = (Burst(),)  # a sequence is of one, by `Source.mixture_logits`
    scheme: Scheme = "relabel"
    matched_exemplars: bool = False  # one exemplar for the query and its class, one for distractors
    random_query_label: bool = False  # the query's raw label, on a uniformly chosen context item
    reverse_pairs: bool = False  # label pairs reversed, not in random order
    noisy: bool = False  # Gaussian noise on exemplars is in the program

    def __post_init__(self) -> None:
        if self.pairs < 1 or not self.mixture:
            raise ValueError(f"{self.pairs} pairs, {len(self.mixture)} Bursts: give 1 or more each")
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"scheme is {self.scheme!r}: give one of {get_args(Scheme)}")
        if self.reverse_pairs and self.scheme != "relabel":
            raise ValueError(f"reverse_pairs needs scheme 'relabel', scheme is {self.scheme!r}")
        for burst in self.mixture:
            _, distractors, rest = burst.counts(self.pairs)
            if burst.burstiness < 0 or rest < 0:
                raise ValueError(f"{burst} does not fit: 0 to {self.pairs} bursty and distractors")
            if self.scheme == "flip" and not distractors:
                raise ValueError(f"{burst} has no distractor: scheme 'flip' needs one to swap with")


@struct.dataclass
class Source:
    """The data of one run. Every leaf is an array, so the sources of many runs stack."""

    table: Leaf  # [C, E, F] float32, features of the allowed classes and exemplars
    class_logits: Leaf  # [C] float32, log weights; -inf leaves a class out (leave enough in)
    label_pairs: Leaf  # [M, 2] int32, unordered pairs, padded with anything
    pair_count: Leaf  # int32 scalar >= 1, how many of `label_pairs` are valid
    noise: Leaf  # float32 scalar, standard deviation of exemplar noise
    mixture_logits: Leaf  # [K] float32, log weights of `Layout.mixture`
    class_labels: Leaf | None = None  # [C] int32, raw label of a class; None: its index


class _Weights(NamedTuple):
    """Weights [C] and their running sums [C]: whole numbers in float32, below 2**23.

    Such sums are exact, so a class of weight 0 is never drawn, nor one that was taken out.
    Frequencies are true to 2**-22.
    """

    each: Array
    running: Array

    @classmethod
    def of(cls, logits: Leaf) -> _Weights:
        weights = jnp.maximum(jnp.round(jax.nn.softmax(logits) * 2.0**22), 1.0)
        each = jnp.where(jnp.isneginf(logits), 0.0, weights)
        return cls(each, jnp.cumsum(each))

    def draw(self, uniform: Array) -> Array:
        """An index: the inverse of the cumulative distribution at a number in [0, 1)."""
        return jnp.sum(self.running <= uniform * self.running[-1], dtype=jnp.int32)

    def without(self, index: Array) -> _Weights:
        """These with one index taken out, once: `each` still has its weight."""
        after = jnp.arange(len(self.running)) >= index
        return self._replace(running=self.running - jnp.where(after, self.each[index], 0.0))


def _columns(layout: Layout, exemplars: int) -> dict[str, int]:
    """How many uniforms a sequence needs for what; labels last, see `sample`."""
    relabel = layout.scheme == "relabel"
    return {
        "component": int(len(layout.mixture) > 1),
        "query": 1,
        "distractor": 1,
        "rest": max(burst.counts(layout.pairs)[-1] for burst in layout.mixture),
        "order": layout.pairs,
        "exemplar": (layout.pairs + 1 + layout.matched_exemplars) * (exemplars > 1),
        "labelled": int(layout.random_query_label),
        "pair": int(relabel),
        "swap": int(relabel and not layout.reverse_pairs),
    }


def _context(
    burst: Burst, pairs: int, uniforms: dict[str, Array], weights: _Weights, query: Array
) -> tuple[Array, Array, Array]:
    """Classes [P - 1] and kinds [P - 1] of a context, not yet in order, and the distractor."""
    bursty, distractors, rest = burst.counts(pairs)
    others = weights.without(query)
    distractor = others.draw(uniforms["distractor"][0])
    if distractors:
        others = others.without(distractor)
    rest_weights = others if burst.unique_rest or burst.no_support else weights
    items = [query] * bursty + [distractor] * distractors
    for uniform in uniforms["rest"][:rest]:
        items.append(rest_weights.draw(uniform))
        if burst.unique_rest:
            rest_weights = rest_weights.without(items[-1])
    kinds = np.repeat([Kind.BURSTY, Kind.DISTRACTOR, Kind.OTHER], [bursty, distractors, rest])
    return jnp.stack(items), jnp.asarray(kinds, jnp.int32), distractor


def _one(
    uniforms: dict[str, Array], layout: Layout, source: Source, weights: _Weights, mixture: _Weights
) -> tuple[Array, Array, Array, Array]:
    """One sequence from its uniforms: exemplars, labels, classes, kinds, each [P] int32."""
    pairs, query = layout.pairs, weights.draw(uniforms["query"][0])
    # A sequence is of one component only, so the components can share the uniforms.
    made = [_context(burst, pairs, uniforms, weights, query) for burst in layout.mixture]
    items, kinds, distractor = made[0]
    if len(made) > 1:
        component = mixture.draw(uniforms["component"][0])
        items, kinds = (jnp.stack(x)[component] for x in list(zip(*made, strict=True))[:2])
    # Ranks of uniforms are a random permutation; for few items cheaper than a sort.
    key, place = uniforms["order"], np.arange(pairs)
    before = place < place[:, None]  # so that equal uniforms have distinct ranks too
    earlier = (key[None] < key[:, None]) | ((key[None] == key[:, None]) & before)
    order = jnp.sum(earlier, axis=1, dtype=jnp.int32)
    classes = jnp.append(items[order], query)
    kinds = jnp.append(kinds[order], jnp.int32(Kind.QUERY))
    of_query = (kinds == Kind.BURSTY) | (kinds == Kind.QUERY)
    of_distractor = kinds == Kind.DISTRACTOR

    drawn = jnp.int32(uniforms["exemplar"] * source.table.shape[1])
    exemplars = drawn[: pairs + 1] if len(drawn) else jnp.zeros_like(classes)
    if layout.matched_exemplars and len(drawn):
        exemplars = jnp.where(of_query, exemplars[-1], exemplars)
        exemplars = jnp.where(of_distractor, drawn[-1], exemplars)

    raw = source.class_labels
    labels = classes if raw is None else raw[classes]
    if layout.random_query_label:
        labelled = jnp.int32(uniforms["labelled"][0] * pairs)
        labels = jnp.where(jnp.arange(pairs + 1) == labelled, labels[-1], labels)
    if layout.scheme == "relabel":
        pair = source.label_pairs[jnp.int32(uniforms["pair"][0] * source.pair_count)]
        swap = layout.reverse_pairs or uniforms["swap"][0] < 0.5
    elif layout.scheme == "flip":
        pair, swap = jnp.stack([query, distractor]), True
        pair = pair if raw is None else raw[pair]
    else:
        return exemplars, labels, classes, kinds
    pair = jnp.where(swap, pair[::-1], pair)
    labels = jnp.where(of_query, pair[0], jnp.where(of_distractor, pair[1], labels))
    return exemplars, labels, classes, kinds


def sample(key: Array, layout: Layout, source: Source, sequences: int) -> Batch:
    """Draw B = `sequences` sequences (Singh et al. 2024, section 2); may be jitted and vmapped.

    `rows` index the source's table as [C * E, F]. Classes, exemplars and order do not depend on
    labels: with other label pairs or another scheme, a key gives the same `rows` and `kinds`.
    Labels depend on the valid label pairs only, not on their padding. `layout` and `sequences` are
    static. Raises ValueError if the source has too few classes or other components.
    """
    source = jax.tree.map(jnp.asarray, source)  # NumPy cannot be indexed by what is traced
    classes, exemplars, features = source.table.shape
    needed = max(
        1 + (distractors > 0) + (rest if burst.unique_rest else (burst.no_support and rest > 0))
        for burst in layout.mixture
        for _, distractors, rest in [burst.counts(layout.pairs)]
    )
    given = (classes, *source.mixture_logits.shape)
    if classes < needed or given[1:] != (len(layout.mixture),):
        raise ValueError(
            f"the layout needs {needed} classes or more and {len(layout.mixture)} mixture weights, "
            f"the source has {given[0]} and {given[1:]}"
        )
    # Two keys only where noise is: a split is one more call of the generator.
    key, noise_key = jax.random.split(key) if layout.noisy else (key, key)
    # Columns lead, so that a value does not depend on how many columns follow it.
    widths = _columns(layout, exemplars)
    block = jax.random.uniform(key, (sum(widths.values()), sequences))
    parts = jnp.split(block, list(itertools.accumulate(widths.values()))[:-1])
    uniforms = dict(zip(widths, parts, strict=True))
    weights, mixture = _Weights.of(source.class_logits), _Weights.of(source.mixture_logits)
    which, labels, items, kinds = jax.vmap(
        lambda one: _one(one, layout, source, weights, mixture), in_axes=1
    )(uniforms)
    batch = Batch(
        jnp.asarray(source.table).reshape(-1, features),
        items * exemplars + which,
        labels,
        items,
        kinds,
    )
    if not layout.noisy:
        return batch
    noise = source.noise * jax.random.normal(noise_key, (*labels.shape, features))
    table = (batch.examples + noise).reshape(-1, features)
    return Batch(table, None, labels, items, kinds)


def exhaustive(source: Source) -> Batch:
    """Every sequence of the default layout: C (C - 1) class pairs x ordered label pairs x 2 orders.

    78,400 for the paper's data, the set of its post-hoc analyses. Not for jit. Raises ValueError if
    classes have more than one exemplar.
    """
    if source.table.shape[1] != 1:
        raise ValueError(f"{source.table.shape[1]} exemplars a class: exhaustive needs exactly 1")
    allowed = np.flatnonzero(~np.isneginf(np.asarray(source.class_logits)))
    ordered = np.array(list(itertools.permutations(allowed, 2))).reshape(-1, 2)
    pairs = np.asarray(source.label_pairs)[: int(source.pair_count)]
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    i, j, late = (axis.ravel() for axis in np.indices((len(ordered), len(pairs), 2)))

    def lay(two: np.ndarray) -> Array:
        """[B, 2], the query's and the distractor's, to [B, P]."""
        context = np.where(late[:, None] == 1, two[:, ::-1], two)
        return jnp.asarray(np.concatenate([context, two[:, :1]], axis=1), jnp.int32)

    classes, labels = lay(ordered[i]), lay(pairs[j])
    kinds = lay(np.tile([Kind.BURSTY, Kind.DISTRACTOR], (len(i), 1))).at[:, 2].set(Kind.QUERY)
    return Batch(jnp.asarray(source.table[:, 0]), classes, labels, classes, kinds)


def zipf_logits(classes: int, alpha: float | Array) -> Array:
    """[classes] log weights: the class of rank r = 1, 2, ... has weight r ** -alpha."""
    return -alpha * jnp.log(jnp.arange(1, classes + 1, dtype=jnp.float32))
