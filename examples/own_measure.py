"""A measure of one's own: how widely each head spreads its attention, as it learns.

ih-jax run examples/own_measure.py
"""

import jax.numpy as jnp

import ih_jax as ih


@ih.measure(dims=("layer", "head"), units="tokens", description="Tokens the query attends to")
def spread(params, clamp, probe):
    """[layer, head]: e to the entropy of the query's attention, 1 token to all of them."""
    patterns = ih.apply(params, probe, clamp).pattern  # a layer each: [batch, head, query, key]
    attention = jnp.stack([pattern[:, :, -1] for pattern in patterns])
    entropy = -(attention * jnp.log(attention + 1e-9)).sum(-1)  # [layer, batch, head]
    return jnp.exp(entropy).mean(1)


study = ih.sweep(
    ih.fewshot(classes=20, labels=5),
    clamp={"none": None, "previous token": ih.previous_token(0, [0, 1])},
    init=[5, 6],
    learning_rate=1e-3,
    sequences=20_000,
    heads=4,
)


def after(trajectories):
    """What `ih-jax run` does with the trained study: measure every checkpoint, and draw."""
    found = trajectories.measure(spread).median("init")
    drawn = found.plot.line(x="sequences", hue="head", row="layer", col="clamp")
    drawn.fig.savefig(trajectories.folder / "own_measure.png")
