"""From drawings to feature vectors: pixels, a random network, or an ImageNet ResNet-18.

Papers: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1; Singh et al. 2024,
appendix A, for what it is given: drawings resized to 224, one grey channel for all three colours,
ImageNet's mean and deviation, the last map averaged over the page: 512 features.

Shapes: N images, S pixels a side, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import load_file

from ih_jax import gate, paths
from ih_jax.data.images import glyphs
from ih_jax.errors import UserError, unknown

Name = Literal["resnet18", "pixels", "random-conv"]
NAMES = get_args(Name)
SIDE = 224  # pixels that the ResNet sees
PIXELS = 28  # and that "pixels" keeps
AT_ONCE = 32  # images
MOST_BYTES = 200_000_000  # of a file of weights; those of a ResNet-18 in float32 take 47 MB
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels, stride of the first of two blocks


@dataclass(frozen=True)
class Encoder:
    """Images [N, S, S], ink 1, to features [N, F]; `key` tells it from every other."""

    name: Name
    side: int  # pixels it looks at
    features: int
    key: str
    encode: Callable[[NDArray[Any]], NDArray[np.float32]]

    def __call__(self, images: NDArray[Any], progress: bool = False) -> NDArray[np.float32]:
        """[..., S, S] to [..., F], a few at a time."""
        flat = images.reshape(-1, *images.shape[-2:])
        starts = range(0, len(flat), AT_ONCE)
        found = [
            self.encode(flat[i : i + AT_ONCE])
            for i in track(starts, f"encoding {len(flat):,} drawings", disable=not progress)
        ]
        return np.concatenate(found).reshape(*images.shape[:-2], self.features)


def make(name: str, weights: str | Path | None = None) -> Encoder:
    """The encoder of this name. Raises UserError for another, and for weights it cannot take."""
    if name not in NAMES:
        raise unknown("encoder", name, NAMES)
    if (name == "resnet18") != (weights is not None):
        raise UserError(
            f"encoder {name}: give --weights FILE (safetensors) with resnet18, and only with it"
        )
    if name == "pixels":
        return Encoder("pixels", PIXELS, PIXELS**2, f"pixels-{PIXELS}", _pixels)
    if name == "random-conv":
        key = f"random-conv-{glyphs.SIZE}"
        return Encoder("random-conv", glyphs.SIZE, glyphs.FEATURES, key, _random_convolutions)
    assert weights is not None
    variables, checksum = read_resnet(Path(weights))
    return Encoder("resnet18", SIDE, 512, f"resnet18-{SIDE}-{checksum}", resnet_encode(variables))


def _pixels(images: NDArray[Any]) -> NDArray[np.float32]:
    """The page in 28 x 28 pixels, ink 1."""
    return np.asarray(_resized(jnp.asarray(images, jnp.float32), PIXELS).reshape(len(images), -1))


def _random_convolutions(images: NDArray[Any]) -> NDArray[np.float32]:
    """The fixed network of the glyphs: oriented filters, then random ones."""
    return glyphs.encode(np.asarray(_resized(jnp.asarray(images, jnp.float32), glyphs.SIZE)))


def _resized(images: Array, side: int) -> Array:
    """[N, side, side], bilinear; averaged over what shrinks."""
    return jax.image.resize(images, (len(images), side, side), "bilinear")


# --- ResNet-18 ----------------------------------------------------------------------------------


class ResNet18(nn.Module):
    """Images [N, S, S, 3] to features [N, 512]; the classifier is left out."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _convolution(64, 7, 2, "conv1")(x)
        x = nn.relu(_batch_norm("bn1")(x))
        # PyTorch pads with nothing that could win: so does a maximum over -inf.
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (channels, stride) in enumerate(STAGES, start=1):
            for block in (0, 1):
                x = _Block(channels, stride if block == 0 else 1, name=f"layer{stage}_{block}")(x)
        return x.mean((1, 2))


class _Block(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(_batch_norm("bn1")(_convolution(self.channels, 3, self.stride, "conv1")(x)))
        y = _batch_norm("bn2")(_convolution(self.channels, 3, 1, "conv2")(y))
        if self.stride > 1:
            x = _batch_norm("downsample_1")(
                _convolution(self.channels, 1, self.stride, "downsample_0")(x)
            )
        return nn.relu(x + y)


def _convolution(channels: int, size: int, stride: int, name: str) -> nn.Conv:
    pad = size // 2
    return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        ((pad, pad), (pad, pad)),
        use_bias=False,
        name=name,
    )


