"""The command ``deltavlm``: each command turns words into values, calls one function and shows what came.

Nothing heavy is imported at the top: ``deltavlm --help`` must not wait for torch, Dask or geopandas.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.ask import ask_command
from flows.cli.changechat import changechat_command
from flows.cli.explore import explore_command
from flows.cli.model import app as model_app
from flows.cli.monitor import monitor_command
from flows.cli.open_questions import open_questions_command
from flows.cli.serve import serve_command
from flows.cli.synthesize import synthesize_command

if TYPE_CHECKING:
    from model.errors import InputError
    from pipeline.report.write import Report

COMPLETE, PARTLY_FAILED, WRONG_INPUT, FAULT = 0, 1, 2, 3
"""Exit codes; the last is a fault of this program."""
REPORT_IT = "report it with all of the lines above; what a run has done is kept, and the same command goes on"

app = typer.Typer(
    name="deltavlm",
    help="Region-wide change monitoring: two scenes in, a GeoParquet change report out.",
    epilog="Exit codes: 0 complete, 1 partly failed (the report says which tiles), 2 wrong input, "
    "3 a fault of the program, 130 and 143 stopped by Ctrl-C or SIGTERM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make data to try things with.", no_args_is_help=True)
data_app.command("changechat")(changechat_command)
data_app.command("open-questions")(open_questions_command)
data_app.command("synthesize")(synthesize_command)
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


Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting of configs/default.yaml, such as grid.resolution_m=1."
    ),
]


@app.command("run")
def run_command(
    before: Annotated[str | None, typer.Argument(help="Scene of the earlier date; may stand in the config.")] = None,
    after: Annotated[str | None, typer.Argument(help="Scene of the later date; may stand in the config.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder of the run or s3://bucket/prefix; an unfinished one is continued."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    aoi: Annotated[str | None, typer.Option(help="Polygons; tiles that touch none are left out.")] = None,
    zones: Annotated[str | None, typer.Option(help="Polygons to sum the findings over, such as districts.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a model, its folder, or openai:URL#NAME.")] = None,
    assume_crs: Annotated[
        str | None, typer.Option(metavar="CRS", help="CRS of scenes that name none, such as EPSG:32614.")
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Compare two scenes of one place and write a change report."""
    from functools import partial

    from flows.cli.console import make_console, show_progress, show_report
    from flows.cluster import open_run_cluster
    from flows.signals import stop_on_signals
    from pipeline.config.run import load_config
    from pipeline.runs.run import detect_changes

    values = {
        "before": _describe_scene(before, assume_crs=assume_crs),
        "after": _describe_scene(after, assume_crs=assume_crs),
        "output": output,
        "aoi": aoi,
        "zones": zones,
        "model": {"name": model} if model is not None else None,
    }
    settings = load_config(config, values=values, assignments=assignments or ())
    console = make_console()
    with stop_on_signals(), show_progress(console) as on_progress:
        report = detect_changes(settings, open_cluster=partial(open_run_cluster, settings), on_progress=on_progress)
    show_report(console, report)
    _end_with_report(report)


def _describe_scene(uri: str | None, *, assume_crs: str | None) -> dict[str, str] | None:
    given = {"uri": uri, "assume_crs": assume_crs}
    return {key: value for key, value in given.items() if value is not None} or None


@app.command("report")
def report_command(
    run: Annotated[str, typer.Argument(help="Folder of a finished run.")],
    zones: Annotated[
        str | None, typer.Option(help="Polygons to sum the findings over, in the place of the run's own.")
    ] = None,
    zones_id_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with their ids.")] = None,
    zones_name_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with their names.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Write the report that is there in another format, and do not make it anew: gpkg, geojson, "
            "flatgeobuf, kml, csv, or docx for a summary. Can be repeated.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder or file for --format; left out, formats/ in the run's folder."),
    ] = None,
) -> None:
    """Write the report of a finished run anew from its answers; needs neither model nor scenes."""
    from flows.cli.console import make_console, show_files, show_report
    from flows.signals import stop_on_signals
    from pipeline.runs.export import export_report
    from pipeline.runs.run import rebuild_report

    choice = {"zones": zones, "zones_id_column": zones_id_column, "zones_name_column": zones_name_column}
    if zones is None and any(choice.values()):
        raise _miss("--zones-id-column and --zones-name-column", needs="--zones")
    if output is not None and not formats:
        raise _miss("--output", needs="--format")
    if formats and zones is None:
        files = export_report(run, formats=formats, output=output)
        show_files(make_console(), files)
        _end({"files": files}, code=COMPLETE)
    with stop_on_signals():
        report = rebuild_report(run, zones=choice if zones is not None else None)
    files = export_report(run, formats=formats, output=output) if formats else []
    show_report(make_console(), report)
    show_files(make_console(), files)
    _end_with_report(report, files=files)


def _miss(option: str, *, needs: str) -> InputError:
    from model.errors import InputError

    return InputError(f"{option} without {needs}", expected=f"{needs} with it", remedy=f"add {needs} or leave it out")


@app.command("check")
def check_command(
    target: Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="YAML file of a run, or a run's folder.")],
    assignments: Assignments = None,
) -> None:
    """Tell what a run would do and every problem found, or what a run holds; writes nothing."""
    from flows.cli.console import make_console, show_facts
    from pipeline.runs.check import check_config, check_run
    from pipeline.uris import is_remote

    is_run = is_remote(target) or Path(target).is_dir()
    facts = check_run(target) if is_run else check_config(target, assignments=assignments or ())
    show_facts(make_console(), facts)
    _end(facts.to_dict(), code=WRONG_INPUT if facts.problems else COMPLETE)


app.command("ask")(ask_command)
app.command("explore")(explore_command)
app.command("monitor")(monitor_command)
app.command("serve")(serve_command)


def main() -> None:
    """Run the command line; the input's faults end it with one message and exit code 2, our own with 3.

    A run that a signal stopped ends with 128 and the signal's number, as shells have it.
    """
    from flows.signals import StopRequest
    from model.errors import InputError
    from model.redaction import redact_text

    # Libraries' warnings and log lines would tear the progress bar apart; what matters is in the report.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        app()
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
        sys.stderr.write(redact_text(traceback.format_exc()))
        sys.stderr.write(f"Fault: {type(fault).__name__} in the program, whatever was given\nTo do: {REPORT_IT}\n")
        sys.exit(FAULT)


def _end_with_report(report: Report, *, files: Sequence[str] = ()) -> None:
    from pipeline.runs.record import read_record

    code = COMPLETE if report.is_complete else PARTLY_FAILED
    _end(
        {
            "run_id": read_record(report.folder).run_id,
            "output": report.folder.uri,
            "status_counts": dict(report.status_counts),
            "reason_counts": {status: dict(counts) for status, counts in report.reason_counts.items()},
            "n_changed_tiles": report.changed_tile_count,
            "n_changes": sum(report.change_counts.values()),
            "report": [report.folder.join(name) for name in report.names],
            **({"files": list(files)} if files else {}),
            "exit_code": code,
        },
        code=code,
    )


def _end(result: dict[str, Any], *, code: int) -> None:
    typer.echo(json.dumps(result))
    raise typer.Exit(code)
