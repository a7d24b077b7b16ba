"""Findings: what is held out stays so, and made-up networks of which the answers are known."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from networks import network, sequences, small

from ih_jax.claims import decide, word
from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.experiments.findings import forecast, transplants, winner
from ih_jax.experiments.findings.held_out import apart, choices, explained, linear, told
from ih_jax.experiments.register import choose
from ih_jax.measures.beginning import head_starts
from ih_jax.measures.heads import induction_strength
from ih_jax.model.params import Params
from ih_jax.sweeps.loop import start
from ih_jax.sweeps.study import Study
from ih_jax.tasks.fewshot import fewshot
from ih_jax.tasks.fewshot_scores import query_loss

WEIGHTS, DRAWS = 8, 4
KEYS = [(i, i % WEIGHTS, i // WEIGHTS) for i in range(WEIGHTS * DRAWS)]
N = np.linspace(0, 1e6, 21)


def shared(values: dict[str, tuple[tuple[str, ...], np.ndarray]], **coords: object) -> xr.Dataset:
    """Results of 8 initial weights x 4 draws."""
    seeds = {
        "weights_seed": ("init", [w for _, w, _ in KEYS]),
        "order": ("init", [d for _, _, d in KEYS]),
    }
    return xr.Dataset(values, {"init": [i for i, _, _ in KEYS], **seeds, **coords})


def heads(decided: bool) -> xr.Dataset:
    """Networks whose winner, and how strong it is, follows from the start; or from nothing."""
    rng = np.random.default_rng(0)
    ahead = rng.normal(0, 0.3, (WEIGHTS, 8))
    first = ahead.argmax(1)
    ahead[np.arange(WEIGHTS), first] += rng.permutation(np.linspace(0.3, 3, WEIGHTS))
    ahead = np.stack([ahead[w] for _, w, _ in KEYS])
    if not decided:
        ahead = rng.normal(size=ahead.shape)
    begin = 0.01 * (ahead if decided else rng.normal(size=ahead.shape))
    early = begin if decided else 0.01 * rng.normal(size=ahead.shape)
    end = 0.3 + 0.1 * ahead
    strength = np.where(N[:, None] > 4e5, end[:, None], early[:, None])
    strength[:, 0] = begin
    loss = np.where(N > 3e5, 0.05, 0.9) * np.ones((len(KEYS), 1))
    alone = 3e5 * np.exp(-0.1 * (ahead if decided else rng.normal(size=ahead.shape)))
    return shared(
        {
            "strength": (("init", "checkpoint", "head"), strength),
            "loss": (("init", "sequences"), loss),
            "copying": (("init", "head"), begin),
            "growth": (("init", "head"), rng.normal(size=begin.shape)),
            "alone": (("init", "head"), alone),
        },
        checkpoint=N,
        sequences=N,
        head=range(8),
    )


def rings(heads_decide: bool) -> xr.Dataset:
    """Winners that go with the heads, or with nothing."""
    n, rng = 8, np.random.default_rng(3)
    home, shift = rng.permutation(8), 0 if heads_decide else 3
    strength = np.full((3, n, len(N), 8), 0.1)
    for i in range(n):
        for case, by in enumerate((0, shift, shift)):
            strength[case, i, 3:, (home[i] + by) % 8] = 0.4 + 0.05 * (-i if by and case == 1 else i)
        if heads_decide:
            strength[2, i, 3:] = np.maximum(strength[2, i, 3:], 0.3)
    loss = np.where(N > 3e5, 0.05, 0.9) * np.ones((3, n, 1))
    cases = list(transplants.CASES)
    return xr.Dataset(
        {
            "strength": (("case", "init", "checkpoint", "head"), strength),
            "loss": (("case", "init", "sequences"), loss),
        },
        {"case": cases, "init": range(n), "checkpoint": N, "sequences": N, "head": range(8)},
    )


def wholes(made_of_parts: bool) -> xr.Dataset:
    """Times without a clamp that follow from those with; or from the initial weights alone."""
    rng = np.random.default_rng(1)
    parts = rng.normal(0, 0.2, (5, len(KEYS)))
    own = rng.normal(0, 0.2, WEIGHTS)[[w for _, w, _ in KEYS]]
    log_time = parts[:3].mean(0) if made_of_parts else own
    times = np.concatenate([300e3 * np.exp(log_time)[None], 50e3 * np.exp(parts)])
    n = np.linspace(0, 1.2e6, 601)
    loss = 1.5 * np.exp(-n * np.log(1.5 / 0.277) / times[..., None])
    return shared(
        {
            "loss": (("clamp", "init", "sequences"), loss),
            "diverged_at": (("clamp", "init"), np.full(times.shape, np.nan)),
        },
        clamp=["none", *forecast.CLAMPS],
        sequences=n,
    )


GOOD: dict[str, Callable[[bool], xr.Dataset]] = {
    "winner": heads,
    "specialists": heads,
    "transplants": rings,
    "forecast": wholes,
}


@pytest.mark.parametrize("name", GOOD)
def test_hypotheses_are_supported_where_they_are_true_and_never_where_not(name: str) -> None:
    (experiment,) = (each for each in choose("findings") if each.name == name)
    for true in (True, False):
        results = GOOD[name](true)
        verdicts = {c.name: word(c, f) for c, f in decide(experiment.claims, results)}
        assert ("supported" in verdicts.values()) == true, verdicts
        if true:
            assert set(verdicts.values()) == {"supported"}, verdicts
    for claim in experiment.claims:
        assert claim.kind == "hypothesis"
        assert claim.estimand


@pytest.mark.parametrize("name", GOOD)
def test_figures_and_tables_are_drawn(name: str) -> None:
    (experiment,) = (each for each in choose("findings") if each.name == name)
    results = GOOD[name](True)
    figure = experiment.draw(results)
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    for table in experiment.tables(results):
        assert all(len(row) == len(table.header) for row in table.rows)


def test_nothing_is_learned_of_a_network_from_those_it_shares_a_part_with() -> None:
    may = apart(KEYS)
    for i, (_, w, d) in enumerate(KEYS):
        taught = {KEYS[j][1:] for j in np.flatnonzero(may[i])}
        assert taught == {(a, b) for _, a, b in KEYS if a != w and b != d}
    assert apart([(1,), (2,), (3,)]).sum() == 6
    # A draw that all share is nothing that tells them apart.
    assert apart([(1, 5, 0), (2, 6, 0), (3, 7, 0)]).sum() == 6


def test_a_network_does_not_tell_itself() -> None:
    """What is said of it stays the same whatever its own value, and those of its twins."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(len(KEYS), 2)), rng.normal(size=len(KEYS))
    may = apart(KEYS)
    twins = ~may[0]
    said, mean = linear(x, y, may)
    again = linear(x, np.where(twins, 100.0, y), may)
    assert said[0] == again[0][0]
    assert mean[0] == again[1][0]
    chosen = rng.integers(0, 8, len(KEYS))
    known = rng.normal(size=(len(KEYS), 8, 1))
    p = choices(known, chosen, may)[0]
    np.testing.assert_array_equal(p, choices(known, np.where(twins, 0, chosen), may)[0])
    assert p.sum() == pytest.approx(1)


