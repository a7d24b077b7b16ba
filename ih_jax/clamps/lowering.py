"""From recipe to arrays: what each part of a clamp holds in a given model.

`arrays` checks a clamp's parts against a model and gives the `Holds` that a program takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ih_jax.clamps import rules
from ih_jax.clamps.holds import Hold, Holds, Rule
from ih_jax.clamps.parts import Part, name_of
from ih_jax.errors import UserError
from ih_jax.model.params import Config, Params, init
from ih_jax.model.sites import ATTENTION_SITES, GLOBAL_SITES, HEAD_SITES, PAIRED_SITES, rank

FEW_SHOT_ONLY = ("match_by_similarity", "labels_only", "perfect_previous_layer", "copy_from")
BY_ROWS = ("previous_token", "no_previous_token")
PRESERVED = {"patterns": "pattern", "values": "v", "queries": "q", "keys": "k"}


def arrays(parts: Sequence[Part], config: Config) -> Holds:
    """The holds for a model. Raises UserError for a layer, head or weight that it does not have."""
    lowered = [hold for part in parts for hold in _Lowering(part, config).holds()]
    frozen: Params | None = None
    replaced = None
    for part in parts:
        if part.kind == "freeze":
            masks = _frozen_masks(part["parameters"], config)
            frozen = masks if frozen is None else jax.tree.map(np.maximum, frozen, masks)
        if part.kind == "graft" and part["after"] is not None:
            replaced = _replaced(part, config)
    return Holds(tuple(_give_slots(lowered)), frozen, replaced)


class _Lowering:
    """One part and the model that it is for."""

    def __init__(self, part: Part, config: Config) -> None:
        self.part, self.config = part, config

    def error(self, what: str) -> UserError:
        return UserError(f"{self.part.describe()}: {what}")

    def layer(self, layer: int) -> int:
        last = self.config.layers - 1
        if layer > last:
            raise self.error(f"layer {layer} is out of range: the model has layers 0..{last}")
        return layer

    def hold(
        self,
        site: str,
        layer: int,
        rule: Rule,
        gate: Any,
        arguments: Mapping[str, Any] | None = None,
    ) -> Hold:
        """One hold; `arguments` that are not arrays yet become float32."""
        if site == "mlp_out" and self.config.mlp_ratio is None:
            raise self.error("the model has no MLPs: set Config.mlp_ratio")
        gates = np.asarray(gate, np.float32)
        given = {
            name: value if isinstance(value, Params) else np.asarray(value, np.float32)
            for name, value in (arguments or {}).items()
        }
        timed = self.part.timed
        return Hold(
            gates,
            given,
            np.full(gates.shape, self.part.start, np.float32) if timed else None,
            np.full(gates.shape, self.part.stop, np.float32) if timed else None,
            site,
            self.layer(layer),
            rule,
            slot=0,
            soft=bool(((gates > 0) & (gates < 1)).any()),
        )

    def by_head(self, values: Mapping[int, float], site: str, other: float = 0.0) -> np.ndarray:
        """[H, 1, 1] (or [H, 1] where heads come second): a value at these heads, else `other`."""
        H = self.config.heads
        each = np.full(H, other, np.float32)
        for head, value in values.items():
            if head >= H:
                raise self.error(f"head {head} is out of range: the model has heads 0..{H - 1}")
            each[head] = value
        return each.reshape((H, 1, 1) if site in ATTENTION_SITES else (H, 1))

    def chosen(self, site: str) -> np.ndarray:
        """1 at the part's heads, or everywhere if it names none."""
        heads = self.part["heads"]
        if heads is None:
            return np.ones((1,) * rank(site), np.float32)
        return self.by_head(dict.fromkeys(heads, 1.0), site)

    def own(self, name: str, site: str) -> np.ndarray:
        """A user's array for a site with all its axes. Raises UserError if it cannot fit there."""
        array = np.asarray(self.part[name], np.float32)
        axes = rank(site)
        if array.ndim > axes:
            raise self.error(
                f"{name} has {array.ndim} axes, {site} has {axes} without the batch: "
                "give an array that broadcasts to it"
            )
        array = array.reshape((1,) * (axes - array.ndim) + array.shape)
        D, H, E, C = (getattr(self.config, n) for n in ("d_model", "heads", "d_head", "labels"))
        if site in ATTENTION_SITES:
            sizes = {0: H}
        elif site in HEAD_SITES + PAIRED_SITES:
            sizes = {1: H, 2: E}
        else:
            sizes = {1: C if site == "logits" else D}
        for axis, size in sizes.items():
            if array.shape[axis] not in (1, size):
                raise self.error(
                    f"{name} has shape {array.shape}: axis {axis} of {site} is of size {size}"
                )
        return array

    def holds(self) -> list[Hold]:
        """What the part holds; weights that it freezes or replaces are no holds."""
        part, kind = self.part, self.part.kind
        if self.config.language and (
            kind in FEW_SHOT_ONLY or (kind in BY_ROWS and part["rows"] == "label")
        ):
            raise self.error("is of exemplars and labels, the model reads tokens: leave it out")
        if kind in ("mean", "resample", "stop_gradient", "hold", "rule"):
            return [self._at_site()]
        if kind == "freeze":
            return []
        if kind == "graft":
            self.layer(part["after"] if part["upto"] is None else part["upto"])
            donor = part["weights"].params
            if donor.config != self.config:
                raise self.error(
                    f"the weights are of {donor.config}, the model is {self.config}: "
                    "give weights of the same shape"
                )
            if part["upto"] is None:
                return []
            return [
                self.hold(
                    "resid_post", part["upto"], rules.graft, np.ones((1, 1)), {"params": donor}
                )
            ]
        if kind == "perfect_previous_layer":
            return self._perfect_previous_layer()
        if kind == "preserve":
            return [
                self.hold(PRESERVED[what], layer, rules.preserve, np.ones((1, 1, 1)))
                for what in part["what"]
                for layer in range(self.config.layers)
            ]
        if kind == "temperature":
            temperatures = dict(part["temperatures"])
            clean = part["base"] == "clean"
            t = self.by_head(temperatures, "attn_scores", other=1.0)
            heads = range(self.config.heads) if clean else temperatures
            gate = self.by_head(dict.fromkeys(heads, 1.0), "attn_scores")
            return [
                self.hold(
                    "attn_scores", part["layer"], rules.temperature(part["base"]), gate, {"t": t}
                )
            ]
        if kind == "copy_from":
            rule = rules.copy_from(self.layer(part["layer"]), part["base"])
            head = self.by_head({part["head"]: 1.0}, "attn_scores")
            return [self.hold("logits", 0, rule, np.ones((1, 1)), {"head": head})]
        return [self._at_heads()]

    def _at_site(self) -> Hold:
        """mean, resample, stop_gradient, hold, rule."""
        part, kind, site = self.part, self.part.kind, self.part["site"]
        if site in GLOBAL_SITES and part["layer"] != 0:
            raise self.error(f"{site} belongs to no layer: leave layer out")
        gate = self.chosen(site)
        if kind == "hold":
            gate = gate * self.own("gate", site)
            value = {"value": self.own("value", site)}
            return self.hold(site, part["layer"], rules.constant, gate, value)
        if kind == "rule":
            given = dict(part["arguments"])
            # Argument names are part of the name: with others it is another part of the program.
            name = f"rule[{name_of(part['function'])}({', '.join(given)})]"
            made = rules.public(part["function"], name, part["query_only"])
            return self.hold(site, part["layer"], made, gate * self.own("gate", site), given)
        return self.hold(site, part["layer"], getattr(rules, kind), gate)

    def _at_heads(self) -> Hold:
        """Constructors that take a layer and heads."""
        part, kind, layer = self.part, self.part.kind, self.part["layer"]
        if kind == "ablate":
            return self.hold("v", layer, rules.ablate, self.chosen("v"))
        gate = self.chosen("pattern")
        if kind == "previous_token":
            made = rules.previous_token[part["rows"]]
            return self.hold("pattern", layer, made, gate, {"strength": gate * part["strength"]})
        if kind == "induction" and self.config.language:
            given = {"strength": gate * part["strength"]}
            return self.hold("pattern", layer, rules.induction_of_tokens, gate, given)
        if kind == "induction":
            given = {name: gate * part[name] for name in ("strength", "normalise")}
            return self.hold("pattern", layer, rules.induction, gate, given)
        if kind == "match_by_similarity":
            given = {"temperature": gate * part["temperature"]}
            return self.hold("pattern", layer, rules.match_by_similarity, gate, given)
        if kind == "no_previous_token":
            return self.hold("attn_scores", layer, rules.no_previous_token[part["rows"]], gate)
        if kind == "labels_only":
            return self.hold("attn_scores", layer, rules.labels_only, gate)
        raise UserError(f"clamp kind {kind!r} is not known: use the constructors of ih_jax.clamp")

    def _perfect_previous_layer(self) -> list[Hold]:
        inputs, one = self.part["inputs"], np.ones((1, 1))
        held = {f"{name}_input": rules.perfect_input for name in ("q", "k") if name in inputs}
        if "v" in inputs:
            held |= {"resid_pre": rules.plain_input}
            held |= {f"{n}_input": rules.learned_input for n in ("q", "k") if n not in inputs}
        return [self.hold(site, 1, rule, one) for site, rule in held.items()]


