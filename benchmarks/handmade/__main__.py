"""A bundle against the ways that users have by hand, in one run, one request each in turn.

By hand: each module of the pipeline compiled by OpenVINO (snippets off where it crashes), by ONNX
Runtime, by ``torch.compile`` or by AOTInductor, called from a loop in Python with the sampler in
NumPy; and eager torch. All in float32, on the same CPUs, each in a process of its own. The bundle
is built with ``--tune``. Medians of requests; seconds from the start of a process to its first
result (the least of ``--starts`` processes, caches warm); and memory after it, weights that are
mapped included.

Cases are bernini-tiny, bernini-base, dit, unet.

Run: python benchmarks/handmade [--case NAME ...] [--way NAME ...] [--repeat 7] [--starts 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from handmade.bundles import BUNDLES
from handmade.loading import WAYS

_MAKE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
case, kind, folder = sys.argv[3], sys.argv[4], Path(sys.argv[5])
from handmade.making import prepare
prepare(case, kind, folder)
"""


class Server:
    """A worker that runs."""

    def __init__(self, case: str, way: str, folder: Path) -> None:
        command = [sys.executable, str(HERE / "worker.py"), case, way, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.started: dict[str, float] = self._answer()

    def serve(self, seed: int) -> float:
        """Seconds of one request."""
        assert self.process.stdin is not None
        print(seed, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.process.args)} ended: {self.process.wait()}")
        return json.loads(line)


def make(case: str, kind: str, folder: Path) -> None:
    """Make files of a kind, in a process that then gives its memory back."""
    command = [sys.executable, "-c", _MAKE, str(HERE.parent), str(HERE.parents[1])]
    log = (folder / "making.log").open("a")
    subprocess.run([*command, case, kind, str(folder)], check=True, stdout=log, stderr=log)


def measured(case: str, ways: list[str], repeat: int, starts: int, folder: Path) -> dict[str, Any]:
    """Figures of each way."""
    kinds = {way if way in BUNDLES else WAYS[way][0] for way in ways}
    for kind in sorted(kind for kind in kinds if kind):
        make(case, kind, folder)
    make(case, "data", folder)
    for way in ways:
        Server(case, way, folder).close()  # caches
    servers = {way: Server(case, way, folder) for way in ways}
    began = {way: [server.started] for way, server in servers.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(repeat + 1):
        for way, server in servers.items():
            taken = server.serve(seed)
            if seed:
                seconds[way].append(taken)
    for server in servers.values():
        server.close()
    for _ in range(starts - 1):
        for way in ways:
            server = Server(case, way, folder)
            began[way].append(server.started)
            server.close()
    return {
        way: {
            "request_s": statistics.median(seconds[way]),
            "load_s": min(one["load_s"] for one in began[way]),
            "first_s": min(one["first_s"] for one in began[way]),
            "mb": min(one["bytes"] for one in began[way]) / 1e6,
        }
        for way in ways
    }


def compared(rows: dict[str, Any]) -> dict[str, float]:
    """The bundle's figures by those of the better of the two ways that compile ahead."""
    own = rows["bundle"]
    found: dict[str, float] = {}
    hand = [rows[way] for way in ("openvino", "onnx") if way in rows]
    for key in own:
        if hand:
            found[key] = own[key] / min(row[key] for row in hand)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append")
    parser.add_argument("--way", action="append", choices=[*BUNDLES, *WAYS])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where files are made, and found if there")
    given = parser.parse_args()
    ways = given.way or [*BUNDLES, *WAYS]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for case in given.case or ["bernini-tiny", "bernini-base", "dit", "unet"]:
            folder = (given.folder or Path(temporary)) / case
            folder.mkdir(parents=True, exist_ok=True)
            rows = measured(case, ways, given.repeat, given.starts, folder)
            ratios = compared(rows) if "bundle" in rows else {}
            results[case] = {"ways": rows, "bundle / better of openvino and onnx": ratios}
            print(json.dumps({case: results[case]}, indent=2), flush=True)


if __name__ == "__main__":
    main()
