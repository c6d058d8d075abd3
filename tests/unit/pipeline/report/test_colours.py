"""A kind has one colour: style sheet, script and QGIS's style say what the table says."""

from __future__ import annotations

import re
from importlib import resources
from xml.etree import ElementTree

import pytest
from PIL import ImageColor

from model.instances import Direction
from pipeline.report.colours import DIRECTION_COLOURS, KIND_COLOURS, KIND_INKS
from pipeline.tables.schemas import CHANGE_KINDS

REPORT = resources.files("pipeline.report")


def test_every_kind_has_its_colours() -> None:
    assert tuple(KIND_COLOURS) == tuple(KIND_INKS) == CHANGE_KINDS


@pytest.mark.parametrize("kind", CHANGE_KINDS)
def test_style_sheet_has_the_colours_of_the_table(kind: str) -> None:
    sheet = REPORT.joinpath("page", "page.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", sheet[: sheet.index("@media")]))

    assert (light[kind], light[f"{kind}-ink"]) == (KIND_COLOURS[kind], KIND_INKS[kind])
    # Those that let the ground through cannot name a variable, nor do the marks on pictures, which no theme changes.
    fill, mark = (re.search(rf"\.{rule} {{[^}}]*fill: (#[0-9a-f]{{6}})", sheet) for rule in (
        rf"shape\.{kind}:not\(\.casing\)", rf"marker\.{kind} circle",
    ))  # fmt: skip
    assert fill is not None
    assert mark is not None
    assert (fill[1], mark[1]) == (KIND_COLOURS[kind], KIND_INKS[kind])


def test_script_draws_the_kinds_in_the_colours_of_the_table() -> None:
    script = REPORT.joinpath("page", "scripts", "drawing.mjs").read_text(encoding="utf-8")
    listed = re.search(r"KIND_COLOURS = \[(.*?)\]", script)

    assert listed is not None
    assert re.findall(r"#[0-9a-f]{6}", listed[1])[: len(CHANGE_KINDS)] == list(KIND_COLOURS.values())


def test_what_became_of_the_ground_has_one_colour_too() -> None:
    script = REPORT.joinpath("page", "scripts", "drawing.mjs").read_text(encoding="utf-8")
    sheet = REPORT.joinpath("page", "page.css").read_text(encoding="utf-8")
    listed = re.search(r"DIRECTION_COLOURS = \[(.*?)\]", script)

    assert listed is not None
    assert re.findall(r"#[0-9a-f]{6}", listed[1]) == list(DIRECTION_COLOURS.values())
    assert [name.value for name in Direction] == list(DIRECTION_COLOURS)
    swatches = {name: re.search(rf"\.swatch\.{name} {{ border: 2.5px solid (#[0-9a-f]+)", sheet) for name in Direction}
    assert [found[1] for found in swatches.values() if found] == list(DIRECTION_COLOURS.values())


def test_qgis_draws_the_kinds_in_the_colours_of_the_table() -> None:
    style = ElementTree.fromstring(REPORT.joinpath("style.qml").read_text(encoding="utf-8"))
    kinds = {category.get("symbol"): category.get("value") for category in style.iter("category")}
    drawn = {
        kinds[symbol.get("name")]: {
            name: tuple(map(int, option.get("value", "").split(",")))[:3]
            for name in ("color", "outline_color")
            for option in symbol.iterfind(f".//Option[@name='{name}']")
        }
        for symbol in style.iter("symbol")
    }
    colours = {kind: ImageColor.getrgb(colour) for kind, colour in KIND_COLOURS.items()}
    inks = {kind: ImageColor.getrgb(colour) for kind, colour in KIND_INKS.items()}

    # Roads are hatched, and a hatch is lines.
    assert drawn == {
        "building": {"color": colours["building"], "outline_color": inks["building"]},
        "road": {"color": inks["road"], "outline_color": inks["road"]},
    }
