"""Few-shot sequences: exemplar-label pairs and a query, x1 y1 x2 y2 xq.

Paper: Singh et al. 2024, section 2 and appendix A; mixtures, random query labels and flips as in
the generator that its authors share between their papers on in-context learning. Where labels are
the classes' own, in the same way in every sequence, weights can learn them (Chan et al. 2022).

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
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ih_jax.data.batches import Batch, Leaf
from ih_jax.data.weights import Weights
from ih_jax.errors import check_fields

Scheme = Literal["relabel", "fresh", "flip", "none"]
# What an item is in its sequence; BURSTY is of the query's class.
Kind = IntEnum("Kind", [("OTHER", 0), ("BURSTY", 1), ("DISTRACTOR", 2), ("QUERY", 3)])


@dataclass(frozen=True)
class Burst:
    """One component of a mixture: what a context is made of, and where labels come from."""

    burstiness: int = 1  # items of the query's class, at least
    distractor: bool = True  # as many items of one other class (if burstiness > 0)
    no_support: bool = False  # the rest is of neither the query's nor the distractor's class
    unique_rest: bool = False  # the same, and no two items of the rest share a class
    other_labels: bool = False  # and all but the query's class have other labels than its own
    scheme: Scheme | None = None  # None: `Layout.scheme`
    random_query_label: bool | None = None  # None: `Layout.random_query_label`

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scheme is not None:
            _check_scheme(self.scheme)

    def counts(self, pairs: int) -> tuple[int, int, int]:
        """Items of the query's class, of the distractor and of the rest in a context."""
        distractors = self.burstiness * self.distractor
        return self.burstiness, distractors, pairs - self.burstiness - distractors

    def described(self) -> dict[str, Any]:
        """For run cards; later fields only where they say something, so that old cards agree."""
        later = ("other_labels", "scheme", "random_query_label")
        unsaid = [name for name in later if getattr(self, name) == getattr(Burst, name)]
        return {name: value for name, value in vars(self).items() if name not in unsaid}

    def classes(self, pairs: int) -> int:
        """How many classes a sequence needs."""
        _, distractors, rest = self.counts(pairs)
        apart = self.no_support or self.other_labels
        return 1 + (distractors > 0) + (rest if self.unique_rest else apart and rest > 0)


def _check_scheme(scheme: str) -> None:
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme is {scheme!r}: give one of {get_args(Scheme)}")


@dataclass(frozen=True)
class Layout:
    """What decides shapes and program. The default is the paper's (Singh et al. 2024, section 2).

    Scheme "relabel" gives the query's class and the distractor one label pair, in random order, and
    leaves other items the raw label of their class; "fresh" gives the two any two labels, without
    a table of pairs; "flip" gives them each other's raw label; "none" leaves raw labels. A random
    query label is written before the scheme has its say. A component of the mixture may have its
    own scheme. Raises ValueError for options that contradict each other.
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
        _check_scheme(self.scheme)
        if self.reverse_pairs and "relabel" not in self.schemes:
            raise ValueError(f"reverse_pairs needs scheme 'relabel', scheme is {self.scheme!r}")
        for burst in self.mixture:
            _, distractors, rest = burst.counts(self.pairs)
            if burst.burstiness < 0 or rest < 0:
                raise ValueError(f"{burst} does not fit: 0 to {self.pairs} bursty and distractors")
            if self.scheme_of(burst) == "flip" and not distractors:
                raise ValueError(f"{burst} has no distractor: scheme 'flip' needs one to swap with")

    def scheme_of(self, burst: Burst) -> Scheme:
        """The scheme of one component."""
        return burst.scheme or self.scheme

    @property
    def schemes(self) -> set[Scheme]:
        """Those of all components."""
        return {self.scheme_of(burst) for burst in self.mixture}

    def labels_the_query(self, burst: Burst) -> bool:
        """Whether a component writes the query's label on a context item."""
        own = burst.random_query_label
        return self.random_query_label if own is None else own


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
    label_count: Leaf | None = None  # int32 scalar >= 2, the labels of scheme "fresh"
    layout: Layout | None = struct.field(pytree_node=False, default=None)  # None: the objective's


def _columns(layout: Layout, exemplars: int) -> dict[str, int]:
    """How many uniforms a sequence needs for what; labels last, see `sample`."""
    relabel = "relabel" in layout.schemes
    labelled = any(layout.labels_the_query(burst) for burst in layout.mixture)
    return {
        "component": int(len(layout.mixture) > 1),
        "query": 1,
        "distractor": 1,
        "rest": max(burst.counts(layout.pairs)[-1] for burst in layout.mixture),
        "order": layout.pairs,
        "exemplar": (layout.pairs + 1 + layout.matched_exemplars) * (exemplars > 1),
        "labelled": int(labelled),
        "pair": 2 if "fresh" in layout.schemes else int(relabel),
        "swap": int(relabel and not layout.reverse_pairs),
    }


