"""Files of reviews come from strangers: a row that cannot be taken is told, and the others are taken."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.reviews import files
from pipeline.reviews.files import Reviewed, ReviewFile, read_review_file

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
ABOUT = Reviewed(
    run_id="run1",
    model_id="m@0",
    verdicts={"r0_c0": True, "r0_c1": False, "r0_c2": False},
    sampled={"r0_c0", "r0_c1"},
    change_ids={"building_r0_c0"},
)
HEAD = "tile_id,run_id,is_changed,building_count,building_area_m2,note,missed"


def read(tmp_path: Path, *rows: str, head: str = HEAD, encoding: str = "utf-8") -> ReviewFile:
    path = tmp_path / "sample.csv"
    path.write_text("\r\n".join([head, *rows]) + "\r\n", encoding=encoding, newline="")
    return read_review_file(path, person="ann", about=ABOUT, now=NOW)


def test_what_people_saw_becomes_a_verdict(tmp_path: Path) -> None:
    found = read(
        tmp_path, "r0_c0,run1,yes,2,90.5,,", "r0_c1,run1,Yes,,,a shed,", "r0_c2,run1,unsure,,,,", "r0_c2,run1,,,,,"
    )

    assert [(each.subject_id, each.verdict, each.is_changed) for each in found.reviews] == [
        ("r0_c0", "right", True),
        ("r0_c1", "wrong", True),
        ("r0_c2", "unsure", None),
    ]
    assert [each.is_blind for each in found.reviews] == [True, True, False]
    assert (found.reviews[0].counts, found.reviews[0].areas_m2) == ({"building": 2.0}, {"building": 90.5})
    assert (found.n_empty, found.refused) == (1, ())


def test_a_spreadsheet_of_another_country_is_read(tmp_path: Path) -> None:
    head, row = HEAD.replace(",", ";"), "r0_c0;run1;yes;1;12,5;;"

    found = read(tmp_path, row, "r0_c1;;no;;;;", head=head, encoding="utf-8-sig")

    assert found.reviews[0].areas_m2 == {"building": 12.5}
    # Whose run is not told, it is taken for this one.
    assert found.reviews[1].run_id == "run1"


def test_changes_are_reviewed_in_the_light_of_the_answer(tmp_path: Path) -> None:
    head = "change_id,verdict,kind,direction,count,note"
    found = read(tmp_path, "building_r0_c0,wrong,road,built,1,", "road_r9_c9,right,,,,", head=head)

    (review,) = found.reviews
    assert (review.subject, review.verdict, review.kind, review.direction) == ("change", "wrong", "road", "built")
    assert not review.is_blind
    assert found.refused == ("row 3: there is no change 'road_r9_c9'",)


def test_who_gives_a_verdict_has_seen_the_answer(tmp_path: Path) -> None:
    found = read(tmp_path, "r0_c0,right,yes", head="tile_id,verdict,is_changed")

    assert not found.reviews[0].is_blind


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("r0_c0,run2,yes,,,,", "speaks of run run2"),
        ("r9_c9,run1,yes,,,,", "no tile 'r9_c9'"),
        ("r0_c0,run1,perhaps,,,,", "neither yes, no nor unsure"),
        ("r0_c0,run1,,2,,,", "does not say whether the tile changed"),
        ("r0_c0,run1,yes,2.5,,,", "no whole number"),
        ("r0_c0,run1,yes,many,,,", "no number"),
        ("r0_c0,run1,yes,inf,,,", "no whole number"),
        ("r0_c0,run1,yes,,nan,,", "not between 0"),
        ("r0_c0,run1,yes,-1,,,", "not between 0"),
        ("r0_c0,run1,no,3,,,", "nothing changed"),
        (f"r0_c0,run1,yes,,,{'n' * 2001},", "its note"),
        ('r0_c0,run1,yes,,,,"POLYGON ((0 0, 1 0, 1 1"', "Expected"),
        ("r0_c0,run1,yes,,,,POINT (0 0)", "no polygon in WKT"),
        (f"r0_c0,run1,yes,,,,{'GEOMETRYCOLLECTION(' * 3000}", "no polygon in WKT"),
        ('r0_c0,run1,yes,,,,"POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))"', "no sound polygon"),
    ],
)
def test_a_row_that_cannot_be_taken_is_told_and_the_others_are_taken(tmp_path: Path, row: str, found: str) -> None:
    read_file = read(tmp_path, row, "r0_c1,run1,no,,,,")

    assert [each.subject_id for each in read_file.reviews] == ["r0_c1"]
    assert len(read_file.refused) == 1
    assert read_file.refused[0].startswith("row 2: ")
    assert found in read_file.refused[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"name,verdict\nx,right\n",
        b"tile_id,tile_id\na,b\n",
        b"\xff\xfe\x00",
        b'tile_id,is_changed\n"r0_c0,yes\n',
        b"tile_id,note\nr0_c0," + b"x" * 200_000 + b"\n",
    ],
)
def test_what_is_no_such_file_is_refused_whole(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes(data)

    with pytest.raises(InputError, match="cannot be read as reviews"):
        read_review_file(path, person="ann", about=ABOUT, now=NOW)


def test_files_and_rows_beyond_the_limits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_ROWS", 2)
    with pytest.raises(InputError, match="more than 2 rows"):
        read(tmp_path, *["r0_c0,run1,yes,,,,"] * 3)

    monkeypatch.setattr(files, "MAX_FILE_BYTES", 20)
    with pytest.raises(InputError, match="more than 20 bytes"):
        read(tmp_path, "r0_c0,run1,yes,,,,")


def test_a_person_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its person has"):
        read_review_file(tmp_path / "any.csv", person=" ", about=ABOUT, now=NOW)
