"""Options of a backend's compiler: ``neuron.optlevel=1``, ``neuron.decoder.optlevel=1``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partitioner.backends import find_backend
from partitioner.errors import UsageError

if TYPE_CHECKING:
    from partitioner.plan import Plan
    from partitioner.targets import Target

__all__ = ["BackendOptions", "check_options", "check_stages", "parse_options"]

#: backend -> name -> value.
BackendOptions = Mapping[str, Mapping[str, Any]]


def parse_options(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The values of ``--backend-option``.

    Raises:
        UsageError: one is not BACKEND.NAME=VALUE, or is given twice.
    """
    from partitioner.modelfile import parse_setting

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, value = parse_setting(text, "--backend-option")
        backend, dot, name = key.partition(".")
        if not dot or not name:
            raise UsageError(f"--backend-option takes BACKEND.NAME=VALUE, not {text!r}")
        own = found.setdefault(backend, {})
        if name in own:
            raise UsageError(f"--backend-option gives {key} twice", advice="leave one out")
        own[name] = value
    return found


def check_options(options: BackendOptions, targets: Sequence[Target]) -> None:
    """Before the work, not after it.

    Raises:
        UsageError: of a backend that none of the targets has, or one that has no such option.
    """
    known = list(dict.fromkeys(name for target in targets for name in target.backends))
    for backend, own in options.items():
        if backend not in known:
            names = ", ".join(target.name for target in targets)
            raise UsageError(
                f"no target of {names} has a backend {backend!r} that could have options",
                advice=f"they have: {', '.join(known)}",
            )
        find_backend(backend).check_settings(own)


def check_stages(options: BackendOptions, plan: Plan) -> None:
    """See that the stages which have options of their own are stages of the plan's segments.

    Raises:
        UsageError: one is not.
    """
    stages = list(dict.fromkeys(s for info in plan.segments.values() for s in info.stages))
    for backend, own in options.items():
        for key in own:
            stage = key.rpartition(".")[0]
            if not stage or stage in stages:
                continue
            near = difflib.get_close_matches(stage, stages, 1)
            raise UsageError(
                f"there is no stage {stage!r} for the option {backend}.{key}",
                advice=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(stages)}",
            )