def test_noise_tells_nothing_of_networks_held_out() -> None:
    """Fitted to the same networks it would tell a good deal: three columns of 32 numbers."""
    rng = np.random.default_rng(4)
    told_of = []
    for _ in range(20):
        made = shared({"x": (("init", "column"), rng.normal(size=(len(KEYS), 4)))})
        found = told(lambda one: one["x"].values[1:], lambda one: float(one["x"][0]))(made)
        told_of.append(explained([np.asarray(v) for v in found.values.values()]))
    assert np.mean(told_of) < 0


def test_heads_that_agree_by_chance_are_not_called_alike() -> None:
    table = np.tile(np.arange(8)[:, None], (1, 4))
    dealt, p = winner.by_permutation(table)
    assert p < 0.001
    assert dealt == pytest.approx(1 / 8, abs=0.01)
    assert winner.by_permutation(np.random.default_rng(5).permuted(table, axis=0))[1] > 0.01


def test_growth_is_what_strength_gains_in_a_small_step_and_copying_is_of_the_weights() -> None:
    config = small(layers=2, heads=2, d_model=8, features=4, labels=3)
    params, batch = network(config, 1), sequences(config, 8)
    # Head 0 writes nothing, so that it copies nothing.
    attention = params.blocks[-1].attention
    mute = np.array(attention.W_out)
    mute[:, 0] = 0
    last = params.blocks[-1].replace(attention=attention.replace(W_out=mute))
    params = params.replace(blocks=(*params.blocks[:-1], last))
    found = head_starts(params, Holds(), batch)
    assert found["copying"][0] == 0 != found["copying"][1]
    step = 1e-5
    slope = jax.grad(lambda p: query_loss(forward(p, batch, Holds(), "query"), batch))(params)
    moved = jax.tree.map(lambda w, g: w - step * np.sign(g), params, slope)
    gained = induction_strength(moved, Holds(), batch) - induction_strength(params, Holds(), batch)
    np.testing.assert_allclose(found["growth"], gained / step, rtol=0.1, atol=0.05)


def test_a_network_starts_with_the_heads_of_another_in_its_own_body() -> None:
    settings = {"layers": 2, "sequences": 32, "init": [1, 2]}
    plain = Study(fewshot(), **settings)
    mixed = Study(fewshot(), **settings, heads_seed={1: 1, 2: 1})

    def weights(study: Study, place: int) -> Params:
        (group,) = study.groups
        run = jax.tree.map(lambda leaf: leaf[place], group.arrays)
        return start(group.program, run).params

    one, two = (weights(plain, place) for place in (0, 1))
    same, changed = (weights(mixed, place) for place in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, same, one)
    own, theirs, body = (p.blocks[-1].attention for p in (changed, one, two))
    jax.tree.map(np.testing.assert_array_equal, own, theirs)
    assert not np.array_equal(own.W_out, body.W_out)
    for name in ("W_E", "W_L", "W_U"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(two, name))
    jax.tree.map(np.testing.assert_array_equal, changed.blocks[0], two.blocks[0])
