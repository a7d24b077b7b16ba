"""Kinds of clamps: the protocol of one, and the register in which JSON finds it again.

A kind is a small frozen dataclass. Its fields are its settings; `__post_init__` checks them,
`decides` says what it alone may decide, and `holds` gives what it holds in a model. Written forms,
JSON and contradictions follow from these. The built-in kinds stand in `kinds/`; one of your own is
a class in a file of your own (docs/extending/clamp-kind.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import numpy as np

from ih_jax.clamps.holds import Hold
from ih_jax.clamps.place import Place
from ih_jax.clamps.values import (
    head_indices,
    index,
    indices_shown,
    nested,
    number,
    shown,
    site_heads,
    site_name,
)
from ih_jax.errors import UserError, nearest, word
from ih_jax.model.params import Config, Params

KINDS: dict[str, type[Kind]] = {}  # by the name in JSON
TAKEN = ("kind", "during")  # keys of JSON beside the settings


class Decision(NamedTuple):
    """What one clamp alone may decide; two that decide the same at the same time contradict.

    `site` is a name of `SITES` or any other name that two kinds agree on, such as "previous":
    attention to the previous token.
    """

    site: str
    layer: int = 0
    head: int | None = None  # None: all heads, or a site without heads
    rows: str = "all"  # "query" and "label" rows do not meet


@dataclass(frozen=True)
class Kind:
    """What all kinds of clamps have. Subclass it, and register the class with `clamp_kind`.

    Settings are kept in a form that compares and hashes: sequences and arrays become tuples. What
    is called `layer` or `head` must be a whole number, `site` the name of a site, `heads` one head
    or several (or None, if None is the default); what is annotated `float` must be finite.
    """

    kind: ClassVar[str] = ""  # its name, as in JSON; `clamp_kind` sets it
    reads_pairs: ClassVar[bool] = False  # exemplars and labels, so that no other sequences will do

    def __post_init__(self) -> None:
        """Checks the settings. One of your own calls `super().__post_init__()` first."""
        self._keep(**{each.name: _kept(each, getattr(self, each.name)) for each in fields(self)})
        settings = {each.name: getattr(self, each.name) for each in fields(self)}
        if {"site", "heads"} <= settings.keys():
            self._keep(heads=site_heads(settings["site"], settings["heads"]))

    def _keep(self, **settings: Any) -> None:
        """Sets settings in `__post_init__`, before anybody has seen them."""
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def __and__(self, other: object) -> Any:
        """With a clamp, both. Raises UserError for another kind."""
        if isinstance(other, Kind):
            raise UserError(
                f"{self.describe()} & {other.describe()}: kinds combine as clamps, write "
                "ih.Clamp.of(a, b)"
            )
        return NotImplemented  # `Clamp.__rand__` knows

    def decides(self) -> Iterable[Decision]:
        """What this alone may decide. By default nothing: it combines with everything."""
        return ()

    def holds(self, place: Place) -> Iterable[Hold]:
        """What is held in a model: made by `place.hold(site, layer, rule, ...)`.

        Raises:
            UserError: the model lacks what the clamp needs (`place.error` makes the message).
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method holds(self, place)")

    @property
    def of_weights(self) -> bool:
        """Whether this holds weights, not activations, and so cannot be switched by time."""
        return False

    def frozen(self, config: Config) -> Params | None:
        """Like the parameters: 1 (or arrays of 0 and 1) where a weight does not learn."""
        return None

    def replaced(self, config: Config) -> tuple[Params, Params] | None:
        """(gate, donor): like the parameters, 1 where the weight of the donor is taken."""
        return None

    def describe(self) -> str:
        """As a person would write it: without what has its default value."""
        words = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.default is not MISSING and value == each.default:
                continue
            of_heads = each.name == "heads" and isinstance(value, tuple)
            text = indices_shown(value) if of_heads else shown(value)
            words.append(text if each.default is MISSING else f"{each.name}={text}")
        return f"{self.kind}({', '.join(words)})"


Class = TypeVar("Class", bound=type[Kind])


def clamp_kind(name: str) -> Callable[[Class], Class]:
    """Registers a kind of clamp by the name that it has in JSON and on cards.

        @ih.clamp_kind("two_back")
        @dataclass(frozen=True)
        class TwoBack(ih.Kind): ...

    Raises:
        UserError: the class is not a frozen dataclass and `Kind`, a setting has a reserved name, or
            another kind has this name.
    """

    word("clamp_kind", name)

    def register(made: Class) -> Class:
        where = f"clamp kind {name!r} ({made.__name__})"
        own = vars(made).get("__dataclass_params__")
        if not (is_dataclass(made) and issubclass(made, Kind) and own and own.frozen):
            raise UserError(
                f"{where} is not a frozen dataclass of ih_jax.Kind: put @dataclass(frozen=True) "
                f"under @clamp_kind and write class {made.__name__}(ih_jax.Kind)"
            )
        reserved = [each.name for each in fields(made) if each.name in TAKEN]
        if reserved:
            raise UserError(f"{where} has a setting {reserved[0]!r}: give it another name")
        other = KINDS.get(name)
        # A file that is run again, or a cell of a notebook, defines its kind anew.
        if other is not None and not _again(made, other):
            raise UserError(
                f"{where}: {other.__module__}.{other.__name__} has that name: choose another"
            )
        made.kind = name
        KINDS[name] = made
        return made

    return register


def kind_named(name: Any) -> type[Kind]:
    """The kind that is registered by a name. Raises UserError if there is none."""
    if not isinstance(name, str) or name not in KINDS:
        near = nearest(str(name), KINDS)
        meant = f"did you mean {near!r}? " if near else ""
        raise UserError(
            f"unknown clamp kind {name!r}: {meant}if it is your own, import the module that "
            f"defines it before you load; known are {', '.join(KINDS)}"
        )
    return KINDS[name]


def _again(made: type[Kind], other: type[Kind]) -> bool:
    """Whether a class is another's definition, executed once more."""
    ours = __name__.partition(".")[0]
    builtin = other.__module__.partition(".")[0] == ours
    same_file = not builtin or made.__module__ == other.__module__
    return same_file and made.__qualname__ == other.__qualname__


def _kept(setting: Field[Any], value: Any) -> Any:
    """A setting in the form in which it is kept; see `Kind`."""
    name, default = setting.name, setting.default
    if value is None and (default is None or setting.type in ("Any", Any)):
        return None
    if name == "heads":
        return head_indices(value)
    if name in ("layer", "head"):
        return index(name, value)
    if name == "site":
        return site_name(value)
    if setting.type in ("float", float):
        return number(name, value)
    if setting.type in ("bool", bool):
        return bool(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | jax.Array):
        return nested(name, value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    """Lists, and sets and mappings in order, as tuples."""
    if isinstance(value, Mapping):
        value = sorted(value.items())
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(_tuples(each) for each in value)
    return value
