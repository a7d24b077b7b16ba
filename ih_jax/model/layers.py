"""The maps that tokens pass through one by one: linear ones, layer norms and MLPs.

Values have features first and the batch last, as `sites` lays them out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ih_jax.model.params import MLP, Norm

EPSILON = 1e-5  # of layer norms


@jax.custom_vjp
def linear(weight: Float[Array, "K D"], x: Float[Array, "D ..."]) -> Float[Array, "K ..."]:
    """weight [K, D] times x [D, ...]."""
    return jnp.tensordot(weight, x, axes=1)


def _linear_forwards(weight: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return linear(weight, x), (weight, x)


def _linear_backwards(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    """As JAX would have it, but without transposed copies of what is as large as x.

    A quarter of a step's time on CPU. The price: no forward-mode derivatives (`jax.jvp`,
    `jax.hessian`); reverse mode twice gives what they would.
    """
    weight, x = kept
    flat = slope.reshape(len(weight), -1)
    return flat @ x.reshape(len(x), -1).T, (weight.T @ flat).reshape(x.shape)


linear.defvjp(_linear_forwards, _linear_backwards)


def norm(weights: Norm | None, x: Float[Array, "D ..."]) -> Float[Array, "D ..."]:
    """Layer norm over the first axis; as it is without one."""
    if weights is None:
        return x
    shape = (-1,) + (1,) * (x.ndim - 1)
    centred = x - x.mean(0, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=0, keepdims=True) + EPSILON)
    return scaled * weights.scale.reshape(shape) + weights.bias.reshape(shape)


def mlp(weights: MLP, x: Float[Array, "D T B"]) -> Float[Array, "D T B"]:
    hidden = jax.nn.gelu(linear(weights.W_in, x) + weights.b_in[:, None, None], approximate=True)
    return linear(weights.W_out, hidden) + weights.b_out[:, None, None]
