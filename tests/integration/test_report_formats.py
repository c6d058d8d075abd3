"""Reports in other formats, read back by programs that are not ours; what a model wrote stays harmless words."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.metadata
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import docx
import duckdb
import geopandas as gpd
import numpy as np
import obstore
import pyogrio
import pytest
import rasterio
import shapely
from geopandas.testing import assert_geodataframe_equal
from made_scenes import command_environment, make_config, make_scenes, read_result
from qgis_drawing import DrawWithQgis
from rio_cogeo import cog_validate
from s3_server import BUCKET, start_s3_server

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.runs.export import FORMATS, export_report, list_files
from pipeline.runs.export_docx import make_summary
from pipeline.runs.export_probability import PROBABILITY_FORMAT
from pipeline.runs.read import open_tiles
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes, rebuild_report
from pipeline.storage.folder import RunFolder
from pipeline.tables.fields import DESCRIPTIONS_KEY
from pipeline.tables.vector_formats import VECTOR_FORMATS, write_flatgeobuf, write_layer

LEFT, TOP, TILE_M = 621_000.0, 3_362_000.0, 48.0
CHANGED = {(0, 0): ["top-left", "center-center"], (1, 2): ["center-right"], (1, 3): ["center-left", "bottom-left"]}
NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "report.ipynb"
HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> \x07"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, client: Any) -> Path:
    """A finished run with zones: west with a change more than its half, east, and one that was never seen."""
    from functools import partial

    from flows.cluster import open_cluster
    from pipeline.config.cluster import ClusterConfig

    folder = tmp_path_factory.mktemp("formats")
    shapes = [
        shapely.box(LEFT, TOP - 4 * TILE_M, LEFT + 3 * TILE_M, TOP),
        shapely.box(LEFT + 3 * TILE_M, TOP - 4 * TILE_M, LEFT + 6 * TILE_M, TOP),
        shapely.box(LEFT + 30 * TILE_M, TOP - TILE_M, LEFT + 31 * TILE_M, TOP),
    ]
    zones = {"id": ["w", "e", "x"], "name": [HOSTILE[:-1], "=East", "Far"], "people": [1, 2, 3]}
    gpd.GeoDataFrame(zones, geometry=shapes, crs="EPSG:32614").to_file(folder / "zones.gpkg")
    scenes = make_scenes(folder / "scenes", changed=CHANGED)
    config = make_config(scenes, output=folder / "run", assignments=(f"zones={folder / 'zones.gpkg'}",))
    connect = partial(open_cluster, ClusterConfig(kind="address", address=client.scheduler.address))
    report = detect_changes(config, open_cluster=connect)
    assert report.zone_counts == {"seen": 2, "partly_seen": 0, "not_seen": 1}
    return folder / "run"


def read(run: Path, table: str) -> gpd.GeoDataFrame:
    return gpd.read_parquet(run / "report" / f"{table}.parquet")


def test_zones_share_the_changes_out(run: Path) -> None:
    zones, changes = read(run, "zones").set_index("zone_id"), read(run, "changes")

    assert zones.loc[["w", "e"], "building_count"].tolist() == pytest.approx([3, 2])
    assert zones["building_count"].isna()["x"]
    assert zones["building_area_m2"].sum() == pytest.approx(changes["area_m2"].sum())
    assert zones["people"].to_dict() == {"w": 1, "e": 2, "x": 3}


def test_the_record_knows_the_zones_and_another_file_of_them(
    run: Path, tmp_path: Path, shared_cluster: OpenCluster
) -> None:
    record = json.loads((run / "run.json").read_text())
    before = {name: (run / name).read_bytes() for name in record["files"]}
    other = tmp_path / "other.geojson"
    gpd.GeoSeries([shapely.box(LEFT, TOP - TILE_M, LEFT + TILE_M, TOP)], crs="EPSG:32614").to_file(other)

    report = rebuild_report(str(run), zones={"zones": str(other)})
    renamed = json.loads((run / "run.json").read_text())
    rebuild_report(str(run), zones={"zones": record["config"]["zones"]})

    assert report.zone_counts["seen"] == 1
    assert renamed["run_id"] != record["run_id"]
    assert renamed["inputs"]["zones"]["uri"] == str(other)
    assert {name: (run / name).read_bytes() for name in record["files"]} == before


def test_zones_that_changed_on_disk_are_noticed(run: Path) -> None:
    path = Path(json.loads((run / "run.json").read_text())["config"]["zones"])
    kept = path.read_bytes()
    gpd.read_file(path).assign(people=0).to_file(path)

    with pytest.raises(InputError, match=r"zones .*has changed since run") as raised:
        rebuild_report(str(run))

    assert "--zones" in raised.value.remedy
    path.write_bytes(kept)


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    # The model of this run has no masks.
    formats = [name for name in FORMATS if name != PROBABILITY_FORMAT]
    written = export_report(str(run), formats=formats, output=str(folder))
    expected = {file for name in formats for file in list_files(name, tables=["tiles", "changes", "zones"], rasters=())}
    assert {str(Path(path).relative_to(folder)) for path in written} == expected
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == expected
    return folder


def test_the_pictures_beside_a_project_are_what_the_tile_store_holds(run: Path, files: Path) -> None:
    store = open_tiles(str(run))

    for index, date in enumerate(["before", "after"]):
        path = files / "qgis" / f"{date}.tif"
        is_cog, errors, warnings = cog_validate(path)
        with rasterio.open(path) as picture:
            held, opacity = picture.read([1, 2, 3]), picture.read(4)
            assert picture.crs == store.rio.crs
            assert picture.transform.almost_equals(store.rio.transform())
        assert (is_cog, errors, warnings) == (True, [], [])
        np.testing.assert_array_equal(held, store["pixels"][index])
        np.testing.assert_array_equal(opacity // 255, store["valid"][index])


def test_qgis_opens_the_project_and_draws_it(
    run: Path, files: Path, tmp_path: Path, draw_with_qgis: DrawWithQgis
) -> None:
    """Moved elsewhere first, as its layers are named relative to it."""
    moved = shutil.copytree(files / "qgis", tmp_path / "a folder")

    drawn = draw_with_qgis(moved / "report.qgz")

    layers = drawn.told["layers"]
    assert (drawn.told["is_read"], drawn.told["crs"]) == (True, "EPSG:32614")
    assert drawn.told["groups"] == ["Report", "Pictures"]
    assert [name.split()[0] for name in drawn.told["shown"]] == ["Changes", "Zones", "Tiles", "After"]
    assert all(layer["is_valid"] and layer["crs"] == "EPSG:32614" for layer in layers.values())
    for table in ("changes", "zones", "tiles"):
        assert layers[table.capitalize()]["n_features"] == len(read(run, table))
    assert layers["Changes"]["renderer"] == "categorizedSymbol"
    with rasterio.open(moved / "after.tif") as picture:
        shown = np.median(picture.read([1, 2, 3]).reshape(3, -1), axis=1)
    height, width, _ = drawn.pixels.shape
    middle = drawn.pixels[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3].reshape(-1, 3)
    assert np.abs(np.median(middle, axis=0) - shown).max() <= 25


@pytest.mark.parametrize("table", ["tiles", "changes", "zones"])
@pytest.mark.parametrize("name", ["gpkg", "geojson", "flatgeobuf", "kml"])
def test_gdal_reads_the_same_rows_in_the_same_places(run: Path, files: Path, name: str, table: str) -> None:
    kind = VECTOR_FORMATS[name]
    path = files / (f"report{kind.suffix}" if kind.has_layers else f"{table}{kind.suffix}")
    key = {"tiles": "tile_id", "changes": "change_id", "zones": "zone_id"}[table]

    found = gpd.read_file(path, layer=table).set_index(key)

    expected = read(run, table).set_index(key)
    assert sorted(found.index) == sorted(expected.index)
    found = found.loc[expected.index]
    there = ~expected.geometry.is_empty
    distance = found.geometry.to_crs(expected.crs)[there].hausdorff_distance(expected.geometry[there])
    assert distance.max() < 0.02
    column = {"tiles": "building_count", "changes": "area_m2", "zones": "building_area_m2"}[table]
    assert found[column].astype(float).tolist() == pytest.approx(expected[column].astype(float).tolist(), nan_ok=True)
    assert found.crs == ("EPSG:4326" if name in {"geojson", "kml"} else expected.crs)


def test_geopackage_opens_without_gdal(files: Path) -> None:
    with sqlite3.connect(files / "report.gpkg") as database:
        layers = [name for (name,) in database.execute("SELECT table_name FROM gpkg_contents")]
        kinds = dict(database.execute("SELECT table_name, geometry_type_name FROM gpkg_geometry_columns"))
    database.close()

    assert sorted(layers) == ["changes", "tiles", "zones"]
    assert set(kinds.values()) == {"MULTIPOLYGON"}


def test_exports_bring_the_style_that_leaves_the_imagery_in_sight(files: Path) -> None:
    with closing(sqlite3.connect(files / "report.gpkg")) as database:
        query = "SELECT f_table_name, useAsDefault, styleQML FROM layer_styles"
        styles = {table: qml for table, is_default, qml in database.execute(query) if is_default}

    assert set(styles) == {"tiles", "changes", "zones"}
    for table, qml in styles.items():
        assert (files / f"{table}.qml").read_text(encoding="utf-8") == qml
        (renderer,) = ElementTree.fromstring(qml).iter("renderer-v2")
        assert renderer.get("type") == ("categorizedSymbol" if table == "changes" else "singleSymbol")


def test_the_summary_is_as_old_as_it_is(files: Path) -> None:
    properties = docx.Document(str(files / "report.docx")).core_properties

    age = dt.datetime.now(dt.UTC).replace(tzinfo=None) - properties.created.replace(tzinfo=None)
    assert abs(age) < dt.timedelta(hours=1)
    assert properties.modified == properties.created


def test_geojson_is_longitude_and_latitude_counterclockwise(run: Path, files: Path) -> None:
    content = json.loads((files / "changes.geojson").read_text())

    place = read(run, "changes").to_crs("OGC:CRS84").total_bounds
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in content["features"]]
    assert shapely.total_bounds(shapes) == pytest.approx(place, abs=1e-6)
    assert all(part.exterior.is_ccw for shape in shapes for part in shape.geoms)
    assert "crs" not in content


def test_csv_is_harmless_in_a_spreadsheet(run: Path, files: Path) -> None:
    with (files / "zones.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["zone_id"]: row for row in csv.DictReader(file)}

    assert rows["w"]["name"].startswith("'=cmd")
    assert rows["e"]["name"] == "'=East"
    assert rows["x"]["building_count"] == ""
    assert not [text for row in rows.values() for text in row.values() if re.match(r"\s*[=+@\t\r]", text)]
    places = gpd.GeoSeries(gpd.points_from_xy([r["lon"] for r in rows.values()], [r["lat"] for r in rows.values()]))
    zones = read(run, "zones").set_index("zone_id").to_crs("OGC:CRS84")
    assert zones.geometry.loc[list(rows)].contains(places.set_axis(list(rows)).set_crs("OGC:CRS84")).all()


def test_markup_in_words_stays_words(files: Path) -> None:
    kml = (files / "report.kml").read_text(encoding="utf-8")
    words = list(ElementTree.fromstring(kml).itertext())
    summary = docx.Document(str(files / "report.docx"))
    tables = " ".join(cell.text for table in summary.tables for row in table.rows for cell in row.cells)

    # Google Earth shows texts as HTML: as markup that shows as the model's words.
    assert not [text for text in words if "<script" in text]
    assert [text for text in words if "&lt;script&gt;" in text]
    assert "<script>" in tables
    assert "not seen" in tables


def test_the_summary_has_the_sums_a_map_and_the_largest_changes(run: Path, files: Path) -> None:
    summary = docx.Document(str(files / "report.docx"))
    text = "\n".join(paragraph.text for paragraph in summary.paragraphs)
    changes = read(run, "changes")

    assert len(summary.inline_shapes) == 1
    assert [table.rows[0].cells[0].text for table in summary.tables] == ["scene", "kind", "tiles", "zone"]
    (kind, n_changes, count, area), *_ = [[c.text for c in r.cells] for r in summary.tables[1].rows[1:]]
    assert (kind, n_changes, count) == ("building", str(len(changes)), "5")
    assert area == f"{changes['area_m2'].sum():,.0f}"
    assert changes.loc[changes["area_m2"].idxmax(), "change_id"] in text


def test_hostile_words_in_every_column_survive_no_format_as_commands(tmp_path: Path, run: Path) -> None:
    import pyarrow.parquet as pq

    from pipeline.tables.geoparquet import encode_geoparquet, order_along_hilbert
    from pipeline.tables.schemas import CHANGES_SCHEMA

    changes = read(run, "changes").assign(description=HOSTILE)[CHANGES_SCHEMA.names]
    data = encode_geoparquet(changes, schema=CHANGES_SCHEMA, order=order_along_hilbert(changes, key="change_id"))
    texts = {}
    for name, kind in VECTOR_FORMATS.items():
        path = tmp_path / f"changes{kind.suffix}"
        write_layer(io.BytesIO(data), path, layer="changes", kind=kind)
        texts[name] = (
            next(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))["description"]
            if name == "csv"
            else gpd.read_file(path)["description"].iloc[0]
        )

    plain = HOSTILE[:-1]
    assert texts["csv"] == "'" + plain
    assert {texts[name].strip() for name in ("gpkg", "geojson", "flatgeobuf")} == {plain.strip()}
    assert "&lt;script&gt;" in texts["kml"]
    assert json.loads(pq.read_metadata(io.BytesIO(data)).metadata[DESCRIPTIONS_KEY.encode()])["kind"]


FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def test_a_column_of_a_zones_file_is_no_formula_in_a_header(tmp_path: Path, run: Path) -> None:
    columns = ["=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3", "@x", "\uff1dcmd", " =1+1"]
    zones = gpd.GeoDataFrame(
        {"id": ["w"], **{name: ["harmless"] for name in columns}},
        geometry=[shapely.box(LEFT, TOP - TILE_M, LEFT + TILE_M, TOP)],
        crs="EPSG:32614",
    )
    zones.to_parquet(tmp_path / "zones.parquet")
    other = shutil.copytree(run, tmp_path / "run")

    rebuild_report(str(other), zones={"zones": str(tmp_path / "zones.parquet")})
    export_report(str(other), formats=["csv"], output=str(tmp_path / "out"))

    with (tmp_path / "out" / "zones.csv").open(encoding="utf-8-sig", newline="") as file:
        head = next(csv.reader(file))
    assert [name for name in head if name.lstrip().startswith(FORMULA_SIGNS)] == []
    assert [name for name in columns if not any(name.strip() in each for each in head)] == []


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "@x", "\uff1dcmd", "a\rb"])
def test_a_prompt_with_such_a_name_is_refused(name: str, tmp_path: Path) -> None:
    prompt = f"prompts=[{{name: {json.dumps(name)}, kind: ask, text: What is new}}]"

    with pytest.raises(InputError, match=r"prompts\.0\.name"):
        load_config(values={"before": "b.tif", "after": "a.tif", "output": str(tmp_path)}, assignments=[prompt])


def test_megabytes_of_words_make_no_megabytes_of_summary(run: Path) -> None:
    changes, tiles, zones = (read(run, table) for table in ("changes", "tiles", "zones"))
    changes["description"] = "a house appears. " * 300_000
    zones["name"] = "Zone " * 1_000_000
    record = read_record(RunFolder(str(run)))
    record = replace(record, reason_counts={"failed": {"words " * 1_000_000: 1}}, status_counts={"failed": 1})
    record = replace(record, notes=["tiles are too large"])

    made = make_summary(record, tiles=tiles, changes=changes, zones=zones)

    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.getinfo("word/document.xml").file_size < 1_000_000
    words = "\n".join(paragraph.text for paragraph in docx.Document(io.BytesIO(made)).paragraphs)
    assert "a house appears." in words
    assert "\u2026" in words
    assert "Note: tiles are too large." in words


def test_flatgeobuf_is_the_same_bytes_each_time(run: Path, tmp_path: Path) -> None:
    data = (run / "report" / "changes.parquet").read_bytes()

    write_flatgeobuf(data, tmp_path / "changes.fgb")

    again = (tmp_path / "changes.fgb").read_bytes()
    assert again == (run / "report" / "changes.fgb").read_bytes()
    assert pyogrio.read_info(io.BytesIO(again), force_total_bounds=False)["features"] == len(read(run, "changes"))


def test_the_command_writes_into_the_run_or_to_one_file(run: Path, tmp_path: Path, run_command: Any) -> None:
    inside = run_command("report", str(run), "--format", "gpkg")
    one = run_command("report", str(run), "--format", "gpkg", "--output", str(tmp_path / "mine.gpkg"))
    both = run_command("report", str(run), "--format", "gpkg", "--format", "csv", "-o", str(tmp_path / "mine.gpkg"))

    assert read_result(inside)["files"] == [str(run / "formats" / "report.gpkg")]
    assert read_result(one)["files"] == [str(tmp_path / "mine.gpkg")]
    layers = [name for name, _ in pyogrio.list_layers(tmp_path / "mine.gpkg")]
    assert layers == ["tiles", "changes", "zones", "layer_styles"]
    assert both.returncode == 2
    assert "is the name of one file" in both.stderr


def test_options_that_need_another_are_refused(run: Path, run_command: Any) -> None:
    alone = run_command("report", str(run), "--output", "folder")
    columns = run_command("report", str(run), "--zones-id-column", "code")

    assert (alone.returncode, columns.returncode) == (2, 2)
    assert "--output without --format" in alone.stderr
    assert "without --zones" in columns.stderr


def test_check_reads_the_zones_before_the_run_does(run: Path, tmp_path: Path, run_command: Any) -> None:
    config = tmp_path / "run.yaml"
    scenes = run.parent / "scenes"
    config.write_text(
        f"before: {scenes / 'before.tif'}\nafter: {scenes / 'after.tif'}\noutput: {tmp_path / 'run'}\n"
        f"zones: {run.parent / 'zones.gpkg'}\ngrid: {{resolution_m: 1, tile_size_px: 48}}\n"
    )

    sound = run_command("check", str(config))
    wrong = run_command("check", str(config), "--set", "zones_id_column=cod")

    assert json.loads(sound.stdout)["figures"]["n_zones"] == 3
    assert wrong.returncode == 2
    assert "has no column 'cod'" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"formats": ["xls"]}, "format 'xls' is not known"),
        ({"formats": ["probability"]}, "has no masks: stand-in"),
        ({"formats": ["gpkg"], "output": "/dev/null/x"}, "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_said(run: Path, arguments: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        export_report(str(run), **arguments)


def test_the_queries_of_the_docs_run_as_they_stand(
    run: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (repository / "docs" / "report.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(run / "report")
    parts = importlib.metadata.files("duckdb-extension-spatial") or []
    (extension,) = [p.locate() for p in parts if p.name.endswith((".duckdb_extension", ".duckdb_extension.gz"))]
    database = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    database.execute(f"LOAD '{extension}'")

    kinds, removed, largest, statuses, tiles, zones = [database.execute(query).fetchall() for query in queries]
    database.close()

    changes = read(run, "changes")
    assert kinds == [("building", len(changes), pytest.approx(changes["area_m2"].sum()))]
    # The stand-in's confidences were never measured, so that its changes have none, nor does it tell a direction.
    assert changes[["confidence", "change"]].isna().all(axis=None)
    assert removed == []
    assert largest == []
    assert statuses == [("analysed", 24, 100.0)]
    assert len(tiles) == 24
    assert [(status, count) for _, status, count, _ in zones][-1] == ("not_seen", None)


def test_a_run_in_a_bucket_is_exported_into_it(run: Path, run_command: Any) -> None:
    with start_s3_server() as server:
        store = server.open_store("weekly")
        for path in [run / "run.json", *(run / "report").glob("*.*")]:
            obstore.put(store, str(path.relative_to(run)), path.read_bytes())

        done = run_command(
            "report", f"s3://{BUCKET}/weekly", "--format", "flatgeobuf", "--format", "docx", **server.environment
        )

        assert done.returncode == 0, done.stderr
        assert read_result(done)["files"][-1] == f"s3://{BUCKET}/weekly/formats/report.docx"
        found = server.read_all("weekly")
    assert found["formats/changes.fgb"] == (run / "report" / "changes.fgb").read_bytes()


def test_a_sample_that_people_looked_at_tells_how_accurate_the_report_is(
    run: Path, tmp_path: Path, run_command: Any
) -> None:
    reviewed = Path(shutil.copytree(run, tmp_path / "run"))
    tables = {path.name: gpd.read_parquet(path) for path in reviewed.glob("report/*.parquet")}
    truth = read(run, "tiles").set_index("tile_id")["is_changed"]

    drawn = read_result(run_command("assess", str(reviewed), "--n", "20", "--output", str(tmp_path / "sheet")))
    sheet = tmp_path / "sheet" / "sample.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    # All but one tile are as the model says.
    wrong = next(row["tile_id"] for row in rows if not truth[row["tile_id"]])
    for row in rows:
        row["is_changed"] = "yes" if truth[row["tile_id"]] or row["tile_id"] == wrong else "no"
        row["building_count"] = "1" if row["is_changed"] == "yes" else ""
    with (tmp_path / "filled.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=[*rows[0]])
        writer.writeheader()
        writer.writerows([*rows, rows[0] | {"tile_id": "r9999_c9999"}])
    arguments = ("--reviews", str(tmp_path / "filled.csv"), "--person", "ann", "--estimate")
    told = run_command("assess", str(reviewed), *arguments)
    export_report(str(reviewed), formats=["docx"], output=str(tmp_path / "report.docx"))

    assert drawn["sample"]["n_tiles"] == len(rows) == len(list((tmp_path / "sheet" / "pictures").glob("*.png"))) == 20
    assert not {"building_cells", "change_confidence", "stratum"} & rows[0].keys()
    assert told.returncode == 1
    result = read_result(told)
    assert result["reviews"]["n_added"] == 20
    assert len(result["reviews"]["refused"]) == 1
    accuracy = result["accuracy"]
    assert accuracy["tiles"]["counts"][1] == [1, sum(not truth[row["tile_id"]] for row in rows) - 1]
    assert accuracy["zones"][0]["zone_id"] == "w"
    for name, former in tables.items():
        now = gpd.read_parquet(reviewed / "report" / name)
        assert_geodataframe_equal(now[former.columns], former)
        assert all(column.startswith(("review", "rejected")) for column in now.columns.difference(former.columns))
    assert "report/accuracy.json" in read_record(RunFolder(str(reviewed))).files
    item = json.loads((reviewed / "report" / "item.json").read_text())
    assert item["properties"]["deltavlm:accuracy"]["overall_accuracy"] == accuracy["tiles"]["overall_accuracy"]
    assert item["assets"]["accuracy_json"]["href"] == "accuracy.json"
    assert "How accurate this is" in (reviewed / "report" / "index.html").read_text(encoding="utf-8")
    headings = [paragraph.text for paragraph in docx.Document(str(tmp_path / "report.docx")).paragraphs]
    assert "How accurate this is" in headings


def test_an_assessment_without_what_it_needs_is_refused(run: Path, run_command: Any) -> None:
    done = [
        run_command("assess", str(run), *arguments)
        for arguments in ((), ("--n", "0"), ("--n", "25"), ("--estimate",), ("--reviews", "any.csv"))
    ]

    assert [each.returncode for each in done] == [2] * 5
    assert "a sample of 25 tiles of 24" in done[2].stderr
    assert "has no sample" in done[3].stderr


def test_reviews_of_a_run_in_a_bucket_are_kept_there(run: Path, tmp_path: Path, run_command: Any) -> None:
    with start_s3_server() as server:
        store = server.open_store("weekly")
        for path in [run / "run.json", *(run / "report").glob("*.*")]:
            obstore.put(store, str(path.relative_to(run)), path.read_bytes())
        uri = f"s3://{BUCKET}/weekly"
        drawn = run_command("assess", uri, "--n", "8", **server.environment)
        sheet = server.read_all("weekly")["reviews/sample.csv"].decode("utf-8-sig")
        head, *rows = csv.reader(io.StringIO(sheet))
        filled = [[*row[:5], "no", *row[6:]] for row in rows]
        (tmp_path / "filled.csv").write_text(
            "\n".join(",".join(f'"{cell}"' for cell in row) for row in [head, *filled])
        )
        taken = [
            run_command(
                "assess", uri, "--reviews", str(tmp_path / "filled.csv"), "--person", "ann", **server.environment
            )
            for _ in range(2)
        ]
        names = [name for name in server.read_all("weekly") if re.fullmatch(r"reviews/[0-9a-f]{64}\.parquet", name)]

    # The pixels were left behind.
    assert "no pictures" in read_result(drawn)["sample"]["notes"][0]
    assert [read_result(each)["reviews"]["n_added"] for each in taken] == [8, 0]
    assert len(names) == 1


def test_the_notebook_of_the_docs_runs_and_finds_what_is_new(run: Path, tmp_path: Path) -> None:
    former = shutil.copytree(run, tmp_path / "former")
    changes = read(run, "changes")
    # One that touches no other, which would stand for it.
    alone = next(row for row in changes.index if changes.drop(row).disjoint(changes.geometry[row]).all())
    changes.drop(alone).to_parquet(former / "report" / "changes.parquet")
    executed = tmp_path / "executed.ipynb"

    done = subprocess.run(
        [sys.executable, "-c", "from nbclient.cli import main; main()", str(NOTEBOOK), "--output", str(executed)],
        env=command_environment(DELTAVLM_RUN=str(run), DELTAVLM_FORMER_RUN=str(former), HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    outputs = [output for cell in json.loads(executed.read_text())["cells"] for output in cell.get("outputs", ())]
    printed = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    assert f"{len(changes)} changes, {len(changes) - 1} in the former run, 1 that meet none of it" in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)
