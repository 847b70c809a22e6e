"""What is missing to build for a target here, and to run on it."""

from dataclasses import replace
from typing import Any

import pytest

from partitioner.backends import BackendInfo, find_backend
from partitioner.backends.neuron.sdk import find_kind
from partitioner.errors import MissingDependencyError
from partitioner.frontend import require_backends
from partitioner.targets import find_target
from partitioner.targets.available import (
    measurable,
    missing_backends,
    missing_to_build,
    missing_to_run,
    unable_backends,
)
from partitioner.targets.choice import with_backends


def test_nothing_is_missing_for_a_cpu():
    cpu = find_target("cpu")
    assert ((), "", "") == (missing_backends(cpu), missing_to_build(cpu), missing_to_run(cpu))


def test_one_backend_a_device_is_enough():
    cpu = find_target("cpu")
    (device,) = cpu.devices
    more = replace(
        cpu,
        backends=("far", *cpu.backends),
        devices=(replace(device, backends=("far", *device.backends)),),
    )
    assert (("far",), "", "") == (
        missing_backends(more),
        missing_to_build(more),
        missing_to_run(more),
    )


def test_an_accelerator_needs_its_own_backend():
    inf2 = find_target("inf2")
    chip = inf2.device_of("neuron")
    far = replace(
        inf2, backends=("far", "onnx", "host"), devices=(replace(chip, backends=("far",)),)
    )
    assert "the backend 'far', which is not installed" == missing_to_build(far)
    assert missing_to_build(far) == missing_to_run(far)
    assert "" == missing_to_build(with_backends(inf2, ["onnx"]))


def test_neuron_needs_its_sdk_to_compile_and_to_run_and_not_to_begin():
    inf2 = find_target("inf2")
    if find_kind() == "xla":
        return
    assert "the backend 'neuron', whose compiler needs torch_neuronx" == missing_to_build(inf2)
    assert "the backend 'neuron', which needs torch_neuronx" == missing_to_run(inf2)
    assert "" == missing_to_build(inf2, deferred=True)


def test_what_can_be_measured_is_what_is_installed_for_the_devices():
    assert ("onnx", "openvino", "host") == measurable(find_target("cpu")).backends
    turned = with_backends(find_target("cpu"), ["openvino"])
    assert ("openvino", "onnx", "host") == measurable(turned).backends


def test_a_library_that_is_not_installed_is_no_reason_to_build_something_else(
    monkeypatch: pytest.MonkeyPatch,
):
    def found(name: str) -> BackendInfo:
        lacking: dict[str, Any] = {"openvino": {"build_requires": ("no_such_library",)}}
        return replace(find_backend(name), **lacking.get(name, {}))

    xeon = find_target("xeon")
    assert {} == unable_backends(xeon)
    require_backends(xeon)
    monkeypatch.setattr("partitioner.targets.available.find_backend", found)
    assert {"openvino": "whose compiler needs no_such_library"} == unable_backends(xeon)
    with pytest.raises(MissingDependencyError) as caught:
        require_backends(xeon)
    assert "target 'xeon' is built with the backend 'openvino', whose" in caught.value.what
    assert (
        "pip install 'partitioner[openvino]', or build without it: --backends onnx,host"
        == caught.value.advice
    )
    require_backends(with_backends(xeon, ["onnx"]))
    require_backends(find_target("cpu"))


def test_xeons_take_openvino_first_and_other_cpus_onnx_runtime():
    targets = map(find_target, ("xeon", "m8i.large", "cpu", "graviton"))
    firsts = ["openvino", "openvino", "onnx", "onnx"]
    assert firsts == [target.backends[0] for target in targets]
    assert "onnx" in find_target("xeon").backends
