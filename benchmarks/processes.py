"""Memory of several processes that serve one bundle on one host, against that of one.

Processes of their own load the bundle and serve a request each; when all have, the memory of each
is read as its proportional set size (PSS, ``smaps_rollup``): a page that several processes map
counts for each of them with its share, so that the sum is what they take together. Beside it the
same for processes that have imported everything and loaded nothing, and the seconds of a request
in the first process alone.

Run: python benchmarks/processes.py --bundle BUNDLE [--count 4] [--memory low fast] [--json FILE]

A bundle can be built by: partition build examples/bernini/model.py --set size=base -o base.bundle
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "examples" / "bernini" / "model.py"
PARTITION = [sys.executable, "-c", "from partitioner.cli import main; main()"]

SERVE = """
import json, sys
import numpy, onnxruntime, skimage.measure, partitioner.runtime
path, memory, repeat = sys.argv[1], sys.argv[2], int(sys.argv[3])
figures = {}
if memory != "none":
    pipe = partitioner.runtime.load(path, memory=memory)
    seconds = [pipe.warmup() for _ in range(repeat)]
    figures = {"seconds": min(seconds), **pipe.stats().to_dict()["memory"]}
print(json.dumps(figures), flush=True)
sys.stdin.readline()
"""


class Server:
    """A process that serves, and then waits."""

    def __init__(self, bundle: Path, memory: str, repeat: int) -> None:
        command = [sys.executable, "-c", SERVE, str(bundle), memory, str(repeat)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.figures: dict[str, Any] = {}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self) -> None:
        """Wait until it has served."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process ended before it had served")
        self.figures = json.loads(line)

    def memory(self) -> dict[str, int]:
        """Bytes: ``Pss``, ``Rss``, and of what no file stands behind ``Pss_Anon``."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="ascii")
        fields = (line.split() for line in text.splitlines()[1:])
        found = {name.rstrip(":"): int(number) * 1024 for name, number, _ in fields}
        return {name: found[name] for name in ("Pss", "Rss", "Pss_Anon")}


def measured(bundle: Path, memory: str, count: int, repeat: int) -> dict[str, Any]:
    """One mode: the first process alone, then all of them; bytes, and seconds of a request."""
    with ExitStack() as stack:
        servers: list[Server] = []
        alone: dict[str, int] = {}
        for _ in range(count):
            # One after the other: what loading takes for a while is not what is measured.
            servers.append(stack.enter_context(Server(bundle, memory, 1 if servers else repeat)))
            servers[-1].wait()
            alone = alone or servers[0].memory()
        each = [server.memory() for server in servers]
        first = servers[0].figures
    return {
        **{f"one_{name}": number for name, number in alone.items()},
        **{f"all_{name}": sum(one[name] for one in each) for name in alone},
        "all_by_one": sum(one["Pss"] for one in each) / alone["Pss"],
        "reported_by_one": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", default="base", help="of the example, where no bundle is given")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--memory", nargs="+", default=["low", "shared", "fast"])
    parser.add_argument("--repeat", type=int, default=4, help="requests of the first process")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle or Path(folder) / "b"
        if given.bundle is None:
            words = ["build", str(MODEL), "--set", f"size={given.size}", "-o", str(bundle)]
            subprocess.check_call([*PARTITION, *words, "--no-parity"])
        result: dict[str, Any] = {"count": given.count}
        for memory in ("none", *given.memory):
            found = result[memory] = measured(bundle, memory, given.count, given.repeat)
            print(memory, json.dumps(found), file=sys.stderr, flush=True)
    for memory in given.memory:
        beyond = [result[memory][k] - result["none"][k] for k in ("all_Pss", "one_Pss")]
        result[memory]["all_by_one_beyond_imports"] = beyond[0] / beyond[1]
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
