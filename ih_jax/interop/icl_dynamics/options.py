"""The options of the authors' code: what its config.json and its command line may say.

Three models: of a run (`RunOptions`), of what it clamps (`ClampOptions`), and of one group of a
file of golden numbers (`GoldenOptions`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ih_jax import gate, paths
from ih_jax.errors import UserError, unknown
from ih_jax.model.params import Positions

POSITIONS: Mapping[str, Positions] = {
    "rope": "rope",
    "sinusoidal": "sinusoidal",
    "ape": "learned",
    "learned": "learned",
}
SIN_TIME = 10_000.0  # of sinusoidal positions, as the model has it

T = TypeVar("T")
Dimension = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
Labels = Annotated[int, msgspec.Meta(ge=2, le=2**20)]
Three = tuple[gate.Count, gate.Count, gate.Count]
Shares = tuple[gate.Amount, gate.Amount, gate.Amount]
Several = msgspec.Meta(min_length=1, max_length=64)  # components of a mixture, or evaluators
Any64 = msgspec.Meta(max_length=64)
Switch = bool | Literal[0, 1]
Split = Literal["train", "val", "test", "all"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]

Head = Annotated[
    str, msgspec.Meta(pattern=r"^\d{1,9}:\d{1,9}$", description="layer:head, such as 1:3")
]
HeadTemperature = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^\d{1,9}:\d{1,9}:\d{1,9}(\.\d{0,20})?([eE][+-]?\d{1,2})?$",
        description="layer:head:temperature, such as 1:3:0.5",
    ),
]


class RunOptions(msgspec.Struct, frozen=True):
    """The fields of a run's config.json that decide its model, its data and its training."""

    depth: gate.Size
    d_model: Dimension
    num_heads: Dimension
    pos_embedding_type: Literal["rope", "sinusoidal", "ape", "learned"]
    train_iters: gate.Count  # sequences
    init_seed: gate.Seed
    train_seed: gate.Seed
    lr: gate.Amount
    optimizer: Literal["adam", "sgd"]
    train_bs: Dimension
    class_split: Three  # train, val, test
    exemplar_split: Three
    fs_relabel: Annotated[int, msgspec.Meta(ge=0, le=2**20)]  # labels; 0: classes keep their own
    run: str | None = None
    mlp_ratio: Annotated[float, msgspec.Meta(gt=0, le=1024)] | None = None
    no_norm: bool = False
    not_causal: Literal[False] = False
    sin_time: gate.Positive = SIN_TIME
    model_output_classes: Labels | None = None
    init_rescale: gate.Positive | None = None
    weight_decay: gate.Amount | None = None
    data_type: Literal["file"] = "file"
    eval_seed: gate.Seed = 1
    fs_relabel_split: Shares | None = None
    fs_relabel_split_seed: gate.Seed = 20
    train_context_len: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None  # pairs
    mixing_coeffs: Annotated[list[gate.Amount], Several] | None = None
    pt_burstiness: Annotated[list[gate.Count], Several] | None = None
    pt_distract: Annotated[list[Switch], Several] | None = None
    pt_no_support: Annotated[list[Switch], Several] | None = None
    pt_unique_rest: Annotated[list[Switch], Several] | None = None
    zipf_alpha: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    noise_scale_train: gate.Amount | None = None
    match_query_and_distractors: bool | None = None
    assign_query_label_random: Switch | None = None
    pe_names: Annotated[list[Name], Any64] | None = None
    pe_classes: Annotated[list[Split], Any64] | None = None
    pe_exemplars: Annotated[list[Split], Any64] | None = None
    pe_burstiness: Annotated[list[gate.Count], Any64] | None = None
    pe_noise_scale: Annotated[list[gate.Amount], Any64] | None = None
    pe_distract: Annotated[list[Switch], Any64] | None = None
    pe_no_support: Annotated[list[Switch], Any64] | None = None
    pe_unique_rest: Annotated[list[Switch], Any64] | None = None
    pe_fs_relabel_scheme: (
        Annotated[list[Literal["None", "train", "val", "test", "all", "01", "flip"]], Any64] | None
    ) = None
    pe_context_len: Annotated[list[gate.Count], Any64] | None = None
    pe_assign_query_label_random: Annotated[list[Switch], Any64] | None = None
    load_eval_data: Annotated[list[str], Any64] | None = None

    @property
    def pairs(self) -> int:
        """Exemplar-label pairs in the context."""
        return self.train_context_len or 2

    @property
    def labels(self) -> int:
        """C: labels that training uses, and outputs of the network."""
        return self.fs_relabel or self.class_split[0]

    @property
    def positions(self) -> Positions:
        """How positions enter, in our words."""
        return POSITIONS[self.pos_embedding_type]


class ClampOptions(msgspec.Struct, frozen=True):
    """The options that clamp. None: not given."""

    opto_preserve_patterns: bool | None = None
    opto_preserve_values: bool | None = None
    opto_preserve_queries: bool | None = None
    opto_preserve_keys: bool | None = None
    opto_prev_token_only_label: bool | None = None
    opto_disallow_prev_token_only_label: bool | None = None
    opto_ablate_embedding: bool | None = None
    opto_specific_fn: Literal["standard", "perfect_prev_token_input"] | None = None
    opto_ablate_heads: list[Head] | None = None
    opto_induction_heads: list[Head] | None = None
    opto_induction_head_strength: gate.Amount | None = None
    opto_prev_token_heads: list[Head] | None = None
    opto_prev_token_head_strength: gate.Amount | None = None
    opto_disallow_prev_token_heads: list[Head] | None = None
    opto_match_heads: list[Head] | None = None
    opto_match_head_temperature: gate.Amount | None = None
    opto_perfect_copy_from_head_pattern: Head | None = None
    opto_set_head_temperature: list[HeadTemperature] | None = None
    opto_final_layer_silence_non_label_attn: list[gate.Count] | None = None
    opto_graft_in_model_ckpt: Any = None
    opto_graft_in_model_cfg: Any = None
    opto_graft_in_model_till_layer: Any = None
    opto_graft_out_model_ckpt: Any = None
    opto_graft_out_model_cfg: Any = None
    opto_graft_out_model_from_layer: Any = None


