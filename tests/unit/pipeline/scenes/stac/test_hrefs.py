"""Where a document may point: a table of hrefs from documents on this machine and on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.scenes.stac.hrefs import Place, locate_document, resolve_href

REMOTE = Place(href="https://stac.example/catalog/scenes/item.json")
BUCKET = Place(href="s3://bucket/catalog/item.json")


@pytest.mark.parametrize(
    ("place", "href", "expected"),
    [
        (REMOTE, "red.tif", "https://stac.example/catalog/scenes/red.tif"),
        (REMOTE, "./a/red.tif", "https://stac.example/catalog/scenes/a/red.tif"),
        (REMOTE, "../red.tif", "https://stac.example/catalog/red.tif"),
        (REMOTE, "../../../../../etc/passwd", "https://stac.example/etc/passwd"),
        (REMOTE, "http://other.example/red.tif?sig=1", "http://other.example/red.tif?sig=1"),
        (REMOTE, "s3://bucket/red.tif", "s3://bucket/red.tif"),
        (BUCKET, "red.tif", "s3://bucket/catalog/red.tif"),
        (BUCKET, "../scenes/red.tif", "s3://bucket/scenes/red.tif"),
        (BUCKET, "https://other.example/red.tif", "https://other.example/red.tif"),
    ],
)
def test_href_of_a_remote_document(place: Place, href: str, expected: str) -> None:
    assert resolve_href(href, place=place, what="the asset red") == expected


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("/etc/passwd", "a place on this machine"),
        ("file:///etc/passwd", "a place on this machine"),
        ("file:/etc/passwd", "a place on this machine"),
        ("FILE:///etc/passwd", "a place on this machine"),
        ("\\\\server\\share\\red.tif", "a place on this machine"),
        ("//other.example/red.tif", "a whole URI"),
        ("/vsizip//etc/a.zip/red.tif", "a place on this machine"),
        ("https://stac.example/vsicurl/file:///etc/passwd", "virtual file system"),
        ("vsi%2fx", None),
        ("a/%2Fvsizip/red.tif", "virtual file system"),
        ("gs://bucket/red.tif", "points to gs://bucket/red.tif"),
        ("ftp://host/red.tif", "points to ftp"),
        ("NETCDF:/etc/x.nc:red", "points to NETCDF"),
        ("GTIFF_DIR:1:/etc/x.tif", None),
        ("data:image/tiff;base64,AAAA", "points to data"),
        ("https:red.tif", "points to https:red.tif"),
    ],
)
def test_href_that_a_remote_document_may_not_have(href: str, reason: str | None) -> None:
    if reason is None:
        # No scheme and no virtual file system: a strange name on the same server.
        assert resolve_href(href, place=REMOTE, what="the asset red").startswith("https://stac.example/")
        return
    with pytest.raises(InputError, match="the asset red") as refusal:
        resolve_href(href, place=REMOTE, what="the asset red")
    assert reason in str(refusal.value)


@pytest.fixture
def catalog(tmp_path: Path) -> Place:
    """Give the place of an item two folders below its catalog, beside which other things lie."""
    folder = tmp_path / "catalog" / "scenes" / "one"
    folder.mkdir(parents=True)
    (tmp_path / "secret.tif").touch()
    (folder / "away.tif").symlink_to(tmp_path / "secret.tif")
    return Place(href=str(folder / "item.json"), root=str(tmp_path / "catalog"))


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("red.tif", "scenes/one/red.tif"),
        ("../../data/red.tif", "data/red.tif"),
        ("with space.tif", "scenes/one/with space.tif"),
        ("a:b.tif", None),
        ("file://{root}/data/red.tif", "data/red.tif"),
        ("file://{root}/data/re%64.tif", "data/red.tif"),
        ("{root}/data/red.tif", "data/red.tif"),
    ],
)
def test_href_inside_a_local_catalog(catalog: Place, href: str, expected: str | None) -> None:
    root = Path(catalog.root or "").resolve()
    found = resolve_href(href.format(root=root), place=catalog, what="the asset red")
    assert found == str(root / (expected or f"scenes/one/{href}"))


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("../../../secret.tif", "outside"),
        ("/etc/passwd", "outside"),
        ("file:///etc/passwd", "outside"),
        ("away.tif", "outside"),
        ("a\0b.tif", "outside"),
        ("file://host{root}/data/red.tif", "machine host"),
        ("http://[bad/red.tif", "names no host"),
        ("/vsizip/{root}/a.zip/red.tif", "virtual file system"),
        ("../../vsitar/a.tar/red.tif", "virtual file system"),
        ("gs://bucket/red.tif", "points to gs://bucket"),
    ],
)
def test_href_that_leaves_a_local_catalog(catalog: Place, href: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_href(href.format(root=catalog.root), place=catalog, what="the asset red")


def test_document_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my item.json").touch()
    monkeypatch.chdir(tmp_path)
    expected = Place(href=str(tmp_path / "my item.json"), root=str(tmp_path))

    assert locate_document("my item.json") == expected
    assert locate_document((tmp_path / "my item.json").as_uri()) == expected
    assert locate_document("s3://bucket/item.json") == Place(href="s3://bucket/item.json")


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("nowhere.json", "does not exist"),
        (".", "is a folder"),
        ("ftp://h/item.json", "ftp://"),
        ("a" * 5000, "exist"),
        ("http://[bad/item.json", "names no host"),
        ("file://host/item.json", "machine host"),
    ],
)
def test_document_that_is_nowhere_is_named(
    href: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=reason):
        locate_document(href)