def _batch_norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)


def resnet_encode(variables: Any) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Drawings, ink 1, as the ResNet is to see them, and what it makes of them."""

    @jax.jit
    def encode(images: Array) -> Array:
        page = 1.0 - _resized(images, SIDE)  # dark ink on light paper
        channels = jnp.repeat(page[..., None], len(MEAN), axis=-1)
        coloured = (channels - jnp.array([[[MEAN]]])) / jnp.array([[[DEVIATION]]])
        return jnp.asarray(ResNet18().apply(variables, coloured))

    def padded(images: NDArray[Any]) -> NDArray[np.float32]:
        # One shape, one program.
        whole = np.zeros((AT_ONCE, *images.shape[1:]), np.float32)
        whole[: len(images)] = images
        return np.asarray(encode(jnp.asarray(whole)))[: len(images)]

    return padded


def read_resnet(path: Path) -> tuple[Any, str]:
    """Flax variables of a ResNet-18, and a checksum of the file.

    Names of torchvision ("layer1.0.conv1.weight") and of Hugging Face's transformers
    ("resnet.encoder.stages.0.layers.0.layer.0.convolution.weight") are known.

    Raises:
        UserError: the file is missing or no safetensors file, or its tensors are another model's;
            the line says which differ.
    """
    if not paths.is_there(path):
        raise UserError(f"there are no weights at {path}: give a safetensors file of a ResNet-18")
    size = paths.regular(path).stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"{path} has {size:,} bytes, a ResNet-18 at most {MOST_BYTES:,}")
    try:
        arrays = load_file(path)
    except Exception as error:
        raise UserError(
            f"{path} is no whole safetensors file ({paths.reason(error)}): PyTorch's own "
            ".pth files are pickles, which are not read; save the state dict with safetensors"
        ) from None
    named = {_torchvision_name(name): np.asarray(array) for name, array in arrays.items()}
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return to_flax(named, path), checksum


def to_flax(named: Mapping[str, NDArray[Any]], path: Path | str = "weights") -> Any:
    """Flax variables of a state dict with torchvision's names. Raises as `read_resnet`."""
    shapes = jax.eval_shape(ResNet18().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    kept = {
        name: array
        for name, array in named.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    used: set[str] = set()
    wrong: list[str] = []

    def take(path_of: Any, like: Any) -> NDArray[np.float32]:
        keys = [key.key for key in path_of]
        end = {
            ("params", "kernel"): "weight",
            ("params", "scale"): "weight",
            ("params", "bias"): "bias",
            ("batch_stats", "mean"): "running_mean",
            ("batch_stats", "var"): "running_var",
        }[keys[0], keys[-1]]
        name = ".".join([*(key.replace("_", ".") for key in keys[1:-1]), end])
        if name not in kept:
            wrong.append(f"{name} is missing")
            return np.zeros(like.shape, np.float32)
        used.add(name)
        array = gate.finite(kept[name], f"{path}: {name}")
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        if array.shape != like.shape:
            wrong.append(f"{name} has shape {list(kept[name].shape)}")
            return np.zeros(like.shape, np.float32)
        return np.asarray(array, np.float32)

    variables = jax.tree_util.tree_map_with_path(take, shapes)
    wrong += [f"{name} is unknown" for name in sorted(set(kept) - used)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{path} is of no ResNet-18: {', '.join(wrong[:3])}{more}")
    return variables


def _torchvision_name(name: str) -> str:
    """Hugging Face's name of a tensor as torchvision calls it; others as they are."""
    name = name.removeprefix("resnet.")
    parts = name.split(".")
    ends = {"convolution": "conv", "normalization": "bn"}
    if parts[:2] == ["embedder", "embedder"]:
        return f"{ends[parts[2]]}1.{parts[3]}" if parts[2] in ends else name
    if parts[:2] == ["encoder", "stages"] and len(parts) >= 7:
        at = f"layer{int(parts[2]) + 1}.{parts[4]}"
        if parts[5] == "shortcut" and parts[6] in ends:
            return f"{at}.downsample.{0 if parts[6] == 'convolution' else 1}.{parts[7]}"
        if parts[5] == "layer" and len(parts) == 9 and parts[7] in ends:
            return f"{at}.{ends[parts[7]]}{int(parts[6]) + 1}.{parts[8]}"
    return "fc." + parts[-1] if name.startswith("classifier.") else name
