"""The tables of ``docs/targets.md``: keys of a target file, figures, and where they come from.

python -m partitioner.targets.page docs
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from partitioner.targets.catalogue import all_targets
from partitioner.targets.facts import Device, Target
from partitioner.targets.schema import FILE, Each, Flag, Keys, Kind, Names, Number, PriceOf, Text

__all__ = ["replace_tables", "tables"]

_BEGIN = "<!-- tables: made by partitioner.targets.page -->\n"
_END = "<!-- end of tables -->\n"


def tables() -> str:
    """The page's tables as Markdown."""
    targets = all_targets()
    families = [target for target in targets if "." not in target.name]
    parts = [
        "## Keys\n",
        *_table(("key", "is", "meaning"), _keys(FILE, "")),
        "\n## Targets\n",
        *_table(_FIGURES, map(_figures, families)),
        "\n## Instances\n",
        *_table(_INSTANCES, map(_instance, (t for t in targets if "." in t.name))),
        "\n## Sources\n",
        *(line for target in families for line in _sources(target)),
    ]
    return "\n".join(parts) + "\n"


def replace_tables(page: str) -> str:
    """The page with its tables as they should be."""
    head, _, rest = page.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return f"{head}{_BEGIN}\n{tables()}\n{_END}{tail}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


# --- keys ---------------------------------------------------------------------------------------


def _keys(kind: Kind, before: str) -> Iterator[Sequence[str]]:
    match kind:
        case Keys() | PriceOf():
            if isinstance(kind, PriceOf):
                yield f"`{before[:-1]}`", "`per_hour`, or a table", kind.meaning
            for key, own in kind.kinds.items():
                yield from _keys(own, f"{before}{key}.")
        case Each(kind=Keys()):
            yield from _keys(kind.kind, f"{before}NAME.")
        case Each():
            known = f"a table; keys: {', '.join(kind.known)}" if kind.known else "a table"
            yield f"`{before[:-1]}`", f"{known}; {_words(kind.kind)} each", kind.meaning
        case _:
            yield f"`{before[:-1]}`", _words(kind), kind.meaning


def _words(kind: Kind) -> str:
    match kind:
        case Number():
            what = "whole number" if kind.whole else "figure"
            unit = f" {kind.unit}" if kind.unit else ""
            return f"{what}, {kind.low:g} to {kind.high:g}{unit}"
        case Text():
            return f"text such as `{kind.form}`" if kind.form else "text"
        case Names():
            return f"list of {', '.join(kind.known)}" if kind.known else "list of texts"
        case Flag():
            return "true or false"
        case _:
            return "table"


# --- figures ------------------------------------------------------------------------------------

_FIGURES = (
    *("target", "figures of", "backends", "device", "cores", "GiB", "GB/s"),
    *("Gop/s float32", "bfloat16", "int8", "other ops", "copies", "an hour"),
)


def _figures(target: Target) -> Sequence[str]:
    device = target.device_of(target.backends[0])
    return (
        f"`{target.name}`",
        target.instance or "a common host",
        ", ".join(target.backends),
        *(device.name, str(device.cores), f"{device.memory_bytes / 2**30:g}"),
        f"{device.bandwidth / 1e9:g}",
        *(_speed(device, dtype) for dtype in ("float32", "bfloat16", "int8")),
        f"{device.vector_flops / 1e9:g}",
        str(device.copies),
        _price(target),
    )


def _speed(device: Device, dtype: str) -> str:
    return f"{device.flops[dtype] / 1e9:g}" if dtype in device.flops else ""


def _price(target: Target) -> str:
    return f"{target.price.per_hour:g} {target.price.currency}" if target.price else ""


_INSTANCES = ("target", "copies", "host cores a copy", "host GiB a copy", "an hour", "on", "terms")


def _instance(target: Target) -> Sequence[str]:
    host, price = target.device_of("host"), target.price
    return (
        f"`{target.name}`",
        *(str(host.copies), str(host.cores), f"{host.memory_bytes / 2**30:g}"),
        _price(target),
        *((price.date, price.terms) if price else ("", "")),
    )


def _sources(target: Target) -> Iterator[str]:
    yield f"\n### {target.name}\n"
    yield from (f"- {source}" for source in target.sources)
    if target.price is not None:
        yield f"- price, {target.price.date}: {target.price.source}"
    yield ""
    beside = target.figure_sources.items()
    rows = ((f"`{key}`", f"{target.figures[key]:.6g}", source) for key, source in beside)
    yield from _table(("figure", "is", "from"), rows)


def _main(directory: Path) -> None:
    path = directory / "targets.md"
    path.write_text(replace_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
