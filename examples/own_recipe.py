"""How often must tokens echo for a network to look back? A recipe of one's own.

ih-jax run examples/own_recipe.py
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import ih_jax as ih


@ih.recipe
@dataclass(frozen=True)
class Echoes(ih.Recipe):
    """Random tokens, some of which repeat the token a fixed number of places back."""

    back: int = 4
    share: float = 0.9
    arrays = ("share",)  # runs with different shares still use one compiled program

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.back < self.length:
            raise ih.UserError(f"back is {self.back}: give 1 to {self.length - 1}")

    def sample(self, key, source, sequences):
        first, which = jax.random.split(key)
        shape = (self.length - 1, sequences)  # the first token is BOS
        fresh = jax.random.randint(first, shape, 0, self.tokens)
        echoed = jax.random.uniform(which, shape) < self.share
        rows = list(fresh)
        for at in range(self.back, len(rows)):
            rows[at] = jnp.where(echoed[at], rows[at - self.back], fresh[at])
        return ih.with_bos(self, jnp.stack(rows, 1))


study = ih.sweep(
    ih.language(Echoes(length=32)), share=[0.5, 0.9], layers=1, init=[0, 1], tokens=1_000_000
)


def after(trajectories):
    loss = trajectories.results["loss"].isel(clamp=0).median("init")
    lines = loss.plot.line(x="tokens", hue="share")
    lines[0].figure.savefig(trajectories.folder / "own_recipe.png")
