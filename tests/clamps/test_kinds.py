"""Kinds of clamps that are not ours: what they hold, decide, write and refuse, beside ours."""

import json
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import copies, look, network, sequences, small

import ih_jax as ih
from ih_jax.clamps.kind import KINDS
from ih_jax.clamps.kinds.attention import Induction
from ih_jax.clamps.place import Place

CONFIG = small()


def looking_back(batch, activations, back, strength):
    pattern = activations.pattern[-1]
    query, key = (grid[None] for grid in jnp.indices(pattern.shape[1:]))
    there = (key == jnp.maximum(query - back, 0)).astype(jnp.float32)
    return strength * there + (1 - strength) * pattern


def flipped(batch, activations):
    return -activations.attn_out[-1]


@ih.clamp_kind("look_back_and_flip")
@dataclass(frozen=True)
class LookBackAndFlip(ih.Kind):
    """Two sites at once: heads look back, and what the layer writes is turned around."""

    layer: int
    heads: tuple[int, ...]
    back: int = 2
    strength: float = 1.0
    table: Any = None

    def __post_init__(self):
        super().__post_init__()
        if self.back < 1:
            raise ih.UserError(f"look_back_and_flip: back is {self.back}: give 1 or more")

    def decides(self):
        yield ih.Decision("attn_out", self.layer)
        for head in self.heads:
            yield ih.Decision("pattern", self.layer, head)

    def holds(self, place):
        numbers = {"back": self.back, "strength": self.strength}
        yield place.hold("pattern", self.layer, looking_back, heads=self.heads, arguments=numbers)
        yield place.hold("attn_out", self.layer, flipped)


def own(*settings, **named) -> ih.Clamp:
    return ih.Clamp.of(LookBackAndFlip(*settings, **named))


def test_it_holds_what_it_says():
    found = look(network(CONFIG), sequences(CONFIG), own(0, [1, 3]).arrays(CONFIG))
    expected = np.eye(5, k=-2)
    expected[:2, 0] = 1
    for head in (1, 3):
        np.testing.assert_allclose(found.pattern[0][0, head], expected, atol=1e-6)
    clean = look(network(CONFIG), sequences(CONFIG))
    np.testing.assert_allclose(found.pattern[0][:, 0], clean.pattern[0][:, 0], atol=1e-6)
    moved = found.resid_post[0] - found.resid_pre[0]
    np.testing.assert_allclose(moved, found.attn_out[0], atol=1e-5)


def test_it_is_written_as_a_person_would():
    assert repr(own(0, [1, 3]) & ih.ablate(1, 2)) == (
        "look_back_and_flip(0, [1, 3]) & ablate(1, 2)"
    )
    assert repr(own(0, 1, strength=0.5).during(0, 1_000)) == (
        "look_back_and_flip(0, 1, strength=0.5).during(0, 1_000)"
    )
    assert repr(ih.Clamp()) == "Clamp()"
    assert repr(ih.temperature(1, {3: 2})) == "temperature(1, {3: 2.0})"
    assert repr(ih.perfect_previous_layer() & ih.copy_from(1, 3)) == (
        "perfect_previous_layer() & copy_from(1, 3)"
    )
    assert "look_back_and_flip(0, 1)" in own(0, 1)._repr_html_()
    assert "<script" not in ih.freeze("<script>")._repr_html_()


def test_it_combines_with_clamps_from_either_side_and_with_kinds_through_clamp_of():
    own, other = LookBackAndFlip(0, (0,)), LookBackAndFlip(0, (1,))
    assert (own & ih.ablate(1, 0)) == (ih.Clamp.of(own) & ih.ablate(1, 0))
    assert (ih.ablate(1, 0) & own) == (ih.ablate(1, 0) & ih.Clamp.of(own))
    with pytest.raises(ih.UserError, match=r"ih\.Clamp\.of\(a, b\)"):
        own & other


def test_json_gives_it_back():
    clamp = own(0, np.array([3, 1]), table=np.eye(2)).during(0, 50) & ih.induction(1, 2)
    again = ih.Clamp.from_json(clamp.to_json())
    assert again == clamp and hash(again) == hash(clamp)
    assert json.loads(clamp.to_json())[0] == {
        "kind": "look_back_and_flip",
        "back": 2,
        "heads": [1, 3],
        "layer": 0,
        "strength": 1.0,
        "table": [[1.0, 0.0], [0.0, 1.0]],
        "during": [0.0, 50.0],
    }
    with pytest.raises(ih.UserError, match="back is 0: give 1 or more"):
        ih.Clamp.from_json(own(0, 1).to_json().replace('"back": 2', '"back": 0'))


