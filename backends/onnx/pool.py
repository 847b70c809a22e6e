"""One thread pool for all sessions of the process.

With a pool each, the threads of a session that has just run spin for a while and compete with the
next one's: a chain of four segments took 2.1 ms on one shared pool and 8.6 ms on four (2 cores).
ONNX Runtime's process-wide pool has two properties to know of:

- its size is set once, before the first session uses it, and stays;
- from then on, sessions that other code of this process makes with default options are refused
  ("use_per_session_threads must be false when using a global thread pool").

Where other code makes sessions of its own and cannot be changed, set the environment variable
``PARTITIONER_ONNX_POOL=session``: every segment then has a pool of its own, whose threads stop
spinning at the end of each run.

Bundles that use other libraries, too, have a pool for each session, whose threads sleep soon: those
of the shared pool cannot be told to. Sessions like that are possible as long as there is no shared
pool, and do not prevent one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from typing import Any

from partitioner.runtime.cpus import usable_cpus

__all__ = ["VARIABLE", "apply_pool"]

VARIABLE = "PARTITIONER_ONNX_POOL"

#: How long threads wait for the next op before they sleep, where another library computes after it:
#: 0.75 of the time of a plan that alternates, on a busy machine (``benchmarks/mixed.py``).
_MOMENT_US = "50"

_lock = threading.Lock()
_shared: int | None = None


def apply_pool(ort: Any, options: Any, threads: int | None, mixed: bool = False) -> int:
    """Set up session options for the shared pool, and the pool itself at the first call.

    Args:
        ort: the onnxruntime module.
        options: its SessionOptions, written to.
        threads: wanted number of threads; None for as many as the process may use.
        mixed: whether other libraries compute between this one's calls; threads then spin for a
            moment only, if the shared pool, which cannot be told so, has not been made before.

    Returns:
        the number of threads a call will use.
    """
    wanted = threads if threads is not None else usable_cpus()
    if mixed and _shared is None:
        options.intra_op_num_threads = wanted
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.spin_duration_us", _MOMENT_US)
        return wanted
    shared = None if os.environ.get(VARIABLE) == "session" else _shared_pool(ort, wanted)
    if shared is None:
        options.intra_op_num_threads = wanted
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return wanted
    if threads is not None and threads != shared:
        warnings.warn(
            f"{threads} threads were asked for, but this process shares one pool, which has had "
            f"{shared} since the first bundle was loaded",
            RuntimeWarning,
            stacklevel=2,
        )
    options.use_per_session_threads = False
    return shared


def _shared_pool(ort: Any, threads: int) -> int | None:
    """The size of the process-wide pool, made at the first call; None if it cannot be had."""
    global _shared
    with _lock:
        if _shared is not None:
            return _shared
        create = getattr(ort, "set_global_thread_pool_sizes", None)
        if create is None:
            return None
        # Other code of this process may have made the pool already: use it, whatever its size.
        with contextlib.suppress(Exception):
            create(threads, 1)
        _shared = threads
        return _shared
