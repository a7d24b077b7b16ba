"""Does a transformer learn least squares in context (Garg et al. 2022)? A task of one's own.

ih-jax run examples/linear_regression.py
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import ih_jax as ih


@ih.task("linear_regression")
@dataclass(frozen=True)
class LinearRegression(ih.Task):
    """x1 y1 x2 y2 ...: at each x the network gives y = w.x, for a w that each sequence draws."""

    dimensions: int = 2
    examples: int = 8

    def sample(self, key, source, sequences):
        x, w = jax.random.normal(key, (2, sequences, self.examples, self.dimensions))
        y = (x * w[:, :1]).sum(-1)
        tokens = jnp.stack([x, jnp.zeros_like(x).at[..., 0].set(y)], axis=2)
        return ih.Vectors(tokens.reshape(sequences, -1, self.dimensions), targets=y)

    def loss(self, activations, batch):
        return ((activations.logits[:, ::2, 0] - batch.targets) ** 2).mean()


@ih.measure(
    dims={"network": ("seen",), "least_squares": ("seen",)},
    coords={"seen": lambda size: range(1, size + 1)},
)
def errors(params, clamp, batch):
    """Squared errors by the number of examples seen."""
    x, y = batch.vectors[:, ::2], batch.targets
    w = [jnp.linalg.pinv(x[:, :n]) @ y[:, :n, None] for n in range(1, y.shape[1])]
    fitted = jnp.stack([(x[:, n] * w[n - 1][..., 0]).sum(-1) for n in range(1, y.shape[1])], 1)
    told = ih.apply(params, batch, clamp).logits[:, 2::2, 0]
    guesses = {"network": told, "least_squares": fitted}
    return {name: ((each - y[:, 1:]) ** 2).mean(0) for name, each in guesses.items()}


study = ih.sweep(
    LinearRegression(), init=[0, 1], sequences=300_000, learning_rate=3e-3, heads=4, d_model=32
)


def after(trajectories):
    found = trajectories.measure(errors).isel(clamp=0, sequences=-1).median("init")
    figure = found.to_dataframe()[["network", "least_squares"]].plot(ylabel="squared error").figure
    figure.savefig(trajectories.folder / "errors.png")
