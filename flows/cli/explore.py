"""The command ``deltavlm explore``: a report's page on this machine, a model to ask about the map, and its review."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Device, JsonFlag, RunDtype, RunModelName
from model.errors import InputError

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console
    from starlette.types import ASGIApp

    from flows.explore.chat import ChatDesk
    from flows.explore.review import OpenBook
    from pipeline.runs.record import RunRecord
    from pipeline.storage.folder import RunFolder

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that lead nowhere else."""
_SHUTDOWN_S = 3


def explore_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|REGION", help="Folder of a finished run or of a region, or its s3://bucket/prefix."
        ),
    ],
    model: RunModelName = None,
    device: Device = "auto",
    dtype: RunDtype = None,
    has_chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Load the model to ask about tiles; of a region, none is loaded.")
    ] = True,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Other than 127.0.0.1, it lets others read, ask and review, too.",
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
    """Open a report in the browser, ask the model about its tiles, and review its changes; Ctrl-C ends it."""
    from flows.cli.console import make_console, print_result
    from flows.signals import StopRequest, stop_on_signals
    from pipeline.storage.opening import find_run_folder

    console = make_console()
    explored = _find_explored(find_run_folder(run), has_chat=has_chat, model=model)
    try:
        with stop_on_signals(), open_socket(host, port) as listener:
            chat, notes = explored.load_chat(model=model, device=device, dtype=dtype, console=console)
            if host not in LOOPBACK_NAMES:
                notes.append(f"whoever reaches {host} can read this report, ask the model and review")
            for note in notes:
                console.print(f"Note: {note}", markup=False, style="yellow", highlight=False, soft_wrap=True)
            url = name_url(host, port=listener.getsockname()[1])
            model_id = None if chat is None else chat.model.identity.model_id
            print_result({"url": url, "run_id": explored.run_id, "model_id": model_id}, is_json=is_json)
            told = f"The report is at {url}, its review at {url}review\nCtrl-C ends this."
            console.print(told, markup=False, highlight=False, soft_wrap=True)
            with explored.open_app(chat, notes=notes, console=console) as make_app:
                app = make_app(allowed_hosts=[*LOOPBACK_NAMES, host, *(allowed_hosts or ())])
                if has_browser:
                    # A browser of the terminal keeps its caller waiting until it is closed.
                    Thread(target=webbrowser.open, args=(url,), daemon=True).start()
                serve(app, listener=listener)
    except StopRequest as stop:
        told = f"Stopped by {stop.name}. Reviews are kept; the conversations were in the page alone."
        console.print(told, highlight=False)
        raise typer.Exit(stop.exit_code) from None


@dataclass(frozen=True, kw_only=True)
class _Explored:
    """What is looked at: a run or a region."""

    folder: RunFolder
    run_id: str
    record: RunRecord | None
    """Record of the run whose tiles a model is asked about; None: none is."""
    open_book: OpenBook

    def load_chat(
        self, *, model: str | None, device: str, dtype: str | None, console: Console
    ) -> tuple[ChatDesk | None, list[str]]:
        """Load the model, if there is one to be asked; gives it with what is to be known of it."""
        if self.record is None:
            return None, []
        from flows.cli.ask import choose_model, load_for_run
        from flows.cli.work import show_work
        from flows.explore.chat import ChatDesk

        name, notes = choose_model(model, record=self.record)
        with show_work(console, f"Load {name}"):
            loaded, differences = load_for_run(name, record=self.record, device=device, dtype=dtype)
        return ChatDesk(loaded, folder=self.folder), [*notes, *differences]

    @contextmanager
    def open_app(
        self, chat: ChatDesk | None, *, notes: Sequence[str], console: Console
    ) -> Iterator[Callable[..., ASGIApp]]:
        """Give what makes the application; at the end, what people have said is written out."""
        from flows.explore.review import ReviewDesk
        from flows.explore.server import ReportServer

        reviews = ReviewDesk(self.folder, open_book=self.open_book)
        try:
            server = ReportServer(
                chat, reviews=reviews, folder=self.folder, run_id=self.run_id, notes=notes, console=console
            )
            yield server.make_app
        finally:
            reviews.close()
            if chat is not None:
                chat.close()


def _find_explored(folder: RunFolder, *, has_chat: bool, model: str | None) -> _Explored:
    """Find what is to be looked at.

    Raises:
        InputError: it is neither a finished run nor a region, has no page, or a model is named that nobody asks.
    """
    from pipeline.regions.assess import read_region_name
    from pipeline.regions.record import REGION_NAME
    from pipeline.regions.review_items import open_region_book
    from pipeline.runs.record_files import read_record
    from pipeline.runs.review_items import open_run_book

    is_region = folder.has(REGION_NAME)
    if model is not None and (is_region or not has_chat):
        raise InputError(
            f"--model {model} {'of a region' if is_region else 'with --no-chat'}",
            expected="a model where there is somebody to ask it",
            remedy="leave --model out, or explore the run of one of the region's pairs",
        )
    if is_region:
        check_page(folder)
        return _Explored(folder=folder, run_id=read_region_name(folder), record=None, open_book=open_region_book)
    record = read_record(folder)
    check_page(folder)
    return _Explored(folder=folder, run_id=record.run_id, record=record if has_chat else None, open_book=open_run_book)


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
