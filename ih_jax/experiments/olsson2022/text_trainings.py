"""The language models that experiments on real text read: what is trained, and for how long.

By default the text is the source of Python's standard library, in 512 tokens of a BPE; AdamW (.9,
.98), weight decay .01, 100 steps of warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ih_jax as ih
from ih_jax.data.languages import token_files
from ih_jax.data.languages.recipe import Recipe
from ih_jax.data.languages.text import Text
from ih_jax.data.languages.token_files import TokenFiles
from ih_jax.errors import UserError
from ih_jax.experiments.base import Found, Options, Training, evenly
from ih_jax.experiments.olsson2022.trainings import of_recipe

LENGTH, BATCH = 256, 4  # of the recipe in which two layers change by themselves
EMBEDDING_STD = 0.7  # eight times that of the other recipes
LOOKS = 40  # over training
EVALUATED = 256  # sequences
HORIZON, QUICK_HORIZON = 5_000_000, 4_000_000
SHORTER = 128 * 8  # tokens of a step of the other recipes
LENT_HEADS = 2


def text(options: Options, found: Found) -> ih.Sweep:
    """One and two layers, in the recipe with which two change (docs/findings/text-change.md).

    Two heads of 64 a layer, a number added to the scores for each layer, head and distance,
    token embeddings that start large, contexts of 256 tokens, a constant rate of 6e-3. Evaluated
    and kept 40 times.

    What had been seen when the statements of `text` were written: on C headers, with a rate that
    falls from 4 million tokens on, five networks of two layers (init 5 and 3010 to 3013; .44 to .57
    between 3 and 5 million) and two of one layer (never above .04); on Python's source one network
    of two layers (init 5), past .1 at 2.4 million tokens, .40 to .49 from 4 to 6 million and .47 to
    .52 up to 8. C headers (`ih-jax text /usr/include --vocabulary 512 --limit 20000000`) and seeds
    4000 to 4004 decide.
    """
    horizon = options.horizon(HORIZON, quick=QUICK_HORIZON)
    return ih.sweep(
        ih.language(_real_text(options, LENGTH), batch=BATCH, evaluation_sequences=EVALUATED),
        name="olsson_text_change",
        init=options.inits,
        tokens=horizon,
        evaluate=evenly(horizon, LOOKS),
        checkpoints=evenly(horizon, LOOKS),
        layers=[1, 2],
        d_model=128,
        heads=2,
        positions="relative",
        embedding_std=EMBEDDING_STD,
        learning_rate=6e-3,
    )


def smeared(options: Options, found: Found) -> ih.Sweep:
    """One and two layers of 64 dimensions, without and with smeared keys; shortformer positions.

    Batches of 8 sequences of 128 tokens, since the tokens until a change grow with the square root
    of both (Aoyama et al. 2025: some 10^5.7 times that root, 16 million here), which 16,000 steps
    reach. Quick: 4,000.
    """
    return of_recipe(
        options,
        "text",
        _real_text(options),
        4_000 if options.quick else 16_000,
        batch=SHORTER // 128,
        layers=[1, 2],
        smeared_keys=[False, True],
        learning_rate=1e-3,
    )


def lent(options: Options, found: Found) -> ih.Sweep:
    """Attention to the previous token, lent to one head of two layers on real text.

    Head 0 of layer 0 is never given it, or is given it for the first 2,000 steps of 3,200 and then
    has to do without. As `smeared` without smeared keys, but for 128 dimensions, two heads of 64 a
    layer (those of `smeared` have 16) and a learning rate of 3e-3.
    """
    lending = ih.previous_token(0, 0).during(0, options.horizon(2_000 * SHORTER))
    return _lending(options, "lent", {"none": None, "lent to 2000": lending})


def lent_otherwise(options: Options, found: Found) -> ih.Sweep:
    """As `lent`: half as long; and with the previous token denied after the release.

    Denied: no head of layer 0 may attend to it.
    """
    given, denied = ih.previous_token(0, 0), ih.no_previous_token(0, range(LENT_HEADS))
    half, release = (options.horizon(steps * SHORTER) for steps in (1_000, 2_000))
    clamp = {
        "lent to 1000": given.during(0, half),
        "lent to 2000, then denied": given.during(0, release) & denied.during(release, math.inf),
    }
    return _lending(options, "lent_otherwise", clamp)


def _real_text(options: Options, length: int | None = None) -> Recipe:
    """Python's own source, or the text or folder of token files that was given.

    In sequences of so many tokens; None: as many as such recipes have.
    """
    own = {} if length is None else {"length": length}
    settings: dict[str, Any] = {"corpus": "python", "tokenizer": "bpe", **own, **options.text}
    folder = token_files.at(settings["corpus"])
    if folder is None:
        return Text(**settings)
    if "tokenizer" in options.text:
        raise UserError(
            f"--tokenizer does not apply to {settings['corpus']}, which has token files already: "
            "leave it out"
        )
    return TokenFiles(folder, length=settings.get("length", TokenFiles.length))


def _lending(options: Options, name: str, clamp: Mapping[str, ih.Clamp | None]) -> ih.Sweep:
    """Evaluated every 200 steps, kept every 100."""
    horizon = options.horizon(3_200 * SHORTER)
    return ih.sweep(
        ih.language(_real_text(options), batch=SHORTER // 128, evaluation_sequences=EVALUATED),
        name=f"olsson_{name}",
        clamp=clamp,
        init=options.inits,
        tokens=horizon,
        evaluate=evenly(horizon, 16),
        checkpoints=evenly(horizon, 32),
        layers=2,
        d_model=128,
        heads=LENT_HEADS,
        learning_rate=3e-3,
    )


TEXT = Training("olsson_text_change", text, reads_text=True)
TEXT_SMEARED = Training("olsson_text", smeared, reads_text=True)  # its name of before
LENT = Training("olsson_lent", lent, reads_text=True)
LENT_OTHERWISE = Training("olsson_lent_otherwise", lent_otherwise, reads_text=True)