# --- slots: holds of one rule at one site -------------------------------------------------------


def _give_slots(lowered: Iterable[Hold]) -> list[Hold]:
    """Holds of one rule at one site merged where their gates are apart, numbered where not."""
    merged: list[Hold] = []
    for hold in lowered:
        for index, other in enumerate(merged):
            if hold.place != replace(other, slot=hold.slot).place:
                continue
            if _apart(hold, other):
                merged[index] = _merge(other, hold)
                break
            hold = replace(hold, slot=other.slot + 1)
        else:
            merged.append(hold)
    return merged


def _apart(a: Hold, b: Hold) -> bool:
    """Whether two holds of one rule touch different heads and take arguments a head only."""
    if not (a.rule.elementwise and a.rule == b.rule):
        return False
    if a.gate.shape != b.gate.shape or a.gate.size == 1:
        return False
    for value in (*a.arguments.values(), *b.arguments.values()):
        if isinstance(value, Params) or np.shape(value) != a.gate.shape:
            return False
    return not np.any((np.asarray(a.gate) > 0) & (np.asarray(b.gate) > 0))


def _merge(a: Hold, b: Hold) -> Hold:
    mine = np.asarray(a.gate) > 0

    def times(name: str, default: float) -> np.ndarray | None:
        first, second = (getattr(hold, name) for hold in (a, b))
        if first is None and second is None:
            return None
        full = np.full(a.gate.shape, default, np.float32)
        return np.where(mine, full if first is None else first, full if second is None else second)

    return replace(
        a,
        gate=np.where(mine, a.gate, b.gate),
        arguments={k: np.where(mine, v, b.arguments[k]) for k, v in a.arguments.items()},
        start=times("start", 0.0),
        stop=times("stop", np.inf),
        soft=a.soft or b.soft,
    )


