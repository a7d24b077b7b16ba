"""How far back must a head of layer 0 look? A clamp kind of one's own, from training to a figure.

ih-jax run examples/own_clamp.py
"""

from dataclasses import dataclass

import jax.numpy as jnp

import ih_jax as ih


def looking_back(batch, activations, back):
    """The held pattern of one sequence, [Tq, Tk]; the first tokens look at token 0."""
    query, key = jnp.indices(activations.pattern[-1].shape[1:])
    return jnp.where(key == jnp.maximum(query - back, 0), 1.0, 0.0)


@ih.clamp_kind("look_back")
@dataclass(frozen=True)
class LookBack(ih.Kind):
    """Heads of a layer attend to the token so many places back, and to nothing else."""

    layer: int
    heads: tuple[int, ...]
    back: int

    def decides(self):
        return [ih.Decision("pattern", self.layer, head) for head in self.heads]

    def holds(self, place):
        back = {"back": self.back}
        yield place.hold("pattern", self.layer, looking_back, heads=self.heads, arguments=back)


study = ih.sweep(
    ih.fewshot(classes=20, labels=5),
    clamp={"none": None} | {f"{n} back": ih.Clamp.of(LookBack(0, [0, 1], n)) for n in (1, 2, 3)},
    init=[5, 6],
    learning_rate=1e-3,
    sequences=20_000,
)


def after(trajectories):
    """What `ih-jax run` does with the trained study: the loss of each clamp, as a figure."""
    lines = trajectories.results["loss"].median("init").plot.line(x="sequences", hue="clamp")
    lines[0].figure.savefig(trajectories.folder / "own_clamp.png")
