"""Bundles with executable code are loaded if they are signed or the caller says so."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import partitioner
from partitioner import backends
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import (
    ConstantRef,
    Manifest,
    ParitySample,
    SampleInput,
    Tolerance,
)
from partitioner.artifacts.signatures import SIGNATURES_FILE
from partitioner.artifacts.store.locations import open_store
from partitioner.artifacts.store.push import push
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends import BackendInfo
from partitioner.backends.onnx.execute import OnnxExecutor
from partitioner.cli.inspect import command as inspect
from partitioner.cli.run import command as run
from partitioner.errors import BundleError, SignatureError
from partitioner.plan import Call
from partitioner.runtime.code import refuse_code
from partitioner.runtime.verify import verify_bundle
from partitioner.specs import InputSpec
from tests.artifacts.test_signatures import new_keys, sign
from tests.bundles import Maker, node, spec

ONE = np.ones((2,), np.float32)

#: What has reached a loader.
LOADED: list[str] = []


class CodedExecutor(OnnxExecutor):
    """Stands for an executor of programs: whatever it is given, it runs."""

    def load(self, artifact: Any, device: Any) -> Any:
        LOADED.append(artifact.info.name)
        return super().load(artifact, device)


CODED = BackendInfo("coded", f"{__name__}:CodedExecutor", "", runs_code=True)
CODED_ONNX = dataclasses.replace(CODED, name="onnx")

BUCKETS = Path(__file__).parents[1] / "artifacts" / "data" / "golden" / "1.4-batches"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("coded", f"{__name__}:CODED", backends.ENTRY_POINTS)
    points = [*importlib.metadata.entry_points(group=backends.ENTRY_POINTS), entry]
    monkeypatch.setattr(backends, "_entries", lambda: points)
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PARTITIONER_POLICY", raising=False)
    LOADED.clear()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """y = (x + x) * (x + x); the product is code."""
    maker = Maker(tmp_path / "sum.bundle")
    both = {"a": "float32[2]", "b": "float32[2]"}
    for name, op in (("add", "Add"), ("mul", "Mul")):
        maker.onnx(name, both, {"c": "float32[2]"}, [node(op, ["a", "b"], ["c"])])
    info, artifact = maker.segments["mul"], maker.artifacts["mul"]
    maker.segments["mul"] = dataclasses.replace(info, backend="coded")
    maker.artifacts["mul"] = dataclasses.replace(artifact, backend="coded")
    steps = [Call("add", ("x", "x"), ("h",)), Call("mul", ("h", "h"), ("y",))]
    return maker.write([InputSpec("x", spec("float32[2]"))], steps, {"y": "y"})


@pytest.fixture
def several(bundle: Path, tmp_path: Path) -> Path:
    """The same as "coded", which is preferred, and all of it by ONNX Runtime as "plain"."""
    opened = Bundle.open(bundle)
    coded, plain = opened.manifest, data_only(opened.manifest)
    with BundleWriter(tmp_path / "several.bundle") as writer:
        for target, manifest in (("coded", coded), ("plain", plain)):
            for blob in manifest.blobs:
                writer.add_bytes(opened.read(blob.digest), blob.media_type)
            writer.add_member(manifest.replace(target=target))
        writer.publish()
    return writer.path


def data_only(manifest: Manifest) -> Manifest:
    segments, artifacts = dict(manifest.plan.segments), dict(manifest.artifacts)
    segments["mul"] = dataclasses.replace(segments["mul"], backend="onnx")
    artifacts["mul"] = dataclasses.replace(artifacts["mul"], backend="onnx")
    plan = dataclasses.replace(manifest.plan, segments=segments)
    return manifest.replace(plan=plan, artifacts=artifacts)


def result(path: str | Path, **options: Any) -> list[float]:
    with partitioner.load(path, **options) as pipe:
        return pipe(x=ONE)["y"].tolist()


def test_code_of_nobody_is_not_loaded(bundle: Path) -> None:
    with pytest.raises(SignatureError, match=r"executable code.*'mul', for coded") as caught:
        partitioner.load(bundle)
    assert [] == LOADED
    assert "--require-signature" in (caught.value.advice or "")
    assert "--allow-executable" in (caught.value.advice or "")


def test_the_caller_may_allow_it(bundle: Path) -> None:
    assert [4.0, 4.0] == result(bundle, allow_executable=True)
    assert ["mul"] == LOADED


def test_a_signature_that_was_verified_allows_it(bundle: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    _, other = new_keys(tmp_path, "other")
    sign(bundle, private)
    store = open_store((tmp_path / "store").as_uri())
    push(bundle, store, tag="v1", name="sum")
    for path in (bundle, f"{store.uri}/sum@v1"):
        # That it is signed says nothing while nobody has looked whose signature it is.
        with pytest.raises(SignatureError, match="executable code"):
            partitioner.load(path)
        with pytest.raises(SignatureError, match="none of its signatures"):
            partitioner.load(path, require_signature=other)
        assert [] == LOADED
        assert [4.0, 4.0] == result(path, require_signature=public)
        LOADED.clear()


def test_the_deployments_policy_allows_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = new_keys(tmp_path, "release")
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[[require]]\nmatch = "*"\nkeys = ["{public}"]\n')
    monkeypatch.setenv("PARTITIONER_POLICY", str(policy))
    with pytest.raises(SignatureError, match="no signature"):
        partitioner.load(bundle, allow_executable=True)
    sign(bundle, private)
    assert [4.0, 4.0] == result(bundle)
    (bundle / SIGNATURES_FILE).unlink()
    with pytest.raises(SignatureError, match="no signature"):
        partitioner.load(bundle)


@pytest.mark.parametrize("verify", ["always", "once", "never"])
def test_code_that_is_not_what_was_signed(bundle: Path, tmp_path: Path, verify: Any) -> None:
    private, public = new_keys(tmp_path, "release")
    sign(bundle, private)
    opened = Bundle.open(bundle)
    graph = opened.manifest.artifacts["mul"].graph
    assert graph is not None
    file = opened.blobs_dir / hex_of(graph)
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.unlink()
    file.write_bytes(changed)
    with pytest.raises(BundleError, match="content was changed"):
        partitioner.load(bundle, require_signature=public, verify=verify)
    assert [] == LOADED


def test_other_bundles_are_no_concern(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "plain.bundle")
    both = {"a": "float32[2]", "b": "float32[2]"}
    maker.onnx("add", both, {"c": "float32[2]"}, [node("Add", ["a", "b"], ["c"])])
    path = maker.write(
        [InputSpec("x", spec("float32[2]"))], [Call("add", ("x", "x"), ("y",))], {"y": "y"}
    )
    refuse_code(Bundle.open(path), allowed=False)
    assert [2.0, 2.0] == result(path)


def test_code_in_one_member_is_refused_and_the_others_are_not(several: Path) -> None:
    for variant in (None, {"target": "coded"}):
        with pytest.raises(SignatureError, match=r"executable code.*'mul', for coded"):
            partitioner.load(several, variant=variant)
    assert [] == LOADED
    assert [4.0, 4.0] == result(several, variant={"target": "plain"})
    assert [] == LOADED
    assert [4.0, 4.0] == result(several, allow_executable=True)
    assert ["mul"] == LOADED


def test_buckets_are_refused_at_once_not_by_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EntryPoint("onnx", f"{__name__}:CODED_ONNX", backends.ENTRY_POINTS)
    points = importlib.metadata.entry_points(group=backends.ENTRY_POINTS)
    others = [point for point in points if point.name != "onnx"]
    monkeypatch.setattr(backends, "_entries", lambda: [*others, entry])
    with pytest.raises(SignatureError, match="executable code"):
        partitioner.load(BUCKETS)
    partitioner.load(BUCKETS, allow_executable=True).close()


def test_a_signature_vouches_for_all_members(several: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    sign(several, private)
    store = open_store((tmp_path / "store").as_uri())
    push(several, store, tag="v1", name="sum")
    for path in (several, f"{store.uri}/sum@v1"):
        with pytest.raises(SignatureError, match="executable code"):
            partitioner.load(path)
        for target in ("coded", "plain"):
            given = {"target": target}
            assert [4.0, 4.0] == result(path, variant=given, require_signature=public)
    assert ["mul", "mul"] == LOADED


def test_inspect_names_the_code_of_each_member(several: Path) -> None:
    runner = CliRunner()
    document = json.loads(runner.invoke(inspect, [str(several), "--json"]).output)
    assert [["mul"], []] == [member["executable"] for member in document["members"]]
    assert 1 == runner.invoke(inspect, [str(several)]).output.count("mul: executable code")


def test_verify_asks_the_same(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    with BundleWriter(tmp_path / "sampled") as writer:
        for blob in opened.manifest.blobs:
            writer.add_bytes(opened.read(blob.digest), blob.media_type)
        data = writer.add_bytes(ONE.tobytes(), "")
        given = {"x": SampleInput(spec("float32[2]"), ConstantRef(data.digest, 0, 8))}
        blobs = tuple(writer.blobs[digest] for digest in sorted(writer.blobs))
        sample = ParitySample(0, given, {}, (), Tolerance(1e-3, 0.0))
        writer.commit(opened.manifest.replace(blobs=blobs, parity=sample))
    with pytest.raises(SignatureError, match="executable code"):
        verify_bundle(tmp_path / "sampled")
    assert [] == LOADED
    assert verify_bundle(tmp_path / "sampled", allow_executable=True).ok
    assert ["mul"] == LOADED


def test_the_command_line(bundle: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = [str(bundle), "-i", "x=1,1", "--json"]
    assert isinstance(runner.invoke(run, arguments).exception, SignatureError)
    done = runner.invoke(run, [*arguments, "--allow-executable"])
    assert [2] == json.loads(done.output)["outputs"]["y"]["shape"]
    assert "mul: executable code" in runner.invoke(inspect, [str(bundle)]).output
    document = json.loads(runner.invoke(inspect, [str(bundle), "--json"]).output)
    assert ["mul"] == document["executable"]


def test_inspect_where_the_backend_is_not_installed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_entries", list)
    output = CliRunner().invoke(inspect, [str(bundle)]).output
    assert "not installed may load code: coded, onnx" in output
