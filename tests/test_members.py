"""One bundle for several targets: built, looked at, verified, run, signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.locations import open_store
from partitioner.artifacts.store.push import push
from partitioner.errors import IncompatibleBundleError, PlacementError, UsageError
from partitioner.runtime.verify import verify_bundle
from partitioner.targets import Target, find_target
from tests.artifacts.test_signatures import new_keys
from tests.cli.test_schedules import partition

#: "here" is for the usual machines, so that it is preferred to "cpu"; no machine is "elsewhere".
TARGETS = """
[targets.here]
base = "cpu"
machine = ["x86_64", "AMD64", "aarch64", "arm64"]

[targets.elsewhere]
base = "cpu"
machine = ["moon"]

[targets.bare]
base = "cpu"
backends = ["host"]
"""


class Pipeline(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor, *, steps: int = 2) -> torch.Tensor:
        for time in torch.linspace(1, 0, steps):
            x = x + time * torch.tanh(self.model(x))
        return x


EXAMPLE = {"x": torch.linspace(-1, 1, 64).reshape(1, 64)}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    file = tmp_path_factory.mktemp("targets") / "mine.toml"
    file.write_text(TARGETS)
    return [find_target(name, [file]) for name in ("cpu", "elsewhere", "here", "bare")]


@pytest.fixture(scope="module")
def bundle(targets: list[Target], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("build") / "several.bundle"
    done = partitioner.build(Pipeline(), EXAMPLE, target=targets[:3], output=path)
    assert ["elsewhere", "here", "cpu"] == list(done.report["members"])
    assert all("output" in own["parity"]["outputs"] for own in done.report["members"].values())
    return path


def test_a_member_is_what_its_target_gives_alone(
    bundle: Path, targets: list[Target], tmp_path: Path
) -> None:
    """The capture is shared; all else must be as if there were no other targets."""
    alone = partitioner.build(Pipeline(), EXAMPLE, target="cpu", output=tmp_path / "alone")
    members = {m.labels["target"]: m for m in BundleIndex.open(bundle).members}
    assert alone.digest == members["cpu"].image.digest
    assert Bundle.open(tmp_path / "alone").image == members["cpu"].image


def test_weights_and_samples_are_shared(bundle: Path) -> None:
    index = BundleIndex.open(bundle)
    kinds = ("weights", "constants", "parity")
    shared = [
        {b.digest for b in index.bundle(m).manifest.blobs if any(k in b.media_type for k in kinds)}
        for m in index.members
    ]
    assert shared[0] == shared[1] == shared[2]
    weights = sum(tensor.nbytes for tensor in Pipeline().state_dict().values())
    assert sum(b.size for b in index.closure() if "weights" in b.media_type) < 1.1 * weights


def test_the_best_member_is_loaded(bundle: Path) -> None:
    x = np.linspace(-2, 2, 64, dtype=np.float32).reshape(1, 64)
    with torch.no_grad():
        expected = Pipeline()(torch.from_numpy(x)).numpy()
    for variant, target in ((None, "here"), *(({"target": t}, t) for t in ("cpu", "elsewhere"))):
        with partitioner.load(bundle, variant=variant) as pipe:
            assert (target, {"target": target}) == (pipe.manifest.target, pipe.labels)
            assert BundleIndex.open(bundle).digest == pipe.digest
            np.testing.assert_allclose(pipe(x=x)["output"], expected, rtol=1e-4, atol=1e-5)
            if variant is None:
                assert "target=elsewhere: the bundle needs machine moon" in pipe.choice[0]
                assert "target=here: taken" == pipe.choice[-1]


def test_the_manifest_states_what_it_requires(bundle: Path) -> None:
    index = BundleIndex.open(bundle)
    found = {
        member.labels["target"]: [
            (one.kind, one.name, one.firm) for one in index.bundle(member).manifest.requirements
        ]
        for member in index.members
    }
    library = ("library", "onnxruntime", True)
    assert {
        "elsewhere": [("machine", "moon", False), library],
        "here": [("machine", "x86_64,aarch64", False), library],
        "cpu": [library],
    } == found


def test_a_bundle_for_another_machine_is_refused_before_a_blob_is_looked_at(
    bundle: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    (alone / "blobs").mkdir(parents=True)
    (alone / "oci-layout").write_bytes((bundle / "oci-layout").read_bytes())
    index = BundleIndex.open(bundle)
    member = index.members[0]
    image = {"digest": member.image.digest, "size": member.image.size}
    kind = member.image.media_type
    (alone / "index.json").write_text(json.dumps({"manifests": [{**image, "mediaType": kind}]}))
    (alone / "blobs" / "sha256").mkdir()
    # Manifests only: no blob can be read.
    for blob in (member.image, index.bundle(member).config):
        name = blob.digest.removeprefix("sha256:")
        data = (index.blobs_dir / name).read_bytes()
        (alone / "blobs" / "sha256" / name).write_bytes(data)
    with pytest.raises(IncompatibleBundleError, match="needs machine moon"):
        partitioner.load(alone)


def test_verify_runs_all_that_can_be_run(bundle: Path) -> None:
    report = verify_bundle(bundle)
    assert report.ok
    assert ("target=here", "target=cpu") == report.members
    assert ["target=elsewhere"] == list(report.skipped)
    assert {"target=here", "target=cpu"} == {row.name.partition(":")[0] for row in report.rows}
    named = verify_bundle(bundle, variant={"target": "elsewhere"})
    assert (("target=elsewhere",), {}) == (named.members, named.skipped)
    assert all(":" not in row.name for row in named.rows)


def test_only_the_chosen_members_blobs_come_from_a_store(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    uri = (tmp_path / "store").as_uri()
    push(bundle, open_store(uri), tag="t")
    x = EXAMPLE["x"].numpy()
    with partitioner.load(f"{uri}/pipeline@t", variant={"target": "cpu"}) as pipe:
        assert "cpu" == pipe.manifest.target
        assert (1, 64) == pipe(x=x)["output"].shape
    index = BundleIndex.open(bundle)
    chosen = {blob.digest for blob in index.only({"target": "cpu"}).closure}
    there = {row.digest for row in Cache().list()}
    assert there <= {index.digest, *chosen}


# --- what goes wrong ----------------------------------------------------------------------------


def test_an_error_names_the_target_and_nothing_is_left(
    targets: list[Target], tmp_path: Path
) -> None:
    with pytest.raises(PlacementError, match="building for the target 'bare': ") as caught:
        partitioner.build(
            Pipeline(), EXAMPLE, target=[targets[0], targets[3]], output=tmp_path / "b"
        )
    assert "or leave out --target bare" in (caught.value.advice or "")
    assert [] == list(tmp_path.iterdir())


def test_targets_that_cannot_be_meant(tmp_path: Path) -> None:
    for targets, message in (
        (["cpu", "xeon", "cpu"], "the target 'cpu' is given twice"),
        (["xeon", "sapphire-rapids"], "the target 'xeon' is given twice"),
        ([], "no target is given"),
        (["cpu", "inf2"], "target 'inf2' needs the backend 'neuron'"),
    ):
        with pytest.raises(UsageError, match=message):
            partitioner.build(Pipeline(), EXAMPLE, target=targets, output=tmp_path / "b")
    assert [] == list(tmp_path.iterdir())


# --- the command line ---------------------------------------------------------------------------


def document(*arguments: str) -> Any:
    done = partition(*arguments, "--json")
    assert 0 == done.exit_code, done.output
    return json.loads(done.output)


def test_inspect(bundle: Path) -> None:
    whole = document("inspect", str(bundle), "--check")
    assert ["elsewhere", "here", "cpu"] == [m["labels"]["target"] for m in whole["members"]]
    assert [True, False, False] == [bool(m["lacking"]) for m in whole["members"]]
    text = partition("inspect", str(bundle)).output
    assert "3 members" in text
    assert "target=elsewhere" in text
    one = document("inspect", str(bundle), "--variant", "target=cpu")
    assert ("cpu", whole["digest"]) == (one["target"], one["digest"])
    text = partition("inspect", str(bundle), "--variant", "target=elsewhere").output
    assert "requires machine moon (of the target elsewhere), or named by --variant" in text
    assert "lacking  the bundle needs machine moon" in text


def test_doctor(bundle: Path) -> None:
    members = document("doctor", str(bundle))["members"]
    assert [1, 0, 0] == [len(member["lacking"]) for member in members]
    text = partition("doctor", str(bundle)).output
    assert "target=elsewhere: cannot be run here" in text
    assert "target=here: can be run here" in text
    assert "--variant target=elsewhere runs this one all the same" in text


def test_run_and_verify(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", EXAMPLE["x"].numpy())
    given = ("run", str(bundle), "-i", f"x={tmp_path / 'x.npy'}")
    assert {"target": "here"} == document(*given)["member"]["labels"]
    assert {"target": "cpu"} == document(*given, "--variant", "target=cpu")["member"]["labels"]
    assert "variant target=here: taken" in partition(*given).output
    assert ["target=elsewhere"] == list(document("verify", str(bundle))["skipped"])
    assert "skipped  target=elsewhere" in partition("verify", str(bundle)).output
    assert {} == document("verify", str(bundle), "--variant", "target=cpu")["skipped"]


def test_diff(bundle: Path) -> None:
    path = str(bundle)
    assert document("diff", path, path, "--target", "cpu")["same"]
    assert 2 == partition("diff", path, path).exit_code


@pytest.mark.parametrize("text", ["target", "target=", "=cpu", "target=a,target=b", ""])
def test_variants_that_are_none(bundle: Path, text: str) -> None:
    assert 2 == partition("inspect", str(bundle), "--variant", text).exit_code


def test_signatures_cover_the_whole(bundle: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    index = BundleIndex.open(bundle)
    try:
        assert index.digest == document("sign", str(bundle), "--key", str(private))["digest"]
        checked = document("verify-signature", str(bundle), "--key", str(public))
        assert index.digest == checked["digest"]
        with partitioner.load(bundle, require_signature=public) as pipe:
            assert index.digest == pipe.digest
    finally:
        (bundle / "signatures.json").unlink()
