from pathlib import Path

import pytest

from tism_scan.errors import InputError
from tism_scan.storage.places import Url, store_place


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a/b.zarr", Url("s3", "bucket", "a/b.zarr")),
        ("S3://bucket//a//b.zarr/", Url("s3", "bucket", "a/b.zarr")),
        ("s3:/bucket/a", Url("s3", "bucket", "a")),
        ("gs://my-bucket/a b", Url("gs", "my-bucket", "a b")),
    ],
)
def test_url_names_a_bucket_and_a_prefix(given, expected):
    assert store_place(given) == expected
    assert store_place(str(expected)) == expected
    assert store_place(expected) == expected


@pytest.mark.parametrize(
    "given",
    ["s3://bucket", "s3://", "s3:///a", "az://bucket/a", "https://host/a", "file:///a", "gs://b/../a"],
)
def test_other_urls_are_one_clear_error(given):
    with pytest.raises(InputError, match=r"cannot be used; expected a folder, s3://bucket/prefix or gs://"):
        store_place(given)


@pytest.mark.parametrize("given", ["scores.zarr", "./s3:/x", "/a/b:c/d", "a:b"])
def test_anything_else_is_a_path(given):
    assert store_place(given) == Path(given)
