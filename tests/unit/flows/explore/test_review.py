"""The review desk: what people may send, what is shown to whom, and that every word is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from made_pages import GRID, PlainStore

from flows.explore.page import REVIEW_POLICY
from flows.explore.requests import RequestError
from flows.explore.review import ReviewDesk
from flows.explore.review_requests import MAX_SHAPES, ReviewRequest, parse_review
from flows.explore.transport import read_own
from model.errors import InputError
from pipeline.reviews.review import MAX_NOTE_CHARACTERS, MAX_VERTICES, Subject, Verdict
from pipeline.reviews.store import read_reviews
from pipeline.runs.review_items import ReviewBook, ReviewGround, ReviewHome, ReviewItem
from pipeline.storage.folder import RunFolder

CHANGE, TILE = "building_r0001_c0001_top-left", "r0002_c0003"
BOX = [[10.0, 20.0], [60.0, 20.0], [60.0, 50.0], [10.0, 50.0]]


def make_body(**changes: Any) -> bytes:
    said = {"person": "ann", "subject": "change", "subject_id": CHANGE, "verdict": "right"}
    return json.dumps(said | changes).encode()


def make_blind(**changes: Any) -> bytes:
    return make_body(subject="tile", subject_id=TILE, verdict=None, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def desk(folder: RunFolder) -> Iterator[ReviewDesk]:
    store = PlainStore(folder=folder, grid=GRID, content_key="key", shard_size_tiles=2)
    ground = ReviewGround(store=store, is_visible=np.ones((GRID.n_rows, GRID.n_cols), dtype=np.bool_))
    shared: dict[str, Any] = {"home": ReviewHome(folder=folder, run_id="run1", model_id="m@0"), "ground": ground}
    told = {"kind": "building", "area_m2": 900.0, "confidence": 0.9, "description": "a house\x07 .", "first_seen": None}
    change = ReviewItem(
        **shared,
        subject=Subject.CHANGE,
        subject_id=CHANGE,
        window=GRID.owned_window(1, 1),
        shape=GRID.tile_polygon(1, 1).buffer(-20),
        told=told,
    )
    window = GRID.owned_window(2, 3)
    tile = ReviewItem(**shared, subject=Subject.TILE, subject_id=TILE, window=window, told={}, is_changed=False)
    book = ReviewBook(title="run1", items={item.key: item for item in (change, tile)})
    made = ReviewDesk(folder, open_book=lambda _: book)
    yield made
    made.close()


def keep(desk: ReviewDesk, body: bytes) -> dict[str, Any]:
    return asyncio.run(desk.keep(parse_review(body)))


def test_what_a_person_says_is_in_the_folder_at_once(desk: ReviewDesk, folder: RunFolder) -> None:
    said = {"kind": "road", "direction": "built", "count": 3, "note": " two \x1b[2J sheds ", "missed": [BOX]}

    assert keep(desk, make_body(verdict="wrong", person=" ann ", **said))["n_added"] == 1

    (review,) = read_reviews(folder).list_latest()
    assert (review.person, review.run_id, review.model_id, review.verdict) == ("ann", "run1", "m@0", Verdict.WRONG)
    assert (review.kind, review.direction, review.count, review.is_blind) == ("road", "built", 3.0, False)
    assert review.note is not None
    assert "\x1b" not in review.note
    assert review.missed is not None
    # Fifty by thirty pixels of half a metre, on the ground.
    (area,) = shapely.area([review.missed]) * 111_320**2 * np.cos(np.radians(review.missed.centroid.y))
    assert area == pytest.approx(25 * 15, rel=0.02)


def test_what_was_drawn_comes_back_where_it_was_drawn(desk: ReviewDesk) -> None:
    keep(desk, make_body(missed=[BOX]))

    told = asyncio.run(desk.list_said("ann"))

    (ring,) = told["said"][f"change/{CHANGE}"]["missed"]
    assert sorted(map(tuple, ring)) == pytest.approx(np.array(sorted(map(tuple, BOX))), abs=0.02)


def test_people_see_their_own_words_and_that_others_have_looked(desk: ReviewDesk, folder: RunFolder) -> None:
    for person, verdict in (("ann", "wrong"), ("bob", "right"), ("ann", "right"), ("ann", "right")):
        keep(desk, make_body(person=person, verdict=verdict))

    ann, eve = (asyncio.run(desk.list_said(person)) for person in ("ann", "eve"))

    assert ann["said"][f"change/{CHANGE}"]["verdict"] == "right"
    assert ann["others"] == {f"change/{CHANGE}": 1}
    assert (eve["said"], eve["others"]) == ({}, {f"change/{CHANGE}": 2})
    assert len(read_reviews(folder).reviews) == 3


def test_of_a_tile_of_the_sample_nobody_learns_what_the_model_says(desk: ReviewDesk, folder: RunFolder) -> None:
    kept = keep(desk, make_blind(is_changed=True, counts={"building": 2}))

    (review,) = read_reviews(folder).list_latest()
    assert (review.verdict, review.is_blind, review.is_changed, review.counts) == (
        Verdict.WRONG,
        True,
        True,
        {"building": 2.0},
    )
    told = [kept, *(asyncio.run(work) for work in (desk.list_items(), desk.list_said("ann"), desk.show("tile", TILE)))]
    shown = told[1]["sample"], told[2]["said"][f"tile/{TILE}"], {**told[3], "before": "", "after": ""}
    assert "wrong" not in json.dumps([kept, *shown])
    assert shown[0] == [{"subject": "tile", "id": TILE}]
    assert (told[3]["path"], told[3]["description"]) == ("", None)


def test_a_place_is_shown_at_both_dates_with_its_outline(desk: ReviewDesk) -> None:
    shown = asyncio.run(desk.show("change", CHANGE))

    assert shown["before"].startswith("data:image/jpeg;base64,")
    assert shown["before"] != shown["after"]
    assert shown["window"] == {"left": 240, "top": 240, "width": 240, "height": 240}
    assert shown["path"].startswith("M")
    assert (shown["is_whole"], shown["description"]) == (True, "a house .")
    assert shown["metres"] == pytest.approx(120, rel=0.01)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (make_body(subject_id="building_r9_c9"), "no 'change'"),
        (make_body(subject="tile"), "no 'tile'"),
        (make_body(subject="event", subject_id="../../x"), "no 'event'"),
        (make_body(verdict=None), "no verdict"),
        (make_body(is_changed=True), "judged by"),
        (make_body(subject="tile", subject_id=TILE, verdict="right"), "a verdict"),
        (make_blind(is_changed=False, counts={"road": 1}), "nothing changed, and counts"),
        (make_body(kind="canal"), "is none of"),
        (make_body(direction="up"), "is none of"),
        (make_body(person="\x00"), "its person has"),
        (make_body(missed=[[[10, 20], [60, 20], [60, 5000]]]), "beyond the picture"),
        (make_body(missed=[[[10, 20], [10, 20], [60, 20]]]), "no sound polygon"),
    ],
)
def test_what_fits_nothing_here_is_refused_and_nothing_is_kept(
    desk: ReviewDesk, folder: RunFolder, body: bytes, found: str
) -> None:
    with pytest.raises(InputError, match=found):
        keep(desk, body)

    assert read_reviews(folder).reviews == ()


def test_a_line_that_crosses_itself_is_a_shape_all_the_same(desk: ReviewDesk, folder: RunFolder) -> None:
    keep(desk, make_body(missed=[[[10, 10], [60, 60], [60, 10], [10, 60]]]))

    (review,) = read_reviews(folder).reviews
    assert review.missed is not None
    assert review.missed.is_valid


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (make_body(verdict="perhaps"), "verdict"),
        (make_body(person=""), "person"),
        (make_body(person="x" * 101), "person"),
        (make_body(note="x" * (MAX_NOTE_CHARACTERS + 1)), "note"),
        (make_body(count=-1), "count"),
        (make_body(count="3"), "count"),
        (make_body(settles=True), "settles"),
        (make_body(run_id="other"), "run_id"),
        (make_body(counts={"canal": 1}), "canal"),
        (make_body(missed=[[[1, 1], [2, 2]]]), "missed"),
        (make_body(missed=[[[1, 1], [2, 2], [3]]]), "missed"),
        (make_body(missed=[BOX] * (MAX_SHAPES + 1)), "missed"),
        (make_body(missed=[[[1, 1]] * (MAX_VERTICES // 2), [[1, 1]] * (MAX_VERTICES // 2 + 1)]), "corners"),
        (make_body(missed=[[[1, 1], [2, 2], [3, float("nan")]]]), "missed"),
    ],
)
def test_a_body_of_another_form_is_refused(body: bytes, found: str) -> None:
    with pytest.raises(RequestError, match=found) as refusal:
        parse_review(body)

    assert refusal.value.status in (400, 422)


def test_a_review_that_is_just_within_its_limits_is_taken() -> None:
    request = parse_review(make_body(missed=[BOX] * MAX_SHAPES, note="x" * MAX_NOTE_CHARACTERS, count=0))

    assert isinstance(request, ReviewRequest)
    assert (request.count, len(request.missed)) == (0.0, MAX_SHAPES)


def test_the_page_runs_its_own_script_alone() -> None:
    html = read_own("review.html")

    assert html.count("<script") == html.count('nonce="NONCE"') == 1
    assert "style=" not in html
    assert "script-src 'nonce-N'; " in REVIEW_POLICY.format(nonce="N")
