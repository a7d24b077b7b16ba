"""Claims: sentences of a paper made checkable, and what decides them.

A claim keeps statement and number apart. Its *statement* has a direction only, as the paper's text
has it, and is decided by how often it is so over networks; its *numbers* are compared with ours. It
is written before the runs that decide it. Rules that decide are in `claims.rules`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import xarray as xr

from ih_jax.claims.bounds import Effect
from ih_jax.claims.comparing import Comparison, Reported
from ih_jax.claims.networks import Measure, Networks, networks_of
from ih_jax.errors import UserError, given, unknown

Verdict = Literal["replicates", "fails", "mixed", "too few networks"]
Kind = Literal["replication", "hypothesis"]
Grade = Literal["strong", "medium", "weak"]

OWN = {"replicates": "supported", "fails": "refuted"}  # said of a hypothesis of ours


@dataclass(frozen=True)
class Finding:
    """What networks say about one claim.

    Args:
        verdict: on the statement: "replicates" or "fails" where the interval lies on one side;
            "mixed" where it contains the limit and is narrow enough to say so; else "too few
            networks" (or too few that can tell).
        ours: beside the paper's number.
        share: networks in which it is seen to be so, of how many.
        interval: 95%, of what the verdict is about: the rate over networks, or a pooled estimate;
            of "no difference", 90%, of the median.
        effects: medians over networks, with intervals.
        detail: what was left out or could not be told.
        size: how the paper's numbers lie among ours.
        networks: how many were judged.
        varies: along which dims they differ; what does not vary, the finding is conditional on.
        beside: the same rule on other networks: on the paper's own table, on its authors' networks.
        estimate: what the interval is about, where that is no rate over networks.
    """

    verdict: Verdict
    ours: str
    share: tuple[int, int] | None = None
    interval: tuple[float, float] | None = None
    effects: Mapping[str, Effect] = field(default_factory=dict)
    detail: str = ""
    size: Comparison | None = None
    networks: int = 0
    varies: tuple[str, ...] = ("init",)
    beside: Mapping[str, Finding] = field(default_factory=dict)
    estimate: float | None = None

    def __post_init__(self) -> None:
        """Raises UserError, suggesting the nearest, for another verdict."""
        if self.verdict not in get_args(Verdict):
            raise unknown("verdict", self.verdict, get_args(Verdict))


@dataclass(frozen=True)
class Rule:
    """What is measured of every network, and what is made of that: `claims.rules` has them.

    Args:
        measure: of the results, one value of each network.
        judge: the verdict on these.
        compare: with the paper's numbers; None where they cannot be compared.
        words: the rule as a reader is told it.
    """

    measure: Measure
    judge: Callable[[Networks], Finding]
    compare: Callable[[Networks, Reported], Comparison | None]
    words: str = ""

    def __call__(self, results: xr.Dataset) -> Finding:
        """The finding, without a comparison."""
        return self.judge(self.measure(results))


@dataclass(frozen=True)
class Claim:
    """One sentence, from a paper or your own, and the rule that decides it.

    Args:
        name: short.
        statement: what the paper says, without a bound that is not the paper's.
        decide: a `Rule`; or any function of the results that gives a `Finding`.
        paper: the paper's number, as a reader is shown it.
        reported: the paper's numbers to compare with.
        source: where it says so: "section 3.2, fig. 4a".
        estimand: what is estimated, of what, over what: in words.
        kind: a hypothesis is ours; a wrong one is a finding, not a failed replication.
        primary: one claim of a figure, or one for each of its distinct facts; the others show the
            same fact in another way, or lesser ones, and are not counted.
        primary_since: the day on which it became primary, if networks had been judged by then: a
            reader is told so.
        grade: the paper's grade for its own evidence, if it gives one.

    Raises:
        UserError: the name or the statement is no text, or `decide` is no rule and no function.
    """

    name: str
    statement: str
    decide: Rule | Callable[[xr.Dataset], Finding]
    paper: str = ""
    reported: Reported | None = None
    source: str = ""
    estimand: str = ""
    kind: Kind = "replication"
    primary: bool = True
    primary_since: str = ""
    grade: Grade | None = None

    def __post_init__(self) -> None:
        for name in ("name", "statement"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"{name} of a claim is {given(getattr(self, name))}: give text")
        if not isinstance(self.decide, Rule) and not callable(self.decide):
            raise UserError(
                f"decide of claim {self.name!r} is {given(self.decide)}: give a rule of "
                "ih_jax.claims, or a function of the results that gives a Finding"
            )


def decide(
    claims: Iterable[Claim], results: xr.Dataset, authors: xr.Dataset | None = None
) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding.

    A claim with nothing to compare (no previous-token head, say) finds NaN, which becomes a
    verdict: NumPy need not warn about it as well.

    Args:
        claims: of one experiment.
        results: its numbers.
        authors: the same numbers of the authors' networks, or some of them: claims whose numbers
            they lack are not calibrated.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [(claim, _decided(claim, results, authors)) for claim in claims]


def word(claim: Claim, finding: Finding) -> str:
    """The verdict as a reader is told it: a hypothesis does not replicate, it is supported."""
    own = claim.kind == "hypothesis"
    return OWN.get(finding.verdict, finding.verdict) if own else finding.verdict


def _decided(claim: Claim, results: xr.Dataset, authors: xr.Dataset | None) -> Finding:
    rule = claim.decide
    if not isinstance(rule, Rule):
        found = rule(results)
        if not isinstance(found, Finding):
            raise UserError(
                f"decide of claim {claim.name!r} gives {given(found)}: return an ih_jax.Finding"
            )
        return found
    networks = rule.measure(results)
    finding = rule.judge(networks)
    beside = {}
    if claim.reported is not None:
        if networks.values:
            finding = replace(finding, size=rule.compare(networks, claim.reported))
        theirs = dict(enumerate(claim.reported.bounds()))
        if theirs:
            beside["paper"] = rule.judge(networks_of(theirs))
    if authors is not None:
        with contextlib.suppress(KeyError):  # xarray's, for a number or a setting that they lack
            theirs_found = rule.judge(rule.measure(authors))
            if theirs_found.networks:
                beside["authors' code"] = theirs_found
    return replace(finding, beside=beside)
