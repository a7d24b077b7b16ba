"""Golden numbers of the papers' own implementation, within 1e-5 (law 7).

All variants of a group run as one stacked program, the shape in which runs train: so this also
tests that runs with different clamps do not disturb each other. `scripts/check_parity.py` compares
one program a variant.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import QUICK, copies

from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.batches import Batch
from ih_jax.interop.icl_dynamics.clamps import clamp_from_options
from ih_jax.interop.icl_dynamics.golden import golden_config
from ih_jax.interop.icl_dynamics.weights import arrays_from_params, params_from_arrays
from ih_jax.model.activations import public
from ih_jax.tasks.fewshot_scores import query_loss

TOLERANCE = 1e-5
FILE = Path(__file__).parent / "golden" / "parity.npz"
with np.load(FILE) as archive:
    GOLDEN = {name: archive[name] for name in archive.files}
META = json.loads(bytes(GOLDEN["meta"]).decode())
VARIANTS = [(group, variant) for group in META for variant in META[group]["variants"]]


def under(prefix: str) -> dict[str, np.ndarray]:
    """The golden arrays below a prefix, by the rest of their names."""
    return {name[len(prefix) :]: x for name, x in GOLDEN.items() if name.startswith(prefix)}


@cache
def computed(group: str) -> dict[str, dict[str, Any]]:
    """{variant: {quantity: array}} of a group."""
    weights = under(f"{group}/params.")
    examples, labels = GOLDEN[f"{group}/examples"], GOLDEN[f"{group}/labels"]
    longest = weights.get("pos_embed.weight", np.zeros((0, 32))).shape[1]
    config = golden_config(META[group]["config"], examples.shape[-1], longest)
    params = params_from_arrays(weights, config)
    batch = Batch.of(jnp.asarray(examples), jnp.asarray(labels))
    options = META[group]["variants"]
    translations = [clamp_from_options(each, config.layers) for each in options.values()]
    holds = Clamp.stack([each.clamp for each in translations], config)
    bases = Clamp.stack([each.base for each in translations], config)

    def one(params, holds, base):
        def sites(params, rows):
            given = forward(params, batch, base, rows) if holds.needs_given else None
            return forward(params, batch, holds, rows, given)

        # Loss and gradient from the very pass that training differentiates.
        loss, gradient = jax.value_and_grad(lambda p: query_loss(sites(p, "query"), batch))(params)
        activations = public(sites(params, "all"))
        return loss, gradient, activations.logits[:, -1], activations.pattern

    with jax.default_matmul_precision("highest"):
        loss, gradient, logits, pattern = jax.jit(jax.vmap(one), compiler_options=QUICK)(
            copies(params, len(options)), holds, bases
        )
    found = {"loss": loss, "logits": logits}
    found |= {f"pattern.{layer}": each for layer, each in enumerate(pattern)}
    gradients = [jax.tree.map(lambda x, run=run: x[run], gradient) for run in range(len(options))]
    return {
        variant: {name: np.asarray(x[run]) for name, x in found.items()}
        | {f"grad.{name}": x for name, x in arrays_from_params(gradients[run]).items()}
        for run, variant in enumerate(options)
    }


@pytest.mark.parametrize(("group", "variant"), VARIANTS, ids=["/".join(each) for each in VARIANTS])
def test_parity(group: str, variant: str) -> None:
    expected = under(f"{group}/{variant}/")
    assert {name.split(".")[0] for name in expected} == {"logits", "pattern", "loss", "grad"}
    found = computed(group)[variant]
    for name, golden in expected.items():
        np.testing.assert_allclose(found[name], golden, rtol=0, atol=TOLERANCE, err_msg=name)


def test_the_golden_variants_differ() -> None:
    """Golden numbers that were all alike would show nothing about clamps."""
    losses = [float(GOLDEN[f"fewshot/{variant}/loss"]) for variant in META["fewshot"]["variants"]]
    assert len(losses) == 21
    assert len({round(loss, 5) for loss in losses}) >= 18
