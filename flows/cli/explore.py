"""The command ``deltavlm explore``: the report's page on this machine, with a model to ask about what the map shows."""

from __future__ import annotations

import socket
import webbrowser
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Device, JsonFlag, RunDtype, RunModelName
from model.errors import InputError

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import ASGIApp

    from pipeline.storage.folder import RunFolder

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that lead nowhere else."""
_SHUTDOWN_S = 3


def explore_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished run, or its s3://bucket/prefix.")],
    model: RunModelName = None,
    device: Device = "auto",
    dtype: RunDtype = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on. Other than 127.0.0.1, it lets others read and ask, too."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on; 0 takes a free one.")
    ] = 0,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Another host name that browsers reach this server by. Can be repeated.",
        ),
    ] = None,
    has_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    is_json: JsonFlag = False,
) -> None:
    """Open a run's report in the browser and ask the model about its tiles; Ctrl-C ends it."""
    from flows.cli.ask import choose_dtype, choose_model, compare_models
    from flows.cli.console import make_console, print_result
    from flows.explore.server import ChatDesk, ReportServer
    from flows.signals import StopRequest, stop_on_signals
    from model.registry import load_named_model
    from pipeline.runs.record_files import read_record
    from pipeline.storage.opening import find_run_folder

    console = make_console()
    folder = find_run_folder(run)
    record = read_record(folder)
    check_page(folder)
    try:
        with stop_on_signals(), open_socket(host, port) as listener:
            name, notes = choose_model(model, record=record)
            if not console.is_terminal:
                console.print(f"Loading {name} ...", markup=False, highlight=False, soft_wrap=True)
            with console.status(f"Loading {name} ..."):
                loaded = load_named_model(name, device=device, dtype=dtype or choose_dtype(record))
            notes += compare_models(loaded, record=record)
            if host not in LOOPBACK_NAMES:
                notes.append(f"whoever reaches {host} can read this report and ask the model")
            for note in notes:
                console.print(f"Note: {note}", markup=False, style="yellow", highlight=False, soft_wrap=True)
            url = name_url(host, port=listener.getsockname()[1])
            print_result({"url": url, "run_id": record.run_id, "model_id": loaded.identity.model_id}, is_json=is_json)
            console.print(f"The report is at {url}\nCtrl-C ends this.", markup=False, highlight=False, soft_wrap=True)
            desk = ChatDesk(loaded, folder=folder)
            try:
                server = ReportServer(desk, folder=folder, run_id=record.run_id, notes=notes, console=console)
                app = server.make_app(allowed_hosts=[*LOOPBACK_NAMES, host, *(allowed_hosts or ())])
                if has_browser:
                    # A browser of the terminal keeps its caller waiting until it is closed.
                    Thread(target=webbrowser.open, args=(url,), daemon=True).start()
                serve(app, listener=listener)
            finally:
                desk.close()
    except StopRequest as stop:
        console.print(f"Stopped by {stop.name}. The conversations were in the page alone.", highlight=False)
        raise typer.Exit(stop.exit_code) from None


def check_page(folder: RunFolder) -> None:
    """Refuse a run without a page.

    Raises:
        InputError: it has none.
    """
    from pipeline.storage.names import PAGE_NAME

    if not folder.has(PAGE_NAME):
        raise InputError(
            f"{folder.uri} has no {PAGE_NAME}",
            expected="the page of a finished run",
            remedy="make it with `deltavlm report`",
        )


def open_socket(host: str, port: int) -> socket.socket:
    """Open the socket to listen at, before anything slow is done.

    Raises:
        InputError: there is no such address here, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as problem:
        raise InputError(
            f"cannot listen at {host} port {port} ({problem.strerror or problem})",
            expected="an address of this machine and a free port",
            remedy="leave --port out to take a free one, or correct --host",
        ) from None


def name_url(host: str, *, port: int) -> str:
    """Give the address of the page for a browser."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"


def serve(app: ASGIApp, *, listener: socket.socket) -> None:
    """Serve until a signal comes that was not ignored when this began."""
    import uvicorn

    from flows.signals import list_heeded_signals

    heeded = list_heeded_signals()

    class HeedingServer(uvicorn.Server):
        """One that leaves ignored signals alone; uvicorn's own takes SIGINT also in the background of a script."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig in heeded:
                super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    HeedingServer(config).run(sockets=[listener])
