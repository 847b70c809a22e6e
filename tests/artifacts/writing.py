"""A build in a process of its own that stops in the middle, for tests that kill it.

Run as ``python -m tests.artifacts.writing OUTPUT MODE``; prints a line when it has begun.
"""

from __future__ import annotations

import resource
import signal
import sys
import time

from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import PartitionerError

MIB = b"x" * 2**20


def main(output: str, mode: str) -> None:
    # A shell that runs the tests in the background has SIGINT ignored, for us too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if mode == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    try:
        with BundleWriter(output) as writer:
            writer.add_bytes(b"first", "text/plain")
            print("begun", flush=True)
            if mode == "full":
                writer.add_chunks([MIB, MIB], "text/plain")
            else:
                writer.add_chunks(_slowly(), "text/plain")
    except PartitionerError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(error.exit_code)


def _slowly() -> object:
    while True:
        yield MIB
        print("more", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
