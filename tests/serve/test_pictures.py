"""Pictures as files, within limits."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from partitioner import specs
from partitioner.serve.failures import ProtocolError
from partitioner.serve.pictures import with_pictures

SPEC = specs.InputSpec(
    "image",
    specs.TensorSpec("float32", ("batch", 3, 4, 4)),
    specs.Image((4, 4), mean=(0.0,) * 3, std=(1.0,) * 3),
)


def test_many_pictures_have_no_more_pixels_than_one_may_have() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    files = np.empty(3, object)
    files[:] = file.getvalue()
    given = with_pictures([SPEC], {"image": files}, 48)
    assert [(4, 4)] * 3 == [picture.size for picture in given["image"]]
    with pytest.raises(ProtocolError, match="4 x 4, more than the 15 pixels"):
        with_pictures([SPEC], {"image": files}, 47)
