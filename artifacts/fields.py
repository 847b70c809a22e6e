"""What each key of the manifest means, for its JSON Schema and for the page that describes it.

A field's type stands in its dataclass and is not repeated here; a constraint is in the words of
JSON Schema.
"""

from __future__ import annotations

from typing import Any

from partitioner.artifacts.names import MAX_DIMS, MAX_NAME, MAX_TRIPS
from partitioner.artifacts.validate import MAX_SAMPLES
from partitioner.specs import DTYPES

__all__ = ["FIELDS"]

_DIGEST = {"pattern": "^sha256:[0-9a-f]{64}$"}
_NAME = {"minLength": 1, "maxLength": MAX_NAME}
_COUNT = {"minimum": 0}
_TRIPS = {"minimum": 1, "maximum": MAX_TRIPS}

#: class -> key -> (meaning, constraints on the value, or on each item where that is a list).
FIELDS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "Manifest": {
        "schema_version": ("version of the format, MAJOR.MINOR", {"pattern": r"^1\.[0-9]{1,5}$"}),
        "name": ("a label", _NAME),
        "version": ("a label; the digest is the bundle's identity", _NAME),
        "target": ("the hardware it was built for", _NAME),
        "inputs": ("in the order of the pipeline's arguments", {}),
        "outputs": ("[name, tensor], in the order of the pipeline's results", {}),
        "plan": ("what is run, in which order", {}),
        "artifacts": ("segment name -> what its backend made of it; one for each segment", {}),
        "constants": ("value id -> where its data lie; one for each constant of the plan", {}),
        "blobs": ("all blobs but the manifest's own, sorted by digest, each once", {}),
        "parity": ("a run to compare with; null if the build made none", {}),
        "toolchain": ("name -> version of what made the bundle", {}),
        "options": ("the options of the build; free-form", {}),
        "report": ("what the build has to say; free-form", {}),
        "variants": ("schedules to choose from, the plan's own first; since 1.1", {}),
        "memory": ("what a run of the plan takes; since 1.2", {}),
        "requirements": ("what a host must have, by kind and name; since 1.3", {}),
        "batch": ("what is a row of what, in a bucket; else null; since 1.4", {}),
    },
    "Batch": {
        "rows": ("requests that one run serves, each a row", {"minimum": 1}),
        "inputs": ("names of those with a row for each request, in dimension 0", _NAME),
        "stacked": ("names of the outputs with a row for each request, in dimension 0", _NAME),
        "listed": ("names of the outputs of which each row is one: NAME.0, NAME.1 ...", _NAME),
        "least": ("where it serves a range, the fewest; `rows` the most; since 1.5", {}),
        "growth": ("value id -> what each dimension grows by with a row; since 1.5", _COUNT),
    },
    "Requirement": {
        "kind": ("`library`, `machine`, `instructions` or `device`; others are unmet", _NAME),
        "name": ("a distribution; machines, by commas; a machine; an accelerator", _NAME),
        "at_least": ("a version or a level of instructions; empty for any", {}),
        "below": ("a version; empty for none", {}),
        "firm": ("false for what it is meant for and can do without", {}),
        "reason": ("for people", {}),
    },
    "Variant": {
        "options": ("option name -> value; by these a caller chooses it", {}),
        "trips": ("loop name -> its trips; one for each loop of the plan", {}),
        "repeats": ("of the plan's groups of draws, in their order", _TRIPS),
        "constants": ("value id -> where its data lie; the bundle's own for all others", {}),
        "parity": ("a run of it, without segments; null for the plan's own schedule", {}),
        "memory": ("what a run of it takes; null for the plan's own schedule; since 1.2", {}),
    },
    "MemoryUse": {
        "rules": ("version of the rules that the figures are by", _COUNT),
        "peak": ("bytes of a run: arena, outputs and loose together", _COUNT),
        "arena": ("bytes of all values that one step writes for another", _COUNT),
        "outputs": ("bytes of the arrays that the caller gets, of known size", _COUNT),
        "loose": ("most bytes that results of host ops of known size take at a time", _COUNT),
        "alive": ("most bytes that values in the arena take at a time; no arena is less", _COUNT),
        "unsized": ("how many values have a size that only the data decide", _COUNT),
        "inputs": ("bytes of the inputs of known size, no part of the peak", _COUNT),
        "draws": ("bytes of the random values, no part of the peak", _COUNT),
        "constants": ("bytes of the constants, mapped from the bundle", _COUNT),
        "loops": ("loop name -> most bytes that are needed at a time while it runs", _COUNT),
    },
    "InputSpec": {
        "name": ("unique among the inputs; no slash, no leading dot", _NAME),
        "tensor": ("what the pipeline takes", {}),
        "how": ("null for a plain array", {}),
        "used": ("whether the plan reads it; it has a value id only then", {}),
    },
    "TensorSpec": {
        "dtype": ("NumPy's name; bfloat16 never leaves a backend", {"enum": list(DTYPES)}),
        "shape": (
            f"at most {MAX_DIMS}: a size, a symbolic dimension's name, null if the data decide",
            _COUNT,
        ),
    },
    "Image": {
        "size": ("height and width in pixels; the tensor is (1, channels, height, width)", _COUNT),
        "mean": ("per channel, of values in 0 to 1: (pixel / 255 - mean) / std", {}),
        "std": ("per channel, not 0", {}),
        "resample": ("the filter for pictures of another size", {}),
    },
    "Noise": {
        "distribution": ("normal: mean 0, deviation 1; uniform: 0 to 1", {}),
        "scale": ("a factor on the drawn numbers", {}),
    },
    "Plan": {
        "values": ("id -> tensor, for every value of a run", {}),
        "inputs": ("input name -> value id, for the inputs that are used", {}),
        "constants": ("ids of the values whose data lie in the bundle", {}),
        "draws": ("random values, in the order in which they are drawn", {}),
        "steps": ("in the order in which they are run", {}),
        "outputs": ("[name, value id], in the order of the pipeline's results", {}),
        "segments": ("[name, segment], in the order of the pipeline", {}),
    },
    "SegmentInfo": {
        "name": ("the same as its key", _NAME),
        "backend": ("what compiled it and runs it", _NAME),
        "inputs": ("[name, tensor], in the order of a call", {}),
        "outputs": ("[name, tensor], in the order of a call", {}),
        "stages": ("stages of the pipeline with a part in it", {}),
        "nodes": ("how many nodes of the program", _COUNT),
        "sources": ("some source lines, for messages", {}),
    },
    "Call": {
        "segment": ("the segment to run", _NAME),
        "inputs": ("value ids, one for each of the segment's inputs", {}),
        "outputs": ("value ids, one for each of the segment's outputs", {}),
    },
    "Loop": {
        "name": ("for messages and callbacks", _NAME),
        "trips": ("how often the body is run", _TRIPS),
        "carries": ("values that one trip hands to the next", {}),
        "slices": ("values of which each trip reads one row", {}),
        "stacked": ("values to which each trip adds one row", {}),
        "body": ("steps; they read what was written before the loop, too", {}),
    },
    "Carry": {
        "init": ("id of the first trip's value", _NAME),
        "inner": ("id under which the body reads it", _NAME),
        "next": ("id that the next trip gets", _NAME),
        "final": ("id under which the last trip's `next` is read after the loop, or null", {}),
    },
    "Slice": {
        "source": ("id of a value with `trips` rows or more", _NAME),
        "inner": ("id under which the body reads its row", _NAME),
    },
    "Stacked": {
        "inner": ("id of the body's value", _NAME),
        "result": ("id of the value with `trips` rows, read after the loop", _NAME),
    },
    "DrawGroup": {
        "repeat": ("how often the draws are made, in turn", _TRIPS),
        "draws": ("what is drawn", {}),
    },
    "Draw": {
        "value": ("id of the random value; its shape is fixed", _NAME),
        "distribution": ("as torch's CPU generator draws it", {}),
        "args": ("mean and deviation of normal, low and high of the others", {}),
        "row": ("whether the k-th repetition fills row k of at least `repeat` rows", {}),
        "stream": ("which generator; each starts from the request's seed", _COUNT),
    },
    "Artifact": {
        "backend": ("the same as its segment's", _NAME),
        "graph": ("digest of the compiled graph; null for a host op", _DIGEST),
        "weights": ("digests of the blobs that it reads weights from", _DIGEST),
        "options": ("for the backend, which refuses those it does not know", {}),
    },
    "ConstantRef": {
        "blob": ("digest of the blob that holds the data: little-endian, C order", _DIGEST),
        "offset": ("first byte; a multiple of the dtype's size", _COUNT),
        "nbytes": ("bytes; what dtype and shape take", _COUNT),
    },
    "Blob": {
        "digest": ("the blob's name, and the hash of its content", _DIGEST),
        "size": ("bytes", _COUNT),
        "media_type": ("what it holds", {"maxLength": MAX_NAME}),
    },
    "ParitySample": {
        "seed": ("the seed of the run", _COUNT),
        "inputs": ("input name -> what was given; noise is drawn from the seed", {}),
        "outputs": ("output name -> what the pipeline gave", {}),
        "segments": ("what segments gave, in the order in which they were run", {}),
        "tolerance": ("how far off is good enough", {}),
    },
    "SampleInput": {
        "spec": ("its tensor", {}),
        "data": ("the whole of it", {}),
    },
    "SegmentExpected": {
        "segment": ("its name", _NAME),
        "call": ("which call of the segment in the run, from 0", _COUNT),
        "outputs": ("output name -> what it gave", {}),
    },
    "Expected": {
        "spec": ("its tensor, all dimensions known", {}),
        "norm": ("L2 norm of the whole; -1 where that is no finite number", {"minimum": -1}),
        "count": ("how many numbers are kept", {"minimum": 0, "maximum": MAX_SAMPLES}),
        "values": ("float64; number i is at floor(i * size / count) of the flat tensor", {}),
        "exact": ("false after a host op, which may give other rows on another host", {}),
    },
    "Tolerance": {
        "relative": ("norm of the difference to the norm of what is expected", _COUNT),
        "absolute": ("root mean square of the difference that is always accepted", _COUNT),
    },
}