def test_it_contradicts_ours_and_itself_where_both_decide():
    for other in (ih.previous_token(0, 1), ih.mean("attn_out", 0), own(0, 2)):
        with pytest.raises(ih.UserError, match="contradictory clamps"):
            _ = own(0, 1) & other
        with pytest.raises(ih.UserError, match="contradictory clamps"):
            _ = other & own(0, 1)
        _ = own(0, 1).during(0, 10) & other.during(10, 20)
    assert len((own(0, 1) & own(1, 1) & ih.previous_token(0, 2)).parts) == 3


def test_under_vmap_beside_ours_each_run_is_itself():
    """Bit for bit where gates are 0, and as alone where they are not."""
    clamps = [ih.Clamp(), own(0, 1), own(0, 1, strength=0.5), ih.induction(1, 3) & own(0, [0, 2])]
    holds = ih.Clamp.stack(clamps, CONFIG)
    assert (
        len([h for h in holds.holds if h.rule.name.endswith("looking_back(back, strength)]")]) == 1
    )
    params, batch = network(CONFIG), sequences(CONFIG)
    run = jax.jit(jax.vmap(lambda p, h: ih.apply(p, batch, h).logits))
    found = run(copies(params, len(clamps)), holds)
    for clamp, logits in zip(clamps, found, strict=True):
        alone = look(params, batch, clamp.arrays(CONFIG)).logits
        np.testing.assert_allclose(logits, alone, atol=1e-5)
    off = jax.tree.map(lambda x: x, holds)
    off = replace(off, holds=tuple(replace(h, gate=np.zeros_like(h.gate)) for h in off.holds))
    np.testing.assert_array_equal(run(copies(params, len(clamps)), off)[1], found[0])


def test_it_holds_in_a_language_model():
    config = small(features=0, labels=7)
    tokens = ih.Tokens(jnp.asarray(np.random.default_rng(0).integers(0, 7, (3, 6)), jnp.int32))
    found = ih.apply(ih.init(jax.random.key(0), config), tokens, own(1, 0, back=3))
    assert np.asarray(found.pattern[1])[0, 0, 5].tolist() == [0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: own(2, 1), "look_back_and_flip.*layer 2 is out of range"),
        (lambda: own(0, 4), "look_back_and_flip.*head 4 is out of range"),
        (lambda: own(-1, 1), "layer is -1"),
        (lambda: own(0, []), "no heads named"),
        (lambda: own(0, None), "head is None"),
        (lambda: own(0, 1, strength=float("nan")), "strength is nan"),
        (lambda: ih.Clamp.of("ablate"), "give instances of kinds"),
        (lambda: Untidy().clamp(), "something else than place.hold"),
        (lambda: Unwritten({1: object()}).clamp(), "cannot be written as JSON"),
    ],
)
def test_mistakes_are_one_line(make, message):
    def all_of_it():
        clamp = make()
        clamp.arrays(CONFIG)
        clamp.to_json()

    with pytest.raises(ih.UserError, match=message) as error:
        all_of_it()
    assert "\n" not in str(error.value)


@ih.clamp_kind("untidy")
@dataclass(frozen=True)
class Untidy(ih.Kind):
    def holds(self, place):
        return [3]

    def clamp(self):
        return ih.Clamp.of(self)


@ih.clamp_kind("unwritten")
@dataclass(frozen=True)
class Unwritten(ih.Kind):
    thing: Any

    def holds(self, place):
        return ()

    def clamp(self):
        return ih.Clamp.of(self)


def test_what_is_no_kind_or_has_a_name_that_is_taken_is_refused():
    with pytest.raises(ih.UserError, match=r"'mine'.*not a frozen dataclass"):
        ih.clamp_kind("mine")(type("Mine", (ih.Kind,), {}))
    with pytest.raises(ih.UserError, match=r"kinds.attention.Induction has that name"):
        ih.clamp_kind("induction")(LookBackAndFlip)
    with pytest.raises(ih.UserError, match="setting 'during'"):

        @ih.clamp_kind("mine")
        @dataclass(frozen=True)
        class Mine(ih.Kind):
            during: float

    assert "mine" not in KINDS
    assert KINDS["induction"] is Induction


def test_a_file_that_is_run_again_defines_its_kind_anew():
    again = dataclass(frozen=True)(type("LookBackAndFlip", (LookBackAndFlip,), {}))
    try:
        ih.clamp_kind("look_back_and_flip")(again)
        assert KINDS["look_back_and_flip"] is again
    finally:
        ih.clamp_kind("look_back_and_flip")(LookBackAndFlip)


@pytest.mark.parametrize("where", [(-1, 0), (1, -1)])
def test_a_place_before_the_first_is_out_of_range(where):
    layer, head = where
    place = Place(CONFIG, "before", 0.0, float("inf"))
    with pytest.raises(ih.UserError, match="-1 is out of range: the model has"):
        place.hold("z", layer, lambda own: 0 * own, heads=[head])
