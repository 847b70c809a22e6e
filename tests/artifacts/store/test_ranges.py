"""A bundle that serves a range of batch sizes, loaded from where it is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import partitioner
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.push import push
from tests.artifacts.store.conftest import keys_of
from tests.sizes import MOST, expected, make_range_bundle, xs


@pytest.mark.parametrize("lazy", [False, True])
def test_all_sizes_are_served_once_the_store_is_gone(
    store: Store, uri: str, tmp_path: Path, *, lazy: bool
) -> None:
    path = make_range_bundle(tmp_path / "bundle")
    push(path, store, tag="t")
    with partitioner.load(f"{uri}/hand-made@t", lazy=lazy, cache=tmp_path / "cache") as pipe:
        for key in keys_of(store):
            store.delete(key)
        for rows in (1, 3, MOST, MOST + 2):
            whole = [expected(part) for part in (xs(rows)[:MOST], xs(rows)[MOST:])]
            np.testing.assert_array_equal(np.concatenate(whole), pipe(x=xs(rows))["y"])
