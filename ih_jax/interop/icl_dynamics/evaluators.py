"""The evaluation sets of a run of the authors' code, as sets of ours.

That code describes each evaluator in its options (`pe_names` and what goes with it), or loads the
sequences that another run has saved (`load_eval_data`); what these are is told by the config.json
of that run, where it lies beside this one. Where it does not, a set of the log is taken to be ours
of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ih_jax.data.evaluations import EVALUATION_SETS, FIRST_TWO, STRATEGIES, EvaluationSet, named
from ih_jax.data.fewshot import Burst, Scheme
from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics.options import RunOptions, each_of
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.fewshot_checks import of_split


def described(o: RunOptions, elsewhere: bool = False) -> tuple[EvaluationSet, ...]:
    """The evaluators of a run's options; `elsewhere`: for use in another run.

    Those of other contexts than training are left out, and elsewhere those of split label pairs.
    """
    found = []
    names = o.pe_names or []
    for i, name in enumerate(names):
        classes: str = each_of(o.pe_classes, i, "train")
        exemplars: str = each_of(o.pe_exemplars, i, "train")
        relabel = each_of(o.pe_fs_relabel_scheme, i, "train" if o.fs_relabel else "None")
        if each_of(o.pe_context_len, i, o.pairs) != o.pairs:
            continue
        scheme, pairs = _relabelled(relabel, bool(o.fs_relabel))
        if scheme is None or (elsewhere and scheme == "relabel" and pairs != FIRST_TWO):
            continue
        found.append(
            EvaluationSet(
                name,
                classes,
                exemplars,
                pairs,
                context=Burst(
                    each_of(o.pe_burstiness, i, 1),
                    bool(each_of(o.pe_distract, i, True)),
                    bool(each_of(o.pe_no_support, i, False)),
                    bool(each_of(o.pe_unique_rest, i, False)),
                ),
                scheme=scheme,
                random_query_label=bool(each_of(o.pe_assign_query_label_random, i, False)),
                matched_exemplars=bool(o.match_query_and_distractors),
                noise=float(each_of(o.pe_noise_scale, i, o.noise_scale_train or 0.0)),
                uniform=True,
                first_classes=o.class_split[0] if elsewhere and classes == "train" else None,
                first_exemplars=o.exemplar_split[0] if elsewhere and exemplars == "train" else None,
            )
        )
    return tuple(found)


def _relabelled(scheme: str, relabels: bool) -> tuple[Scheme | None, str]:
    """Our scheme and split of label pairs; None for pairs that a run does not have."""
    if scheme == "flip":
        return "flip", "train"
    if scheme == FIRST_TWO:
        return "relabel", FIRST_TWO
    if scheme == "None" or not relabels:
        return "none", "train"
    return "relabel", scheme


def of_run(
    o: RunOptions, others: Iterable[RunOptions], logged: Sequence[str]
) -> list[EvaluationSet]:
    """The sets of a run: its own, those it loaded, and those that only its log names.

    Args:
        o: its options.
        others: those of the runs whose sequences it loaded.
        logged: the sets that its log has.
    """
    sets = {each.name: each for each in described(o)}
    for other in others:
        for each in described(other, elsewhere=True):
            sets.setdefault(each.name, each)
    for name in logged:
        if name in STRATEGIES:
            sets.setdefault(name, named(name, o.pairs))
    if o.pe_names is None:  # a config that says nothing: the sets of the induction-head paper
        sets = {each.name: each for each in EVALUATION_SETS} | sets
    return list(sets.values())


def fitting(task: FewShot, sets: Sequence[EvaluationSet]) -> FewShot:
    """The task with those sets that it can draw and its network can score, all if there are none.

    A set that is one of our four in other words goes by its name alone.
    """
    splits, own = task.splits(), task.labels_of_classes()
    kept = []
    for each in sets:
        classes = of_split(splits["classes"], each.classes)[: each.first_classes]
        exemplars = of_split(splits["exemplars"], each.exemplars)[: each.first_exemplars]
        try:
            layout = each.layout(task.layout)
        except ValueError:  # such as more of the query's class than a context has places
            continue
        needed = max(burst.classes(layout.pairs) for burst in layout.mixture)
        unknown = bool({"none", "flip"} & layout.schemes) and own[classes].max(initial=0)
        if len(classes) < needed or not len(exemplars) or unknown >= task.logits:
            continue
        try:
            task.replace(evaluation_sets=(each,))
        except UserError:  # what else a task asks of a set, such as enough other labels
            continue
        kept.append(next((plain for plain in EVALUATION_SETS if _same(task, each, plain)), each))
    return task.replace(evaluation_sets=tuple(kept)) if kept else task


def _same(task: FewShot, one: EvaluationSet, plain: EvaluationSet) -> bool:
    """Whether a set draws as one of the four does."""
    splits = ("name", "classes", "exemplars", "label_pairs")
    return (
        all(getattr(one, name) == getattr(plain, name) for name in splits)
        and one.layout(task.layout) == plain.layout(task.layout)
        and one.noise in (None, task.noise)
        and (task.zipf == 0 or not one.uniform or one.classes != "train")
        and one.first_classes is one.first_exemplars is None
    )
