"""The command ``deltavlm mcp``: finished runs and regions for assistants, over stdin and stdout."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Device, RunDtype, RunModelName

if TYPE_CHECKING:
    from model.interface import ChangeModel
    from pipeline.runs.record import RunRecord


def mcp_command(
    places: Annotated[
        list[str],
        typer.Argument(metavar="RUN|REGION...", help="Folders of finished runs and of regions, or s3://bucket/prefix."),
    ],
    model: RunModelName = None,
    device: Device = "auto",
    dtype: RunDtype = None,
    query_s: Annotated[
        float, typer.Option(min=1, max=3600, metavar="SECONDS", help="How long a query may take before it is stopped.")
    ] = 20,
) -> None:
    """Serve runs and regions to an assistant that speaks the Model Context Protocol, until it closes stdin.

    It lists them, reads their tables with SQL, shows tiles, and asks the model. Nothing is written, and nothing but
    these folders is read.
    """
    from model.extras import require_extra

    require_extra("mcp", use="deltavlm mcp")
    from flows.assistants.query_desk import QueryDesk
    from flows.assistants.server import Assistant
    from flows.assistants.sources import find_sources

    def load_model(record: RunRecord) -> tuple[ChangeModel, list[str]]:
        from flows.cli.ask import choose_model, load_for_run

        name, notes = choose_model(model, record=record)
        loaded, differences = load_for_run(name, record=record, device=device, dtype=dtype)
        return loaded, [*notes, *differences]

    sources = find_sources(places)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing is lost by an end at once, and a thread that waits for stdin would hold up an orderly one.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    assistant = Assistant(sources, desk=QueryDesk(places, limit_s=query_s), load_model=load_model)
    try:
        assistant.make_server().run("stdio")
    finally:
        assistant.close()
