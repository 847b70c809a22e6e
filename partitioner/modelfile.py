"""Model files: the contract of ``partition build FILE.py[:NAME]`` or ``package.module:NAME``.

Described for users in ``docs/model-file.md``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from partitioner.errors import ModelError, PartitionerError, UsageError
from partitioner.specs import Image, Noise

__all__ = ["LoadedModel", "load_model", "parse_setting"]

DEFAULT_NAME = "pipeline"


@dataclass(frozen=True)
class LoadedModel:
    """What a model file gives.

    Attributes:
        pipeline: the module, callable or diffusers pipeline.
        example_inputs: as the file gives them.
        inputs: how inputs are made.
        stages: stage name -> attribute path.
        options: non-tensor arguments that are fixed at build, from ``--set``.
        name: of the file or module, a default for the bundle's name.
        calibration_inputs: more examples, for quantisation.
        batched: the inputs that have a row for each request; None if the file does not say.
        file: what was loaded; None for a module without one.
        quality: how good a result is beside the eager pipeline's, where the file says so.
        quality_inputs: more examples, to measure that on.
    """

    pipeline: Any
    example_inputs: dict[str, Any]
    inputs: dict[str, Image | Noise]
    stages: dict[str, str]
    options: dict[str, Any]
    name: str
    calibration_inputs: tuple[dict[str, Any], ...] = ()
    batched: tuple[str, ...] | None = None
    file: Path | None = None
    quality: Callable[..., float] | None = None
    quality_inputs: tuple[dict[str, Any], ...] = ()


def parse_setting(text: str, option: str = "--set") -> tuple[str, Any]:
    """``key=value`` with the value as JSON where it is JSON (numbers, true, null, lists).

    Args:
        option: of the command line, for the message.

    Raises:
        UsageError: there is no ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{option} takes name=value, not {text!r}")
    spelled = {"True": True, "False": False, "None": None}
    if value in spelled:
        return key, spelled[value]
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def load_model(reference: str, settings: Mapping[str, Any] | None = None) -> LoadedModel:
    """Load a model file or module.

    Args:
        reference: ``FILE.py[:NAME]`` or ``package.module:NAME``.
        settings: values by name. A name that is a parameter of the factory (or of the functions
            ``example_inputs`` and ``inputs``) goes there, another to the pipeline itself.

    Raises:
        ModelError: it cannot be loaded, or breaks the contract; says where.
        UsageError: a setting that nothing takes.
    """
    settings = dict(settings or {})
    source, _, name = _split(reference)
    with _importable(source):
        module = _import_file(source) if source.suffix == ".py" else _import_module(str(source))
        found = _get(module, name or DEFAULT_NAME, reference)
        factory = _is_factory(found, module)
        pipeline = _called(found, settings, reference) if factory else found
        if not callable(pipeline):
            raise ModelError(
                f"{name or DEFAULT_NAME!r} is a {type(pipeline).__name__}, which cannot be called",
                where=reference,
                advice="make it an nn.Module, a function over modules, or a diffusers pipeline",
            )
        example = _mapping(module, "example_inputs", settings, reference)
        inputs = _mapping(module, "inputs", settings, reference, optional=True)
        stages = _mapping(module, "stages", settings, reference, optional=True)
        calibration = _examples(module, "calibration_inputs", settings, reference)
        batched = _names(module, "batched", reference)
        quality = _metric(module, reference)
        quality_inputs = _examples(module, "quality_inputs", settings, reference)
    taken = _parameters(found) if factory else set[str]()
    for function in (getattr(module, "example_inputs", None), getattr(module, "inputs", None)):
        taken |= _parameters(function) if inspect.isfunction(function) else set()
    options = {k: v for k, v in settings.items() if k not in taken}
    _check_arguments(pipeline, example, options, taken, reference)
    file = None if module.__file__ is None else Path(module.__file__)
    return LoadedModel(
        pipeline,
        example,
        inputs,
        stages,
        options,
        source.stem,
        calibration,
        batched,
        file,
        quality,
        quality_inputs,
    )


# --- finding ------------------------------------------------------------------------------------


def _split(reference: str) -> tuple[Path, str, str]:
    head, colon, name = reference.rpartition(":")
    if not colon or name.endswith(".py") or "/" in name or "\\" in name:
        head, name = reference, ""
    path = Path(head)
    if path.suffix == ".py" and not path.is_file():
        raise ModelError(
            f"there is no file {head}",
            where=reference,
            advice="give FILE.py[:NAME] or package.module:NAME",
        )
    return path, colon, name


@contextmanager
def _importable(source: Path) -> Generator[None, None, None]:
    """The file's folder, or the current one, stands first on the path, as for a script."""
    folder = str(source.resolve().parent) if source.suffix == ".py" else str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"partitioner_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and torch look their module up by name.
    sys.modules[spec.name] = module
    with _user_errors(str(path)):
        spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    with _user_errors(name):
        return importlib.import_module(name)


