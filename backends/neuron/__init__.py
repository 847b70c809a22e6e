"""AWS Inferentia and Trainium, through the Neuron SDK. This version plans for it."""

from partitioner.backends.execution import BackendInfo

__all__ = ["BACKEND"]

BACKEND = BackendInfo(
    name="neuron",
    # Neither is here yet; making one is an error that says so.
    executor="",
    compiler="",
    support="partitioner.backends.neuron.support:verdict",
    requires=("torch_neuronx",),
    build_requires=("torch_neuronx", "neuronxcc"),
    segment_check="partitioner.backends.neuron.segment_check:check_segments",
    check_requires=("torch_mlir", "iree"),
)
