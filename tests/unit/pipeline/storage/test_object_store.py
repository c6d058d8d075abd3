from __future__ import annotations

import errno

import pytest
from obstore.exceptions import GenericError, UnauthenticatedError

from model.errors import FolderError, InputError
from pipeline.storage.object_store import explain_failure, open_object, open_store
from pipeline.uris import check_run_uri


@pytest.mark.parametrize("uri", ["runs/mine", "/abs/run", "s3://bucket", "s3://bucket/a/b", "s3://bucket/"])
def test_a_folder_or_a_bucket_can_hold_a_run(uri: str) -> None:
    assert check_run_uri(uri) == uri


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gs://bucket/run", "neither a local path nor s3://"),
        ("https://host/run", "neither a local path nor s3://"),
        ("file:///run", "neither a local path nor s3://"),
        ("s3:///run", "neither a local path nor s3://"),
        ("s3://key:secret@bucket/run", "put credentials into the environment"),
        ("s3://bucket/run?versionId=3", "put credentials into the environment"),
    ],
)
def test_other_places_are_refused_without_telling_their_secrets(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        check_run_uri(uri)
    assert "secret" not in str(refusal.value)


def test_the_home_folder_and_capitals_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    assert check_run_uri("~/runs/mine") == "/home/me/runs/mine"
    assert check_run_uri("S3://bucket/a") == "s3://bucket/a"


def test_no_letter_of_a_key_has_a_meaning_of_its_own() -> None:
    _, key = open_object("s3://bucket/a b/100%/c#1?d%20e.tif")

    assert key == "a b/100%/c#1?d%20e.tif"
    with pytest.raises(InputError, match="an empty name between two slashes"):
        open_object("s3://bucket/a//b.tif")


def test_an_endpoint_that_all_could_listen_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.internal:9000")
    with pytest.raises(InputError, match=r"minio\.internal:9000 has no TLS"):
        open_store("s3://bucket/run")


@pytest.mark.parametrize(
    ("uri", "failure", "words"),
    [
        ("/run", OSError(errno.ENOSPC, "No space left on device"), "is full"),
        ("/run", OSError(errno.EDQUOT, "Disk quota exceeded"), "is full"),
        ("/run", GenericError("Unable to copy data to file: No space left on device (os error 28)"), "is full"),
        ("/run", GenericError("Unable to copy data to file: File too large (os error 27)"), "is full"),
        ("/run", GenericError("Unable to open file: Read-only file system (os error 30)"), "check its rights"),
        ("/run", PermissionError(errno.EACCES, "Permission denied"), "check its rights"),
        ("/run", NotADirectoryError(errno.ENOTDIR, "Not a directory"), "choose another --output"),
        ("s3://b/run", UnauthenticatedError("The operation lacked valid authentication"), "AWS_"),
        ("s3://b/run", FileNotFoundError("404 Not Found: <Code>NoSuchBucket</Code>"), "no such bucket"),
        ("s3://b/run", GenericError("PUT http://169.254.169.254/latest/api/token in 1s"), "no credentials"),
        ("s3://b/run", GenericError("503 Service Unavailable"), "does not answer"),
    ],
)
def test_what_a_store_says_becomes_what_people_can_act_on(uri: str, failure: Exception, words: str) -> None:
    problem = explain_failure(uri, failure)

    assert isinstance(problem, FolderError)
    assert words in str(problem)
    assert uri in problem.found
    assert "\n" not in str(problem)
