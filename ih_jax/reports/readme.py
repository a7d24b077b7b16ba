"""README.md of an experiment's folder, and of a folder of such folders: text, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from ih_jax.claims import Claim, Finding
from ih_jax.experiments.base import Experiment
from ih_jax.reports.tables import Findings, counts, markdown, seeds

HOW_TO_READ = (
    "A claim is undecidable if the results cannot tell: of a run that has not learned by the end "
    "of its training we only know that its time is longer, written >. Ratios are paired within "
    "seeds; their interval is that of the sign test for the median. Two numbers, such as 1.2-3, "
    "are the bounds that noise leaves."
)


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
        parts += ["\n".join(_sentence(claim, finding) for claim, finding in findings), HOW_TO_READ]
    if experiment.differs:
        parts += ["## Where our results differ from the paper", experiment.differs]
    for made in experiment.tables(results):
        parts += [f"## {made.title}", markdown(made.header, made.rows)]
    return "\n\n".join([*parts, "## What was run", _what_was_run(card)]) + "\n"


def of_folder(all_findings: Mapping[str, Findings]) -> str:
    """Every claim of several experiments, by the names of their folders."""
    rows = [
        (
            f"[{name}]({name}/README.md)" if number == 0 else "",
            claim.name,
            claim.paper,
            finding.ours,
            f"**{finding.verdict}**",
        )
        for name, own in all_findings.items()
        for number, (claim, finding) in enumerate(own)
    ]
    text = [
        "# Claims and their verdicts",
        f"{counts(all_findings)}. Each was written before the runs that decide it; its text, "
        "intervals over seeds and figure are in the experiment's folder.",
        markdown(("experiment", "claim", "paper", "ours", "verdict"), rows),
    ]
    return "\n\n".join(text) + "\n"


def _claims(findings: Findings) -> str:
    return markdown(
        ("claim", "paper", "ours", "verdict", "seeds, 95% interval of the rate"),
        [
            (claim.name, claim.paper, finding.ours, f"**{finding.verdict}**", seeds(finding))
            for claim, finding in findings
        ],
    )


def _sentence(claim: Claim, finding: Finding) -> str:
    grade = f" (evidence in the paper: {claim.grade})" if claim.grade else ""
    said = [f"- **{claim.name}**{grade}. {claim.text}"]
    said += [f"  - {name}: {effect.show()}" for name, effect in finding.effects.items()]
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
