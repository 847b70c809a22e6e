"""What the artifact of a segment depends on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.jsontext import dumps
from partitioner.backends.base import CacheFacts
from partitioner.backends.graphs import to_json
from partitioner.caching.canonical import Canonical
from partitioner.caching.keys import Key, Part, part

__all__ = ["segment_key"]


def segment_key(form: Canonical, facts: CacheFacts) -> Key:
    """The key of compiling a segment: all of the list below.

    - ``graph``: ops, operands, arguments and types, in order, constants by the order of their use;
    - ``constants``: the numbers of those that travel with the graph, the types of the others;
    - ``specs``: types of inputs and outputs, and their names if the artifact depends on them;
    - ``weights``: blob (by digest), offset and length of each constant outside, or that the
      artifact does not depend on them;
    - ``options``, ``compiler``, ``target``: as the backend says; its name is in ``compiler``.
    """
    document = to_json(form.segment.graph, form.constants, set(form.layout))
    return Key(
        (
            _graph_part(document["nodes"]),
            _constants_part(document),
            _specs_part(form, facts),
            _weights_part(form, facts),
            part("options", dict(facts.options)),
            part("compiler", {"backend": form.segment.backend, **facts.compiler}),
            part("target", None if facts.target is None else dict(facts.target)),
        )
    )


def _graph_part(nodes: list[dict[str, Any]]) -> Part:
    """Without source lines: they change with every line above them, and no artifact has them."""
    plain = [{k: v for k, v in node.items() if k != "source"} for node in nodes]
    counts = Counter(node["target"] for node in nodes if node["op"] == "call_function")
    facts = {op: str(count) for op, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))}
    return part("graph", plain, {"nodes": len(nodes), **facts})


def _constants_part(document: Any) -> Part:
    kept, lifted = document["constants"], document["lifted"]
    facts = {name: digest_bytes(dumps(value)) for name, value in kept.items()}
    return part("constants", {"kept": kept, "lifted": lifted}, {"outside": len(lifted), **facts})


def _specs_part(form: Canonical, facts: CacheFacts) -> Part:
    segment = form.segment
    rows = {
        "inputs": [_spec(t) for t in segment.input_types],
        "outputs": [_spec(t) for t in segment.output_types],
    }
    if not facts.weight_free:
        rows["names"] = [*segment.inputs, *segment.outputs]
    return part("specs", rows, dict(_listed(rows)))


def _spec(type_: Any) -> str:
    return str(type_.spec)


def _listed(rows: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for kind, texts in rows.items():
        for index, text in enumerate(texts):
            yield f"{kind}[{index}]", text


def _weights_part(form: Canonical, facts: CacheFacts) -> Part:
    if facts.weight_free:
        return part("weights", None, {"weights": "free"})
    places = [[ref.blob, ref.offset, ref.nbytes] for ref in form.outside.places]
    return part("weights", places, {f"blob[{i}]": b for i, b in enumerate(form.outside.blobs)})
