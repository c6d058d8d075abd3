"""What the environment tells of buckets, in the words of AWS, of obstore and of GDAL: one meaning for all readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.storage.s3_access import read_s3_access

NOWHERE = {"HOME": "/nowhere"}
KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:5000"}, True),
        ({"AWS_ENDPOINT_URL": "http://localhost:5000"}, True),
        ({"AWS_ENDPOINT_URL": "http://[::1]:5000"}, True),
        ({"AWS_ENDPOINT_URL": "https://127.0.0.1.evil.example"}, False),
        ({"AWS_ENDPOINT_URL": "http://minio.internal:9000", "AWS_ALLOW_HTTP": "true"}, True),
        ({"AWS_S3_ENDPOINT": "minio.internal:9000", "AWS_HTTPS": "NO"}, True),
        ({"AWS_ENDPOINT_URL": "http://minio.internal", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, True),
    ],
)
def test_http_is_for_this_machine_unless_told_otherwise(environment: dict[str, str], expected: bool) -> None:
    assert read_s3_access(NOWHERE | environment).allow_http is expected


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ENDPOINT_URL": "http://127.0.0.1.evil.example"},
        {"AWS_ENDPOINT_URL": "http://minio.internal:9000"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://minio.internal"},
        {"AWS_S3_ENDPOINT": "http://minio.internal"},
    ],
)
def test_an_endpoint_that_all_could_listen_to_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="has no TLS"):
        read_s3_access(NOWHERE | environment)


@pytest.mark.parametrize(
    ("environment", "obstore", "gdal"),
    [
        ({}, {}, {}),
        (
            {"AWS_S3_ENDPOINT": "127.0.0.1:9000", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE", **KEYS},
            {
                "endpoint": "http://127.0.0.1:9000",
                "access_key_id": "k",
                "secret_access_key": "s",
                "virtual_hosted_style_request": False,
            },
            {"AWS_S3_ENDPOINT": "127.0.0.1:9000", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"},
        ),
        (
            {"AWS_ENDPOINT_URL": "https://store.example/"},
            {"endpoint": "https://store.example"},
            {"AWS_S3_ENDPOINT": "store.example", "AWS_HTTPS": "YES", "AWS_VIRTUAL_HOSTING": "FALSE"},
        ),
        (
            {"AWS_ENDPOINT_URL": "https://store.example", "AWS_VIRTUAL_HOSTING": "TRUE"},
            {"endpoint": "https://bucket.store.example", "virtual_hosted_style_request": True},
            {"AWS_S3_ENDPOINT": "store.example", "AWS_HTTPS": "YES", "AWS_VIRTUAL_HOSTING": "TRUE"},
        ),
        ({"AWS_NO_SIGN_REQUEST": "YES"}, {"skip_signature": True}, {"AWS_NO_SIGN_REQUEST": "YES"}),
        ({"AWS_SKIP_SIGNATURE": "true"}, {"skip_signature": True}, {"AWS_NO_SIGN_REQUEST": "YES"}),
        ({"AWS_REQUEST_PAYER": "requester"}, {"request_payer": True}, {"AWS_REQUEST_PAYER": "requester"}),
        ({"AWS_REQUEST_PAYER": "true"}, {"request_payer": True}, {"AWS_REQUEST_PAYER": "requester"}),
        ({"AWS_DEFAULT_REGION": "eu-central-1"}, {"region": "eu-central-1"}, {"AWS_REGION": "eu-central-1"}),
    ],
)
def test_words_of_one_are_told_to_the_other(
    environment: dict[str, str], obstore: dict[str, object], gdal: dict[str, str]
) -> None:
    access = read_s3_access(NOWHERE | environment)

    assert access.to_obstore("bucket") == obstore
    assert access.to_gdal() == {"AWS_NO_SIGN_REQUEST": "NO"} | gdal


def test_two_endpoints_are_not_one() -> None:
    with pytest.raises(InputError, match="AWS_S3_ENDPOINT is b"):
        read_s3_access(NOWHERE | {"AWS_ENDPOINT_URL": "https://a", "AWS_S3_ENDPOINT": "b"})
    assert read_s3_access(NOWHERE | {"AWS_ENDPOINT_URL": "https://a", "AWS_S3_ENDPOINT": "a"}).endpoint == "https://a"


def test_the_files_that_aws_shares_tell_keys_and_region(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = e\n"
        "[survey]\naws_access_key_id = f\naws_secret_access_key = g%h\naws_session_token = i\n"
    )
    (tmp_path / ".aws/config").write_text("[profile survey]\nregion = ap-south-1\n")
    home = {"HOME": str(tmp_path)}

    default, survey = read_s3_access(home), read_s3_access(home | {"AWS_PROFILE": "survey"})

    assert (default.key_id, default.secret, default.region) == ("d", "e", None)
    assert (survey.key_id, survey.secret, survey.token, survey.region) == ("f", "g%h", "i", "ap-south-1")
    # What the environment says goes over them, and nothing of theirs is mixed in.
    told = read_s3_access(home | KEYS | {"AWS_PROFILE": "survey"})
    assert (told.key_id, told.secret, told.token) == ("k", "s", None)
    assert "g%h" not in repr(survey)
    elsewhere = {"HOME": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / ".aws/credentials")}
    assert read_s3_access(elsewhere).key_id == "d"
    assert read_s3_access(elsewhere).to_gdal() == {
        "AWS_NO_SIGN_REQUEST": "NO",
        "CPL_AWS_CREDENTIALS_FILE": str(tmp_path / ".aws/credentials"),
    }


def test_a_file_that_cannot_be_understood_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_bytes(b"\xff no ini")

    assert read_s3_access({"HOME": str(tmp_path)}).key_id is None
