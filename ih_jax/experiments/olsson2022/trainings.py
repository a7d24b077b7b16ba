"""The language models that several experiments read: what is trained, and for how long.

All are of the tested recipes' size: 64 dimensions, 4 heads of 16 per layer, pre-norm, shortformer
positions, AdamW (.9, .98), weight decay .01, 100 steps of warm-up, batches of 32 unless said
otherwise. Tokens are counted with BOS; 1,000 steps of 64 tokens a sequence are 2 million.
"""

from __future__ import annotations

from typing import Any

import ih_jax as ih
from ih_jax.data.languages.behaviours import Templates, Translations
from ih_jax.data.languages.mixture import Mixture
from ih_jax.data.languages.recipe import Recipe
from ih_jax.data.languages.synthetic import Bigrams, Markov, RandomRepeats, Repeats
from ih_jax.experiments.base import Found, Options, Training, evenly

STEP = 32 * 64  # tokens
EVALUATED = 256  # sequences
LAYERS = (1, 2, 3, 4, 5, 6)
QUICK_LAYERS = (1, 2)
MLP = 4.0  # hidden units of an MLP, in d_model
WIDTHS, QUICK_WIDTHS = (32, 48, 64), (32, 48)
PULSES = (0, 200, 400, 800)  # steps


def smoke(options: Options, found: Found) -> ih.Sweep:
    """Two layers on sequences that each have bigrams of their own (R0), 1,500 steps."""
    return of_recipe(options, "smoke", Bigrams(own=1.0, follow=0.7, successors=0), 1_500, layers=2)


def chains(options: Options, found: Found) -> ih.Sweep:
    """Two layers of one head on in-context Markov chains (R2, Edelman et al. 2024), 3,000 steps."""
    return of_recipe(
        options,
        "chains",
        Markov(),
        3_000,
        batch=64,
        layers=2,
        d_model=16,
        heads=1,
    )


def depths(options: Options, found: Found) -> ih.Sweep:
    """One to six layers, without and with MLPs, on bigrams with exceptions (R0b), 4,000 steps.

    Quick: one and two layers without MLPs.
    """
    quick = options.quick
    return of_recipe(
        options,
        "depths",
        Bigrams(),
        4_000,
        layers=list(QUICK_LAYERS if quick else LAYERS),
        mlp_ratio=[None] if quick else [None, MLP],
    )


def widths(options: Options, found: Found) -> ih.Sweep:
    """Three layers of 32, 48 and 64 dimensions on the bigrams of `depths`, 2.9 million tokens.

    Batches of 8 at 6e-3: with batches of 32 at 3e-3, where 64 dimensions change by
    2.6 million tokens, 24 do not within 4 and 32 not within 3; in these 32 did after 2.0 (tried on
    init seed 0). Two layers would take twice the tokens. Evaluated 100 times on 256 sequences, kept
    20 times.
    """
    horizon = options.horizon(5_600 * 8 * 64)
    return ih.sweep(
        ih.language(Bigrams(), batch=8, evaluation_sequences=EVALUATED),
        name="olsson_widths",
        init=options.inits,
        tokens=horizon,
        evaluate=evenly(horizon, 100),
        checkpoints=evenly(horizon, 20),
        layers=3,
        d_model=list(QUICK_WIDTHS if options.quick else WIDTHS),
        learning_rate=6e-3,
    )


def smeared(options: Options, found: Found) -> ih.Sweep:
    """One and two layers with smeared keys; the rest as in `depths`."""
    return of_recipe(options, "smeared", Bigrams(), 4_000, layers=[1, 2], smeared_keys=True)


def held(options: Options, found: Found) -> ih.Sweep:
    """Two layers (R0b) in which attention to the previous token is given or forbidden.

    Head 0 of layer 0 is given it, always or for the first steps; all heads of layer 0 are denied
    it, always or for the first 2,000 steps; or head 0 of layer 1 is given the induction pattern.
    """
    given = ih.previous_token(0, 0)
    denied = ih.no_previous_token(0, range(4))
    clamp: dict[str, ih.Clamp | None] = {"none": None, "given": given}
    for stop in PULSES[1:]:
        clamp[f"given to {stop}"] = given.during(0, options.horizon(stop * STEP))
    clamp["denied"] = denied
    clamp["denied to 2000"] = denied.during(0, options.horizon(2_000 * STEP))
    clamp["induction"] = ih.induction(1, 0)
    return of_recipe(options, "held", Bigrams(), 4_000, layers=2, clamp=clamp)


