"""Reviews are kept whatever comes: other runs, torn parts, several people, clocks that are wrong."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from model.errors import FolderError, InputError
from pipeline.reviews.parts import REVIEWS_SCHEMA, decode_reviews, encode_reviews
from pipeline.reviews.review import MAX_NOTE_CHARACTERS, MAX_VERTICES, Review, Subject, Verdict
from pipeline.reviews.store import add_reviews, read_reviews
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import is_run_file
from pipeline.storage.object_facts import describe_bytes
from pipeline.tables.fields import read_description

NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def make_review(**values: Any) -> Review:
    plain: dict[str, Any] = {
        "person": "ann",
        "reviewed_at": NOON,
        "run_id": "run1",
        "model_id": "m@0",
        "subject": Subject.CHANGE,
        "subject_id": "building_r0_c0",
        "verdict": Verdict.RIGHT,
    }
    return Review(**plain | values)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path))


def test_a_review_comes_back_as_it_was_given(folder: RunFolder) -> None:
    missed = shapely.box(10, 50, 10.001, 50.001)
    review = make_review(kind="road", direction="removed", count=2.0, note="a new lane", missed=missed)
    tile = make_review(subject=Subject.TILE, is_changed=True, counts={"building": 3.0}, areas_m2={"road": 12.5})

    add_reviews(folder, [review, tile])

    read = read_reviews(folder)
    assert read.faults == ()
    assert set(map(str, read.reviews)) == {str(review), str(tile)}
    assert read.reviews[0].missed is None or read.reviews[0].missed.equals(missed)


def test_columns_have_descriptions_in_the_file(folder: RunFolder) -> None:
    name = add_reviews(folder, [make_review()]).name

    assert name is not None
    schema = pq.read_schema(Path(folder.uri, name))
    assert schema.names == REVIEWS_SCHEMA.names
    assert all(read_description(field) for field in schema)
    # Retention and new reports remove what runs have written, and no reviews.
    assert not is_run_file(name)


def test_the_latest_word_of_each_person_holds_and_none_is_lost(folder: RunFolder) -> None:
    for hour, person, verdict in [(0, "ann", "right"), (1, "bob", "right"), (2, "ann", "wrong")]:
        add_reviews(
            folder, [make_review(person=person, verdict=Verdict(verdict), reviewed_at=NOON + dt.timedelta(hours=hour))]
        )

    log = read_reviews(folder)

    assert len(log.reviews) == 3
    assert {review.person: review.verdict for review in log.list_latest()} == {"ann": "wrong", "bob": "right"}


def test_what_was_said_already_is_not_kept_twice(folder: RunFolder) -> None:
    add_reviews(folder, [make_review()])

    again = add_reviews(folder, [make_review(reviewed_at=NOON + dt.timedelta(days=1))])

    assert (again.name, again.n_added, again.n_known) == (None, 0, 1)
    assert len(read_reviews(folder).reviews) == 1


def test_two_that_differ_in_the_shape_alone_are_two(folder: RunFolder) -> None:
    corners = [(x / 1e4, (x % 2) / 1e4) for x in range(40)]
    shapes = [shapely.Polygon([*corners, (0.004, last)]) for last in (0.002, 0.003)]

    added = [add_reviews(folder, [make_review(missed=shapely.make_valid(shape).convex_hull)]) for shape in shapes]

    assert [each.n_added for each in added] == [1, 1]


def test_a_clock_that_runs_behind_is_told_and_the_later_word_holds(folder: RunFolder) -> None:
    add_reviews(folder, [make_review(verdict=Verdict.RIGHT)])

    added = add_reviews(folder, [make_review(verdict=Verdict.WRONG, reviewed_at=NOON - dt.timedelta(hours=3))])

    assert len(added.notes) == 1
    assert "a clock is wrong: ann" in added.notes[0]
    assert [review.verdict for review in read_reviews(folder).list_latest()] == ["wrong"]


def test_people_who_write_at_once_do_not_meet(folder: RunFolder) -> None:
    names = {add_reviews(folder, [make_review(person=person)]).name for person in ("ann", "bob", "cy")}

    assert len(names) == 3
    assert len(read_reviews(folder).list_latest()) == 3


@pytest.mark.parametrize("harm", ["torn", "other", "flipped", "renamed"])
def test_a_torn_part_is_told_and_left_where_it_is(folder: RunFolder, harm: str) -> None:
    add_reviews(folder, [make_review(person="bob")])
    name = add_reviews(folder, [make_review()]).name
    assert name is not None
    path = Path(folder.uri, name)
    data = path.read_bytes()
    if harm == "renamed":
        path = path.rename(path.with_name("mine.parquet"))
    else:
        path.write_bytes({"torn": data[:-9], "other": b"", "flipped": data[:40] + b"~" + data[41:]}[harm])
    kept = path.read_bytes()

    log = read_reviews(folder)

    assert [review.person for review in log.reviews] == ["bob"]
    assert len(log.faults) == 1
    assert path.name in log.faults[0]
    assert path.read_bytes() == kept


def test_a_link_in_place_of_a_part_is_not_followed(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / f"{'0' * 64}.parquet").symlink_to("/etc/passwd")

    with pytest.raises(FolderError, match="holds a link"):
        read_reviews(folder)


def test_rows_of_strangers_that_are_no_reviews_are_told() -> None:
    rows = pq.read_table(pa.BufferReader(encode_reviews([make_review()]))).to_pylist()
    bad = [rows[0] | change for change in ({"verdict": "maybe"}, {"note": "x" * 9_999}, {"missed": b"no shape"}, {})]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(bad, schema=REVIEWS_SCHEMA), sink)

    found, problems = decode_reviews(sink.getvalue())

    assert len(found) == 1
    assert [problem.partition(":")[0] for problem in problems] == ["row 1", "row 2", "row 3"]


MANY = shapely.Point(0, 0).buffer(1, quad_segs=MAX_VERTICES)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"note": "x" * (MAX_NOTE_CHARACTERS + 1)}, "its note has 2,001 characters"),
        ({"missed": MANY}, "corners, more than 1,000"),
        ({"missed": shapely.box(200, 0, 201, 1)}, "longitude and latitude"),
        ({"missed": shapely.Point(1, 1)}, "no sound polygon"),
        ({"person": " "}, "its person has"),
        ({"person": "x" * 101}, "its person has 101 characters"),
        ({"person": "ann\x1b[2J"}, "its person has"),
        ({"kind": "canal"}, "is none of building, road"),
        ({"direction": "up"}, "is none of built, removed"),
        ({"count": float("nan")}, "a count or an area"),
        ({"counts": {"building": -1.0}}, "a count or an area"),
        ({"is_changed": False, "counts": {"road": 2.0}}, "nothing changed, and counts"),
    ],
)
def test_a_review_beyond_its_limits_is_refused(folder: RunFolder, values: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        add_reviews(folder, [make_review(**values)])

    assert not Path(folder.uri, "reviews").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        # A year that Python does not have, and versions that leave no room for one more.
        ("reviewed_at", pa.array([10**18], pa.int64()).cast(pa.timestamp("us", "UTC"))),
        ("version", pa.array([2**63 - 1])),
        ("version", pa.array([-5])),
    ],
)
def test_a_part_of_no_sense_takes_no_other_along(folder: RunFolder, column: str, value: Any) -> None:
    add_reviews(folder, [make_review()])
    table = pq.read_table(pa.BufferReader(encode_reviews([make_review(verdict=Verdict.WRONG)])))
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(table.schema.get_field_index(column), table.schema.field(column), value), sink)
    data = bytes(sink.getvalue())
    folder.put(f"reviews/{describe_bytes(data)['sha256']}.parquet", data)

    read = read_reviews(folder)

    assert [review.verdict for review in read.reviews] == [Verdict.RIGHT]
    assert len(read.faults) == 1
    assert add_reviews(folder, [make_review(verdict=Verdict.UNSURE)]).n_added == 1
