"""Languages that a model can be trained on; importing them registers their recipes."""

from ih_jax.data.languages.behaviours import Templates, Translations
from ih_jax.data.languages.mixture import Mixture
from ih_jax.data.languages.recipe import Recipe, recipe, with_bos
from ih_jax.data.languages.synthetic import Bigrams, Markov, RandomRepeats, Repeats
from ih_jax.data.languages.text import Text
from ih_jax.data.languages.token_files import TokenFiles

__all__ = [
    "Bigrams",
    "Markov",
    "Mixture",
    "RandomRepeats",
    "Recipe",
    "Repeats",
    "Templates",
    "Text",
    "TokenFiles",
    "Translations",
    "recipe",
    "with_bos",
]
