"""What scores of heads are, in words, for the folders of one network and of a series."""

from __future__ import annotations

import json

import xarray as xr

from ih_jax.interop.head_scores import ENOUGH, SCORES

MEANING = {
    "prefix_matching": (
        "0 to 1",
        "attention, from the second repeat on, to what followed earlier occurrences of "
        "the current token",
    ),
    "copying": (
        "-1 to 1",
        "4 r - 1, where r = a / (a + T): a is how much the head raises the tokens that "
        "it attends to, T how much it raises all of the sequence; low where attention is spread",
    ),
    "copying_logits": (
        "logits",
        "how much more the head gives to what it attends to than to the others of the "
        "sequence, before the division of the last norm; above 0 it copies, however spread",
    ),
    "previous_token": ("0 to 1", "attention to the token before"),
    "induction_diagonal": (
        "0 to 1",
        "attention, from the second repeat on, to what followed the last occurrence of the current "
        'token: the field\'s "induction score"; prefix matching counts earlier occurrences, too',
    ),
}
RULE = (
    f"A head with prefix matching of {ENOUGH} or more is called an induction head where its "
    "copying logits are above 0, and anti-copying where they are not; any other is called a "
    f"previous-token head where that score is {ENOUGH} or more."
)


def measured(found: xr.Dataset) -> list[str]:
    """What was measured, on what, in Markdown."""
    attributes = found.attrs
    told, null = json.loads(attributes["probes"]), json.loads(attributes["null"])
    notes = "\n".join(f"- {note[0].upper()}{note[1:]}." for note in json.loads(attributes["notes"]))
    return [
        "## What was measured",
        markdown(
            ("score", "range", "null", "what it is", "on"),
            [
                (SCORES[name], MEANING[name][0], f"{null[name]:.2f}", MEANING[name][1], told[name])
                for name in SCORES
            ],
        ),
        "The null is what a head has that attends to all tokens so far alike, and raises all "
        f"alike. Random tokens were drawn with seed {attributes['seed']}.",
        *([notes] if notes else []),
        markdown(("weights", "SHA-256"), [*json.loads(attributes["sha256"]).items()]),
    ]


def markdown(header: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A table."""
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *body)
    )
