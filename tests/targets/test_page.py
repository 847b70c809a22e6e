"""The tables of the documentation are those of the targets."""

from pathlib import Path

from partitioner.targets.page import replace_tables

PAGE = Path(__file__).parents[2] / "docs" / "targets.md"


def test_the_page_is_in_step():
    page = PAGE.read_text(encoding="utf-8")
    assert replace_tables(page) == page, "run: python -m partitioner.targets.page docs"
