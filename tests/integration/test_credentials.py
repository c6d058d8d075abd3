"""Secrets in URIs and in the environment: no byte of a run, and no word that it says, has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from made_scenes import SETTINGS, make_scenes
from s3_server import BUCKET, SECRET, S3Server, start_s3_server

CHANGED = {(0, 0): ["top-left"]}
PASSWORD = "pa55w0rd-of-the-web-server"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with start_s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def uris(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A signed URI of the earlier scene, and one with a password of the later."""
    scenes = make_scenes(tmp_path_factory.mktemp("secret") / "scenes", changed=CHANGED)
    store = s3.open_store("scenes")
    for path in (scenes.before, scenes.after):
        obstore.put(store, path.name, path.read_bytes())
    signed = obstore.sign(store, "GET", "before.tif", timedelta(hours=1))
    assert "X-Amz-Signature=" in signed
    return signed, f"http://me:{PASSWORD}@127.0.0.1:{s3.port}/{BUCKET}/scenes/after.tif?token={PASSWORD}"


@pytest.fixture(scope="module")
def secrets(uris: tuple[str, str]) -> tuple[str, ...]:
    query = uris[0].partition("?")[2]
    values = dict(part.split("=", 1) for part in query.split("&"))
    return PASSWORD, SECRET, values["X-Amz-Signature"], values["X-Amz-Credential"]


def find_secrets(secrets: tuple[str, ...], run: Path | None, *texts: str) -> list[str]:
    """Say where a secret stands: in a file of a run, or in what was printed."""
    places = {"printed": "".join(texts).encode()}
    if run is not None:
        places |= {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return [f"{secret} in {place}" for secret in secrets for place, data in places.items() if secret.encode() in data]


def make_arguments(uris: tuple[str, str], output: Path) -> list[str]:
    settings = (*SETTINGS, "cluster.n_workers=1")
    return ["run", *uris, "--output", str(output), *(part for each in settings for part in ("--set", each))]


def test_a_run_leaves_and_tells_no_secret(
    tmp_path: Path, s3: S3Server, uris: tuple[str, str], secrets: tuple[str, ...], run_command
) -> None:
    run = tmp_path / "run"
    config = tmp_path / "mine.yaml"
    config.write_text(json.dumps({"before": uris[0], "after": uris[1], "output": str(run)}))

    checked = run_command("check", str(config), "--set", "grid.resolution_m=1", **s3.environment)
    done = run_command(*make_arguments(uris, run), **s3.environment)
    rebuilt = run_command("report", str(run), **s3.environment)

    assert checked.returncode == 0, checked.stderr
    assert "scenes/before.tif?X-Amz-Algorithm=***" in json.loads(checked.stdout)["figures"]["before"]
    assert done.returncode == 0, done.stderr
    assert rebuilt.returncode == 0, rebuilt.stderr
    record = json.loads((run / "run.json").read_text())
    for place in (record["config"]["before"]["uri"], record["inputs"]["before"]["assets"][0]["uri"]):
        assert "scenes/before.tif?X-Amz-Algorithm=***" in place
    assert record["config"]["after"]["uri"] == (f"http://***@127.0.0.1:{s3.port}/{BUCKET}/scenes/after.tif?token=***")
    told = [text for each in (checked, done, rebuilt) for text in (each.stdout, each.stderr)]
    assert find_secrets(secrets, run, *told) == []


@pytest.mark.parametrize("spoil", ["missing", "not a raster", "no server", "fault"])
def test_an_error_tells_no_secret(
    spoil: str, tmp_path: Path, s3: S3Server, uris: tuple[str, str], secrets: tuple[str, ...], run_command
) -> None:
    obstore.put(s3.open_store("scenes"), "text.tif", b"no raster at all")
    changes = {
        "missing": ("after.tif", "nowhere.tif"),
        "not a raster": ("after.tif", "text.tif"),
        "no server": (f":{s3.port}/", ":1/"),
        "fault": ("http://", "http://["),
    }
    after = uris[1].replace(*changes[spoil])

    done = run_command(*make_arguments((uris[0], after), tmp_path / "run"), **s3.environment)

    assert done.returncode in {2, 3}
    assert done.stderr
    assert find_secrets(secrets, None, done.stdout, done.stderr) == []
