from __future__ import annotations

import json
import pickle

import pytest

from model.errors import FolderError, InputError
from model.redaction import redact_text, redact_uri, redact_values, remember_secrets, split_credentials
from pipeline.config.run import describe_settings, load_config

SIGNED = "https://host.example/a/b.tif?X-Amz-Credential=AKIA%2F20240101&X-Amz-Signature=5ec2e7&X-Amz-Expires=600#frag"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://host/a.tif", "https://host/a.tif"),
        ("https://user:pass@host:8443/a.tif", "https://***@host:8443/a.tif"),
        ("https://user@host/a.tif", "https://***@host/a.tif"),
        ("https://user:p@ss:w@host/a.tif", "https://***@host/a.tif"),
        ("s3://key:secret@bucket/prefix", "s3://***@bucket/prefix"),
        ("https://host/a@b.tif", "https://host/a@b.tif"),
        ("https://host/a.tif?sig=abc&se=2024", "https://host/a.tif?sig=***&se=***"),
        ("https://host/a.tif?token=a=b", "https://host/a.tif?token=***"),
        ("https://host/a.tif?justatoken", "https://host/a.tif?***"),
        (
            SIGNED,
            "https://host.example/a/b.tif?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Expires=***#***",
        ),
        ("https://host/a.tif?AWSAccessKeyId=AKIA&Signature=x", "https://host/a.tif?AWSAccessKeyId=***&Signature=***"),
        ("openai:https://me:pw@host/v1#name", "openai:https://***@host/v1#name"),
        ("/vsicurl/https://me:pw@host/a.tif?sig=1", "/vsicurl/https://***@host/a.tif?sig=***"),
        ("https://me:pa'ss@host/a.tif?sig=abc'TAIL", "https://***@host/a.tif?sig=***"),
        ('https://me:pa"s<s>@host/a.tif?sig=a|b^c{d}e', "https://***@host/a.tif?sig=***"),
        ("https://me:pa/s?s#w@rd@host/a.tif", "https://***@host/a.tif"),
        ("https://host/a.tif#access_token=abc", "https://host/a.tif#***"),
        ("https://[::1]:8443/a@b.tif", "https://[::1]:8443/a@b.tif"),
        ("/local/what?is=this@that.tif", "/local/what?is=this@that.tif"),
        ("relative.tif", "relative.tif"),
    ],
)
def test_a_uri_loses_its_credentials_alone(uri: str, expected: str) -> None:
    assert redact_text(f"found '{uri}' there") == f"found '{expected}' there"
    if not uri.startswith(("openai:", "/vsicurl")):
        assert redact_uri(uri) == expected


QUOTED = "https://me:s3cret 'n\"pw<%@host/a.tif?sig=TAIL'n%2Fmore&plain=1#access_token=fragmented"


@pytest.mark.parametrize(
    "text",
    [
        "nonnumeric port: 's3cret 'n\"pw<%@host'",
        repr("s3cret 'n\"pw<%"),
        "<Source>https://me:s3cret &#x27;n&quot;pw&lt;%@host</Source>",
        "user me:s3cret%20%27n%22pw%3C%25@host",
        "Authorization: Basic bWU6czNjcmV0ICduInB3PCU=",
        "asked for sig=TAIL'n%2Fmore",
        "asked for sig=TAIL'n/more",
        "asked for TAIL%27n%2Fmore",
        "went on to #access_token=fragmented",
        "HTTP 403 for /a.tif?sig=TAIL'n%2Fmore&plain=1",
        # In small digits, twice, as XML and as bytes have it, and packed without what fills it up.
        "user me:s3cret%20%27n%22pw%3c%25@host",
        "user me:s3cret%2520%2527n%2522pw%253C%2525@host",
        "<Source>https://me:s3cret &#39;n&#34;pw&lt;%@host</Source>",
        "b's3cret \\'n\"pw<%'",
        "Authorization: Basic bWU6czNjcmV0ICduInB3PCU",
        "asked for TAIL%27n%2fmore",
    ],
)
def test_a_secret_that_was_met_is_masked_in_whatever_way_it_is_quoted(text: str) -> None:
    remember_secrets({"before": [{"uri": QUOTED}]})

    told = redact_text(text)

    assert not any(part in told for part in ("s3cret", "bWU6", "TAIL", "fragmented"))
    assert "***" in told


