"""Olsson et al. 2022: graders on made-up results with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from made_up_olsson import DEEP, GOOD, INITS, TOKENS, clamped, phases, score, sizes, smoke
from wrong_olsson import BAD, Change, at, one_seed, quick, still

from ih_jax.claims import Finding, decide, intervals
from ih_jax.experiments.register import SETS, find, registry


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made up here is clear enough."""
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


OLSSON = tuple(each.name for each in SETS["olsson"])


# Of what is still true then: there is nothing where there should be nothing; and of small numbers
# one is the largest, or more than half have one sign.
STILL_TRUE = {
    "olsson-phase-change": {"not before"},
    "olsson-smeared-keys": {"no previous-token head"},
    "olsson-ablations": {"the opposite sign"},
    "olsson-repeats": {
        "bigrams: one token after",
        "long spans: further after",
    },
    "olsson-text": {"one layer does not", "two layers gain on one"},  # by a difference of rounding
    "olsson-text-smeared": {"two layers gain on one"},
    "olsson-lent": {"not by itself", "on a head of its own"},
    "olsson-lent-otherwise": {"denied, it does not come back"},
}


UNIT = 5  # fewer networks decide nothing, even if all agree


def told(finding: Finding) -> str:
    """The verdict; of fewer networks than can decide, all of which agree, the one they point to."""
    k, n = finding.share or (0, 0)
    if finding.verdict == "too few networks" and 3 <= n < UNIT:
        return {n: "replicates", 0: "fails"}.get(k, finding.verdict)
    return finding.verdict


def verdicts(name: str, results: xr.Dataset) -> dict[str, str]:
    return {claim.name: told(found) for claim, found in decide(find(name).claims, results)}


# --- claims -------------------------------------------------------------------------------------


def test_there_are_results_of_every_experiment() -> None:
    assert set(GOOD) == set(OLSSON)
    assert set(OLSSON) <= set(registry())


@pytest.mark.parametrize("name", GOOD)
def test_claims_replicate_where_they_should(name: str) -> None:
    found = verdicts(name, GOOD[name]())
    assert set(found.values()) == {"replicates"}, found


# What else a change of all networks takes with it: the same fact seen otherwise, or one that
# rests on it.
ALSO: dict[str, set[str]] = {
    "they form in the window": {"few snapshots: heads in it"},
    "few snapshots: heads in it": {"they form in the window"},
    "a bump in the loss": {"no bump with one layer"},
    "the more it matches, the more it carries": {
        "others do not",
        "furthest back",
        "the opposite sign",
        "by type: induction heads",
    },
    "others do not": {
        "the more it matches, the more it carries",
        "the opposite sign",
        "not before the window",
        "by type: induction heads",
    },
    "the opposite sign": {"curiosity: six layers with MLPs"},
    "by type: induction heads": {
        "the more it matches, the more it carries",
        "others do not",
        "not before the window",
        "curiosity: four layers with MLPs",
    },
    "by type: previous-token heads": {"not before the window"},
    "back along the change": {"furthest back"},
    "matched heads are alike": {"their numbers say nothing"},
    "read so, weights tell copying": {"better than plainly"},
    "better than plainly": {"read so, weights tell copying"},
    "the order inverts": {"before: narrow ones fall faster", "after: wide ones"},
    "before: narrow ones fall faster": {"the order inverts"},
    "after: wide ones": {"the order inverts"},
    "second language: a previous-token head": {"second language: others do not"},
}


@pytest.mark.parametrize(("name", "claim", "change"), BAD, ids=[f"{n}: {c}" for n, c, _ in BAD])
def test_a_claim_fails_where_it_should_and_takes_no_other_with_it(
    name: str, claim: str, change: Change
) -> None:
    found = verdicts(name, change(GOOD[name]()))
    assert found.pop(claim) == "fails"
    failed = {other for other, verdict in found.items() if verdict == "fails"}
    assert failed <= ALSO.get(claim, set())


def test_every_claim_has_a_case_in_which_it_fails() -> None:
    claims = [(name, claim.name) for name in GOOD for claim in find(name).claims]
    assert sorted(claims) == sorted((name, claim) for name, claim, _ in BAD)


def test_a_claim_says_where_the_paper_says_so_and_what_is_estimated() -> None:
    for claim in (claim for name in GOOD for claim in find(name).claims):
        assert claim.statement.rstrip(")").endswith(".")
        assert claim.estimand, claim.name
        assert claim.source or claim.kind == "hypothesis", claim.name


@pytest.mark.parametrize("name", GOOD)
def test_one_seed_or_what_quick_trains_makes_nothing_false(name: str) -> None:
    for some in (one_seed, quick):
        found = verdicts(name, some(GOOD[name]()))
        assert "fails" not in found.values(), found


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_claimed_of_networks_that_do_not_change(name: str, noise: float) -> None:
    found = verdicts(name, still(GOOD[name](), noise))
    held = {claim for claim, verdict in found.items() if verdict == "replicates"}
    assert held <= STILL_TRUE.get(name, set())


@pytest.mark.parametrize("model", DEEP)
def test_one_model_that_does_not_change_is_no_less_seen_for_its_place(model: str) -> None:
    flat, claims = score(["1L"])[0], find("olsson-phase-change").claims
    never = at("score", flat, model=model)(phases())
    never = at("score_at", 0.0, model=model)(never)
    found = {claim.name: claim.decide(never) for claim in claims}
    rest = len(INITS) * (len(DEEP) - 1)
    assert found["a window"].share == (rest, rest + len(INITS))
    assert found["the path turns"].share == (rest, rest)  # no window, nothing to turn in
    assert "not measured" in found["the path turns"].detail
    # In whose window should the path of one layer turn?
    assert found["one layer goes straight"].share[1] == (10 if model == "3L" else 5)


def test_a_change_at_the_first_look_has_no_time_before_it() -> None:
    found = verdicts("olsson-scaling", at("curve", -0.8 * np.minimum(TOKENS / 160e3, 1))(sizes()))
    assert found["before: small ones fall faster"] == "too few networks"
    assert found["after: large ones"] != "too few networks"


def test_a_language_of_fewer_seeds_is_judged_by_those() -> None:
    whole = GOOD["olsson-universality"]()
    fewer = whole.where((whole["model"] != "2L, repeats") | (whole["init"] != INITS[-1]))
    assert set(verdicts("olsson-universality", fewer).values()) == {"replicates"}
    heads = {row[0]: row[1] for row in find("olsson-universality").tables(fewer)[0].rows}
    assert heads["2L, repeats"] == "0 2"


def test_few_looks_are_too_few_to_see_a_change_in() -> None:
    assert verdicts("olsson-smoke", smoke().isel(tokens=[0, 30, 100]))["the change"] == (
        "too few networks"
    )
    few = phases().isel(checkpoint=[0, 5, 10, 20, 50])
    assert verdicts("olsson-phase-change", few)["few snapshots: heads in it"] == (
        "too few networks"
    )


def test_what_is_timed_by_a_network_that_does_not_change_is_not_timed() -> None:
    free = at("score", score(["1L"])[0], clamp="none")(clamped())
    assert set(verdicts("olsson-clamped", free).values()) == {"too few networks"}
