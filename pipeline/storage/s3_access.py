"""Where buckets are and who asks, as the environment tells it: in the words of AWS, of obstore and of GDAL alike.

GDAL reads the pixels, obstore all else. Each has words of its own, so they are read here once and told to both.
"""

from __future__ import annotations

import configparser
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from model.errors import InputError

_ENDPOINT_URLS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """What is to be known to ask an object store."""

    endpoint: str | None = None
    """URL of the server; None: that of AWS."""
    allow_http: bool = False
    """Whether it may be spoken to without TLS: it is on this machine, or somebody said so."""
    region: str | None = None
    """Region of the buckets; None: the default."""
    key_id: str | None = field(default=None, repr=False)
    """Access key id; None: that of a role of the machine, if it has one."""
    secret: str | None = field(default=None, repr=False)
    """Secret of the key."""
    token: str | None = field(default=None, repr=False)
    """Token of a session."""
    credentials_file: str | None = None
    """File with the keys of profiles, where it is not ``~/.aws/credentials``."""
    is_unsigned: bool = False
    """Whether requests are sent without credentials."""
    is_requester_paying: bool = False
    """Whether whoever asks pays for what is sent, where the bucket wants it so."""
    is_virtual_hosted: bool | None = None
    """Whether the bucket is part of the host's name; None: nobody says."""

    def to_obstore(self, bucket: str) -> dict[str, Any]:
        """Give the settings of obstore's client for a bucket."""
        endpoint = self.endpoint
        if endpoint is not None and self.is_virtual_hosted:
            parts = urlsplit(endpoint)
            endpoint = parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()
        told = {
            "endpoint": endpoint,
            "region": self.region,
            "access_key_id": self.key_id,
            "secret_access_key": self.secret,
            "session_token": self.token,
            "skip_signature": self.is_unsigned or None,
            "request_payer": self.is_requester_paying or None,
            "virtual_hosted_style_request": self.is_virtual_hosted,
        }
        return {name: value for name, value in told.items() if value is not None}

    def to_gdal(self) -> dict[str, str]:
        """Give GDAL's options; it finds keys in the environment and in ``~/.aws`` by itself."""
        # Told either way: rasterio puts what the environment once said into GDAL's own settings, and leaves it there.
        options = {"AWS_NO_SIGN_REQUEST": "YES" if self.is_unsigned else "NO"}
        if self.is_requester_paying:
            options["AWS_REQUEST_PAYER"] = "requester"
        if self.region is not None:
            options["AWS_REGION"] = self.region
        if self.credentials_file is not None:
            options["CPL_AWS_CREDENTIALS_FILE"] = self.credentials_file
        is_virtual_hosted = self.is_virtual_hosted
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            options |= {
                "AWS_S3_ENDPOINT": parts.netloc + parts.path.rstrip("/"),
                "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
            }
            # Few servers beside AWS have a host for every bucket, and obstore does not ask for one.
            is_virtual_hosted = bool(is_virtual_hosted)
        if is_virtual_hosted is not None:
            options["AWS_VIRTUAL_HOSTING"] = "TRUE" if is_virtual_hosted else "FALSE"
        return options


def read_s3_access(environment: Mapping[str, str]) -> S3Access:
    """Read what the environment tells, and the shared files of AWS where it tells no key.

    Raises:
        InputError: two of its words contradict each other, or the endpoint has no TLS and is not on this machine.
    """
    endpoint = _read_endpoint(environment)
    allow_http = (
        _read_flag(environment, "AWS_ALLOW_HTTP") is True
        or _read_flag(environment, "AWS_HTTPS") is False
        or _is_on_this_machine(endpoint)
    )
    if endpoint is not None and endpoint.startswith("http://") and not allow_http:
        raise InputError(
            f"endpoint {endpoint} has no TLS: everyone on the way could read along",
            expected="https://, or an endpoint on this machine",
            remedy="correct AWS_ENDPOINT_URL, or set AWS_ALLOW_HTTP=true if the network is to be trusted",
        )
    profile = _read_profile(environment)
    has_key = bool(environment.get("AWS_ACCESS_KEY_ID"))
    keys = {
        "key_id": environment.get("AWS_ACCESS_KEY_ID") if has_key else profile.get("aws_access_key_id"),
        "secret": environment.get("AWS_SECRET_ACCESS_KEY") if has_key else profile.get("aws_secret_access_key"),
        "token": environment.get("AWS_SESSION_TOKEN") if has_key else profile.get("aws_session_token"),
    }
    regions = (environment.get("AWS_REGION"), environment.get("AWS_DEFAULT_REGION"), profile.get("region"))
    hosting = (_read_flag(environment, name) for name in ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_VIRTUAL_HOSTING"))
    return S3Access(
        endpoint=endpoint,
        allow_http=allow_http,
        region=next((region for region in regions if region), None),
        credentials_file=environment.get("AWS_SHARED_CREDENTIALS_FILE") or None,
        is_unsigned=any(_read_flag(environment, name) for name in ("AWS_SKIP_SIGNATURE", "AWS_NO_SIGN_REQUEST")),
        is_requester_paying=environment.get("AWS_REQUEST_PAYER", "").strip().lower() in {"requester", *_TRUE},
        is_virtual_hosted=next((told for told in hosting if told is not None), None),
        **{name: value or None for name, value in keys.items()},
    )


def _read_endpoint(environment: Mapping[str, str]) -> str | None:
    url = next((environment[name].rstrip("/") for name in _ENDPOINT_URLS if environment.get(name)), None)
    host = environment.get("AWS_S3_ENDPOINT", "").rstrip("/")
    if not host:
        return url
    scheme = "http" if _read_flag(environment, "AWS_HTTPS") is False else "https"
    named = host if "://" in host else f"{scheme}://{host}"
    if url is not None and urlsplit(url).netloc != urlsplit(named).netloc:
        raise InputError(
            f"AWS_ENDPOINT_URL is {url}, AWS_S3_ENDPOINT is {host}",
            expected="one endpoint for all that is in buckets",
            remedy="set one of them alone",
        )
    return url or named


def _is_on_this_machine(endpoint: str | None) -> bool:
    host = urlsplit(endpoint or "").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_flag(environment: Mapping[str, str], name: str) -> bool | None:
    word = environment.get(name, "").strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _read_profile(environment: Mapping[str, str]) -> dict[str, str]:
    """Read a profile of the files that AWS's own programs share; empty where there is none."""
    names = (environment.get("AWS_PROFILE"), environment.get("AWS_DEFAULT_PROFILE"), "default")
    profile = next(name for name in names if name)
    home = Path(environment.get("HOME") or Path.home(), ".aws")
    found: dict[str, str] = {}
    for variable, file, sections in (
        ("AWS_CONFIG_FILE", "config", (f"profile {profile}", profile)),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", (profile,)),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(environment.get(variable) or home / file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in sections:
            found |= dict(parser.items(section)) if parser.has_section(section) else {}
    return found
