"""Trained weights from a file; random weights that keep a deep random network tame."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch
from torch import nn

from .config import Config
from .decoder import Decoder
from .layers import ResidualBlock
from .pipeline import PIPELINES, MeshPipeline

__all__ = ["PARTIAL", "TRAINED", "build", "digest", "trained", "without_weights"]

#: Where trained weights are, by size and condition. How they were made: ``trained/README.md``.
_FOLDER = Path(__file__).resolve().parent / "trained"
TRAINED = {
    ("small", "image"): _FOLDER / "small-image.safetensors",
    ("small", "cloud"): _FOLDER / "small-cloud.safetensors",
}

#: What a file may hold without the rest: all that depends on the condition.
PARTIAL = ("encoder.", "context.")

# A trained decoder gives a smooth field of both signs; random convolutions give shreds of a mesh,
# or none. So the decoder's residual branches and the wavelet details are made small.
_RESIDUAL = 0.1
_DETAIL = 0.004

_NORMS = (nn.LayerNorm, nn.GroupNorm)
_WEIGHTED = (nn.Linear, nn.Conv2d, nn.Conv3d)


def build(config: Config, condition: str, seed: int = 0) -> MeshPipeline:
    """A pipeline with random weights, in inference mode.

    The modules are made without storage and filled once, in place, so that the largest size takes
    the memory of its weights and no more.
    """
    pipeline = without_weights(config, condition)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in pipeline.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                storage = torch.empty_like(parameter, device="cpu")
                _fill(module, name, storage)
                setattr(module, name, nn.Parameter(storage, requires_grad=False))
        _tame(pipeline.decoder)
    return pipeline.eval()


def trained(config: Config, condition: str, path: Path) -> MeshPipeline:
    """A pipeline with weights from a safetensors file, in inference mode.

    A file may hold an encoder and its positions only (``PARTIAL``): its header then names the file
    beside it that has the rest, which it was trained with.

    Raises:
        FileNotFoundError: there is no such file, or not the one that has the rest.
        RuntimeError: the file is of another size or condition (torch names what differs).
        ValueError: the rest is not that which the encoder was trained with.
    """
    pipeline = without_weights(config, condition)
    # Stored in half the bytes where that does no harm; computed in float32.
    weights = {name: tensor.float() for name, tensor in _read(path).items()}
    pipeline.load_state_dict(weights, assign=True)
    return pipeline.requires_grad_(False).eval()


def digest(path: Path) -> str:
    """By which a file is known: SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, with those that it leaves to the file beside it."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    weights = load_file(path)
    with safe_open(path, "pt") as file:
        facts = file.metadata() or {}
    if "rest" not in facts:
        return weights
    # A name only: a file of weights does not get to say where on the disk to read.
    rest = path.parent / Path(facts["rest"]).name
    if digest(rest) != facts.get("rest_sha256"):
        raise ValueError(
            f"{path.name} was trained with another {rest.name} than the one beside it: take the "
            "files of one training, or train the encoder again"
        )
    shared = {k: v for k, v in load_file(rest).items() if not k.startswith(PARTIAL)}
    return shared | weights


def without_weights(config: Config, condition: str) -> MeshPipeline:
    """The modules with parameters on the meta device: shapes only."""
    with torch.device("meta"):
        return PIPELINES[condition](config)


def _tame(decoder: Decoder) -> None:
    """Make the field smooth, and centred on zero."""
    _ignore_constants(decoder.first)
    for module in decoder.modules():
        if isinstance(module, ResidualBlock):
            _ignore_constants(module.conv1)
            module.conv2.weight *= _RESIDUAL
    low, details = decoder.last.weight[0], decoder.last.weight[1:]
    details *= _DETAIL
    # The low band averages over the neighbourhood. Its weights sum to zero because the means of
    # the channels after SiLU are about equal.
    channels = low.mean(dim=(1, 2, 3), keepdim=True)
    low.copy_((channels - channels.mean()).expand_as(low))


def _ignore_constants(convolution: nn.Conv3d) -> None:
    convolution.weight -= convolution.weight.mean(dim=(2, 3, 4), keepdim=True)


def _fill(module: nn.Module, name: str, parameter: torch.Tensor) -> None:
    if isinstance(module, _NORMS):
        parameter.fill_(1.0 if name == "weight" else 0.0)
    elif name == "bias":
        parameter.zero_()
    elif isinstance(module, _WEIGHTED):
        parameter.normal_(0.0, 1 / math.sqrt(parameter[0].numel()))
    else:
        # Learned tokens, positions and codes: of order one, as what they are added to.
        parameter.normal_()
