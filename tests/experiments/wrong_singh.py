"""For every claim of Singh et al. 2024 and beyond, what makes it false of made-up results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from made_up_beyond import predicted
from made_up_singh import N, phase, smooth

from ih_jax.experiments.beyond import pulse
from ih_jax.experiments.beyond.trainings import PULSED

Change = Callable[[xr.Dataset], xr.Dataset]


def times(name: str, factor: float) -> Change:
    return lambda d: d.assign({name: d[name] * factor})


def at(name: str, value: Any, **where: Any) -> Change:
    """A change of some values of a variable."""

    def change(d: xr.Dataset) -> xr.Dataset:
        made = d.copy(deep=True)
        made[name] = made[name].astype(
            np.asarray(value).dtype if made[name].dtype == bool else float
        )
        made[name].loc[where] = value
        return made

    return change


def swapped(name: str, dim: str) -> Change:
    """A variable with the order of its values along a dim turned round."""
    return lambda d: d.assign({name: d[name].copy(data=d[name].isel({dim: slice(None, None, -1)}))})


def ranked(name: str, dim: str) -> Change:
    """A variable whose values along a dim are put in the opposite order of size."""

    def change(d: xr.Dataset) -> xr.Dataset:
        axis = d[name].get_axis_num(dim)
        order = np.sort(d[name].values, axis=axis)
        place = np.argsort(np.argsort(-d[name].values, axis=axis), axis=axis)
        return d.assign({name: d[name].copy(data=np.take_along_axis(order, place, axis=axis))})

    return change


def settings_matter_only(results: xr.Dataset) -> xr.Dataset:
    """Times without a clamp follow the setting, and the parts are noise."""
    setting = np.array([200e3, 400e3])
    whole = setting[:, None, None] * np.array([1, 3])[:, None] * np.array([1, 2])
    made = results.copy(deep=True)
    made["time"].loc[{"clamp": "none"}] = np.broadcast_to(whole, made["time"].shape[1:])
    return made


def noise_in_parts(results: xr.Dataset) -> xr.Dataset:
    """Times follow the setting and chance; parts, which vary a hundredfold, only mislead."""
    made = settings_matter_only(predicted(3.0))
    chance = np.random.default_rng(1).normal(0, 0.3, made["time"].sel(clamp="none").shape)
    made["time"].loc[{"clamp": "none"}] *= np.exp(chance)
    return made


def turning(pair: xr.DataArray) -> xr.DataArray:
    """Every head of layer 1 with other heads of layer 0: the order turns from row to row."""
    rows = [np.roll(np.linspace(0.2, 1, 8), shift) for shift in range(8)]
    return 0 * pair + xr.DataArray(rows, dims=("head", "early"))


# (experiment, claim that must fail, what is done to results in which all claims replicate)
BAD: list[tuple[str, str, Change]] = [
    ("fig3", "a plateau, then a phase change", at("loss", smooth(N))),
    ("fig3", "a random label of the context", times("in_context_accuracy", 1.5)),
    ("fig3", "hardly a mistake at the end", times("accuracy", 0.98)),
    ("fig3", "several induction heads", at("strength", 0.0, head=[0, 1, 2, 4, 5, 6, 7])),
    ("fig3", "they emerge with the phase change", at("strength", 0.0, checkpoint=N[N < 8e5])),
    ("fig3", "a strong head", times("strength", 0.5)),
    ("fig3", "the strongest is so from the start", at("strength", 0.0, head=3, checkpoint=N[:-1])),
    (
        "fig3",
        "held-out label pairs come later",
        lambda d: d.assign(eval_loss=d["eval_loss"].copy(data=d["eval_loss"].values[:, ::-1])),
    ),
    ("fig4", "the stronger, the better alone", ranked("only_accuracy", "head")),
    ("fig4", "the strongest is best alone", at("only_accuracy", 0.99, head=0)),
    ("fig4", "the strongest nearly suffices", at("only_accuracy", 0.6, head=3)),
    ("fig4", "others make up for the strongest", at("without_accuracy", 0.6, head=3)),
    ("fig4", "no other is missed as much", at("without_accuracy", 0.9, head=0)),
    ("fig4", "every head can learn alone", at("alone_loss", 0.7)),
    ("fig4", "all together learn sooner than one", at("loss_of_all", phase(N, 600e3))),
    ("fig4", "not even the quickest alone is as quick", at("loss_of_all", phase(N, 300e3))),
    ("fig6", "normal: classes", swapped("loss_by_classes", "classes")),
    ("fig6", "normal: labels", swapped("loss_by_labels", "labels")),
    ("fig6", "B: classes", swapped("loss_by_classes", "classes")),
    ("fig6", "B: labels do not exist", at("loss_by_labels", 0.5, clamp="layer1+copy", labels=15)),
    ("fig6", "C: classes hardly", at("loss_by_classes", 0.9, clamp="match", classes=200)),
    ("fig6", "C: labels", swapped("loss_by_labels", "labels")),
    ("fig6", "C: labels rather than classes", swapped("loss_by_labels", "labels")),
    ("fig6", "B and C: classes", swapped("loss_by_classes", "classes")),
    ("fig6", "B and C: labels", swapped("loss_by_labels", "labels")),
    ("fig6", "every step, without a clamp", swapped("loss_by_classes", "classes")),
    ("fig7", "the same seed's layer 0: quick", at("loss", phase(N), clamp="same seed")),
    ("fig7", "a foreign layer 0: slow", at("loss", phase(N), clamp="same seed")),
    ("fig7", "a foreign layer 0 and none", at("loss", phase(N, 400e3))),
    ("fig7", "the same seed's: no plateau", at("loss", phase(N), clamp="same seed")),
    ("fig7", "foreign: no plateau", at("loss", phase(N), clamp="foreign 1")),
    ("fig8", "a previous-token head", at("loss", phase(N, 300e3), clamp="strongest")),
    ("fig8", "any head", at("loss", phase(N, 300e3), clamp="weakest")),
    ("fig8", "the right head is better", at("loss", phase(N, 90e3), clamp="weakest")),
    ("fig8", "three do better than one", at("loss", phase(N, 190e3), clamp="three strongest")),
    ("fig8", "all heads are too many", at("loss", phase(N, 100e3), clamp="all heads")),
    (
        "fig10",
        "a phase change in the progress measure, none with the clamp",
        at("loss", phase(N), clamp="match"),
    ),
    ("fig10", "match: at 100,000 sequences", at("progress", 0.0, held="match")),
    ("fig10", "match: later", at("progress", smooth(N, 5e3), held="match")),
    (
        "fig10",
        "previous-token attention: a phase change in the measure",
        at("progress", smooth(N), held="previous-token attention"),
    ),
    (
        "fig10",
        "previous-token attention: later",
        at("progress", smooth(N), held="previous-token attention"),
    ),
    ("fig10", "A evolves smoothly", at("previous_token", (N > 4e5) * 1.0)),
    ("fig10", "C evolves smoothly", at("progress", (N < 4e5) * 1.0, held="match")),
    (
        "fig11",
        "induction heads use previous-token heads through keys",
        ranked("previous_token", "early"),
    ),
    ("fig11", "many to many", lambda d: d.assign(pair=turning(d["pair"]))),
    ("fig11", "any previous-token head is above chance", at("pair", 0.1, kept="pv")),
    ("fig11", "no previous-token head is indispensable", at("less", 0.2)),
    ("fig11", "not through values", swapped("pair", "kept")),
    ("fig11", "K-composition grows with previous-token heads", swapped("composition", "input")),
    ("fig11", "V-composition grows with the others", swapped("composition", "input")),
    ("table1", "previous-token heads act through patterns", swapped("accuracy", "kept")),
    ("table1", "the others act through values", swapped("accuracy", "kept")),
    (
        "table1",
        "the more of a previous-token head, the more through patterns",
        ranked("one", "head"),
    ),
    ("table1", "previous-token heads: nothing through values", at("accuracy", 0.9, kept="pp")),
    ("table1", "the others: nothing through patterns", at("accuracy", 0.9, kept="pv")),
    ("fig12", "layer 0's direct path is not needed", at("accuracy", 0.98, held="direct_l0")),
    ("fig12", "nearly all goes through layer 1", at("loss", 3.0, held="direct_l0")),
    ("fig12", "its part fades", at("loss", 2.5, held="direct_l0")),
    ("fig12", "its part fades, at equal loss", at("loss", 2.5, held="direct_l0")),
    ("fig13", "the stronger, the lower the loss alone", ranked("only_loss", "head")),
    ("fig14", "every head helps", swapped("loss", "count")),
    ("fig14", "three do better than one", at("loss", 0.2, kind="with", count=3)),
    ("fig14", "the others together", at("loss", 0.2, kind="less", count=6)),
    ("fig14", "the strongest is not made up for", at("loss", 0.001, kind="less", count=6)),
    ("fig15", "train: any strength will do", at("loss", phase(N, 400e3), strength=0.2)),
    (
        "fig15",
        "held-out pairs: negative strengths do worse",
        at("eval_loss", 0.0, set="fsl_val_rl", strength=-1.0),
    ),
    (
        "fig15",
        "held-out pairs: the stronger, the sooner",
        lambda d: at("eval_loss", smooth(N, 5e3), set="fsl_val_rl", strength=0.2)(
            at("eval_loss", phase(N), set="fsl_val_rl", strength=1.0)(d)
        ),
    ),
    (
        "fig15",
        "a weak clamp is worse than none",
        at("eval_loss", 0.05, set="fsl_val_rl", strength=0.2),
    ),
    ("fig16", "a perfect match helps", times("match_accuracy", 0.8)),
    ("fig16", "it helps most heads", times("match_accuracy", 0.8)),
    ("fig16", "it helps the strongest", at("match_accuracy", 0.5, head=3)),
    ("fig16", "weak heads copy some labels only", at("label_accuracy", 0.0, head=3, label=2)),
    ("fig16", "different heads, different labels", at("label_accuracy", 0.0, label=2)),
    ("fig16", "what is copied wrongly is hard for all", at("corrected", 0.99)),
    ("table2", "better heads correct more", ranked("corrected", "other")),
    ("table2", "mistakes are about independent", times("corrected", 0.3)),
    ("fig17", "two are quicker than one", at("loss", phase(N, 300e3))),
    ("fig17", "the best pair is about as quick as all", at("all", phase(N, 50e3))),
    ("fig18", "the stronger, the sooner alone", ranked("time", "head")),
    ("saddle", "a small gradient", lambda d: d.assign(gradient_norm=1 / d["gradient_norm"])),
    ("saddle", "a way down", at("lowest", 0.5)),
    ("saddle", "mostly upwards", at("highest", 0.5)),
    ("saddle", "steeper at the exit", lambda d: d.assign(lowest=1 / d["lowest"])),
    ("factorial", "a plateau: previous token", at("loss", smooth(N), clamp="previous token")),
    ("factorial", "a plateau: v", at("loss", smooth(N), clamp="v")),
    ("factorial", "no plateau: v + match", at("loss", phase(N), clamp="v + match")),
    ("factorial", "no plateau: q, k + copy", at("loss", phase(N), clamp="q, k + copy")),
    ("factorial", "the smallest set is the match", at("loss", smooth(N), clamp="copy")),
    *(
        ("pulse", f"a pulse helps: {pulse.WORDS[g]}", at("time", 400e3, given=g, onset=0))
        for g in PULSED
    ),
    ("pulse", "longer is better", at("time", 100e3, duration=10_000)),
    *(
        ("pulse", f"a critical period: {pulse.WORDS[g]}", at("time", 160e3, given=g, onset=100_000))
        for g in PULSED
    ),
    ("predict", "parts predict better than the setting", lambda d: settings_matter_only(d)),
    ("predict", "parts add to the setting", lambda d: noise_in_parts(d)),
    (
        "predict",
        "within a quarter",
        lambda d: at("time", 40e3, clamp=["match", "layer1", "layer1+copy"])(predicted(1.5)),
    ),
]
# What no networks can refute: an unfinished run only tells that its time is longer.
NEVER_FALSE = {("fig3", "learned by a million sequences")}
# Useless numbers add noise, not error: a prediction from them is hardly worse.
HARD_TO_REFUTE = {("predict", "parts add to the setting")}
GOOD_VERDICTS = {"replicates", "supported"}
