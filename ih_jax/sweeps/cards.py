"""The run card of a sweep: what was asked for, with what it was trained, and what may resume it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from ih_jax import platforms
from ih_jax.errors import UserError
from ih_jax.sweeps.blocks import Plan
from ih_jax.sweeps.card_file import read_card, write_card
from ih_jax.sweeps.chunk import compiler_options
from ih_jax.sweeps.runs import Group
from ih_jax.sweeps.study import Study


def check_resumable(
    card: dict[str, Any], study: Study, folder: Path, width: int | None, resume: bool
) -> None:
    """Raises UserError where `folder`, with this card, holds something else."""
    lacking = [name for name in ("study", "width", "blocks", "signature") if not card.get(name)]
    if lacking:
        raise UserError(f"{folder}/card.json lacks {', '.join(lacking)}: give another folder")
    difference = _difference(card["study"], study.describe())
    if difference:
        raise UserError(f"{folder} holds another sweep ({difference}): give another folder")
    if width not in (None, card["width"]):
        raise UserError(f"{folder} was begun with width {card['width']}: leave --width out")
    if card.get("finished"):
        return
    if not resume:
        raise UserError(
            f"{folder} holds an unfinished sweep: continue it with --resume (resume=True), "
            "or give another folder"
        )
    signature = {"platform": jax.local_devices()[0].platform, **versions("jax", "jaxlib")}
    theirs = {name: card["signature"].get(name) for name in signature}
    if theirs != signature:
        raise UserError(
            f"{folder} was begun with {theirs}, this is {signature}: bits would differ; "
            "resume with the same, or give another folder"
        )


def check_packing(card: dict[str, Any], plan: Plan, folder: Path) -> None:
    """Raises UserError if an unfinished sweep was packed into blocks in another way."""
    if card["blocks"] != [list(block.runs) for block in plan.blocks]:
        raise UserError(
            f"{folder} was begun by a version of ih_jax that packed runs differently: finish it "
            "with that version, or give another folder"
        )


def _difference(theirs: dict[str, Any], ours: dict[str, Any], at: str = "") -> str:
    """The first place where two descriptions differ, in words; empty where they agree."""
    ours = json.loads(json.dumps(ours, default=str))
    for key in sorted(set(theirs) | set(ours)):
        a, b = theirs.get(key), ours.get(key)
        if a == b or key in ("path", "defined"):  # files may move
            continue
        where = f"{at}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            found = _difference(a, b, where + ".")
            if found:
                return found
            continue
        return f"its {where} is {a}, this one's is {b}"
    return ""


def make_card(study: Study, plan: Plan, about: dict[str, Any]) -> dict[str, Any]:
    """The card of a sweep that begins now."""
    devices = jax.local_devices()
    return {
        **about,
        "study": study.describe(),
        "clamps_in_words": {name: clamp.describe() for name, clamp in study.clamps.items()},
        "runs": len(study.runs),
        "width": plan.width,
        "blocks": [list(block.runs) for block in plan.blocks],
        "signature": {
            "platform": devices[0].platform,
            **versions("jax", "jaxlib"),
            "compiler_options": compiler_options(devices[0].platform, study.task.context_length),
            "matmul_precision": str(platforms.precision_of(devices[0].platform)),
            "programs": [_signature(group) for group in study.groups],
        },
        "versions": versions("ih_jax", "flax", "optax", "orbax-checkpoint", "numpy"),
        "python": platform.python_version(),
        "devices": [device.device_kind for device in devices],
        "machine": platform.platform(),
        "commit": commit(),
        "finished": False,
        "seconds": plan.seconds,
    }


def _signature(group: Group) -> dict[str, Any]:
    held = [f"{h.site}[{h.layer}] {h.rule.name}" for h in group.arrays.holds.holds]
    return {"program": str(group.program), "holds": held, "runs": len(group.runs)}


def versions(*names: str) -> dict[str, str]:
    """Of installed packages."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def commit() -> str | None:
    """The commit of the package's source.

    `IH_JAX_COMMIT` in the environment says it where the source is no checkout (a container, say).
    """
    if os.environ.get("IH_JAX_COMMIT"):
        return os.environ["IH_JAX_COMMIT"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        where = Path(__file__).parent
        found = subprocess.run(
            ["git", "-C", str(where), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return found.stdout.strip()
    return None


def finish(folder: Path, card: dict[str, Any], seconds: float) -> None:
    """Say on the card that all is done."""
    write_card(folder, {**card, "finished": True, "seconds": round(seconds, 1)})


def spent(folder: Path, seconds: float) -> None:
    """Say on the card how long training took so far, for those that continue it.

    A card that cannot be written (on a full disk, say) stays as it is.
    """
    with contextlib.suppress(OSError, UserError):
        card = read_card(folder)
        if not card.get("finished"):
            write_card(folder, {**card, "seconds": round(seconds, 1)})
