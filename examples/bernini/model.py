"""What ``partition build examples/bernini/model.py`` takes.

``--set`` names the arguments below (``size``, ``condition``, ``weights``, ``seed``) and those of
the pipeline's ``forward`` (``steps``, ``guidance_scale``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from partitioner import Image

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

# However this file is loaded, its neighbours are the package ``bernini``.
_EXAMPLES = str(Path(__file__).resolve().parents[1])
if _EXAMPLES not in sys.path:
    sys.path.insert(0, _EXAMPLES)

__all__ = ["example_inputs", "inputs", "pipeline", "quality", "quality_inputs"]


def pipeline(
    size: str = "tiny", condition: str = "image", weights: str = "", seed: int = 0
) -> nn.Module:
    """The pipeline with trained weights where there are some, else with random ones.

    Args:
        size: ``tiny``, ``small``, ``base`` or ``paper``.
        condition: ``image``, ``cloud`` or ``voxels``; also the name of the pipeline's input.
        weights: ``random``, or the path of a safetensors file; those that come with the example
            (``small`` with ``image`` or ``cloud``) if it is not given.
        seed: of random weights.
    """
    from bernini.config import SIZES
    from bernini.weights import TRAINED, build, trained

    path = weights or TRAINED.get((size, condition), "random")
    if path == "random":
        return build(SIZES[size], condition, seed)
    return trained(SIZES[size], condition, Path(path))


def example_inputs(size: str = "tiny", condition: str = "image") -> dict[str, Tensor]:
    """One request, the same every time: a picture or cloud that trained weights have not seen, or
    made-up content where weights are random.
    """
    import torch

    from bernini.config import SIZES
    from bernini.weights import TRAINED

    if (size, condition) in TRAINED:
        return {condition: _held_out(condition, 0)}
    shape = SIZES[size].input_shape(condition)
    content = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {condition: (content > 0).float() if condition == "voxels" else content}


def inputs(condition: str = "image") -> dict[str, Image]:
    """How the runtime makes the input from a picture; clouds and voxels are given as arrays."""
    from bernini.config import IMAGE_SIDE

    if condition != "image":
        return {}
    half = (0.5, 0.5, 0.5)
    return {"image": Image(size=(IMAGE_SIDE, IMAGE_SIDE), mean=half, std=half)}


def quality_inputs(size: str = "tiny", condition: str = "image") -> list[dict[str, Tensor]]:
    """More pictures or clouds of the kind, to measure the quality on."""
    from bernini.weights import TRAINED

    if (size, condition) not in TRAINED:
        return []
    return [{condition: _held_out(condition, index)} for index in range(1, 8)]


def quality(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> float:
    """Volumetric IoU of two meshes."""
    from bernini.metrics import mesh_iou

    first, second = ((mesh["vertices"], mesh["faces"]) for mesh in (expected, actual))
    return mesh_iou(first, second)


def _held_out(condition: str, index: int) -> Tensor:
    """Of a held-out shape: the picture (1, 3, 224, 224), or the cloud (1, 1024, 3)."""
    import torch

    from bernini.train.clouds import shape_cloud
    from bernini.train.dataset import Recipe, make_shape
    from bernini.train.train_diffusion import condition_of

    if condition == "cloud":
        return torch.from_numpy(shape_cloud(Recipe(views=0, split="held-out"), index))[None]
    _, _, pictures = make_shape(Recipe(views=1, split="held-out"), index)
    return condition_of(pictures).cpu()
