"""Addresses as people write them: every program has to be told the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.uris import find_lack, find_local_file, normalise_uri, read_file_uri, split_s3_uri


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


@pytest.mark.parametrize("host", ["\u00fc" * 70, "[::1", "[bad"])
def test_a_host_that_has_no_name_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="names no host"):
        normalise_uri(f"http://{host}/a.tif")


def test_a_file_of_another_machine_is_not_looked_for_on_this_one() -> None:
    assert read_file_uri("FILE://localhost/data/a%20b.tif") == Path("/data/a b.tif")
    assert read_file_uri("/data/a.tif") is None
    with pytest.raises(InputError, match="names a file of the machine host"):
        read_file_uri("file://host/data/a.tif")


def test_what_cannot_be_the_name_of_a_file_names_none() -> None:
    assert find_lack(Path("a" * 5000)) == "does not exist"
    assert find_lack(Path("a\0b")) == "does not exist"
    assert find_lack(Path()) == "is a folder"
    assert find_lack(Path(__file__)) is None


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