@contextmanager
def _user_errors(where: str) -> Generator[None, None, None]:
    """Errors of the user's code as model errors, with the user's line."""
    try:
        yield
    except PartitionerError:
        raise
    except SyntaxError as error:
        line = (error.text or "").rstrip("\n")
        caret = " " * max((error.offset or 1) - 1, 0) + "^"
        raise ModelError(
            f"the model file has a syntax error: {error.msg}\n  {line}\n  {caret}",
            where=f"{error.filename}:{error.lineno}",
            advice="mend the line",
        ) from error
    except (Exception, SystemExit) as error:  # sys.exit(0) would pass for a build that was made
        raise ModelError(
            f"the model file raised {type(error).__name__}: {error}",
            where=_user_line(error) or where,
            advice="make it import without errors: python " + where,
        ) from error


def _user_line(error: BaseException) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent)
    users = [f for f in frames if not f.filename.startswith((own, "<"))]
    return f"{users[-1].filename}:{users[-1].lineno} in {users[-1].name}" if users else None


def _get(module: ModuleType, name: str, reference: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    names = [n for n in vars(module) if not n.startswith("_")]
    near = difflib.get_close_matches(name, names, 1)
    raise ModelError(
        f"the model has no {name!r}",
        where=reference,
        advice=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names[:20])}",
    )


# --- factories and examples ---------------------------------------------------------------------


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def _is_factory(found: Any, module: ModuleType) -> bool:
    """A function that makes the pipeline, not one that is it.

    It can be called without arguments, and takes none of the example inputs by name.
    """
    if isinstance(found, nn.Module) or not (inspect.isfunction(found) or inspect.isclass(found)):
        return False
    parameters = inspect.signature(found).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(p.default is p.empty and p.kind not in variable for p in parameters):
        return False
    example = getattr(module, "example_inputs", None)
    names = set(cast("dict[str, Any]", example)) if isinstance(example, dict) else set[str]()
    return not names & {p.name for p in parameters}


def _called(function: Callable[..., Any], settings: Mapping[str, Any], reference: str) -> Any:
    wanted = _parameters(function)
    with _user_errors(reference):
        return function(**{k: v for k, v in settings.items() if k in wanted})


def _mapping(
    module: ModuleType,
    name: str,
    settings: Mapping[str, Any],
    reference: str,
    *,
    optional: bool = False,
) -> dict[str, Any]:
    value = getattr(module, name, None)
    if inspect.isfunction(value):
        value = _called(value, settings, reference)
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        found = "is missing" if value is None else f"is a {type(value).__name__}"
        raise ModelError(
            f"{name!r} {found}",
            where=reference,
            advice=f"give {name} = {{'argument': torch.randn(...)}} "
            "or a function without required arguments that returns it"
            if name == "example_inputs"
            else f"give {name} as a dict, or leave it out",
        )
    return dict(cast("dict[str, Any]", value))


def _examples(
    module: ModuleType, name: str, settings: Mapping[str, Any], reference: str
) -> tuple[dict[str, Any], ...]:
    """Several examples; none where the file has none."""
    value = getattr(module, name, None)
    if inspect.isfunction(value):
        value = _called(value, settings, reference)
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(
        isinstance(one, dict) for one in cast("list[Any]", value)
    ):
        raise ModelError(
            f"{name!r} is not a list of dicts",
            where=reference,
            advice=f"give {name} = [{{'argument': torch.randn(...)}}, ...], or leave it out",
        )
    return tuple(dict(one) for one in cast("list[dict[str, Any]]", value))


def _names(module: ModuleType, name: str, reference: str) -> tuple[str, ...] | None:
    value = getattr(module, name, None)
    if value is None:
        return None
    items = tuple(cast("list[Any]", value)) if isinstance(value, list | tuple) else ()
    if not items or not all(isinstance(item, str) for item in items):
        raise ModelError(
            f"{name!r} is {value!r}",
            where=reference,
            advice=f"give {name} = ('image',): the names of inputs",
        )
    return items


def _metric(module: ModuleType, reference: str) -> Callable[..., float] | None:
    value: Any = getattr(module, "quality", None)
    if value is not None and not callable(value):
        raise ModelError(
            f"'quality' is a {type(value).__name__}",
            where=reference,
            advice="make it a function quality(expected, actual) that gives a share",
        )
    return cast("Callable[..., float] | None", value)


def _check_arguments(
    pipeline: Any,
    example: Mapping[str, Any],
    options: Mapping[str, Any],
    taken: set[str],
    reference: str,
) -> None:
    target = pipeline.forward if isinstance(pipeline, nn.Module) else pipeline
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in example:
        if name not in parameters:
            raise ModelError(
                f"the example input {name!r} is no argument of the pipeline",
                where=reference,
                advice=f"its arguments are: {', '.join(parameters)}",
            )
    known = set(parameters) | taken
    for name in options:
        if name not in parameters:
            near = difflib.get_close_matches(name, known, 1)
            raise UsageError(
                f"--set {name}: neither the model file nor the pipeline takes {name!r}",
                advice=f"did you mean {near[0]!r}?"
                if near
                else f"known: {', '.join(sorted(known))}",
            )
    _check_missing(parameters, example, options, reference)


def _check_missing(
    parameters: Mapping[str, inspect.Parameter],
    example: Mapping[str, Any],
    options: Mapping[str, Any],
    reference: str,
) -> None:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in variable and name not in {*example, *options}
    ]
    if missing:
        raise ModelError(
            f"the pipeline needs {missing}, of which there is no example input",
            where=reference,
            advice="add them to example_inputs, or fix them with --set",
        )