def _context(
    burst: Burst, pairs: int, uniforms: dict[str, Array], weights: Weights, own: Array, query: Array
) -> tuple[Array, Array, Array]:
    """Classes [P - 1] and kinds [P - 1] of a context, not yet in order, and the distractor."""
    bursty, distractors, rest = burst.counts(pairs)
    others = weights.only(own != own[query]) if burst.other_labels else weights.without(query)
    distractor = others.draw(uniforms["distractor"][0])
    if distractors:
        others = others.without(distractor)
    apart = burst.unique_rest or burst.no_support or burst.other_labels
    rest_weights = others if apart else weights
    items = [query] * bursty + [distractor] * distractors
    for uniform in uniforms["rest"][:rest]:
        items.append(rest_weights.draw(uniform))
        if burst.unique_rest:
            rest_weights = rest_weights.without(items[-1])
    kinds = np.repeat([Kind.BURSTY, Kind.DISTRACTOR, Kind.OTHER], [bursty, distractors, rest])
    return jnp.stack(items), jnp.asarray(kinds, jnp.int32), distractor


def _labels(
    burst: Burst,
    layout: Layout,
    uniforms: dict[str, Array],
    source: Source,
    own: Array,
    classes: Array,
    kinds: Array,
    distractor: Array,
) -> Array:
    """Labels [P] of one sequence, if it is of this component; `own` [C] are the raw ones."""
    labels = own[classes]
    if layout.labels_the_query(burst):
        labelled = jnp.int32(uniforms["labelled"][0] * layout.pairs)
        labels = jnp.where(jnp.arange(layout.pairs + 1) == labelled, labels[-1], labels)
    scheme = layout.scheme_of(burst)
    if scheme == "none":
        return labels
    if scheme == "relabel":
        pair = source.label_pairs[jnp.int32(uniforms["pair"][0] * source.pair_count)]
        swap = layout.reverse_pairs or uniforms["swap"][0] < 0.5
        pair = jnp.where(swap, pair[::-1], pair)
    elif scheme == "fresh":
        assert source.label_count is not None
        first = jnp.int32(uniforms["pair"][0] * source.label_count)
        second = jnp.int32(uniforms["pair"][1] * (source.label_count - 1))
        pair = jnp.stack([first, second + (second >= first)])
    else:
        pair = own[jnp.stack([distractor, classes[-1]])]
    of_query = (kinds == Kind.BURSTY) | (kinds == Kind.QUERY)
    return jnp.where(of_query, pair[0], jnp.where(kinds == Kind.DISTRACTOR, pair[1], labels))


def _one(
    uniforms: dict[str, Array], layout: Layout, source: Source, weights: Weights, mixture: Weights
) -> tuple[Array, Array, Array, Array]:
    """One sequence from its uniforms: exemplars, labels, classes, kinds, each [P] int32."""
    pairs, query = layout.pairs, weights.draw(uniforms["query"][0])
    own = source.class_labels
    own = jnp.arange(source.table.shape[0], dtype=jnp.int32) if own is None else jnp.asarray(own)
    # A sequence is of one component only, so the components can share the uniforms.
    made = [_context(burst, pairs, uniforms, weights, own, query) for burst in layout.mixture]
    component = mixture.draw(uniforms["component"][0]) if len(made) > 1 else None

    def chosen(each: list[Array]) -> Array:
        """What the component that this sequence is of has made."""
        return each[0] if component is None else jnp.stack(each)[component]

    items, sorts, distractors = (list(each) for each in zip(*made, strict=True))
    # Ranks of uniforms are a random permutation; for few items cheaper than a sort.
    key, place = uniforms["order"], np.arange(pairs)
    before = place < place[:, None]  # so that equal uniforms have distinct ranks too
    earlier = (key[None] < key[:, None]) | ((key[None] == key[:, None]) & before)
    order = jnp.sum(earlier, axis=1, dtype=jnp.int32)
    classes = jnp.append(chosen(items)[order], query)
    kinds = jnp.append(chosen(sorts)[order], jnp.int32(Kind.QUERY))
    of_query = (kinds == Kind.BURSTY) | (kinds == Kind.QUERY)

    drawn = jnp.int32(uniforms["exemplar"] * source.table.shape[1])
    exemplars = drawn[: pairs + 1] if len(drawn) else jnp.zeros_like(classes)
    if layout.matched_exemplars and len(drawn):
        exemplars = jnp.where(of_query, exemplars[-1], exemplars)
        exemplars = jnp.where(kinds == Kind.DISTRACTOR, drawn[-1], exemplars)

    labels = chosen(
        [
            _labels(burst, layout, uniforms, source, own, classes, kinds, distractor)
            for burst, distractor in zip(layout.mixture, distractors, strict=True)
        ]
    )
    return exemplars, labels, classes, kinds


def sample(key: Array, layout: Layout, source: Source, sequences: int) -> Batch:
    """Draw B = `sequences` sequences (Singh et al. 2024, section 2); may be jitted and vmapped.

    `rows` index the source's table as [C * E, F]. Classes, exemplars and order do not depend on
    labels: with other label pairs or another scheme, a key gives the same `rows` and `kinds`
    (components with `other_labels` apart).
    Labels depend on the valid label pairs only, not on their padding. `layout` and `sequences` are
    static. Raises ValueError if the source has too few classes or other components.
    """
    source = jax.tree.map(jnp.asarray, source)  # NumPy cannot be indexed by what is traced
    classes, exemplars, features = source.table.shape
    needed = max(burst.classes(layout.pairs) for burst in layout.mixture)
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
    weights, mixture = Weights.of(source.class_logits), Weights.of(source.mixture_logits)
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
