"""A clamp of every kind, alone and combined, and a small network to try them on."""

import jax
import jax.numpy as jnp
import numpy as np
from networks import look, network, sequences, small

from ih_jax.clamps import kinds as c
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.values import Weights
from ih_jax.data.batches import Batch
from ih_jax.model.sites import ATTENTION_SITES, GLOBAL_SITES, SITES, STREAM_SITES

CONFIG = small(mlp_ratio=1.0, smeared_keys=True)
SHAPES = dict.fromkeys(STREAM_SITES, (5, 16)) | dict.fromkeys(("q", "k", "v", "z"), (5, 4, 4))
SHAPES |= dict.fromkeys(ATTENTION_SITES, (4, 5, 5)) | {"logits": (5, 4)}


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def doubled(batch, activations, scale=2.0):
    return scale * activations.z[-1]


def by_label(batch, activations):
    """[1, 1, Tk]: the query attends to the label that its own table says."""
    correct = batch.labels[:-1] == batch.labels[-1]
    return jnp.zeros(5).at[1::2].set(correct)[None, None]


DONOR = Weights(network(CONFIG, 5), run="elsewhere", step=7)
CLAMPS = {
    "none": Clamp(),
    "ablate": c.ablate(0, [0, 3]) & c.ablate(1, 2),
    "previous_token": c.previous_token(0, [1, 2], 0.7) & c.previous_token(1, 0, rows="label"),
    "induction": c.induction(1, 3, 0.8) & c.induction(1, 0, normalise=True),
    "match": c.match_by_similarity(1, [0, 1]) & c.match_by_similarity(1, 3, 0.1),
    "no_previous_token": c.no_previous_token(0, 1) & c.no_previous_token(1, [0, 1], rows="label"),
    "blocked twice": c.no_previous_token(1, [0, 1]) & c.labels_only(1, [0, 1, 2]),
    "temperature": c.temperature(1, {0: 0.5, 2: 3.0}) & c.previous_token(0, 1),
    "temperature clean": c.temperature(1, {0: 0.5}, base="clean") & c.previous_token(0, 1),
    "perfect": c.perfect_previous_layer(),
    "perfect k": c.perfect_previous_layer({"k"}),
    "perfect v": c.perfect_previous_layer({"v"}),
    "copy_from": c.copy_from(1, 2) & c.previous_token(0, 1),
    "copy_from clean": c.copy_from(1, 2, base="clean") & c.previous_token(0, 1),
    "preserve": c.preserve("patterns", "values", "queries", "keys") & c.ablate(0, [0, 1]),
    "graft upto": c.graft(DONOR, upto=0),
    "graft upto the end": c.graft(DONOR, upto=1),
    "graft after": c.graft(DONOR, after=0),
    "freeze": c.freeze("blocks.1.attention.W_Q", "W_E"),
    "pulses": c.ablate(1, 1).during(0, 5) & c.previous_token(0, 2).during(3, 9),
    "rule": c.rule("z", doubled, layer=1, heads=[1, 2], query_only=True, scale=3.0)
    & c.rule("pattern", by_label, layer=1, heads=0, gate=0.5, query_only=True),
}
CLAMPS |= {
    f"hold {site} {layer}": c.hold(
        site, draw(SHAPES[site]), layer=layer, gate=(draw(SHAPES[site], 3) > 0.5).astype(float)
    )
    for site in SITES
    for layer in ((0,) if site in GLOBAL_SITES else (0, 1))
}
CLAMPS |= {f"mean {site}": c.mean(site, 1) for site in ("q_input", "q", "pattern", "mlp_out")}
CLAMPS |= {f"resample {site}": c.resample(site, 1, 2) for site in ("q", "k", "v", "z", "pattern")}
CLAMPS |= {f"stop {site}": c.stop_gradient(site, 1) for site in ("resid_pre", "q", "pattern")}
CLAMPS |= {
    "hold by head": c.hold("q", 0.1, layer=1, heads=[1, 3]),
    "soft": c.hold("z", 1.0, gate=0.3),
}


PLAIN = small()


def under(clamp: Clamp, batch: Batch | None = None, config=PLAIN):
    batch = sequences(config) if batch is None else batch
    return jax.device_get(look(network(config), batch, clamp.arrays(config)))


def close(a, b, atol=1e-5) -> bool:
    return bool(np.allclose(a, b, rtol=0, atol=atol))
