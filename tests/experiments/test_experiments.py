"""Experiments of Singh et al. 2024 and beyond: claims on made-up results, and the smallest run."""

from __future__ import annotations

import functools
import io
import math
from pathlib import Path
from typing import Any

import jax
import made_up_beyond
import made_up_singh
import numpy as np
import pytest
import xarray as xr
from made_up_beyond import predicted
from made_up_singh import phase
from matplotlib.figure import Figure
from networks import network, query_loss, sequences, small
from rich.console import Console
from wrong_singh import BAD, GOOD_VERDICTS, HARD_TO_REFUTE, NEVER_FALSE, Change

from ih_jax.claims import Rule, decide, word
from ih_jax.claims.networks import networks_of
from ih_jax.clamps.apply import apply
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.clamps.kinds import ablate
from ih_jax.experiments import base, register
from ih_jax.experiments.base import Options
from ih_jax.experiments.beyond import predict, pulse
from ih_jax.experiments.beyond.trainings import (
    CELLS,
    EQUIVALENT,
    FACTORIAL,
    cell_clamp,
    cell_name,
)
from ih_jax.experiments.register import choose, find
from ih_jax.experiments.singh2024.ablations import correlation
from ih_jax.experiments.singh2024.roles import by_rank
from ih_jax.experiments.singh2024.trainings import HORIZONS
from ih_jax.measures.heads import induction_strength, previous_token_strength
from ih_jax.measures.performance import under
from ih_jax.reports import report, running

GOOD = made_up_singh.GOOD | made_up_beyond.GOOD

PAPER, BEYOND = ([each.name for each in choose(name)] for name in ("paper", "beyond"))


@pytest.mark.parametrize("name", GOOD)
def test_claims_replicate_where_they_should(name: str) -> None:
    verdicts = {c.name: word(c, found) for c, found in decide(find(name).claims, GOOD[name]())}
    assert set(verdicts.values()) <= GOOD_VERDICTS, verdicts


@pytest.mark.parametrize(("name", "claim", "change"), BAD, ids=[f"{n}: {c}" for n, c, _ in BAD])
def test_a_claim_fails_where_it_should(name: str, claim: str, change: Change) -> None:
    (one,) = (c for c in find(name).claims if c.name == claim)
    verdict = one.decide(change(GOOD[name]())).verdict
    assert verdict == "fails" or ((name, claim) in HARD_TO_REFUTE and verdict == "too few networks")


@pytest.mark.parametrize("name", ["fig3", "fig8", "fig12", "fig17"])
def test_three_networks_are_too_few_for_a_rate(name: str) -> None:
    for claim, found in decide(find(name).claims, GOOD[name]().isel(init=slice(0, 3))):
        assert found.share in (None, (3, 3)), claim.name  # None: of an amount, not of a rate
        assert found.verdict == "too few networks", claim.name


def test_every_claim_has_a_case_in_which_it_fails() -> None:
    claims = {(name, claim.name) for name in GOOD for claim in find(name).claims}
    assert claims == {(name, claim) for name, claim, _ in BAD} | NEVER_FALSE


@pytest.mark.parametrize("name", [*PAPER, *BEYOND])
def test_a_claim_says_what_it_stands_for(name: str) -> None:
    claims = find(name).claims
    assert sum(claim.primary for claim in claims) <= 6
    assert len({claim.name for claim in claims}) == len(claims)
    for claim in claims:
        assert claim.source
        assert claim.estimand
        assert claim.statement.endswith(".")
        assert claim.kind == (
            "hypothesis" if "ours" in claim.source or name in BEYOND else "replication"
        )


def test_the_papers_own_numbers_pass_the_rules_they_are_judged_by() -> None:
    against = []
    for name in PAPER:
        for claim in find(name).claims:
            reported = claim.reported
            if reported is None or not isinstance(claim.decide, Rule):
                continue
            theirs = dict(enumerate(reported.bounds()))
            if theirs and claim.decide.judge(networks_of(theirs)).verdict in ("fails", "mixed"):
                against.append((name, claim.name))
            if reported.share and reported.share[0] / reported.share[1] <= 0.5:
                against.append((name, claim.name))
    assert not against


def test_the_authors_networks_are_graded_by_the_same_rules() -> None:
    graded = {}
    for name in PAPER:
        experiment = find(name)
        if experiment.authors is None:
            continue
        for claim, found in decide(experiment.claims, GOOD[name](), experiment.authors()):
            if "authors' code" in found.beside:
                graded[name, claim.name] = found.beside["authors' code"]
    assert len(graded) > 20
    assert all(found.networks == 8 for found in graded.values())
    assert not [key for key, found in graded.items() if found.verdict == "fails"]


@pytest.mark.parametrize("name", GOOD)
def test_figures_and_tables_are_drawn(name: str) -> None:
    experiment, results = find(name), GOOD[name]()
    figure = experiment.draw(results)
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), dpi=20)  # all that is laid out and painted
    for table in experiment.tables(results):
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows)


