"""How fast language models train here, beside a straightforward PyTorch loop of the same model.

    pip install -e '.[test-torch]' && python scripts/compare_torch.py

Two layers, 64 dimensions, 4 heads, 64 tokens and BOS, sequences of 128, batches of 32 (the recipe
R1), AdamW. Both sides take turns in one process; medians and ratios are of those pairs. PyTorch
trains one network with all cores, once with attention written out and once with its fused one;
ours trains a network on each core, as a sweep does, and one network on all. Leave the machine alone
meanwhile; about two minutes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

import ih_jax as ih
from ih_jax.bench.machine import fastest_matmul
from ih_jax.data.languages.synthetic import Repeats
from ih_jax.sweeps.programs import Programs, chunk_arrays, first_state
from ih_jax.sweeps.study import Study

BATCH, LAYERS, D, HEADS = 32, 2, 64, 4
RECIPE = Repeats()
TOKENS = BATCH * RECIPE.length
# 6 operations a weight and token, and attention without what causality saves.
FLOP = TOKENS * (
    6 * (LAYERS * 4 * D * D + 2 * D * RECIPE.vocabulary) + 12 * LAYERS * RECIPE.length * D
)


def ours(networks: int, steps: int) -> Callable[[], float]:
    """Seconds a step of so many networks, one on each device, sampling included."""
    devices = jax.local_devices()[:networks]
    study = Study(
        ih.language(RECIPE, batch=BATCH),
        init=range(networks),
        layers=LAYERS,
        tokens=1e9,
        evaluate=[0],
        checkpoints=[0],
    )
    programs = Programs(study, 1)
    compiled = [programs.of(0, device) for device in devices]
    blocks = [
        first_state(c, [i], d) for i, (c, d) in enumerate(zip(compiled, devices, strict=True))
    ]
    at = [0] * networks

    def advance(i: int) -> None:
        chunk = chunk_arrays(at[i], [(at[i] + steps, 0, False)], devices[i])
        block, state = blocks[i]
        state, _ = compiled[i].advance(state, block, *chunk)
        blocks[i] = (block, jax.block_until_ready(state))
        at[i] += steps

    pool = ThreadPoolExecutor(networks)

    def take() -> float:
        began = time.perf_counter()
        list(pool.map(advance, range(networks)))
        return (time.perf_counter() - began) / steps

    take()
    return take


def theirs(fused: bool, steps: int) -> Callable[[], float]:
    """Seconds a step of one network in PyTorch, on all cores; sequences are drawn before."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    vocabulary, length = RECIPE.vocabulary, RECIPE.length

    class Block(nn.Module):  # type: ignore[misc]  # without torch it is Any
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(D)
            self.q, self.k, self.v, self.out = (nn.Linear(D, D, bias=False) for _ in range(4))
            self.register_buffer("future", torch.ones(length, length).triu(1).bool())

        def forward(self, x: Any, positions: Any) -> Any:
            h = self.norm(x)

            def by_head(y: Any) -> Any:
                return y.view(len(x), length, HEADS, D // HEADS).transpose(1, 2)

            q, k, v = (
                by_head(self.q(h + positions)),
                by_head(self.k(h + positions)),
                by_head(self.v(h)),
            )
            if fused:
                z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                scores = q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5
                z = scores.masked_fill(self.future, -torch.inf).softmax(-1) @ v
            return x + self.out(z.transpose(1, 2).reshape(len(x), length, D))

    class Model(nn.Module):  # type: ignore[misc]  # without torch it is Any
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, D)
            self.positions = nn.Parameter(0.3 * torch.randn(length, D))
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm, self.unembed = nn.LayerNorm(D), nn.Linear(D, vocabulary)

        def forward(self, tokens: Any) -> Any:
            x = self.embed(tokens)
            for block in self.blocks:
                x = block(x, self.positions)
            return self.unembed(self.norm(x))

    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    source = jax.tree.map(jax.numpy.asarray, RECIPE.source())
    drawn = RECIPE.sample(jax.random.key(0), source, BATCH * 16).tokens
    batches = torch.from_numpy(np.array(drawn, np.int64)).view(16, BATCH, length)

    def take() -> float:
        began = time.perf_counter()
        for i in range(steps):
            tokens = batches[i % 16]
            logits = model(tokens)[:, :-1]
            loss = F.cross_entropy(logits.reshape(-1, vocabulary), tokens[:, 1:].reshape(-1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return (time.perf_counter() - began) / steps

    take()
    return take


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10, help="turns of all sides (default 10)")
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn (default 20)")
    parser.add_argument("--out", help="a JSON file for the numbers")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("compare_torch needs torch: pip install -e '.[test-torch]'", file=sys.stderr)
        return 2
    devices = jax.local_devices()
    many = len(devices)
    peak = fastest_matmul(devices, 0.3)
    sides = {
        f"ours, {many} networks on {many} devices": (ours(many, arguments.steps), many),
        "ours, one network": (ours(1, arguments.steps), 1),
        "PyTorch, attention written out": (theirs(False, arguments.steps), 1),
        "PyTorch, fused attention": (theirs(True, arguments.steps), 1),
    }
    found = np.array(
        [[take() / networks for take, networks in sides.values()] for _ in range(arguments.pairs)]
    )
    gflops = peak.gflops(float(np.median([peak.measure() for _ in range(5)])))
    told: dict[str, Any] = {
        "torch": torch.__version__,
        "jax": jax.__version__,
        "threads": torch.get_num_threads(),
        "matmul_peak_gflops": gflops,
        "flop_per_step": FLOP,
    }
    print(f"matmul peak {gflops:.0f} GFLOP/s; {FLOP / 1e9:.2f} GFLOP a step of {TOKENS} tokens")
    for place, name in enumerate(sides):
        seconds = float(np.median(found[:, place]))
        rate, share = TOKENS / seconds, FLOP / seconds / 1e9 / gflops
        ratios = [float(np.median(found[:, i] / found[:, place])) for i in (2, 3)]
        told[name] = {
            "tokens_per_s": rate,
            "share_of_peak": share,
            "times_torch": ratios[0],
            "times_fused_torch": ratios[1],
        }
        print(
            f"{name:34} {rate:9,.0f} tokens/s, {share:4.0%} of the peak, x {ratios[0]:.2f} "
            f"PyTorch, x {ratios[1]:.2f} fused"
        )
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump(told, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
