"""What training costs at longer contexts and greater widths, beside PyTorch's fused attention.

Two layers of four heads, shortformer positions, AdamW, 4,096 tokens a step, a language of 64 tokens
that costs nothing to draw. One network on one device, which on a CPU is one thread; so is PyTorch,
where it is installed. Both sides take turns in one process. On a CPU, time is what the process
spends on it: another program's share is no part of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from rich.table import Table

from ih_jax.bench.timing import Json, Measure, alternate
from ih_jax.data.languages.synthetic import RandomRepeats
from ih_jax.sweeps.programs import Programs, chunk_arrays, first_state
from ih_jax.sweeps.study import Study
from ih_jax.tasks.language import language

LAYERS, HEADS, TOKENS = 2, 4, 4096
WIDTHS, CONTEXTS = (64, 128, 256), (128, 512, 1024)
STEPS = 4  # of a turn


def measure(
    pairs: int,
    say: Callable[[str], None] = print,
    widths: Sequence[int] = WIDTHS,
    contexts: Sequence[int] = CONTEXTS,
) -> Json:
    """Tokens a second and memory at each width and context, as flat JSON with units in the names.

    `megabytes` is what a training step holds: here all that its compiled program takes; of
    PyTorch weights, gradients, moments and what is kept for the way back.
    """
    rows = []
    for width in widths:
        for context in contexts:
            say(f"width {width}, context {context:,}")
            rows.append(_row(width, context, pairs))
    return {"tokens_per_step": TOKENS, "pairs": pairs, "torch": _torch_version(), "rows": rows}


def table(found: Json) -> Table:
    """The same, for the terminal."""
    columns = ("d_model", "context", "tokens/s", "MB", "PyTorch: tokens/s", "MB", "times as fast")
    made = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in found["rows"]:
        theirs = ["", "", ""]
        if "torch_tokens_per_s" in row:
            theirs = [f"{row['torch_tokens_per_s']:,.0f}", f"{row['torch_megabytes']:,.0f}"]
            theirs.append(f"{row['times_torch']:.2f}")
        ours = [f"{row['tokens_per_s']:,.0f}", f"{row['megabytes']:,.0f}"]
        made.add_row(str(row["width"]), f"{row['context']:,}", *ours, *theirs)
    return made


def _row(width: int, context: int, pairs: int) -> Json:
    ours, memory = _ours(width, context)
    row: Json = {"width": width, "context": context, "megabytes": memory / 1e6}
    if _torch_version() is None:
        seconds = float(np.median(alternate([ours], pairs)))
        return {**row, "tokens_per_s": TOKENS / seconds}
    theirs, kept = _theirs(width, context)
    taken = alternate([ours, theirs], pairs)
    mine, other = np.median(taken, axis=0)
    return {
        **row,
        "tokens_per_s": TOKENS / float(mine),
        "torch_tokens_per_s": TOKENS / float(other),
        "torch_megabytes": kept / 1e6,
        "times_torch": float(np.median(taken[:, 1] / taken[:, 0])),
    }


def _clock() -> Callable[[], float]:
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def _ours(width: int, context: int) -> tuple[Measure, float]:
    """Seconds of a training step, and the bytes that its program takes."""
    device = jax.local_devices()[0]
    task = language(RandomRepeats(length=context), batch=TOKENS // context)
    study = Study(
        task, layers=LAYERS, heads=HEADS, d_model=width, tokens=1e9, evaluate=[0], checkpoints=[0]
    )
    compiled = Programs(study, 1).of(0, device)
    block, state = first_state(compiled, [0], device)
    at, clock = 0, _clock()

    def take() -> float:
        nonlocal state, at
        chunk = chunk_arrays(at, [(at + STEPS, 0, False)], device)
        began = clock()
        state, _ = compiled.advance(state, block, *chunk)
        jax.block_until_ready(state)
        at += STEPS
        return (clock() - began) / STEPS

    take()
    return take, compiled.bytes


# --- PyTorch ------------------------------------------------------------------------------------


def _torch_version() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return str(torch.__version__)


def _theirs(width: int, context: int) -> tuple[Measure, float]:
    """Seconds of a step in PyTorch on one thread, and the bytes that it holds at its fullest."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = RandomRepeats().vocabulary
    model, forward = _model(width, context, vocabulary)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, 3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    tokens = torch.randint(vocabulary, (TOKENS // context, context))
    clock = _clock()

    def step() -> None:
        logits = forward(tokens)[:, :-1]
        loss = functional.cross_entropy(logits.reshape(-1, vocabulary), tokens[:, 1:].reshape(-1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def take() -> float:
        began = clock()
        for _ in range(STEPS):
            step()
        return (clock() - began) / STEPS

    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    weights = {p.untyped_storage().data_ptr(): 4.0 * p.numel() for p in parameters}
    beside = sum(size for address, size in kept.items() if address not in weights)
    take()
    return take, beside + 4 * sum(weights.values())


def _model(width: int, context: int, vocabulary: int) -> tuple[Any, Callable[[Any], Any]]:
    """The same network: its weights, and logits [B, T, V] of tokens [B, T]."""
    import torch
    from torch import nn
    from torch.nn import functional

    def maps(names: str) -> Any:
        return nn.ModuleDict({name: nn.Linear(width, width, bias=False) for name in names})

    model: Any = nn.ModuleDict(
        {
            "embed": nn.Embedding(vocabulary, width),
            "positions": nn.Embedding(context, width),
            "maps": nn.ModuleList(maps("qkvo") for _ in range(LAYERS)),
            "norms": nn.ModuleList(nn.LayerNorm(width) for _ in range(LAYERS + 1)),
            "unembed": nn.Linear(width, vocabulary),
        }
    )

    def by_head(x: Any) -> Any:
        return x.view(len(x), context, HEADS, width // HEADS).transpose(1, 2)

    def forward(tokens: Any) -> Any:
        x = model["embed"](tokens)
        at = model["positions"](torch.arange(context))
        for each, norm in zip(model["maps"], model["norms"], strict=False):
            h = norm(x)
            q, k, v = (each[name](h + at if name in "qk" else h) for name in "qkv")
            z = functional.scaled_dot_product_attention(
                by_head(q), by_head(k), by_head(v), is_causal=True
            )
            x = x + each["o"](z.transpose(1, 2).reshape(len(x), context, width))
        return model["unembed"](model["norms"][-1](x))

    return model, forward