def repeats(options: Options, found: Found) -> ih.Sweep:
    """Pasted spans on a Markov background: one and two layers, with and without smeared keys.

    128 tokens a sequence, 16,000 steps at 3e-3. (At 1e-3, which the recipe recommends, two layers
    do not change within 5,000 steps; tried on init seeds 0 and 1. At 3e-3 they were still changing
    after 6,000, which was tried on init seeds 5 to 7.) Quick: 6,000.
    """
    return of_recipe(
        options,
        "repeats",
        Repeats(),
        6_000 if options.quick else 16_000,
        layers=[1, 2],
        smeared_keys=[False, True],
    )


def spans(options: Options, found: Found) -> ih.Sweep:
    """What is repeated, from pairs to long spans: pasted spans of 2, 4, 8 and 16 tokens.

    Uniform background of 32 tokens, no trigger bigrams, three quarters of the segments pasted, two
    layers, 4,000 steps.
    """
    recipe = Repeats(
        tokens=32, length=64, paste=0.75, shortest=2, spread=0, triggers=0, successors=0
    )
    return of_recipe(options, "spans", recipe, 4_000, layers=2, shortest=[2, 4, 8, 16])


def random_repeats(options: Options, found: Found) -> ih.Sweep:
    """Blocks of 20 to 29 uniform tokens, repeated: one and two layers, 4,000 steps."""
    return of_recipe(
        options,
        "random_repeats",
        RandomRepeats(),
        4_000,
        layers=[1, 2],
        learning_rate=1e-3,
    )


def translations(options: Options, found: Found) -> ih.Sweep:
    """Sentences and their translations, two layers with MLPs, 4,000 steps."""
    return of_recipe(options, "translations", Translations(), 4_000, layers=2, mlp_ratio=MLP)


def templates(options: Options, found: Found) -> ih.Sweep:
    """Lines of four templates, labelled anew in each sequence: two layers, MLPs, 6,000 steps."""
    return of_recipe(options, "templates", Templates(), 6_000, layers=2, mlp_ratio=MLP)


def mixture(options: Options, found: Found) -> ih.Sweep:
    """Repeated blocks, translations and templates in one language: two layers with MLPs.

    12,000 steps, in which it reads as many translations as `translations` does, and two thirds of
    the templates of `templates`. Not tried before. Evaluated 100 times, kept 20 times.
    """
    horizon = options.horizon(12_000 * STEP)
    return ih.sweep(
        ih.language(Mixture(), batch=32),
        name="olsson_mixture",
        init=options.inits,
        tokens=horizon,
        evaluate=evenly(horizon, 100),
        checkpoints=evenly(horizon, 20),
        layers=2,
        mlp_ratio=MLP,
    )


def of_recipe(
    options: Options, name: str, recipe: Recipe, steps: int, batch: int = 32, **settings: Any
) -> ih.Sweep:
    """A study of a language, evaluated 200 times, kept 100 times (quick: 100 and 50).

    Args:
        options: of the experiment.
        name: of the study, after "olsson_".
        recipe: the language.
        steps: of all networks.
        batch: sequences of a step.
        settings: those of `ih.sweep`.
    """
    horizon = options.horizon(steps * batch * recipe.length)
    times = 1 if options.quick else 2
    return ih.sweep(
        ih.language(recipe, batch=batch),
        name=f"olsson_{name}",
        init=options.inits,
        tokens=horizon,
        evaluate=evenly(horizon, 100 * times),
        checkpoints=evenly(horizon, 50 * times),
        **settings,
    )


SMOKE = Training("olsson_smoke", smoke)
CHAINS_TRAINED = Training("olsson_chains", chains)
DEPTHS = Training("olsson_depths", depths)
SMEARED = Training("olsson_smeared", smeared)
WIDTHS_TRAINED = Training("olsson_widths", widths)
HELD = Training("olsson_held", held)
REPEATS = Training("olsson_repeats", repeats)
SPANS_TRAINED = Training("olsson_spans", spans)
RANDOM_REPEATS = Training("olsson_random_repeats", random_repeats)
TRANSLATIONS = Training("olsson_translations", translations)
TEMPLATES = Training("olsson_templates", templates)
MIXTURE = Training("olsson_mixture", mixture)
