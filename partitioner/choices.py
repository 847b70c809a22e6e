"""The schedules that a caller may choose from: their options, and a capture of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from partitioner.capture import Captured, capture
from partitioner.errors import UsageError
from partitioner.specs import Image, Noise

__all__ = ["capture_variants", "check_variants", "choice_text", "settings_of"]


def capture_variants(
    pipeline: Any,
    example_inputs: Mapping[str, Any],
    options: Mapping[str, Any] | None,
    variants: Sequence[Mapping[str, Any]],
    *,
    inputs: Mapping[str, Image | Noise] | None = None,
    stages: Mapping[str, str] | None = None,
) -> list[Captured]:
    """Capture a pipeline with the options of each variant, or once without any.

    Raises:
        as :func:`partitioner.capture.capture`.
    """
    return [
        capture(pipeline, example_inputs, options=setting, inputs=inputs, stages=stages)
        for setting in settings_of(options, variants or [{}])
    ]


def settings_of(
    options: Mapping[str, Any] | None, variants: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """All options of each variant.

    Args:
        options: that all have.
    """
    return [{**(options or {}), **choice} for choice in variants]


def choice_text(choice: Mapping[str, Any]) -> str:
    """Options as the command line takes them: ``steps=5,scale=1.5``."""
    return ",".join(f"{name}={value}" for name, value in choice.items())


def check_variants(choices: Sequence[Mapping[str, Any]], example_inputs: Mapping[str, Any]) -> None:
    """See that the choices can be told apart by options that are fixed at capture.

    Raises:
        UsageError: they name different options, an input, or one twice; or a value is no plain one.
    """
    for choice in choices:
        if choice.keys() != choices[0].keys():
            raise UsageError(
                f"variants name the options {list(choices[0])} and {list(choice)}",
                advice="give each variant the same options",
            )
        tensors = [n for n in choice if isinstance(example_inputs.get(n), torch.Tensor)]
        if tensors:
            raise UsageError(
                f"{tensors[0]!r} is an input, so it cannot tell variants apart",
                advice="name options that are fixed when the pipeline is captured, such as steps",
            )
        for name, value in choice.items():
            if not (value is None or isinstance(value, bool | int | float | str)):
                raise UsageError(
                    f"the variant's {name} is a {type(value).__name__}",
                    advice="give a number, a text, true or false",
                )
        if sum(choice == other for other in choices) > 1:
            raise UsageError(
                f"the variant {choice_text(choice)} is given twice", advice="leave one out"
            )
