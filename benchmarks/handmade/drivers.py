"""The loops that a user writes by hand around compiled modules. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

__all__ = ["DRIVERS", "Array", "Calls", "Driver"]

Array = np.ndarray[Any, Any]

#: Module -> its compiled call: arrays in, one array out, which its next call may overwrite.
Calls = Mapping[str, Callable[..., Array]]


class Driver(Protocol):
    def __call__(self, calls: Calls, seed: int) -> Array:
        """Serve one request; gives an array to compare."""
        ...


class Bernini:
    """From a picture to a mesh, with guidance. ``data`` is what ``cases.Bernini`` gives."""

    def __init__(self, data: Mapping[str, Array]) -> None:
        from partitioner.ops import marching_cubes

        self.mesh = marching_cubes
        self.image, self.guidance = data["image"], float(data["guidance"])
        self.shape = tuple(int(n) for n in data["latent_shape"])
        self.timesteps, self.sigma = data["timesteps"], data["sigma"]
        self.clean_weight, self.noisy_weight = data["clean_weight"], data["noisy_weight"]

    def __call__(self, calls: Calls, seed: int) -> Array:
        draw = np.random.default_rng(seed)
        contexts = calls["encoder"](self.image)
        x = draw.standard_normal(self.shape, np.float32)
        pair = np.empty((2, *self.shape[1:]), np.float32)
        for index, timestep in enumerate(self.timesteps):
            pair[:] = x
            predicted = calls["denoiser"](pair, timestep[None], contexts)
            conditional, unconditional = predicted[:1], predicted[1:]
            clean = unconditional + self.guidance * (conditional - unconditional)
            noise = draw.standard_normal(self.shape, np.float32)
            x = self.clean_weight[index] * clean + self.noisy_weight[index] * x
            x += self.sigma[index] * noise
        field = calls["wavelet"](calls["decoder"](x.astype(np.float32)))
        self.mesh(field)
        return field


class Diffusion:
    """DDIM without noise of its own (arXiv 2010.02502, equation 12 with eta 0).

    With guidance if ``data`` has a scale: then the condition holds both halves of the batch.
    """

    def __init__(self, data: Mapping[str, Array]) -> None:
        self.condition, self.times = data["condition"], data["times"]
        self.here, self.after = data["here"], data["after"]
        self.shape = tuple(int(n) for n in data["shape"])
        self.guidance = float(data["guidance"]) if "guidance" in data else None

    def __call__(self, calls: Calls, seed: int) -> Array:
        x = np.random.default_rng(seed).standard_normal(self.shape, np.float32)
        batch = x if self.guidance is None else np.empty((2, *self.shape[1:]), np.float32)
        for index, time in enumerate(self.times):
            if self.guidance is None:
                batch = x
            else:
                batch[:] = x
            noise = calls["model"](batch, time[None], self.condition)
            if self.guidance is not None:
                noise = noise[1:] + self.guidance * (noise[:1] - noise[1:])
            here, after = self.here[index], self.after[index]
            clean = ((x - np.sqrt(1 - here) * noise) / np.sqrt(here)).clip(-1, 1)
            x = (np.sqrt(after) * clean + np.sqrt(1 - after) * noise).astype(np.float32)
        return x


DRIVERS: dict[str, Callable[[Mapping[str, Array]], Driver]] = {
    "bernini-tiny": Bernini,
    "bernini-base": Bernini,
    "dit": Diffusion,
    "unet": Diffusion,
}
