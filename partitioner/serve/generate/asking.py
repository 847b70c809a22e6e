"""What a request of ``/generate`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from partitioner.serve.controls import Controls, controls_of, time_limit
from partitioner.serve.failures import ProtocolError
from partitioner.serve.generate.formats import Form, form_of
from partitioner.serve.generate.inputs import to_input
from partitioner.serve.options import ServeOptions
from partitioner.serve.service import ModelService

__all__ = ["WORDS", "Ask", "ask_of"]

#: Fields beside inputs, seed and options. An input of one of these names goes before.
WORDS = ("output", "format", "stream", "timeout")


@dataclass(frozen=True)
class Ask:
    """A request, checked but for what only the model can check.

    Args:
        inputs: arrays and Pillow images by name.
        form: of the answer.
        stream: whether progress is told.
    """

    inputs: dict[str, Any]
    controls: Controls
    form: Form
    stream: bool


def ask_of(
    service: ModelService, fields: Mapping[str, Any], accept: str, options: ServeOptions
) -> Ask:
    """A request out of its fields.

    Args:
        accept: the header of that name.

    Raises:
        ProtocolError: a field that nothing has, or one that cannot be meant.
        MissingDependencyError: Pillow is not installed.
    """
    specs = {spec.name: spec for spec in service.inputs}
    words = {name: value for name, value in fields.items() if name not in specs}
    limit = time_limit(words.get("timeout"), options.timeout)
    stream = words.get("stream", False)
    if not isinstance(stream, bool):
        raise ProtocolError("stream must be true or false")
    controls = controls_of(service, words, limit, WORDS)
    form = form_of(service.outputs, words.get("output"), words.get("format"), accept)
    inputs = {
        name: to_input(spec, fields[name], options.max_pixels)
        for name, spec in specs.items()
        if name in fields
    }
    return Ask(inputs, controls, form, stream)