def test_short_and_plain_values_take_no_words_with_them() -> None:
    remember_secrets("https://me:pw@other.example/a.tif?date=2024-05-01&format=tif")

    told = redact_text("pw of 2024-05-01 in tif, me:pw@other.example, date=2024-05-01")

    assert told == "pw of 2024-05-01 in tif, ***@other.example, date=***"


def test_credentials_come_off_an_address_decoded() -> None:
    address = split_credentials("https://me:p%40ss%3A1@host:81/a.tif?b=c")

    assert (address.place, address.login) == ("https://host:81/a.tif?b=c", ("me", "p@ss:1"))
    assert split_credentials("https://host/a@b.tif").login is None


def test_secrets_of_the_environment_leave_every_message() -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_SESSION_TOKEN": "a", "HOME": "/home/me"}

    text = redact_text("key wJalrXUtnFEMI of /home/me is a key", environment=environment)

    assert text == "key *** of /home/me is a key"


def test_secrets_of_the_environment_are_known_however_they_are_quoted() -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "wJalr/XUtn+FEMI="}

    for quoted in ("wJalr%2FXUtn%2BFEMI%3D", "wJalr%2fXUtn%2bFEMI%3d", "wJalr%252FXUtn%252BFEMI%253D"):
        assert redact_text(f"Credential={quoted} sent", environment=environment) == "Credential=*** sent"


def test_plain_values_are_redacted_in_any_depth() -> None:
    values = {"a": [{"uri": "https://u:p@h/x"}, ("s3://b/c?d=e", 1, None)], "prompts": [{"text": "https://h/?a=b"}]}

    redacted = redact_values(values, kept=["prompts"])

    assert redacted["a"] == [{"uri": "https://***@h/x"}, ("s3://b/c?d=***", 1, None)]
    assert redacted["prompts"] == values["prompts"]


@pytest.mark.parametrize("kind", [InputError, FolderError])
def test_an_error_tells_no_credentials_and_keeps_its_kind_on_the_way(kind: type[InputError]) -> None:
    problem = kind(f"{SIGNED} cannot be read", expected="a raster", remedy="see https://me:pw@host/help")

    for each in (problem, pickle.loads(pickle.dumps(problem))):  # noqa: S301
        assert type(each) is kind
        assert "5ec2e7" not in str(each)
        assert "pw@" not in str(each)
        assert "X-Amz-Signature=***" in each.found


def test_json_of_a_config_holds_no_credentials_and_python_values_do() -> None:
    question = "Is it as on https://host/page?id=7"
    config = load_config(
        values={
            "before": "https://me:pw@host/b.tif",
            "after": SIGNED,
            "output": "run",
            "aoi": "https://host/area.geojson?token=t0ken",
            "prompts": [{"name": "same", "kind": "ask", "text": question}],
        }
    )

    text = config.model_dump_json()

    assert "pw@" not in text
    assert "5ec2e7" not in text
    assert "t0ken" not in text
    assert json.loads(text)["prompts"][0]["text"] == question
    assert config.before.uri == "https://me:pw@host/b.tif"
    assert config.model_dump()["before"]["uri"] == "https://me:pw@host/b.tif"
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301


def test_a_record_tells_no_password_of_a_clusters_arguments() -> None:
    arguments = {"queue": "gpu", "auth": {"user": "ops", "Password": "pa55"}, "workers": [{"api_token": "t0ken"}]}
    config = load_config(
        values={"before": "b.tif", "after": "a.tif", "output": "run"},
        assignments=[f"cluster={json.dumps({'kind': 'class', 'class_path': 'a.B', 'arguments': arguments})}"],
    )

    told = json.dumps(describe_settings(config))

    assert "gpu" in told
    assert "ops" in told
    assert not [secret for secret in ("pa55", "t0ken") if secret in told]
    assert config.cluster.arguments == arguments
