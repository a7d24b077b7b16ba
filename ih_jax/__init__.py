"""Train many tiny transformers at once, each with some of its computation held fixed.

import ih_jax as ih

study = ih.sweep(ih.fewshot(), clamp={"none": None, "match": ih.induction(1, 3)}, init=range(8))
study.train("runs/match")
ih.load("runs/match").results["loss"].median("init")
"""

from ih_jax import claims
from ih_jax.claims import Claim, Finding
from ih_jax.clamps.apply import apply
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.kind import Decision, Kind, clamp_kind
from ih_jax.clamps.kinds import (
    ablate,
    copy_from,
    freeze,
    graft,
    hold,
    induction,
    labels_only,
    match_by_similarity,
    mean,
    no_previous_token,
    perfect_previous_layer,
    preserve,
    previous_token,
    resample,
    rule,
    stop_gradient,
    temperature,
)
from ih_jax.clamps.place import Place
from ih_jax.clamps.values import Weights
from ih_jax.data.batches import Batch, Tokens, Vectors
from ih_jax.data.fewshot import Burst
from ih_jax.data.languages.recipe import Recipe, recipe, with_bos
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options, Table, Training
from ih_jax.interop.pretrained.looking import pretrained
from ih_jax.measures.base import measure
from ih_jax.model.activations import Activations
from ih_jax.model.params import Config, Params, init
from ih_jax.reports.viewer.alone import draw as _draw
from ih_jax.reports.viewer.viewing import view as _view
from ih_jax.sweeps.engine import Sweep, sweep, use_all_cores
from ih_jax.sweeps.network import Network
from ih_jax.sweeps.stopping import Interrupted
from ih_jax.sweeps.trajectory import Trajectories, load
from ih_jax.tasks.base import Task, TaskArrays, task
from ih_jax.tasks.fewshot import FewShot, fewshot
from ih_jax.tasks.gaussian import GaussianClasses
from ih_jax.tasks.language import Language, language
from ih_jax.tasks.regression import Regression

# JAX divides the CPU into devices only before it starts, so this cannot wait for a sweep.
use_all_cores()

Trajectories.view = _view
Network._draw = staticmethod(_draw)

__all__ = [
    "Activations",
    "Batch",
    "Burst",
    "Claim",
    "Clamp",
    "Config",
    "Decision",
    "Experiment",
    "FewShot",
    "Finding",
    "GaussianClasses",
    "Interrupted",
    "Kind",
    "Language",
    "Network",
    "Options",
    "Params",
    "Place",
    "Recipe",
    "Regression",
    "Sweep",
    "Table",
    "Task",
    "TaskArrays",
    "Tokens",
    "Training",
    "Trajectories",
    "UserError",
    "Vectors",
    "Weights",
    "ablate",
    "apply",
    "claims",
    "clamp_kind",
    "copy_from",
    "fewshot",
    "freeze",
    "graft",
    "hold",
    "induction",
    "init",
    "labels_only",
    "language",
    "load",
    "match_by_similarity",
    "mean",
    "measure",
    "no_previous_token",
    "perfect_previous_layer",
    "preserve",
    "pretrained",
    "previous_token",
    "recipe",
    "resample",
    "rule",
    "stop_gradient",
    "sweep",
    "task",
    "temperature",
    "with_bos",
]
