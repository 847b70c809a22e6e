"""Traces in Perfetto itself: it takes every event, and draws them where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitioner.runtime import QueueOptions, load, tracing
from tests.report.browsing import start
from tests.runtime.perfetto import query, shown
from tests.runtime.samples import count_positive, make_sampler
from tests.runtime.test_traces import IMAGE


@pytest.mark.slow
def test_perfetto_reads_a_trace_without_complaint(tmp_path: Path) -> None:
    bundle, path = make_sampler(tmp_path / "bundle"), tmp_path / "trace.json"
    queue = QueueOptions(workers=2, limit=8)
    with load(bundle, host_ops=[count_positive], queue=queue) as pipe, tracing(path):
        for request in [pipe.submit(image=IMAGE, seed=seed) for seed in range(6)]:
            request.result(60)
        pipe(image=IMAGE, seed=1)

    driver = start(tmp_path / "profile")
    try:
        with shown(driver, path):
            complaints = query(driver, "SELECT name FROM stats WHERE value AND severity != 'info'")
            kinds = query(
                driver,
                "SELECT category, COUNT(*), MIN(depth), MAX(depth), SUM(dur < 0) FROM slice "
                "GROUP BY category ORDER BY category",
            )
            tracks = query(
                driver,
                "SELECT track.name, process.name, COUNT(*) FROM slice "
                "JOIN process_track AS track ON slice.track_id = track.id "
                "JOIN process USING (upid) GROUP BY track.id ORDER BY track.name",
            )
            threads = query(
                driver,
                "SELECT DISTINCT thread.name FROM slice "
                "JOIN thread_track AS track ON slice.track_id = track.id "
                "JOIN thread USING (utid) WHERE thread.name LIKE 'hand-made worker%'",
            )
    finally:
        driver.quit()

    assert [] == complaints
    assert [
        ("call", 7, 0, 0, 0),
        ("inputs", 7, 1, 1, 0),
        ("loop", 7, 1, 1, 0),
        ("request", 12, 0, 1, 0),
        ("segment", 84, 1, 3, 0),
        ("step", 35, 2, 2, 0),
    ] == kinds
    # A request's track belongs to the process, and has its waiting inside.
    assert [2] * 6 == [count for *_, count in tracks]
    assert {"partitioner"} == {process for _, process, _ in tracks}
    assert threads
