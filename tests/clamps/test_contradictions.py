"""What contradicts, what combines, who wins, and mistakes: each is one line."""

import jax.numpy as jnp
import numpy as np
import pytest
from all_clamps import CONFIG, DONOR, PLAIN, close, under
from networks import network, small

from ih_jax.clamps import kinds as c
from ih_jax.clamps.clamp import Clamp
from ih_jax.errors import UserError


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [
        (c.previous_token(0, [1, 2]), c.previous_token(0, 2, 0.5), "layer 0 head 2"),
        (c.induction(1, 3), c.match_by_similarity(1, 3), "layer 1 head 3"),
        (c.previous_token(1, 3), c.induction(1, 3), "layer 1 head 3"),
        (c.previous_token(0, 1), c.no_previous_token(0, 1), "layer 0 head 1"),
        (c.previous_token(0, 1), c.no_previous_token(0, 1, "label"), "layer 0 head 1"),
        (c.temperature(1, {0: 2.0, 3: 2.0}), c.temperature(1, {3: 3.0}), "layer 1 head 3"),
        (c.temperature(1, {0: 2}, "clean"), c.temperature(1, {3: 3}, "clean"), "layer 1"),
        (c.hold("pattern", 0.2, layer=1), c.induction(1, 2), "layer 1 head 2"),
        (c.hold("pattern", 0.2, layer=1, heads=2), c.induction(1, 2), "layer 1 head 2"),
        (c.mean("v", 0, 1), c.resample("v", 0), "layer 0 head 1"),
        (c.hold("embed", 0.0), c.hold("embed", 1.0), "the embed"),
        (c.perfect_previous_layer(), c.hold("k_input", 0.0, layer=1), "layer 1"),
        (c.copy_from(1, 2), c.copy_from(1, 3), "the logits"),
        (c.graft(DONOR, after=0), c.graft(network(CONFIG, 6), after=1), "the weights"),
        (
            c.ablate(0, 1) & c.induction(1, 3).during(0, 10),
            c.match_by_similarity(1, 3).during(9, 20),
            "layer 1 head 3",
        ),
    ],
    ids=lambda x: x.describe()[:60] if isinstance(x, Clamp) else None,
)
def test_contradictions_are_refused_and_overlaid(a: Clamp, b: Clamp, where: str) -> None:
    for first, second in ((a, b), (b, a)):
        with pytest.raises(UserError, match=f"contradictory clamps.*both hold {where}") as error:
            _ = first & second
        assert "\n" not in str(error.value)
    assert a.overlay(b).parts == (*a.parts, *b.parts)


@pytest.mark.parametrize(
    "both",
    [
        lambda: c.previous_token(1, 3, rows="label") & c.induction(1, 3),
        lambda: c.previous_token(0, 1).during(0, 10) & c.no_previous_token(0, 1).during(10, 20),
        lambda: c.previous_token(0, 1) & c.induction(0, 2),
        lambda: c.previous_token(0, 1) & c.previous_token(1, 1),
        lambda: c.ablate(0, 1) & c.previous_token(0, 1),
        lambda: c.ablate(0, 1) & c.ablate(0, [1, 2]),
        lambda: c.induction(1, 3) & c.induction(1, 3),
        lambda: c.preserve("patterns") & c.induction(1, 3),
        lambda: c.perfect_previous_layer() & c.copy_from(1, 2),
        lambda: c.perfect_previous_layer({"q", "k"}) & c.perfect_previous_layer({"v"}),
        lambda: c.hold("z", 1, heads=1) & c.hold("z", 2, heads=2),
        lambda: c.hold("embed", 1, gate=[[1], [0], [0]]) & c.hold("embed", 2, gate=[[0], [1], [1]]),
        lambda: c.graft(DONOR, upto=0) & c.graft(DONOR, after=0),
        lambda: c.temperature(1, {0: 2.0}) & c.temperature(1, {1: 2.0}),
        lambda: c.freeze("W_E") & c.freeze("W_U"),
    ],
)
def test_what_does_not_contradict_combines(both) -> None:
    assert len(both().parts) >= 1


