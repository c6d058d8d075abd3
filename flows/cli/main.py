"""The command ``deltavlm``: each command turns words into values, calls one function and shows what came.

Nothing heavy is imported at the top: ``deltavlm --help`` must not wait for torch, Dask or geopandas.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from flows.cli.ask import ask_command
from flows.cli.assess import assess_command
from flows.cli.changechat import changechat_command
from flows.cli.check import check_command
from flows.cli.explore import explore_command
from flows.cli.from_reviews import from_reviews_command
from flows.cli.help import add_command, make_app
from flows.cli.mcp import mcp_command
from flows.cli.model import app as model_app
from flows.cli.monitor import monitor_command
from flows.cli.open_questions import open_questions_command
from flows.cli.options import (
    AreaFile,
    Assignments,
    AssumedCrs,
    ConfigFile,
    JsonFlag,
    ModelName,
    ZonesFile,
    gather_values,
)
from flows.cli.serve import serve_command
from flows.cli.synthesize import synthesize_command

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from distributed import Client

    from model.errors import InputError
    from pipeline.config.run import RunConfig
    from pipeline.report.result import Report

COMPLETE, PARTLY_FAILED, WRONG_INPUT, FAULT = 0, 1, 2, 3
"""Exit codes; the last is a fault of this program."""
REPORT_IT = "report it with all of the lines above; what a run has done is kept, and the same command goes on"

app = make_app(
    "Find what has changed in a region: two scenes of one place in, a GeoParquet report of the changes out.",
    name="deltavlm",
    epilog="Exit codes: 0 complete; 1 partly failed, the report says which tiles; 2 wrong input; 3 a fault of the "
    "program; 130 and 143 stopped by Ctrl-C and SIGTERM.",
)
data_app = make_app("Make data for training and for trying things out.")
app.add_typer(data_app, name="data")
app.add_typer(model_app, name="model")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"deltavlm {version('deltavlm-monitor')}")
        raise typer.Exit


@app.callback()
def take_common_options(
    is_version_asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options of the command itself; the work is done by the commands under it."""


def run_command(
    before: Annotated[
        str | None, typer.Argument(metavar="BEFORE", help="Scene of the earlier date, unless the config names it.")
    ] = None,
    after: Annotated[
        str | None, typer.Argument(metavar="AFTER", help="Scene of the later date, unless the config names it.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            help="Folder for the results, or s3://bucket/prefix. An unfinished run in it is continued.",
        ),
    ] = None,
    config: ConfigFile = None,
    aoi: AreaFile = None,
    zones: ZonesFile = None,
    model: ModelName = None,
    assume_crs: AssumedCrs = None,
    assignments: Assignments = None,
    is_json: JsonFlag = False,
) -> None:
    """Compare two scenes of one place and write a change report.

    A scene is a local path, an http(s) or s3 URI, or a STAC item. Running the same command again does only what is
    missing.
    """
    from pipeline.config.run import load_config

    values = gather_values(
        before=before, after=after, output=output, aoi=aoi, zones=zones, model=model, assume_crs=assume_crs
    )
    settings = load_config(config, values=values, assignments=assignments or ())
    _begin_to_start_workers(settings)
    # Only now, as these take as long as what the workers import meanwhile.
    from flows.importing import import_undisturbed

    with import_undisturbed():
        from flows.cli.console import make_console, show_report
        from flows.cli.progress import show_progress
        from flows.signals import stop_on_signals
        from pipeline.runs.run import detect_changes

    if settings.cluster.kind != "local":
        from flows.cluster import check_cluster

        check_cluster(settings.cluster)
    console = make_console()
    with stop_on_signals(), show_progress(console) as on_progress:
        report = detect_changes(settings, open_cluster=lambda: _open_cluster(settings), on_progress=on_progress)
    show_report(console, report)
    _end_with_report(report, is_json=is_json)


def _open_cluster(settings: RunConfig) -> AbstractContextManager[Client]:
    """Open the cluster of a run; not before one is asked for, as Dask takes longer to import than a finished run."""
    from flows.importing import import_undisturbed

    with import_undisturbed():
        from flows.cluster import open_run_cluster

    return open_run_cluster(settings)


def _begin_to_start_workers(settings: RunConfig) -> None:
    """Have a process of its own import what the workers need, unless it shows at once that there is no work for them.

    The run itself says what is wrong.
    """
    from pathlib import Path

    from flows.fork_server import can_fork, start_fork_server
    from model.interface import ENDPOINT_PREFIX
    from model.registry import find_model_source
    from pipeline.workers.memory import count_gpus

    name, scenes = settings.model.name, (settings.before.uri, settings.after.uri)
    if settings.cluster.kind != "local" or not can_fork(device=settings.model.device, n_gpus=count_gpus()):
        return
    is_there = all("://" in each or Path(each).exists() for each in scenes if isinstance(each, str))
    if is_there and not Path(settings.output, "run.json").exists() and not name.startswith(ENDPOINT_PREFIX):
        start_fork_server(has_weights=find_model_source(name) is None)