# --- weights ------------------------------------------------------------------------------------


def _frozen_masks(names: Sequence[str], config: Config) -> Params:
    """Like the parameters, with 1 (or an array of 0 and 1) where a weight does not learn."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), config))
    with_paths = jax.tree_util.tree_leaves_with_path(shapes)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in with_paths]
    masks = {
        path: np.zeros((3, 1, 1, 1) if path.endswith("W_QKV") else (1,) * leaf.ndim, np.float32)
        for path, (_, leaf) in zip(paths, with_paths, strict=True)
    }
    for name in names:
        before, _, last = name.rpartition(".")
        joint = f"{before}.W_QKV"
        if last in ("W_Q", "W_K", "W_V") and joint in masks:
            masks[joint][("W_Q", "W_K", "W_V").index(last)] = 1
            continue
        found = [path for path in paths if path == name or path.startswith(name + ".")]
        if not found:
            raise UserError(f"freeze: no parameter {name!r}: give some of {', '.join(paths)}")
        for path in found:
            masks[path][...] = 1
    made: Params = jax.tree.unflatten(jax.tree.structure(shapes), list(masks.values()))
    return made


def _replaced(part: Part, config: Config) -> tuple[Params, Params]:
    """(gate, donor): the gate is like the parameters, 1 where the donor's weight is taken."""

    def gate(value: float) -> Callable[[Any], np.ndarray]:
        return lambda leaf: np.full((1,) * np.ndim(leaf), value, np.float32)

    donor: Params = part["weights"].params
    own: Params = jax.tree.map(gate(0.0), donor)
    taken: Params = jax.tree.map(gate(1.0), donor)
    blocks = tuple(
        (taken if layer > part["after"] else own).blocks[layer] for layer in range(config.layers)
    )
    return replace(own, blocks=blocks, norm=taken.norm, W_U=taken.W_U, b_U=taken.b_U), donor
