"""The command ``deltavlm ask``: one question about one place, or a conversation when none is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Device, JsonFlag, RunDtype, RunModelName
from model.errors import InputError
from model.interface import ENDPOINT_PREFIX, ChangeModel
from model.registry import SHIPPED_MODELS, find_model_folder, find_model_source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.runs.record import RunRecord

from model.registry import load_named_model

USAGE = 'deltavlm ask RUN TILE ["QUESTION"], or deltavlm ask --before A --after B ["QUESTION"]'


@dataclass(frozen=True, kw_only=True)
class AskRequest:
    """What the words on the command line ask for."""

    run: str | None = None
    """Folder of a run; None: two image files are given."""
    tile_id: str | None = None
    """Tile of the run."""
    before: str | None = None
    """Image of the earlier date; None: a run is given."""
    after: str | None = None
    """Image of the later date."""
    question: str | None = None
    """None: a conversation is wanted."""


def ask_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN TILE QUESTION",
            help="Folder of a finished run, a tile of it such as r0001_c0002, and a question in quotes. Without "
            "a question, a conversation begins.",
            show_default=False,
        ),
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Image of the earlier date, instead of RUN and TILE.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Image of the later date, of the same size.")
    ] = None,
    model: RunModelName = None,
    device: Device = "auto",
    dtype: RunDtype = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the change mask of the tile to this PNG file.")
    ] = None,
    is_json: JsonFlag = False,
) -> None:
    """Ask the model about a tile of a finished run, or about two images without georeference."""
    from flows.cli.ask_session import Session
    from flows.cli.console import make_console, print_result
    from flows.cli.work import show_work
    from model.images import check_mask_file

    request = read_request(words or (), before=before, after=after)
    if mask is not None:
        check_mask_file(mask)
    console = make_console()
    pair, record = read_place(request)
    name, notes = choose_model(model, record=record)
    with show_work(console, f"Load {name}"):
        loaded, differences = load_for_run(name, record=record, device=device, dtype=dtype)
    notes += [*differences, *(record.notes if record is not None else ())]
    for note in notes:
        console.print(f"Note: {note}", markup=False, style="yellow", highlight=False, soft_wrap=True)
    session = Session(loaded, pair, console=console, run=request.run, tile_id=request.tile_id)
    if mask is not None:
        session.write_mask(str(mask))
    if request.question is not None:
        result = session.ask(request.question)
    else:
        session.converse()
        result = {"turns": session.turns}
    print_result(make_header(request, model=loaded, notes=notes, masks=session.masks) | result, is_json=is_json)


def read_request(words: Sequence[str], *, before: str | None, after: str | None) -> AskRequest:
    """Sort what stands on the command line.

    Raises:
        InputError: it is not one of the two forms.
    """
    if before is not None or after is not None:
        missing = "--after" if after is None else "--before" if before is None else None
        if missing is not None or len(words) > 1:
            raise InputError(
                f"no {missing}" if missing else f"{len(words)} words beside two images: {' '.join(words)}",
                expected=USAGE,
                remedy="give both images, and the question in quotes",
            )
        return AskRequest(before=before, after=after, question=words[0] if words else None)
    if not 2 <= len(words) <= 3:
        found = f"{len(words)} of RUN TILE QUESTION: {' '.join(words)}" if words else "neither a run nor two images"
        raise InputError(found, expected=USAGE, remedy=_suggest(words))
    return AskRequest(run=words[0], tile_id=words[1], question=words[2] if len(words) == 3 else None)


def _suggest(words: Sequence[str]) -> str:
    if len(words) != 1:
        return "put the question in quotes" if words else "name a run and a tile, or two images"
    from pipeline.runs.read import list_changed_tiles

    tiles = list_changed_tiles(words[0])
    return f"name a tile, such as {', '.join(tiles[:3]) or 'r0000_c0000'}"


def read_place(request: AskRequest) -> tuple[npt.NDArray[np.uint8], RunRecord | None]:
    """Read the pixels to be asked about, uint8 (date=2, band=3, y, x), and what is recorded of their run.

    Raises:
        InputError: the run, the tile or an image cannot be used.
    """
    if request.run is None or request.tile_id is None:
        from model.images import make_pair

        return make_pair(request.before or "", request.after or ""), None
    from pipeline.runs.read import read_tile_pair
    from pipeline.runs.record_files import read_record
    from pipeline.storage.opening import find_run_folder

    pair = read_tile_pair(request.run, request.tile_id)
    return pair, read_record(find_run_folder(request.run))


def choose_model(given: str | None, *, record: RunRecord | None) -> tuple[str, list[str]]:
    """Choose the model by name, and tell what is to be noted about the choice.

    The run's own comes first; where it is gone, one that ships stands in for it. A served model is never taken from a
    run alone: whoever wrote the run would choose where pixels and key are sent.
    """
    default = SHIPPED_MODELS[0]
    if given is not None or record is None:
        return given or default, []
    name = str(record.config["model"]["name"])
    if name.startswith(ENDPOINT_PREFIX):
        return default, [f"the run's model is at {name}; {default} answers instead. Pass --model '{name}' to ask it"]
    try:
        if find_model_source(name) is None:
            find_model_folder(name)
    except InputError:
        return default, [f"the run's model {name!r} is not there; {default} answers instead. --model names another"]
    return name, []


def choose_dtype(record: RunRecord | None) -> str:
    """Give the precision that the run was answered in, by its config; without a run, whatever suits the machine."""
    if record is None:
        return "auto"
    model = record.config["model"]
    # Runs of older versions say nothing of quantizing.
    return str(model["dtype"]) if model.get("quantize", "off") == "off" else str(model["quantize"])


def compare_models(model: ChangeModel, *, record: RunRecord | None) -> list[str]:
    """Tell that other weights answer than those of the run, if so."""
    if record is None or model.identity.weight_hash == record.model["weight_hash"]:
        return []
    return [
        f"{model.identity.model_id} answers; the run's answers come from {record.model['model_id']}, and may differ"
    ]


def load_for_run(
    name: str, *, record: RunRecord | None, device: str, dtype: str | None
) -> tuple[ChangeModel, list[str]]:
    """Load a model to answer about a run, and tell what is to be noted of it.

    Args:
        name: Name of the model, as `choose_model` gives it.
        record: The run; None: there is none.
        device: Where it computes.
        dtype: Its precision; None: that of the run.
    """
    loaded = load_named_model(name, device=device, dtype=dtype or choose_dtype(record))
    return loaded, compare_models(loaded, record=record)


def make_header(
    request: AskRequest, *, model: ChangeModel, notes: Sequence[str], masks: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Give what the result says beside the turns."""
    place = {"run": request.run} if request.run is not None else {"before": request.before, "after": request.after}
    return {**place, "model_id": model.identity.model_id, "masks": list(masks), "notes": list(notes)}
