"""ONNX Runtime: any CPU that it has wheels for."""

from partitioner.backends.execution import BackendInfo

__all__ = ["BACKEND"]

BACKEND = BackendInfo(
    name="onnx",
    executor="partitioner.backends.onnx.execute:OnnxExecutor",
    compiler="partitioner.backends.onnx.compile:OnnxCompiler",
    support="partitioner.backends.onnx.support:verdict",
    probe="partitioner.backends.onnx.probe:attempt",
    requires=("onnxruntime",),
    build_requires=("onnx", "onnxscript", "onnxruntime"),
    extra="onnx",
    requirements="partitioner.backends.onnx.requirements:requirements",
    ranges=True,
)
