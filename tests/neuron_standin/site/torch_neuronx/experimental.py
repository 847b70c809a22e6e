"""Where core placement was before SDK 2.25."""

from torch_neuronx import _cores_context as neuron_cores_context

__all__ = ["neuron_cores_context"]
