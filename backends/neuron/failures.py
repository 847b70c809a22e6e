"""What the Neuron compiler and runtime say when they fail, and what to do about it.

A table from text to cause and advice, looked through in order; the first that fits counts.
Sources: error codes, ``nrt-troubleshoot`` and ``api-torch-neuronx-trace`` of the documentation of
AWS Neuron SDK 2.32.0; source of torch_neuronx; issues of aws-neuron-sdk, aws-neuron-samples and
optimum-neuron.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["CODES", "COMPILING", "RUNNING", "Failure", "explain"]

_MEMORY = "compile on a machine with more memory (SDXL needs 128 GiB), or split the stage"
_SPLIT = "split the stage, or set neuron.optlevel=1 for it"
_SMALLER = "split the stage, compute it in bf16, or make its batch smaller"
_OTHER_OPS = "write the step with other ops, or give the stage to another backend (--place)"
_REPORT = (
    "a defect of the compiler: try neuron.optlevel=1, another version of neuronx-cc, or give the "
    "stage to another backend (--place)"
)
_CAST = "cast before the op, or give the stage to another backend (--place)"

#: neuronx-cc's error code -> (cause, advice).
CODES: dict[str, tuple[str, str]] = {
    "EARG001": (
        "the target has no logical cores of that many cores",
        "leave neuron.lnc out: 1 is the only value on inf2 and trn1",
    ),
    "EBVF030": ("the graph has more instructions than the compiler takes", _SPLIT),
    "EVRF007": ("the graph has more instructions than the compiler takes", _SPLIT),
    "EXTP004": ("the graph has more instructions than the compiler takes", _SPLIT),
    "XTP002": ("the graph has more instructions than the compiler takes", _SPLIT),
    "EOOM001": ("the tensors do not fit in the device's memory", _SMALLER),
    "EOOM002": ("the tensors do not fit in the device's memory", _SMALLER),
    "EVRF009": ("the activations do not fit in the device's memory", _SMALLER),
    "EXSP001": ("the activations do not fit in the device's memory", _SMALLER),
    "EMOD025": ("the graph has a dynamic shape", "pad to a fixed size"),
    "EHCA005": ("the compiler does not know a custom call", _OTHER_OPS),
    "EVRF015": ("the compiler does not know a custom call", _OTHER_OPS),
    "EUOC002": ("an operator is not supported", _OTHER_OPS),
    "EVRF001": ("an operator is not supported", _OTHER_OPS),
    "EVRF029": ("sorting is not supported", _OTHER_OPS),
    "EVRF004": ("complex numbers are not supported", _OTHER_OPS),
    "EVRF005": ("an 8-bit float of another maker is not supported", _CAST),
    "EVRF051": ("float8_e4m3fn is not supported on trn1 and trn2", _CAST),
    "EVRF052": ("float8_e4m3 is not supported on hardware after trn3", _CAST),
    "ESPP004": ("a dtype is not supported", _CAST),
    "ESPP047": ("an 8-bit float is not supported", _CAST),
    "ESFH002": ("a constant does not fit in 32 bits", "use smaller whole numbers"),
    "EVRF006": ("another generator of random numbers than the default is not supported", _REPORT),
    "EVRF010": ("a convolution dilates input and kernel", _OTHER_OPS),
    "EVRF011": ("a convolution has a stride and a dilated input", _OTHER_OPS),
    "EVRF013": ("topk of integers is not supported", _CAST),
    "EVRF016": ("a reducing scatter of integers is not supported", _CAST),
    "EVRF017": ("a pool over a dilated input is not supported", _OTHER_OPS),
    "EVRF018": ("a pool with a dilated window is not supported", _OTHER_OPS),
    "EVRF019": ("a pool with several operands is not supported", _OTHER_OPS),
    "EVRF022": ("a shift of other than 32 bits is not supported", _CAST),
    "EVRF031": ("a scatter goes out of bounds", "see whether a table is shorter than its indices"),
    "EVRF056": ("a gather goes out of bounds", "see whether a table is shorter than its indices"),
    "EVRF035": ("products of wide integers are not supported", _CAST),
    "EVRF060": ("a scatter of integers would lose digits", _CAST),
    "EVRF061": ("an all-reduce of integers would lose digits", _CAST),
    "EVRF062": ("a power of 64-bit integers would lose digits", _CAST),
    "EVRF063": ("a reduce-scatter of integers would lose digits", _CAST),
    "EVRF059": ("a kernel's file is not on this machine", "install what brings the kernel"),
    "EVRF064": ("the tracer has made a graph that is not valid", _REPORT),
    "EVRF065": ("a kernel was traced by another version of NKI", "bring both to one version"),
    "GCA035": ("the compiler could not place the graph's buffers", _SMALLER),
}


@dataclass(frozen=True)
class Failure:
    """A failure that is known.

    Attributes:
        pattern: of its text.
        cause: a clause.
        advice: what to do.
    """

    pattern: str
    cause: str
    advice: str


def _known(pattern: str, cause: str, advice: str) -> Failure:
    return Failure(pattern, cause, advice)


#: Of tracing and compiling; codes are looked for first, exit codes last.
COMPILING = (
    _known(r"Too many open files", "too many files were opened", "ulimit -n 65535"),
    _known(
        r"EncodeError|exceeds maximum protobuf size",
        "the graph with its weights is larger than 2 GiB, which an HLO cannot be",
        "set neuron.weights=separate for the stage, or split it",
    ),
    _known(
        r"neuronx-cc is not installed",
        "neuronx-cc is not installed",
        "install neuronx-cc beside torch-neuronx, from the package index of AWS Neuron",
    ),
    _known(
        r"please supply compiler argument target",
        "the compiler was not told the target",
        "this is a defect of partitioner: report it with the log",
    ),
    _known(
        r"F137|neuronx-cc failed with -9\b", "neuronx-cc was killed for want of memory", _MEMORY
    ),
    _known(r"neuronx-cc failed with -6\b", "neuronx-cc aborted (SIGABRT)", _REPORT),
    _known(r"neuronx-cc failed with -11\b", "neuronx-cc crashed (SIGSEGV)", _REPORT),
    _known(
        r"neuronx-cc failed with 70\b",
        "neuronx-cc gave up on the graph (exit code 70)",
        "its log says why; larger latents or batches than a core takes end like this: " + _SMALLER,
    ),
    _known(r"neuronx-cc failed with 1\b", "neuronx-cc failed (exit code 1)", "its log says why"),
    _known(
        r"neuronx-cc failed with (-?\d+)",
        "neuronx-cc failed",
        "its log says why; run with --log to keep it",
    ),
)

#: Of loading and running.
RUNNING = (
    _known(
        r"NEFF version:? ?[\d.]+, features: ?0x[0-9a-fA-F]+ are not supported",
        "the runtime is older than the compiler that made the NEFF",
        "bring the machine's Neuron runtime and driver to the SDK of the build, or compile with "
        "the machine's SDK (partition compile)",
    ),
    _known(
        r"NEFF version mismatch",
        "the runtime does not know the NEFF's version",
        "bring the machine's Neuron runtime and driver to the SDK of the build",
    ),
    _known(
        r"Unsupported hardware operator code",
        "the NEFF has operators that this device or runtime does not know",
        "compile for this device's own target, with the machine's SDK",
    ),
    _known(
        r"Unknown builtin op|__torch__\.torch\.classes\.neuron|neuron\.Model",
        "the torch-neuronx here does not know the artifact",
        "install the torch-neuronx of the build (`partition inspect` names it)",
    ),
    _known(
        r"NRT_RESOURCE|out of memory|RESOURCE_EXHAUSTED|Failed to allocate",
        "the device's memory is used up",
        "load fewer copies (mode='latency'), or use more cores",
    ),
    _known(
        r"nrt_init|No neuron device|NRT_UNINITIALIZED|Neuron runtime|not initialized",
        "the Neuron runtime does not start here",
        "see whether neuron-ls finds a device, and whether another process has its cores",
    ),
    _known(
        r"NRT_TIMEOUT|timed out|NRT_EXEC_COMPLETED_WITH_ERR",
        "the device did not finish",
        "see neuron-top and dmesg; NEURON_RT_EXEC_TIMEOUT allows more time",
    ),
)


def explain(text: str, known: tuple[Failure, ...]) -> tuple[str, str] | None:
    """Cause and advice for what a log or an exception says; None where it is nothing known."""
    for code in re.findall(r"(?:NCC_)?\b([EX][A-Z]{2,3}\d{3}|GCA035)\b", text.replace("NCC_", "")):
        if code in CODES:
            cause, advice = CODES[code]
            return f"{cause} (NCC_{code})", advice
    for failure in known:
        if re.search(failure.pattern, text):
            return failure.cause, failure.advice
    return None
