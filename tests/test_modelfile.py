"""Model files: what they may be, and what is said of those that are not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from torch import nn

from partitioner.errors import ModelError, UsageError
from partitioner.modelfile import LoadedModel, load_model, parse_setting


def write(tmp_path: Path, text: str, name: str = "model.py") -> str:
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def load(tmp_path: Path, text: str, **settings: object) -> LoadedModel:
    return load_model(write(tmp_path, text), settings)


MODULE = """
    import torch
    class Net(torch.nn.Module):
        def __init__(self, width=2):
            super().__init__()
            self.linear = torch.nn.Linear(2, width)
        def forward(self, x, *, steps: int = 5):
            return self.linear(x)
    example_inputs = {"x": torch.ones(1, 2)}
"""


def test_a_module(tmp_path: Path) -> None:
    loaded = load(tmp_path, MODULE + "    pipeline = Net()\n")
    assert isinstance(loaded.pipeline, nn.Module)
    assert ["x"] == list(loaded.example_inputs)
    assert ("model", {}, {}) == (loaded.name, loaded.inputs, loaded.options)


def test_another_name(tmp_path: Path) -> None:
    path = write(tmp_path, MODULE + "    other = Net(3)\n")
    assert 3 == load_model(f"{path}:other").pipeline.linear.out_features


def test_a_factory_takes_its_settings_and_the_pipeline_the_rest(tmp_path: Path) -> None:
    text = MODULE + "    def pipeline(width: int = 2):\n        return Net(width)\n"
    loaded = load(tmp_path, text, width=7, steps=9)
    assert 7 == loaded.pipeline.linear.out_features
    assert {"steps": 9} == loaded.options


def test_a_class_is_a_factory(tmp_path: Path) -> None:
    assert isinstance(load(tmp_path, MODULE + "    pipeline = Net\n").pipeline, nn.Module)


def test_a_function_that_takes_an_example_input_is_the_pipeline(tmp_path: Path) -> None:
    text = """
        import torch
        def pipeline(x=None, scale=2.0):
            return x * scale
        example_inputs = {"x": torch.ones(2)}
    """
    loaded = load(tmp_path, text, scale=3.0)
    assert "pipeline" == loaded.pipeline.__name__
    assert {"scale": 3.0} == loaded.options


def test_example_inputs_and_inputs_may_be_functions(tmp_path: Path) -> None:
    text = """
        import torch
        from partitioner import Noise
        def pipeline(x):
            return x
        def example_inputs(size=2):
            return {"x": torch.ones(size)}
        def inputs():
            return {"x": Noise()}
    """
    loaded = load(tmp_path, text, size=5)
    assert (5,) == loaded.example_inputs["x"].shape
    assert ["x"] == list(loaded.inputs)
    assert {} == loaded.options


@pytest.mark.parametrize(
    "text",
    ["calibration_inputs = [{'x': 1}, {}]", "def calibration_inputs(): return ({'x': 1}, {})"],
)
def test_calibration_inputs_are_a_list_or_a_function(text: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, f"{MODULE}    pipeline = Net()\n    batched = ['x']\n    {text}\n")
    assert ({"x": 1}, {}) == loaded.calibration_inputs
    assert ("x",) == loaded.batched


def test_a_module_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, MODULE + "    made = Net()\n", "some_models.py")
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_model("some_models:made").pipeline, nn.Module)


def test_neighbours_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "VALUE = 3", "neighbour_of_model.py")
    text = "    from neighbour_of_model import VALUE\n" + MODULE + "    pipeline = Net(VALUE)\n"
    assert 3 == load(tmp_path, text).pipeline.linear.out_features


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=20", ("steps", 20)),
        ("scale=1.5", ("scale", 1.5)),
        ("fast=true", ("fast", True)),
        ("fast=False", ("fast", False)),
        ("none=None", ("none", None)),
        ("name=base", ("name", "base")),
        ("sizes=[1, 2]", ("sizes", [1, 2])),
        ("text=a=b", ("text", "a=b")),
    ],
)
def test_settings(text: str, expected: object) -> None:
    assert expected == parse_setting(text)


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("def pipeline(x:\n", "syntax error"),
        ("import no_such_module_at_all\n", "ModuleNotFoundError"),
        ("import sys\nsys.exit(0)\n", "raised SystemExit"),
        ("def pipelin(x):\n    return x\n", "did you mean 'pipelin'"),
        ("def pipeline(x):\n    return x\n", "'example_inputs' is missing"),
        ("def pipeline(x):\n    return x\nexample_inputs = 3\n", "is a int"),
        ("def pipeline(x):\n    return x\nexample_inputs = {'y': 1}\n", "'y' is no argument"),
        ("def pipeline(x, z):\n    return x\nexample_inputs = {'x': 1}\n", "needs"),
        (
            "def pipeline(x):\n    return x\nexample_inputs = {'x': 1}\ncalibration_inputs = {}\n",
            "'calibration_inputs' is not a list of dicts",
        ),
        ("pipeline = 3\nexample_inputs = {}\n", "cannot be called"),
        ("def pipeline():\n    raise ValueError('mine')\nexample_inputs = {}\n", "mine"),
    ],
)
def test_each_fault_has_its_message(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load(tmp_path, text)
    assert caught.value.where
    assert caught.value.advice


def test_a_syntax_error_shows_line_and_place(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path, "x = 1\ny = = 2\n")
    assert "model.py:2" in str(caught.value)
    assert "y = = 2" in str(caught.value)


def test_an_error_while_importing_names_the_users_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path, "def broken():\n    return 1 / 0\nbroken()\n")
    assert "model.py:2 in broken" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        load_model(str(tmp_path / "none.py"))


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        load(tmp_path, MODULE + "    pipeline = Net()\n", stpes=3)
