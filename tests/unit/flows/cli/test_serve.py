"""`deltavlm serve` goes past a region that is wrong, says so, and refuses only where none is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import automations, prefect_server
from flows.cli.serve import serve_command
from model.errors import InputError

REGION = """
name: {name}
aoi: area.geojson
source: {{kind: folder, folder: scenes, files: "scene_%Y%m%d.tif"}}
pairing: {{kind: series, since: 2024-01-01}}
schedule: {{cron: "{cron}"}}
output: regions/{name}
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for the server: what is served is listed."""
    found: list[Any] = []
    monkeypatch.setattr(prefect_server, "check_server", lambda: "http://127.0.0.1:4200/api")
    monkeypatch.setattr(prefect_server, "describe_exposure", lambda address: None)
    monkeypatch.setattr(automations, "ensure_automations", lambda each: [])
    monkeypatch.setattr("prefect.serve", lambda *deployments, limit: found.extend(deployments))
    monkeypatch.setenv("DELTAVLM_ALLOW", "")
    return found


def write_region(folder: Path, name: str, *, cron: str = "0 3 * * 1", text: str = "") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(text or REGION.format(name=name, cron=cron))
    return file


def serve(*files: Path) -> None:
    serve_command(list(files), limit=1, silence_s=60.0, allow=None, automations_only=False)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"cron": "0 3 5L * *"}, "cron"),
        ({"cron": "0 3 LW * *"}, "cron"),
        ({"text": "name: wrong\npairing: {kind: unheard}\n"}, "pairing"),
        ({"text": "name: [wrong"}, "wrong.yaml"),
    ],
)
def test_one_wrong_region_keeps_no_other_back(
    wrong: dict[str, str], found: str, tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(write_region(tmp_path, "wrong", **wrong), write_region(tmp_path, "right"))

    assert len(served) == 2
    assert [each.parameters["region"]["name"] for each in served if each.parameters] == ["right"]
    told = capsys.readouterr().err
    assert "a region is not served" in told
    assert found in told


def test_where_every_region_is_wrong_nothing_is_served(tmp_path: Path, served: list[Any]) -> None:
    with pytest.raises(InputError, match="cron"):
        serve(write_region(tmp_path, "one", cron="0 3 5L * *"), write_region(tmp_path, "two", cron="LW"))

    assert served == []
