"""What is claimed of heads that copy, translate and match patterns, and what the claims read."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from ih_jax.claims import (
    Claim,
    Reported,
    below,
    in_most,
    more_than,
    of_networks,
)


def gain(seed: xr.Dataset) -> float:
    """By how much the loss is lower on the last repeat than on the first block."""
    loss = seed["copy_loss"]
    return float(loss.isel(repeat=0) - loss.isel(repeat=-1))


def best_at(seed: xr.Dataset, by: str, what: str) -> float:
    """`what` of the head with the highest `by`."""
    best = int(seed[by].stack(place=("layer", "head")).argmax("place"))
    return float(seed[what].stack(place=("layer", "head"))[best])


def _attention(task: str) -> Callable[[xr.Dataset], float]:
    return lambda seed: float(seed[f"{task}_attention"].max())


def _match_too(seed: xr.Dataset) -> float:
    """The lesser prefix matching of the heads that translate and that match patterns."""
    return min(
        best_at(seed, f"{task}_attention", f"{task}_prefix_matching")
        for task in ("translate", "match")
    )


SOURCE = "argument 4 (specific examples)"
CLAIMS = (
    Claim(
        "literal copying",
        "Induction heads copy text that came before, whatever it is.",
        in_most("nats", of_networks(gain), more_than(0)),
        paper="copies text it has seen before",
        source=f"{SOURCE}: literal sequence copying",
        estimand="by how much the loss on random tokens that repeat, which training never showed, "
        "is lower on the last repeat than on the first block",
        grade="strong",
    ),
    Claim(
        "by heads that match prefixes",
        "The head that copies most matches prefixes.",
        in_most(
            "prefix matching",
            of_networks(lambda s: best_at(s, "copy_copying_logits", "copy_prefix_matching")),
            more_than(0.5),
        ),
        paper=".75 (copying .89), one head of a large model",
        reported=Reported((0.75,)),
        source=f"{SOURCE}: literal sequence copying",
        estimand="prefix matching of the head of highest copying (logits), above 0.5: more "
        "attention to what followed earlier than to all else together",
        primary=False,
        grade="medium",
    ),
    Claim(
        "translation is learned",
        "The language of translations is learned, without which nothing can be asked of heads.",
        in_most("nats", of_networks(lambda s: float(s["translate_loss"])), below(1.6)),
        paper="not a question there",
        estimand="loss on words of a translation, below half of chance among the words (3.2)",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "translation: where it looks",
        "A head attends to the word that is to be translated next.",
        in_most("best", of_networks(_attention("translate")), more_than(0.5)),
        paper="off-diagonal, meandering",
        source=f"{SOURCE}: translation",
        estimand="the highest attention, of a head, to the source of the next word, above 0.5",
        grade="medium",
    ),
    Claim(
        "translation: what it adds",
        "It raises the logit of the right translation.",
        in_most(
            "logits",
            of_networks(lambda s: best_at(s, "translate_attention", "translate_raised")),
            more_than(0),
        ),
        paper="net positive",
        source=f"{SOURCE}: translation",
        estimand="direct contribution of that head to the logit of the right translation",
        primary=False,
        grade="medium",
    ),
    Claim(
        "patterns are learned",
        "The language of templates is learned, without which nothing can be asked of heads.",
        in_most("share", of_networks(lambda s: float(s["match_accuracy"])), more_than(0.5)),
        paper="not a question there",
        estimand="share of lines, of a template that came before, whose right label is the most "
        "likely one, above one half (chance: a quarter)",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "patterns: where it looks",
        "A head attends from ':' mostly to labels of earlier lines of the same template.",
        in_most("best", of_networks(_attention("match")), more_than(0.5)),
        paper="about .65, one head of a large model",
        reported=Reported((0.65,)),
        source=f"{SOURCE}: pattern matching",
        estimand="the highest share of a head's attention on right labels, above 0.5",
        grade="medium",
    ),
    Claim(
        "the same heads match prefixes",
        "Heads that translate and that match patterns match prefixes of random tokens as well.",
        in_most("lesser of the two", of_networks(_match_too), more_than(0.5)),
        paper=".85 and .94, two heads of a large model",
        source=SOURCE,
        estimand="the lesser prefix matching of the two heads found above, above 0.5",
        grade="medium",
    ),
)
