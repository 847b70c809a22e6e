"""OpenVINO: CPUs of the x86 family above all."""

from partitioner.backends.execution import BackendInfo

__all__ = ["BACKEND"]

BACKEND = BackendInfo(
    name="openvino",
    executor="partitioner.backends.openvino.execute:OpenvinoExecutor",
    compiler="partitioner.backends.openvino.compile:OpenvinoCompiler",
    support="partitioner.backends.openvino.support:verdict",
    requires=("openvino",),
    build_requires=("openvino",),
    extra="openvino",
    requirements="partitioner.backends.openvino.requirements:requirements",
    copies_weights=True,
    ranges=True,
)
