"""What the verbs that take a MODEL share: which pipeline it is, and how it is captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from partitioner.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from partitioner.rowcounts import RowRange
    from partitioner.targets import Target

__all__ = [
    "batch_option",
    "capture_arguments",
    "each_target",
    "load",
    "member_option",
    "model_options_for_targets",
    "needs_torch",
    "parse_labels",
    "stage_paths",
    "target_files",
    "target_of",
    "variant_choices",
]

#: ``--target-file``, for verbs that name a target.
target_files = click.option(
    "--target-file",
    "target_files",
    multiple=True,
    type=click.Path(),
    help="A file of your own targets; see docs/targets.md. PARTITIONER_TARGETS names some, too.",
)

#: ``--variant``, for verbs that take a bundle: the member of one for several targets.
member_option = click.option(
    "--variant",
    "wanted",
    metavar="target=NAME",
    callback=lambda _ctx, _param, text: parse_labels(text),
    help="The member of a bundle that has several: --variant target=xeon,batch=4.",
)

#: ``--batch``: the sizes of buckets.
batch_option = click.option(
    "--batch",
    metavar="ROWS[-MOST][,...]",
    callback=lambda _ctx, _param, text: _sizes(text),
    help="Serve so many requests at once: --batch 1,4, or any number: --batch 1-8.",
)

_TARGETS = click.option(
    "--target",
    "targets",
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="See `partition targets`; again for more, side by side.",
)

_OPTIONS = (
    target_files,
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Fix an argument of the pipeline or its factory: --set steps=20.",
    ),
    click.option(
        "--stage",
        "stages",
        multiple=True,
        metavar="NAME=PATH",
        help="Name a stage by its attribute path: --stage denoiser=unet.",
    ),
    click.option(
        "--precision",
        multiple=True,
        metavar="[STAGE=]DTYPE",
        help="f32, bf16 or f16, for all stages or one: --precision bf16 --precision decoder=f32.",
    ),
    click.option(
        "--backends",
        metavar="NAME[,...]",
        help="Backends instead of the target's own, in order of preference: openvino,onnx.",
    ),
    click.option(
        "--place",
        "places",
        multiple=True,
        metavar="STAGE=BACKEND",
        help="Put a stage on a backend: --place decoder=onnx.",
    ),
    click.option(
        "--place-op",
        "place_ops",
        multiple=True,
        metavar="OP=BACKEND",
        help="Put an op on a backend, wherever it is: --place-op softmax=onnx.",
    ),
)


def model_options_for_targets(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a model is captured with and planned for; the targets under the name ``targets``."""
    for option in reversed((_TARGETS, *_OPTIONS)):
        function = option(function)
    return function


def _sizes(text: str | None) -> tuple[int | RowRange, ...]:
    if text is None:
        return ()
    try:
        from partitioner.batching import parse_sizes
    except ImportError as error:
        raise needs_torch(error, "building") from error
    return parse_sizes(text)


def parse_labels(text: str | None) -> dict[str, str] | None:
    """The labels of ``--variant target=xeon,batch=4`` of verbs that take a bundle.

    Raises:
        UsageError: one is not NAME=VALUE, or is given twice.
    """
    if text is None:
        return None
    pairs = [item.partition("=") for item in text.split(",")]
    labels = {name.strip(): value.strip() for name, _, value in pairs}
    if len(labels) < len(pairs) or not all(name and value for name, value in labels.items()):
        raise UsageError(
            f"--variant {text} names no member",
            advice="give --variant target=NAME; several labels by commas, each once",
        )
    return labels


def needs_torch(error: ImportError, doing: str) -> MissingDependencyError:
    """The error where what builds is not installed."""
    return MissingDependencyError(
        f"{doing} needs {error.name}, which is not installed",
        advice="pip install 'partitioner[build]'",
    )


def load(model: str, given: Mapping[str, Any]) -> Any:
    """The model that MODEL and the options name; the target is looked at before the work."""
    from partitioner.modelfile import load_model, parse_setting

    target_of(given)
    return load_model(model, dict(parse_setting(s) for s in given["settings"]))


def target_of(given: Mapping[str, Any]) -> Target:
    """The target that ``--target``, ``--target-file`` and ``--backends`` name.

    Raises:
        UsageError: there is none, a file is wrong, or it has no such backend.
    """
    from partitioner.targets import find_target
    from partitioner.targets.choice import with_backends

    found, names = find_target(given["target"], given["target_files"]), given["backends"]
    return found if names is None else with_backends(found, [n.strip() for n in names.split(",")])


def each_target(targets: Sequence[str], given: Mapping[str, Any]) -> list[Target]:
    """The targets of several ``--target``, each as :func:`target_of` has it."""
    return [target_of({**given, "target": name}) for name in targets]


def capture_arguments(loaded: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments that a build, and whatever does its first half, take."""
    from partitioner.passes.pipeline import DEFAULT
    from partitioner.planning.overrides import parse_overrides
    from partitioner.precision import parse_precision

    return {
        "target": target_of(given),
        "overrides": parse_overrides(given["places"], given["place_ops"]),
        "inputs": loaded.inputs,
        "stages": {**loaded.stages, **stage_paths(given["stages"])},
        "options": loaded.options,
        "precision": parse_precision(given["precision"]),
        "passes": given["passes"] if given["passes"] is not None else DEFAULT,
    }


def stage_paths(texts: Sequence[str]) -> dict[str, str]:
    """The values of ``--stage``.

    Raises:
        UsageError: one is not NAME=PATH.
    """
    wrong = next((text for text in texts if not text.partition("=")[1]), None)
    if wrong is not None:
        raise UsageError(f"--stage takes NAME=PATH, not {wrong!r}")
    return {text.partition("=")[0]: text.partition("=")[2] for text in texts}


def variant_choices(texts: Sequence[str], settings: Sequence[str]) -> list[dict[str, Any]]:
    """The options of each ``--variant``.

    Args:
        settings: of ``--set``, which would say otherwise.

    Raises:
        UsageError: one is not NAME=VALUE, or an option has two values.
    """
    from partitioner.modelfile import parse_setting

    fixed = {parse_setting(text)[0] for text in settings}
    choices: list[dict[str, Any]] = []
    for text in texts:
        pairs = [parse_setting(item, "--variant") for item in text.split(",")]
        choice = dict(pairs)
        if len(choice) < len(pairs):
            raise UsageError(
                f"--variant {text} gives an option twice",
                advice="a variant for each: --variant steps=5 --variant steps=20",
            )
        both = sorted(fixed & choice.keys())
        if both:
            raise UsageError(
                f"{both[0]!r} is fixed by --set, and told apart by --variant {text}",
                advice="leave one out",
            )
        choices.append(choice)
    return choices
