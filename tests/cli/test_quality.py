"""``partition verify --quality``: results by the model file's own metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partitioner.errors import ModelError, UsageError
from partitioner.quality import judge, parse_share
from tests.cli.verbs import partition

MODEL = """
import numpy as np
import torch

linear = torch.nn.Linear(3, 3)
torch.nn.init.eye_(linear.weight)
torch.nn.init.zeros_(linear.bias)

def pipeline(x, *, scale: float = 2.0):
    return {"y": linear(x) * scale + torch.randn(1, 3)}

example_inputs = {"x": torch.ones(1, 3)}
quality_inputs = [{"x": torch.full((1, 3), 2.0)}, {"x": torch.zeros(1, 3)}]

def quality(expected, actual):
    error = np.abs(expected["y"] - actual["y"]).max()
    return max(0.0, 1 - float(error))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quality")
    (path / "model.py").write_text(MODEL)
    done = partition("build", "model.py", "--set", "scale=3", cwd=path)
    assert 0 == done.returncode, done.stderr
    return path


def verify(folder: Path, *arguments: str):
    return partition("verify", "model.bundle", *arguments, cwd=folder)


def test_equal_results_have_full_quality(folder: Path) -> None:
    given = ("--quality", "model.py", "--set", "scale=3", "--quality-budget", "99.9%")
    done = verify(folder, *given, "--json")
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)["quality"]
    assert 3 == len(found["requests"])
    assert 1.0 == pytest.approx(found["mean"], abs=1e-5)
    assert "quality beside eager, 3 requests: 100.00% on average" in verify(folder, *given).stdout


def test_too_little_quality_is_an_error(folder: Path) -> None:
    # The eager pipeline is another one: scaled by 2.9, so off by 0.1, 0.2 and 0.
    given = ("--quality", "model.py", "--set", "scale=2.9")
    done = verify(folder, *given, "--json")
    assert [0.9, 0.8, 1.0] == pytest.approx(json.loads(done.stdout)["quality"]["requests"])
    done = verify(folder, *given, "--quality-budget", "95%")
    assert 8 == done.returncode
    assert "90.00% of the eager pipeline's quality, on average over 3 requests" in done.stderr


def test_a_model_without_a_metric(folder: Path) -> None:
    (folder / "bare.py").write_text(MODEL.replace("def quality", "def other"))
    done = verify(folder, "--quality", "bare.py")
    assert 3 == done.returncode
    assert "has no 'quality'" in done.stderr


def test_quality_inputs_have_the_form_of_the_example(folder: Path) -> None:
    (folder / "wrong.py").write_text(MODEL.replace("torch.zeros(1, 3)", "torch.zeros(2, 3)"))
    done = verify(folder, "--quality", "wrong.py", "--set", "scale=3")
    assert 3 == done.returncode
    assert "quality inputs differ from the example inputs in ['x']" in done.stderr


def test_options_that_go_with_it(folder: Path) -> None:
    assert 2 == verify(folder, "--quality-budget", "95%").returncode
    assert 2 == verify(folder, "--set", "scale=3").returncode


def test_what_is_asked_is_checked_before_the_bundle(folder: Path) -> None:
    (folder / "damaged").mkdir()
    given = ("--quality", "model.py", "--set", "scale=3", "--quality-budget", "all")
    done = partition("verify", "damaged", *given, cwd=folder)
    assert (2, True) == (done.returncode, "takes a share such as" in done.stderr)


@pytest.mark.parametrize(("text", "share"), [("98.5%", 0.985), ("0.985", 0.985), (" 100 % ", 1.0)])
def test_shares(text: str, share: float) -> None:
    assert share == pytest.approx(parse_share(text))


@pytest.mark.parametrize("text", ["98.5", "0", "-1%", "101%", "nan", "all", ""])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageError, match="takes a share such as"):
        parse_share(text)


