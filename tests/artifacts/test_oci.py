"""The OCI documents of a bundle. Hostile ones are in ``test_bundle_documents.py``."""

from __future__ import annotations

import json

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.oci import (
    CONFIG_TYPE,
    IMAGE_TYPE,
    read_image,
    read_index,
    read_layout,
    write_image,
    write_index,
    write_layout,
)

CONFIG = Blob(digest_bytes(b"c"), 1, CONFIG_TYPE)
LAYERS = (Blob(digest_bytes(b"1"), 1, "a/b"), Blob(digest_bytes(b""), 0, ""))


def test_both_ways() -> None:
    image = Blob(digest_bytes(b"i"), 7, IMAGE_TYPE)
    assert (CONFIG, LAYERS) == read_image(write_image(CONFIG, LAYERS))
    assert (CONFIG, ()) == read_image(write_image(CONFIG, ()))
    assert image == read_index(write_index(image))
    read_layout(write_layout())


def test_the_fields_that_the_specification_demands() -> None:
    image = json.loads(write_image(CONFIG, LAYERS))
    assert (2, IMAGE_TYPE) == (image["schemaVersion"], image["mediaType"])
    for descriptor in (image["config"], *image["layers"]):
        assert {"mediaType", "digest", "size"} == set(descriptor)
    index = json.loads(write_index(CONFIG))
    assert (2, "application/vnd.oci.image.index.v1+json") == (
        index["schemaVersion"],
        index["mediaType"],
    )