def test_predicted_times_are_near_where_parts_make_the_whole() -> None:
    found = predict.held_out(predicted(), "parts")
    assert np.abs(found["mean"] - found["y"]).max() < 0.3
    assert predict.held_out(predicted(), "setting")["score"].mean() < found["score"].mean()


def test_censored_times_are_taken_as_later() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    y = 10 + 2 * x[:, 0]
    late = (y > 11).astype(float)
    weights, noise = predict.fit(x, np.minimum(y, 11), late)
    np.testing.assert_allclose(weights, [2, 10], atol=0.15)
    assert noise < 0.2
    # As if they were known, the slope would come out too small.
    assert predict.fit(x, np.minimum(y, 11), 0 * late)[0][0] < 1.8


def test_what_is_learned_while_it_is_given_does_not_count() -> None:
    n = np.arange(0, 500_001, 10_000)
    curve = xr.DataArray(phase(n, 300e3), coords={"sequences": n}, dims="sequences")
    alone = pulse.time_by_itself(curve, 100_000, 50_000)
    helped = curve.where((n < 100_000) | (n >= 150_000), 0.01)
    assert pulse.time_by_itself(helped, 100_000, 50_000) == alone
    assert alone.low > 300_000
    kept = curve.where(n < 100_000, 0.01)  # learned, and kept when the help is over
    assert pulse.time_by_itself(kept, 100_000, 50_000) == (150_000, 150_000)


def test_correlation_needs_three_pairs() -> None:
    assert math.isnan(correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert correlation(np.array([1, 2, np.nan, 4]), np.array([2, 4, 1, 8])) == pytest.approx(1)


CONFIG = small(layers=2, heads=8, d_model=16, features=6, labels=4)


@pytest.mark.parametrize("cell", EQUIVALENT, ids=lambda cell: cell_name(cell))
def test_equivalent_cells_have_the_same_loss_and_gradient(cell: tuple[str, str, str]) -> None:
    params, batch = network(CONFIG, 1), sequences(CONFIG, 12)

    def loss_and_slope(clamp: Clamp) -> Any:
        holds = clamp.arrays(CONFIG)
        return jax.value_and_grad(lambda p: query_loss(apply(p, batch, holds), batch))(params)

    a, b = (loss_and_slope(cell_clamp(each)) for each in (cell, EQUIVALENT[cell]))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


def test_the_factorial_has_its_eleven_cells() -> None:
    assert len(CELLS) == 20
    assert len(FACTORIAL) == 11
    assert set(EQUIVALENT.values()) <= set(CELLS) - set(EQUIVALENT)


def test_names_and_horizons() -> None:
    papers = {"transience", "coopetition", "reddy2024", "garg2022"}
    every_set = {"paper", "beyond", "findings", "olsson"} | papers
    assert set(register.SETS) == set(register.SET_NAMES) == every_set
    assert HORIZONS["none"] > HORIZONS["match"]


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything trained for next to nothing, measured and drawn."""
    folder = tmp_path_factory.mktemp("all")
    options = Options(seeds=1, quick=True, scale=0.001, classes=8)
    how = running.How(out=folder, progress=False, console=Console(quiet=True), width=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "fewshot", functools.partial(base.fewshot, evaluation_sequences=8))
        running.run([*choose("paper"), *choose("beyond")], options, how)
    return folder


def test_all_claims_stand_in_one_table(smallest: Path) -> None:
    text = (smallest / "README.md").read_text()
    for name in (*PAPER, *BEYOND):
        assert f"[{name}]({name}/README.md)" in text
        last = find(name).claims[-1]
        mark = " †" if last.primary_since else ""
        assert f"| {last.name.replace('<', '&lt;')}{mark} |" in text


@pytest.mark.parametrize("name", [*PAPER, *BEYOND])
def test_the_smallest_version_runs_to_its_end(smallest: Path, name: str) -> None:
    folder = smallest / name
    for file in ("README.md", "figure.png", "figure.svg", "results.nc", "card.json"):
        assert (folder / file).stat().st_size > 0
    assert (folder / "results.nc").stat().st_size < 2e6
    # Of `main` three networks are trained, since two are needed to graft from; one was asked for.
    assert name in BEYOND or report.read(folder).sizes.get("init", 1) == 1
    text = (folder / "README.md").read_text()
    for claim in find(name).claims:
        assert claim.name.replace("<", "&lt;") in text


@pytest.mark.parametrize("layer", [0, 1])
def test_heads_in_order_of_a_score_are_the_same_network(layer: int) -> None:
    params, batch = network(CONFIG, 3), sequences(CONFIG, 24)
    score = previous_token_strength if layer == 0 else induction_strength
    values = np.asarray(score(params, Holds(), batch))
    best = int(np.argmax(values[layer] if values.ndim > 1 else values))
    own = under({"whole": Clamp(), "without": ablate(layer, best)}, CONFIG)
    first = under({"whole": Clamp(), "without": ablate(layer, 0)}, CONFIG)
    expected = own(params, Holds(), batch)["loss"]
    found = by_rank(first, score, layer)(params, Holds(), batch)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(float(expected[0] - expected[1])) > 1e-4
