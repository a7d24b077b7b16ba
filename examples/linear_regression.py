"""In-context linear regression (Garg et al. 2022): python examples/linear_regression.py"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import ih_jax as ih


@ih.task("linear_regression")
@dataclass(frozen=True)
class LinearRegression(ih.Task):
    """x1 y1 x2 y2 ...: at each x the network says y = w x, with a w for each sequence."""

    dimensions: int = 2
    examples: int = 8
    metrics = {"loss": "squared error", "last": "squared error"}  # noqa: RUF012

    def sample(self, key, source, sequences):
        of_w, of_x = jax.random.split(key)
        w = jax.random.normal(of_w, (sequences, 1, self.dimensions))
        x = jax.random.normal(of_x, (sequences, self.examples, self.dimensions))
        y = (w * x).sum(-1)
        tokens = jnp.stack([x, jnp.zeros_like(x).at[..., 0].set(y)], axis=2)
        return ih.Vectors(tokens.reshape(sequences, -1, self.dimensions)[:, :-1], targets=y)

    def loss(self, activations, batch):
        return errors(activations, batch).mean()

    def scores(self, activations, batch):
        return {"last": errors(activations, batch)[-1]}


def errors(activations, batch):
    """[examples]: squared error by the number of examples in context."""
    return ((activations.logits[:, ::2, 0] - batch.targets) ** 2).mean(0)


@ih.measure(dims={"network": ("examples",), "least_squares": ("examples",)})
def error(params, clamp, probe):
    x, y = probe.vectors[:, ::2], probe.targets
    w = [jnp.linalg.pinv(x[:, :n]) @ y[:, :n, None] for n in range(1, x.shape[1])]
    fitted = jnp.stack(
        [0 * y[:, 0], *(jnp.sum(x[:, n + 1] * v[..., 0], -1) for n, v in enumerate(w))]
    )
    best = ((fitted - y.T) ** 2).mean(1)
    return {"network": errors(ih.apply(params, probe, clamp), probe), "least_squares": best}


study = ih.sweep(
    LinearRegression(), init=[0, 1], sequences=300_000, learning_rate=3e-3, d_model=32, heads=4
)

if __name__ == "__main__":
    found = study.train("runs/linear_regression", resume=True).measure(error)
    plot = (
        found.isel(sequences=-1, clamp=0)
        .mean("init")
        .to_dataframe()[["network", "least_squares"]]
        .plot()
    )
    plot.figure.savefig("runs/linear_regression/error.png")