def test_metrics_that_fail() -> None:
    with pytest.raises(ModelError, match="raised KeyError: 'y'"):
        judge(lambda expected, actual: expected["y"], {}, {})
    with pytest.raises(ModelError, match="gave 2"):
        judge(lambda expected, actual: 2.0, {}, {})
    assert 1.0 == judge(lambda expected, actual: 1 + 1e-9, {}, {})


LISTED = """
import numpy as np
import torch

torch.manual_seed(0)
linear = torch.nn.Linear(3, 3)

def pipeline(x):
    return {"y": linear(x), "rows": list((linear(x) + 1).split(1))}

example_inputs = {"x": torch.ones(1, 3)}

def quality(expected, actual):
    assert sorted(expected) == sorted(actual)
    return 1 - max(float(np.abs(expected[name] - actual[name]).max()) for name in expected)
"""


@pytest.mark.parametrize("sizes", ["1", "1,2"])
def test_rows_of_a_batched_bundle_have_the_names_of_one_request(sizes: str, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(LISTED)
    done = partition("build", "model.py", "--batch", sizes, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    done = partition(
        "verify", "model.bundle", "--quality", "model.py", "--quality-budget", "99%", cwd=tmp_path
    )
    assert 0 == done.returncode, done.stderr


# --- building within a budget -------------------------------------------------------------------

STACK = """
import numpy as np
import torch

class Stack(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(128, 256), torch.nn.GELU(), torch.nn.Linear(256, 128)
        )

    def forward(self, x):
        return {"y": self.model(x)}

pipeline = Stack
example_inputs = {"x": torch.randn(5, 128, generator=torch.Generator().manual_seed(1))}
quality_inputs = [{"x": torch.randn(5, 128, generator=torch.Generator().manual_seed(2))}]

def quality(expected, actual):
    want, got = expected["y"], actual["y"]
    error = np.linalg.norm(want - got) / np.linalg.norm(want)
    return max(0.0, 1 - float(error))
"""


@pytest.mark.parametrize(("least", "level"), [("60%", "int4"), ("97%", "int8")])
def test_a_quality_budget_chooses_the_level(least: str, level: str, tmp_path: Path) -> None:
    (tmp_path / "stack.py").write_text(STACK)
    done = partition("build", "stack.py", "--quality-budget", least, "--json", cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    (trade,) = json.loads(done.stdout)["compression"]
    assert level == trade["level"]
    given = ("--quality", "stack.py", "--quality-budget", least)
    done = partition("verify", "stack.bundle", *given, "--json", cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    assert json.loads(done.stdout)["quality"]["mean"] < 0.999
    done = partition("bisect", "stack.bundle", "stack.py", cwd=tmp_path)
    assert 0 == done.returncode, done.stderr


def test_a_metric_sees_the_requests_of_a_bucket_one_by_one(tmp_path: Path) -> None:
    one = STACK.replace("randn(5,", "randn(1,")
    shape = "    assert (1, 128) == expected['y'].shape == actual['y'].shape\n"
    head, metric, body = one.partition("def quality(expected, actual):\n")
    (tmp_path / "stack.py").write_text(f"{head}{metric}{shape}{body}")
    given = ("--batch", "2", "--quality-budget", "60%", "--json")
    done = partition("build", "stack.py", *given, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    (trade,) = json.loads(done.stdout)["compression"]
    assert "int4" == trade["level"]


def test_two_budgets_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "stack.py").write_text(STACK)
    budgets = ("--quality-budget", "90%", "--accuracy-budget", "0.1")
    done = partition("build", "stack.py", *budgets, cwd=tmp_path)
    assert 2 == done.returncode
    assert "leave one of them out" in done.stderr


def test_a_metric_is_a_function(tmp_path: Path) -> None:
    (tmp_path / "number.py").write_text(STACK[: STACK.index("def quality")] + "quality = 0.9\n")
    done = partition("plan", "number.py", cwd=tmp_path)
    assert 3 == done.returncode
    assert "'quality' is a float" in done.stderr