def report_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Folder of a finished run, or with --format of a region, or its s3://bucket/prefix."
        ),
    ],
    zones: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Sum the changes over these polygons instead of the run's own zones."),
    ] = None,
    zones_id_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of --zones that holds their ids.")
    ] = None,
    zones_name_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of --zones that holds their names.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Write the existing report in another format: gpkg, geojson, flatgeobuf, kml, pmtiles, csv, qgis for "
            "a project with pictures, probability for a COG of change probability, or docx for a summary in Word. Can "
            "be repeated.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Folder or file for --format. Default: formats/ in the run's folder."
        ),
    ] = None,
    is_json: JsonFlag = False,
) -> None:
    """Rebuild the report of a finished run from its answers, or write it in another format.

    Neither the model nor the scenes are needed.
    """
    from flows.cli.console import make_console, show_files, show_report
    from flows.cli.progress import REPORT_STAGES, show_progress
    from flows.cli.work import show_work
    from flows.signals import stop_on_signals
    from pipeline.regions.export import export_region, is_region
    from pipeline.runs.export import export_report
    from pipeline.runs.run import rebuild_report

    choice = {"zones": zones, "zones_id_column": zones_id_column, "zones_name_column": zones_name_column}
    if zones is None and any(choice.values()):
        raise _miss("--zones-id-column and --zones-name-column", needs="--zones")
    if output is not None and not formats:
        raise _miss("--output", needs="--format")
    console = make_console()
    files: list[str] = []
    if formats and zones is None:
        export = export_region if is_region(run) else export_report
        with show_work(console, f"Write {', '.join(formats)}"):
            files = export(run, formats=formats, output=output)
        show_files(console, files)
        _end({"files": files}, code=COMPLETE, is_json=is_json)
    with stop_on_signals(), show_progress(console, stages=REPORT_STAGES) as on_progress:
        report = rebuild_report(run, zones=choice if zones is not None else None, on_progress=on_progress)
    if formats:
        with show_work(console, f"Write {', '.join(formats)}"):
            files = export_report(run, formats=formats, output=output)
    show_report(console, report)
    show_files(console, files)
    _end_with_report(report, files=files, is_json=is_json)


def _miss(option: str, *, needs: str) -> InputError:
    from model.errors import InputError

    return InputError(f"{option} without {needs}", expected=f"{needs} with it", remedy=f"add {needs} or leave it out")


add_command(
    app, "run", run_command, example="deltavlm run before.tif after.tif \\\n  --output runs/mine --zones districts.gpkg"
)
add_command(app, "report", report_command, example="deltavlm report runs/mine --format gpkg")
add_command(app, "check", check_command, example="deltavlm check before.tif after.tif \\\n  --output runs/mine")
add_command(app, "ask", ask_command, example='deltavlm ask runs/mine r0001_c0002 \\\n  "How many buildings are new?"')
add_command(app, "explore", explore_command, example="deltavlm explore runs/mine")
add_command(app, "assess", assess_command, example="deltavlm assess runs/mine --n 200")
add_command(app, "mcp", mcp_command, example="deltavlm mcp runs/mine runs/2025")
add_command(app, "monitor", monitor_command, example="deltavlm monitor configs/regions/folder.yaml")
add_command(app, "serve", serve_command, example="deltavlm serve configs/regions/folder.yaml")
add_command(data_app, "synthesize", synthesize_command, example="deltavlm data synthesize scenes --size-px 1024")
add_command(
    data_app,
    "from-reviews",
    from_reviews_command,
    example="deltavlm data from-reviews runs/mine \\\n  --output sets/mine",
)
add_command(
    data_app, "changechat", changechat_command, example="deltavlm data changechat LEVIR-MCI \\\n  --output sets/levir"
)
add_command(
    data_app,
    "open-questions",
    open_questions_command,
    example="deltavlm data open-questions sets/levir \\\n  --output questions.json \\\n"
    "  --assistant openai:http://gpu1:8000/v1#qwen",
)


def main() -> None:
    """Run the command line; the input's faults end it with one message and exit code 2, our own with 3.

    A run that a signal stopped ends with 128 and the signal's number, as shells have it.
    """
    from flows.cli.streams import LossyStream
    from flows.signals import StopRequest
    from model.errors import InputError
    from model.redaction import redact_text
    from model.safe_text import clean_text

    _begin_anew_in_utf8()
    sys.stderr = cast(TextIO, LossyStream(sys.stderr))
    # Libraries' warnings and log lines would tear the progress bar apart; what matters is in the report.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        app(prog_name="deltavlm")
    except InputError as problem:
        from flows.cli.console import make_console, show_problem

        show_problem(make_console(), problem)
        sys.exit(WRONG_INPUT)
    except StopRequest as stop:
        from flows.cli.console import make_console, show_stop

        show_stop(make_console(), stop.name)
        sys.exit(stop.exit_code)
    except Exception as fault:
        # Python would end with 1, which says that a report is there.
        sys.stderr.write(clean_text(redact_text(traceback.format_exc())))
        sys.stderr.write(f"Fault: {type(fault).__name__} in the program, whatever was given\nTo do: {REPORT_IT}\n")
        sys.exit(FAULT)


def _begin_anew_in_utf8() -> None:
    """Have Python take names for UTF-8 in any locale: so they go into files of a run, and to libraries."""
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _end_with_report(report: Report, *, files: Sequence[str] = (), is_json: bool) -> None:
    from pipeline.runs.record_files import read_record

    code = COMPLETE if report.is_complete else PARTLY_FAILED
    _end(
        {
            "run_id": read_record(report.folder).run_id,
            "output": report.folder.uri,
            "status_counts": dict(report.status_counts),
            "reason_counts": {status: dict(counts) for status, counts in report.reason_counts.items()},
            "ground_m2": dict(report.coverage.ground_m2),
            "seen_fraction": round(report.coverage.seen_fraction, 6),
            "n_changed_tiles": report.changed_tile_count,
            "n_changes": sum(report.change_counts.values()),
            "report": [report.folder.join(name) for name in report.names],
            **({"files": list(files)} if files else {}),
            "exit_code": code,
        },
        code=code,
        is_json=is_json,
    )


def _end(result: dict[str, Any], *, code: int, is_json: bool) -> None:
    from flows.cli.console import print_result

    print_result(result, is_json=is_json)
    raise typer.Exit(code)
