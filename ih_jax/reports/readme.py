"""README.md of an experiment's folder: text, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from ih_jax.claims import Claim, Finding, Rule
from ih_jax.experiments.base import Experiment
from ih_jax.reports import variance
from ih_jax.reports.tables import HEADER, Findings, markdown, row

HOW_TO_READ = (
    "A claim *replicates* where the 95% interval of the share of networks in which it is so lies "
    "above one half (or the stated rate), *fails* where it lies below, and is *mixed* where it "
    "contains one half and is narrower than .3; else there are too few networks, or too few that "
    "can tell: of a run that has not learned by the end of its training we only know that its "
    "time is longer, written >. Hypotheses are ours, not a paper's, and are supported or refuted. "
    "Claims in brackets are secondary: the same fact seen otherwise, or a lesser one. Medians "
    "have 95% intervals over networks; ratios are paired within networks. Where the paper shows "
    "one network its number is given as a percentile of ours, else the two are tested. Findings "
    "are conditional on what did not vary: {}."
)


FIXED = {  # what is drawn, by the name of its seed
    "order": "the order of sequences",
    "label_split": "the split of label pairs",
    "class_split": "the choice of classes",
    "data": "the data set",
}


def of_experiment(
    experiment: Experiment, results: xr.Dataset, card: Mapping[str, Any], findings: Findings
) -> str:
    """What an experiment is about, the verdicts on its claims, and what was run."""
    command = card.get("command", f"ih-jax run {experiment.name}")
    title = experiment.title or experiment.name
    source = f"{experiment.paper}. " if experiment.paper else ""
    parts = [f"# {title}", f"{source}Made by `{command}`."]
    parts += [experiment.summary] if experiment.summary else []
    parts += [f"![{title}](figure.png)"] if experiment.draw else []
    if findings:
        parts += ["## Claims", _claims(findings)]
        parts += [
            "\n".join(_sentence(claim, finding) for claim, finding in findings),
            _how_to_read(findings),
        ]
    if experiment.differs:
        parts += ["## Where our results differ from the paper", experiment.differs]
    for made in experiment.tables(results):
        parts += [f"## {made.title}", markdown(made.header, made.rows)]
    components = variance.table(results, experiment.quantities)
    if components is not None:
        parts += [f"## {components.title}", markdown(components.header, components.rows)]
        parts += [variance.HOW_TO_READ]
    return "\n\n".join([*parts, "## What was run", _what_was_run(card)]) + "\n"


def _claims(findings: Findings) -> str:
    return markdown(HEADER, [_marked(claim, finding) for claim, finding in findings])


def _marked(claim: Claim, finding: Finding) -> tuple[str, ...]:
    name, paper, ours, verdict, *more = row(claim, finding)
    return name, paper, ours, f"**{verdict}**", *more


def _how_to_read(findings: Findings) -> str:
    varied = {name for _, finding in findings for name in finding.varies}
    fixed = [words for name, words in FIXED.items() if name not in varied]
    return HOW_TO_READ.format(", ".join(fixed) or "the data set")


def _sentence(claim: Claim, finding: Finding) -> str:
    source = f" ({claim.source})" if claim.source else ""
    said = [f"- **{claim.name}**. {claim.statement}{source}"]
    rule = claim.decide.words if isinstance(claim.decide, Rule) else ""
    said += [f"  - Estimated: {claim.estimand}; {rule}."] if claim.estimand else []
    said += [f"  - Evidence in the paper: {claim.grade}."] if claim.grade else []
    said += [f"  - Secondary until {claim.primary_since}."] if claim.primary_since else []
    said += [f"  - {name}: {effect.show()}" for name, effect in finding.effects.items()]
    said += [
        f"  - By the same rule, {w}: {f.verdict}, {f.ours}." for w, f in finding.beside.items()
    ]
    said += [f"  - {finding.detail[0].upper()}{finding.detail[1:]}."] if finding.detail else []
    return "\n".join(said)


def _what_was_run(card: Mapping[str, Any]) -> str:
    said = []
    for name, value in card.items():
        if name == "command" or value is None or isinstance(value, Mapping):
            continue
        if name == "wall_seconds":
            name, value = "wall time", _duration(float(value))
        if isinstance(value, list | tuple | range):
            value = ", ".join(str(item) for item in value)
        said.append((name.replace("_", " "), str(value)))
    return markdown(("", ""), said) if said else "The card records nothing."


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
