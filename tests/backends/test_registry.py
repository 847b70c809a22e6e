"""Backends by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from partitioner import backends
from partitioner.backends import BackendInfo, backend_names, find_backend
from partitioner.backends.host.execute import HostExecutor
from partitioner.backends.onnx.execute import OnnxExecutor
from partitioner.errors import BackendError, IncompatibleBundleError, MissingDependencyError

MINE = BackendInfo("mine", "partitioner.backends.host.execute:HostExecutor", "nowhere:Compiler")


def install(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    points = [EntryPoint(name, value, backends.ENTRY_POINTS) for name, value in entries]
    monkeypatch.setattr(backends, "_entries", lambda: points)


def test_those_of_this_package() -> None:
    assert {"host", "onnx"} <= set(backend_names())
    assert isinstance(find_backend("onnx").make_executor(), OnnxExecutor)
    assert isinstance(find_backend("host").make_executor(), HostExecutor)


def test_one_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("mine", f"{__name__}:MINE"))
    monkeypatch.setattr(EntryPoint, "load", lambda self: MINE)

    assert MINE is find_backend("mine")
    assert ("mine",) == backend_names()


def test_an_unknown_name() -> None:
    with pytest.raises(IncompatibleBundleError, match=r"'abacus' is not installed; .*onnx"):
        find_backend("abacus")


def test_a_name_that_two_packages_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("mine", "one:BACKEND"), ("mine", "two:BACKEND"))

    with pytest.raises(BackendError, match=r"two packages .*one:BACKEND.*two:BACKEND"):
        find_backend("mine")


def test_one_package_seen_twice_is_no_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "partitioner.backends.host:BACKEND"
    install(monkeypatch, ("host", value), ("host", value))

    assert "host" == find_backend("host").name


def test_an_entry_point_that_is_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("mine", "partitioner.backends.host:BACKEND"))

    with pytest.raises(BackendError, match="is not the backend 'mine'"):
        find_backend("mine")


def test_a_library_that_is_not_installed() -> None:
    info = BackendInfo("x", "nowhere:X", "nowhere:Y", requires=("no_such_module",), extra="x")

    with pytest.raises(MissingDependencyError) as caught:
        info.make_executor()
    assert "backend 'x' needs no_such_module, which is not installed" == caught.value.what
    assert "pip install 'partitioner[x]'" == caught.value.advice
    with pytest.raises(MissingDependencyError, match="needs nowhere"):
        info.make_compiler()


@pytest.mark.parametrize("name", ["onnx", "host"])
def test_a_judge_has_the_name_and_the_verdicts_of_its_backend(name: str) -> None:
    judge = find_backend(name).make_judge()
    assert name == judge.name
    assert f"partitioner.backends.{name}.support" == judge.verdict.__module__


def test_a_backend_that_names_no_support_is_asked_through_its_compiler() -> None:
    info = BackendInfo("x", "nowhere:X", "partitioner.backends.host.compile:HostCompiler")
    assert "x" == info.make_judge().name
    assert "HostCompiler.verdict" == info.make_judge().verdict.__qualname__


def test_support_that_cannot_be_imported() -> None:
    info = BackendInfo("x", "nowhere:X", "nowhere:Y", support="nowhere:verdict")
    with pytest.raises(MissingDependencyError, match="planning for backend 'x' needs nowhere"):
        info.make_judge()


def test_what_building_needs_is_not_what_running_needs() -> None:
    info = BackendInfo("x", "a:X", "b:Y", requires=("json",), build_requires=("json", "no_such"))
    assert [] == info.missing()
    assert ["no_such"] == info.missing_to_build()
