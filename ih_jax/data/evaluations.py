"""The fixed sets of few-shot sequences that networks are evaluated on, by name.

What a set asks of a network, with the classes A, B, C ..., whose own labels are a, b, c ..., and 0
and 1 the first two labels (Singh et al. 2025, section 3; Chan et al. 2022):

| set | a sequence | answer | who is right |
|---|---|---|---|
| `train_eval` | A a B b A? | a | context or weights |
| `icl` | A 1 B 0 A? | 1 | the context alone |
| `flip_icl` | A b B a A? | b | the context, against the weights |
| `pure_iwl` | B b C c A? | a | the weights alone |
| `iwl_copy_avail` | B b C a A? | a | the weights, helped by a label to copy |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from ih_jax.data.fewshot import Burst, Layout, Scheme
from ih_jax.errors import UserError, check_fields, given, unknown

SPLITS = ("train", "val", "test", "all")
FIRST_TWO = "01"  # the label pair of labels 0 and 1


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed set of sequences: which data it draws from, and how it differs from training.

    Classes, exemplars and label pairs are of the split "train", "val", "test" or "all"; label pairs
    may be "01", the one pair of labels 0 and 1. None: as in training.
    """

    name: str
    classes: str = "train"
    exemplars: str = "train"
    label_pairs: str = "train"
    context: Burst | None = None
    scheme: Scheme | None = None
    random_query_label: bool | None = None
    matched_exemplars: bool | None = None
    noise: float | None = None
    uniform: bool = False  # classes are equally frequent, whatever Zipf exponent trains
    first_classes: int | None = None  # only so many of its classes
    first_exemplars: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        known = {"classes": SPLITS, "exemplars": SPLITS, "label_pairs": (*SPLITS, FIRST_TWO)}
        for field, accepted in known.items():
            if getattr(self, field) not in accepted:
                raise unknown(f"split of {field}", str(getattr(self, field)), accepted)
        for field in ("first_classes", "first_exemplars"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise UserError(f"{field} is {getattr(self, field)}: give 1 or more, or None")
        if self.noise is not None and self.noise < 0:
            raise UserError(f"noise is {self.noise:g}: give 0 or more, or None")

    def layout(self, training: Layout) -> Layout:
        """What its sequences are made of. Raises ValueError as `Layout` does."""
        mixture = training.mixture if self.context is None else (self.context,)
        if self.context is None and self.scheme is not None:
            mixture = tuple(replace(burst, scheme=None) for burst in mixture)
        if self.context is None and self.random_query_label is not None:
            mixture = tuple(replace(burst, random_query_label=None) for burst in mixture)
        scheme = self.scheme or training.scheme
        schemes = {burst.scheme or scheme for burst in mixture}
        return Layout(
            training.pairs,
            mixture,
            scheme,
            _or(self.matched_exemplars, training.matched_exemplars),
            _or(self.random_query_label, training.random_query_label),
            training.reverse_pairs and "relabel" in schemes,
            training.noisy if self.noise is None else self.noise > 0,
        )

    def described(self, pairs: int) -> str | dict[str, Any]:
        """For run cards: its name where that says all, else its fields."""
        if self.name in NAMED and self == named(self.name, pairs):
            return self.name
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**found, "context": self.context and self.context.described()}


def _or(value: bool | None, default: bool) -> bool:
    return default if value is None else value


# Singh et al. 2024, figure 3a; 1,000 sequences each. The paper's loss curves are on these.
EVALUATION_SETS = (
    EvaluationSet("fsl_train", "train", "train", "train"),  # "train"
    EvaluationSet("fsl_val_rl", "train", "train", "val"),  # "test (relabel)"
    EvaluationSet("fsl_train_valex", "train", "val", "train"),  # other exemplars of known classes
    EvaluationSet("fsl_test_class", "test", "train", "train"),  # "test (exemplars)"
)


def _strategy(name: str, context: Callable[[int], Burst], **settings: Any) -> Any:
    """{name: the set for a context of so many pairs}, of the classes and exemplars that train."""

    def made(pairs: int) -> EvaluationSet:
        return EvaluationSet(
            name,
            context=context(pairs),
            uniform=True,
            matched_exemplars=False,
            **{"random_query_label": False, **settings},
        )

    return {name: made}


def _both(pairs: int) -> Burst:
    """Half the context is of the query's class, the other half of one with another label."""
    return Burst(max(1, pairs // 2), distractor=pairs > 1, other_labels=True)


def _absent(pairs: int) -> Burst:
    """Neither the query's class nor its label, and no class twice."""
    return Burst(0, no_support=True, unique_rest=True, other_labels=True)


# Which strategies a network has: Singh et al. 2025, section 3.
STRATEGIES: dict[str, Callable[[int], EvaluationSet]] = {
    **_strategy("train_eval", _both, scheme="none"),
    **_strategy("icl", _both, scheme="relabel", label_pairs=FIRST_TWO),
    **_strategy("flip_icl", _both, scheme="flip"),
    **_strategy("pure_iwl", _absent, scheme="none"),
    **_strategy("iwl_copy_avail", _absent, scheme="none", random_query_label=True),
}
NAMED = (*(each.name for each in EVALUATION_SETS), *STRATEGIES)


def named(name: str, pairs: int) -> EvaluationSet:
    """The set of this name in contexts of so many pairs. UserError, with the nearest, if unknown.

    `flip_icl` needs two pairs or more.
    """
    for each in EVALUATION_SETS:
        if each.name == name:
            return each
    if name not in STRATEGIES:
        raise unknown("evaluation set", name, NAMED)
    return STRATEGIES[name](pairs)


def of_card(described: str | dict[str, Any], pairs: int) -> EvaluationSet:
    """The set that `EvaluationSet.described` described."""
    if isinstance(described, str):
        return named(described, pairs)
    context = described["context"]
    return EvaluationSet(**{**described, "context": None if context is None else Burst(**context)})


def resolved(sets: Any, pairs: int) -> tuple[EvaluationSet, ...]:
    """Sets given as names or as they are. UserError for anything else, and for a name twice."""
    if not isinstance(sets, tuple | list) or not sets:
        raise UserError(
            f"evaluation_sets is {given(sets)}: give a tuple of names or EvaluationSets, one or "
            "more"
        )
    found = tuple(named(each, pairs) if isinstance(each, str) else each for each in sets)
    for each in found:
        if not isinstance(each, EvaluationSet):
            raise UserError(
                f"evaluation_sets has {given(each)}: give names ({', '.join(NAMED)}) or objects of "
                "class EvaluationSet"
            )
    names = [each.name for each in found]
    if "train" in names:
        raise UserError(
            "evaluation_sets has 'train', which the training set is called: give another name"
        )
    if len(set(names)) < len(names):
        raise UserError(f"evaluation_sets has {', '.join(names)}: give each name once")
    return found
