"""Secrets in URIs and in the environment: no byte of a run, and no word that it says, has them."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import obstore
import pyarrow.parquet as pq
import pytest
from made_scenes import SETTINGS, make_scenes
from range_server import RangeHandler, start_range_server
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


def read_plainly(path: Path) -> bytes:
    """Give the bytes of a file; of a table and of an archive, what they hold before it is compressed."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path).read()
        return data + str((table.schema.metadata, table.to_pylist())).encode()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return b"".join(map(archive.read, archive.namelist()))
    return data


def find_secrets(secrets: tuple[str, ...], run: Path | None, *texts: str) -> list[str]:
    """Say where a secret stands: in a file of a run, or in what was printed."""
    places = {"printed": "".join(texts).encode()}
    if run is not None:
        places |= {str(path): read_plainly(path) for path in run.rglob("*") if path.is_file()}
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

    sizes = ("--set", "grid.resolution_m=1", "--set", "grid.tile_size_px=128")
    checked = run_command("check", str(config), *sizes, **s3.environment)
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


class LockedHandler(RangeHandler):
    """Gives a file only to who knows user, password and signature."""

    login = "ops"
    signature = "5ignature"

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        expected = base64.b64encode(f"{self.login}:{PASSWORD}".encode()).decode()
        is_known = self.headers.get("Authorization") == f"Basic {expected}"
        if is_known and self.path.endswith(f"?sig={self.signature}"):
            super().do_GET()
            return
        self.send_response(401 if not is_known else 403)
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)


@pytest.mark.parametrize("spoil", [None, "5ignature-of-old"])
def test_a_server_with_user_and_signature_is_read_and_told_of_without(
    spoil: str | None, tmp_path: Path, run_command
) -> None:
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED)
    handler = type("Handler", (LockedHandler,), {"folder": scenes.before.parent})
    run = tmp_path / "run"
    with start_range_server(handler) as server:
        places = [f"127.0.0.1:{server.server_port}/bucket/{path.name}" for path in (scenes.before, scenes.after)]
        asked = [f"http://ops:{PASSWORD}@{place}?sig={LockedHandler.signature}" for place in places]
        if spoil is not None:
            asked[1] = asked[1].replace(LockedHandler.signature, spoil)
        done = run_command(*make_arguments((asked[0], asked[1]), run))
        told = [done]
        if spoil is None:
            told += [
                run_command("report", str(run), "--format", "gpkg", "--format", "docx"),
                run_command("check", str(run)),
            ]

    assert [each.returncode for each in told] == ([0, 0, 0] if spoil is None else [2])
    assert run.exists() == (spoil is None)
    secrets = (PASSWORD, LockedHandler.signature, base64.b64encode(f"ops:{PASSWORD}".encode()).decode())
    texts = [text for each in told for text in (each.stdout, each.stderr)]
    assert find_secrets(secrets, tmp_path / "run", *texts) == []
    assert "http://***@" in (done.stderr if spoil else (run / "run.json").read_text())