def test_where_two_meet_the_table_decides() -> None:
    pattern = under(c.previous_token(1, 3).overlay(c.induction(1, 3))).pattern[1][:, 3]
    again = under(c.induction(1, 3).overlay(c.previous_token(1, 3))).pattern[1][:, 3]
    assert close(pattern, again)
    assert close(pattern[:, 3], np.eye(5)[2])
    assert close(pattern[:, 4, ::2], 0)
    perfect = c.perfect_previous_layer({"q", "k"}) & c.perfect_previous_layer({"v"})
    assert close(under(perfect).logits, under(c.perfect_previous_layer()).logits)


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: c.ablate(2, 0), r"layer 2 is out of range: the model has layers 0..1"),
        (lambda: c.ablate(0, 4), r"head 4 is out of range: the model has heads 0..3"),
        (lambda: c.ablate(0, -1), "head is -1"),
        (lambda: c.ablate(0, True), "head is True"),
        (lambda: c.ablate(0, "3"), "head is '3'"),
        (lambda: c.ablate(0.5, 1), "layer is 0.5"),
        (lambda: c.ablate(0, []), "no heads named"),
        (lambda: c.copy_from(2, 0), "layer 2 is out of range"),
        (lambda: c.copy_from(0, 4), "head 4 is out of range"),
        (lambda: c.temperature(1, {4: 2.0}), "head 4 is out of range"),
        (lambda: c.temperature(1, {1: 0.0}), "temperature > 0"),
        (lambda: c.temperature(1, {1: float("nan")}), "finite"),
        (lambda: c.graft(DONOR, upto=2), "layer 2 is out of range"),
        (lambda: c.graft(DONOR, after=2), "layer 2 is out of range"),
        (lambda: c.graft(network(PLAIN), after=0), "weights of the same shape"),
        (lambda: c.graft(DONOR), "exactly one of the two"),
        (lambda: c.graft({"W_E": 1}, upto=0), "give Params or Weights"),
        (lambda: c.previous_token(0, 0, rows="query"), "rows is 'query': give one of all, label"),
        (lambda: c.previous_token(0, 0, float("inf")), "strength is inf"),
        (lambda: c.match_by_similarity(1, 0, -1), "give 0 or more"),
        (lambda: c.mean("resid", 0), "unknown site 'resid': did you mean 'resid_"),
        (lambda: c.mean("embed", 1), "belongs to no layer"),
        (lambda: c.mean("resid_pre", 0, heads=1), "has no heads"),
        (lambda: c.hold("z", [[[[1]]]]), "value has 4 axes, z has 3"),
        (lambda: c.hold("z", np.zeros((5, 4, 3))), "axis 2 of z is of size 4"),
        (lambda: c.hold("pattern", 0.5, gate=np.ones((3, 1, 1))), "axis 0 of pattern is of size 4"),
        (lambda: c.hold("z", float("nan")), "not finite"),
        (lambda: c.hold("z", "much"), "value is 'much'"),
        (lambda: c.hold("z", 0.0, gate=2.0), "between 0 .* and 1"),
        (lambda: c.rule("z", "doubled"), "give a function"),
        (lambda: c.preserve(), "nothing named"),
        (lambda: c.preserve("logits"), "preserve is 'logits'"),
        (lambda: c.perfect_previous_layer({"x"}), "give some of q, k, v"),
        (lambda: c.freeze("W_E").during(0, 1), "holds weights"),
        (lambda: c.ablate(0, 1).during(5, 5), "0 <= start < stop"),
        (lambda: c.ablate(0, 1).during(5, 9).during(9, 20), r"never on during\(9, 20\)"),
    ],
)
def test_mistakes_are_one_line(make, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make().arrays(CONFIG)
    assert "\n" not in str(error.value)


def test_models_that_lack_a_part_say_so() -> None:
    with pytest.raises(UserError, match="the model has no MLPs"):
        c.mean("mlp_out", 0).arrays(PLAIN)
    with pytest.raises(UserError, match=r"layer 1 is out of range: the model has layers 0\.\.0"):
        c.perfect_previous_layer().arrays(small(layers=1))


def test_values_that_fit_no_sequence_of_this_length_say_so() -> None:
    with pytest.raises(UserError, match="for sequences of this length"):
        under(c.hold("pattern", np.zeros((4, 7, 7))))
    with pytest.raises(UserError, match=r"gives shape \(3,\) at z of layer 1"):
        under(c.rule("z", lambda b, a: jnp.zeros(3), layer=1))
