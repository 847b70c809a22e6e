"""A benchmark as a drawing, PNG or SVG, by matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from partitioner.benching.numbers import number
from partitioner.benching.results import Benchmark
from partitioner.errors import MissingDependencyError, UsageError
from partitioner.wholefiles import write_whole

__all__ = ["check_chart", "write_chart"]

_SUFFIXES = (".svg", ".png")
_COLOUR, _MARK = "#3b6ea5", "#b5482f"


def check_chart(path: Path) -> None:
    """Refuse a chart that cannot be drawn, before anything is measured.

    Raises:
        UsageError: another suffix.
        MissingDependencyError: matplotlib is not installed.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"a chart is {' or '.join(_SUFFIXES)}, not {path.name!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError(
            "charts are drawn by matplotlib, which is not installed",
            advice="pip install 'partitioner[chart]'",
        )


def write_chart(path: Path, found: Benchmark) -> Path:
    """Draw latency, throughput, the parts of a request, and starts of processes if there are any.

    Args:
        path: ends in .svg or .png.

    Raises:
        as :func:`check_chart`; and OutputError: the file system refuses.
    """
    check_chart(path)
    # Not pyplot, which chooses a screen and keeps figures.
    from matplotlib.figure import Figure

    panels = [_latency, _throughput, _parts, *([_starts] if found.warm is not None else [])]
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(panels)), panels, strict=True):
        draw(axes, found)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{found.subject.name} {found.subject.digest[:19]}, {found.cpus} CPUs")
    kind = path.suffix.lower().removeprefix(".")
    return write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=150))


def _latency(axes: Any, found: Benchmark) -> None:
    """Each request, and the percentiles."""
    milliseconds = sorted(second * 1e3 for second in found.seconds)
    shares = [(rank + 1) / len(milliseconds) for rank in range(len(milliseconds))]
    axes.step(milliseconds, shares, where="post", color=_COLOUR)
    for name, style in (("p50", "-"), ("p90", "--"), ("p99", ":")):
        value = getattr(found.latency, name).value * 1e3
        label = f"{name} {value:.4g} ms"
        axes.axvline(value, color=_MARK, linewidth=0.9, linestyle=style, label=label)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set(title=f"latency, {found.latency.count} requests", xlabel="ms", ylabel="share below")
    # A few that took very long would squeeze all others.
    axes.set_xlim(milliseconds[0] * 0.95, found.latency.p99.value * 1e3 * 1.2)
    axes.set_ylim(0, 1.02)


def _throughput(axes: Any, found: Benchmark) -> None:
    labels = [str(one.concurrency) for one in found.throughput]
    bars = axes.bar(labels, [one.per_second for one in found.throughput], color=_COLOUR, width=0.6)
    axes.bar_label(bars, [number(one.per_second) for one in found.throughput], fontsize=8)
    axes.set(title="throughput", xlabel="clients at a time", ylabel="requests a second")


def _parts(axes: Any, found: Benchmark) -> None:
    parts = sorted(found.parts, key=lambda part: part.seconds)[-12:]
    bars = axes.barh(
        [part.name for part in parts], [part.seconds * 1e3 for part in parts], color=_COLOUR
    )
    axes.bar_label(bars, [f"{part.share:.0%}" for part in parts], fontsize=8, padding=2)
    axes.set(title="parts of a request", xlabel="ms")
    axes.margins(x=0.15)


def _starts(axes: Any, found: Benchmark) -> None:
    """What a process does until its first result, stacked."""
    kinds = {"cold": found.cold, "warm": found.warm}
    left = dict.fromkeys(kinds, 0.0)
    for name, shade in (("imports", "#b9cbe0"), ("load", _COLOUR), ("first", "#1d3b5c")):
        for label, loading in kinds.items():
            seconds = getattr(loading, name)
            named = name if label == "cold" else None
            axes.bar(label, seconds, bottom=left[label], color=shade, width=0.6, label=named)
            left[label] += seconds
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set(title="start to first result", ylabel="seconds")
