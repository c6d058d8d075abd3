"""The container files, read as Docker would: who runs as what, what is open, and that no password has a default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PINNED = re.compile(r"[a-z0-9/.-]+:(?!latest)[\w.-]*\d[\w.-]*")
REQUIRED = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")
"""A value that has to be given: with nothing given, Compose stops."""


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return found


def list_instructions() -> list[tuple[str, str]]:
    """Give the instructions of the Dockerfile with what follows them, lines that go on joined."""
    kept = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    lines = [line for line in kept.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_services_are_there_and_wait_for_each_other(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {"database", "server", "worker"}
    assert services["server"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert services["worker"]["depends_on"] == {"server": {"condition": "service_healthy"}}
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in services.values())


def test_the_server_asks_for_a_password_and_lets_no_other_page_in(services: dict[str, dict[str, Any]]) -> None:
    server, worker = services["server"]["environment"], services["worker"]["environment"]
    assert REQUIRED.fullmatch(server["PREFECT_SERVER_API_AUTH_STRING"])
    assert worker["PREFECT_API_AUTH_STRING"] == server["PREFECT_SERVER_API_AUTH_STRING"]
    assert server["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"
    assert server["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    documented = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert all(name in documented for name in server if name.startswith("PREFECT_SERVER_API_"))


def test_the_server_finds_the_database_by_settings_that_prefect_has(services: dict[str, dict[str, Any]]) -> None:
    from prefect.settings.models.server.database import ServerDatabaseSettings

    prefix = "PREFECT_SERVER_DATABASE_"
    server, database = services["server"]["environment"], services["database"]["environment"]
    told = {name.removeprefix(prefix).lower(): value for name, value in server.items() if name.startswith(prefix)}
    assert set(told) <= set(ServerDatabaseSettings.model_fields)
    assert (told["host"], told["driver"]) == ("database", "postgresql+asyncpg")
    same = {"user": "POSTGRES_USER", "name": "POSTGRES_DB", "password": "POSTGRES_PASSWORD"}
    assert {told[ours] == database[theirs] for ours, theirs in same.items()} == {True}


def test_no_secret_has_a_default(services: dict[str, dict[str, Any]]) -> None:
    secret = re.compile("PASSWORD|AUTH_STRING|TOKEN|SECRET|KEY")
    found = [
        (name, value)
        for service in services.values()
        for name, value in service["environment"].items()
        if secret.search(name)
    ]
    assert len(found) == 4
    assert all(REQUIRED.fullmatch(value) for _, value in found)
    assert not any(secret.search(rest) for name, rest in list_instructions() if name in ("ENV", "ARG"))


def test_nothing_runs_as_root_or_may_become_it(services: dict[str, dict[str, Any]]) -> None:
    users = [rest for name, rest in list_instructions() if name == "USER"]
    assert users == ["10001"]
    for service in services.values():
        assert service["user"] not in ("0", "root")
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_are_pinned_and_of_our_version(services: dict[str, dict[str, Any]]) -> None:
    (base,) = [rest for name, rest in list_instructions() if name == "FROM"]
    assert PINNED.fullmatch(base)
    assert PINNED.fullmatch(services["database"]["image"])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    own = f"${{DELTAVLM_IMAGE:-deltavlm-monitor:{version}}}"
    assert [services[name]["image"] for name in ("server", "worker")] == [own, own]


def test_only_the_pages_are_reached_and_from_this_machine_alone(services: dict[str, dict[str, Any]]) -> None:
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "server": ["127.0.0.1:4200:4200"]
    }
    networks = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["networks"]
    assert networks["inside"] == {"internal": True}
    assert services["database"]["networks"] == ["inside"]
    assert "inside" not in services["worker"]["networks"]


def test_what_is_copied_is_there_and_is_what_the_builder_is_sent() -> None:
    copied = {word for name, rest in list_instructions() if name == "COPY" for word in rest.split()[:-1]}
    sent = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_the_device_is_a_choice_that_is_checked() -> None:
    arguments = [rest for name, rest in list_instructions() if name == "ARG"]
    assert "DEVICE=cpu" in arguments
    (install,) = [rest for name, rest in list_instructions() if name == "RUN" and "pip install" in rest]
    assert "--constraint constraints.txt" in install
    assert "torch.version.cuda is None) == ('${DEVICE}' == 'cpu')" in install
    assert "://" not in DOCKERFILE
