"""AWS Inferentia and Trainium, through the Neuron SDK."""

from partitioner.backends.execution import BackendInfo

__all__ = ["BACKEND"]

BACKEND = BackendInfo(
    name="neuron",
    executor="partitioner.backends.neuron.execute:NeuronExecutor",
    compiler="partitioner.backends.neuron.compile:NeuronCompiler",
    support="partitioner.backends.neuron.support:verdict",
    requires=("torch_neuronx",),
    build_requires=("torch_neuronx", "neuronxcc"),
    segment_check="partitioner.backends.neuron.segment_check:check_segments",
    check_requires=("torch_mlir", "iree"),
    # TorchScript.
    runs_code=True,
    settings="partitioner.backends.neuron.settings:read_settings",
    defers=True,
    # The name alone installs an empty package.
    install="install torch-neuronx from the package index of AWS Neuron, see docs/neuron.md",
)