class GoldenOptions(msgspec.Struct, frozen=True):
    """The network of a group of golden numbers."""

    num_labels: Labels
    depth: gate.Size
    d_model: Dimension
    num_heads: Dimension
    positions: Literal["rope", "sinusoidal", "ape", "learned"]
    norm: bool
    mlp_ratio: Annotated[float, msgspec.Meta(gt=0, le=1024)] | None = None


OPTIONS = ClampOptions.__struct_fields__
EVALUATORS = tuple(name for name in RunOptions.__struct_fields__ if name.startswith("pe_"))
SWITCHES = tuple(
    field.name for field in msgspec.structs.fields(ClampOptions) if field.type == bool | None
)
LISTS = (
    "opto_ablate_heads",
    "opto_induction_heads",
    "opto_prev_token_heads",
    "opto_disallow_prev_token_heads",
    "opto_match_heads",
    "opto_set_head_temperature",
    "opto_final_layer_silence_non_label_attn",
)


def read_run_options(path: Path) -> tuple[RunOptions, ClampOptions, dict[str, Any]]:
    """A run's config.json: its options, those that clamp, and everything that it holds.

    Raises:
        UserError: there is no such file, or a field is missing, of another type, or out of range.
    """
    if not paths.is_there(path):
        raise UserError(f"there is no {path}: give the folder of a run of the authors' code")
    found = gate.parse_json(path, most=2**20)
    options = gate.checked(found, RunOptions, paths.shown_path(path))
    clamp_options = checked_clamp_options(
        {name: value for name, value in found.items() if name.startswith("opto_")},
        paths.shown_path(path),
    )
    _check_together(options, paths.shown_path(path))
    return options, clamp_options, found


def each_of(values: Sequence[T] | None, index: int, default: T) -> T:
    """What a list of options says of one evaluator."""
    return default if values is None else values[index]


def _check_together(o: RunOptions, where: str) -> None:
    """Raise UserError where fields that are each in range do not fit each other."""
    if o.labels < 2:
        raise UserError(f"{where}: {o.labels} labels: give fs_relabel or class_split of 2 or more")
    names = o.pe_names or []
    for field in EVALUATORS:
        given = getattr(o, field)
        if given is not None and names and len(given) != len(names):
            raise UserError(
                f"{where}: {field} has {len(given)} entries: give {len(names)}, one for each of "
                "pe_names"
            )
    if o.positions in ("sinusoidal", "rope") and o.sin_time != SIN_TIME:
        raise UserError(
            f"{where}: sin_time is {o.sin_time:g}: rope and sinusoidal positions of {SIN_TIME:g} "
            "are read"
        )
    if o.model_output_classes not in (None, o.labels):
        raise UserError(
            f"{where}: model_output_classes is {o.model_output_classes}, and training has "
            f"{o.labels} labels: networks whose outputs are their labels are read"
        )
    components = len(o.pt_burstiness or [1])
    for name in ("mixing_coeffs", "pt_distract", "pt_no_support", "pt_unique_rest"):
        given = getattr(o, name)
        if given is not None and len(given) != components:
            raise UserError(
                f"{where}: {name} has {len(given)} entries: give {components}, one for each of "
                "pt_burstiness"
            )
    for name in ("mixing_coeffs", "fs_relabel_split"):
        given = getattr(o, name)
        if given is not None and sum(given) <= 0:
            raise UserError(f"{where}: {name} is {list(given)}: give one number above 0 or more")
    if o.mlp_ratio is not None and int(o.mlp_ratio * o.d_model) < 1:
        raise UserError(
            f"{where}: mlp_ratio {o.mlp_ratio:g} of d_model {o.d_model} is no hidden unit: give a "
            "larger ratio"
        )


def parse_options(text: str) -> dict[str, Any]:
    """{option: value} of a command line: True for a switch, a list of words for the others."""
    options: dict[str, Any] = {}
    name = ""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"options {text!r} cannot be split into words ({error})") from None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if equals and name in SWITCHES:
                raise UserError(f"options {text!r}: --{name} takes no value: leave out ={value}")
            options[name] = True if name in SWITCHES else [value] if equals else []
        elif not name or options[name] is True:
            raise UserError(f"options {text!r}: {word!r} belongs to no option")
        else:
            options[name].append(word)
    return options


def checked_clamp_options(options: str | Mapping[str, Any], where: str) -> ClampOptions:
    """The options that clamp, of a command line or of a config.json.

    Args:
        options: a command line, its words by option, or fields of JSON; others are passed over.
        where: what they are of, for messages.

    Raises:
        UserError: an option is not known, of another type or out of range, or needs weights.
    """
    if isinstance(options, str):
        options = parse_options(options)
    given = {name: each for name, each in options.items() if str(name).startswith("opto_")}
    for name in given:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)
    for name, each in given.items():
        if each == [] or each is False:
            given[name] = None
        elif name not in LISTS and isinstance(each, list) and len(each) == 1:
            given[name] = each[0]
    # Words of a command line are read as the numbers that they spell.
    found = gate.checked(given, ClampOptions, where, strict=False)
    grafts = [name for name in OPTIONS if "graft" in name and getattr(found, name) is not None]
    if grafts:
        raise UserError(f"{where}: {', '.join(grafts)}: grafts need weights: use clamp.graft")
    return found
