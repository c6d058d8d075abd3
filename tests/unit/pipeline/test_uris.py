"""Addresses as people write them: every program has to be told the same."""

from __future__ import annotations

import pytest

from model.errors import InputError
from pipeline.uris import find_local_file, normalise_uri, split_s3_uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://host/m\u00fcnchen.tif", "http://host/m%C3%BCnchen.tif"),
        ("http://host/m%C3%BCnchen.tif", "http://host/m%C3%BCnchen.tif"),
        (
            "https://host/a b/\u6771\u4eac.tif?sig=a+b%2Fc&x=1",
            "https://host/a%20b/%E6%9D%B1%E4%BA%AC.tif?sig=a+b%2Fc&x=1",
        ),
        ("HTTPS://Host/Path.TIF", "https://Host/Path.TIF"),
        ("http://host/100%.tif", "http://host/100%25.tif"),
        ("http://m\u00fcnchen.example:8080/a.tif", "http://xn--mnchen-3ya.example:8080/a.tif"),
        ("http://user:p%40ss@host/a.tif", "http://user:p%40ss@host/a.tif"),
        ("S3://bucket/a b/100%#1?.tif", "s3://bucket/a b/100%#1?.tif"),
    ],
)
def test_an_address_is_written_as_every_program_takes_it(uri: str, expected: str) -> None:
    assert normalise_uri(uri) == expected
    assert normalise_uri(expected) == expected


def test_a_host_that_has_no_name_is_refused() -> None:
    with pytest.raises(InputError, match="names no host"):
        normalise_uri("http://" + "\u00fc" * 70 + "/a.tif")


def test_a_key_is_all_that_follows_the_bucket() -> None:
    assert split_s3_uri("s3://bucket/a#b?c/d%20e") == ("bucket", "a#b?c/d%20e")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/a.tif", "/data/a.tif"),
        ("zip:///data/a.zip!b/c.tif", "/data/a.zip"),
        ("https://host/a.tif", None),
        ("s3://bucket/a.tif", None),
    ],
)
def test_file_that_has_to_lie_before_a_worker(uri: str, expected: str | None) -> None:
    assert find_local_file(uri) == expected
