"""The command ``deltavlm monitor``: one pass over a region, without a Prefect server."""

from __future__ import annotations

import datetime as dt
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from rich.console import Console

    from flows.region_pass import RunPair
    from pipeline.regions.region import RegionReport

COMPLETE, PARTLY_FAILED = 0, 1


def monitor_command(
    config: Annotated[
        Path, typer.Argument(metavar="REGION", help="YAML file of the region, such as configs/regions/folder.yaml.")
    ],
    as_of: Annotated[
        dt.datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            metavar="TIME",
            help="Make the pass for this date or time (UTC) instead of now, such as 2025-06-01, to fill in the past.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the results, or s3://bucket/prefix."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of the region, such as pairing.window_days=14. Can be repeated.",
        ),
    ] = None,
    is_json: JsonFlag = False,
) -> None:
    """Make one pass over a region: find new scenes, compare them, report new changes.

    Pairs of scenes that earlier passes have compared are not compared again.
    """
    from flows.cli.console import make_console, print_result
    from flows.cli.work import show_work
    from flows.cluster import check_cluster
    from flows.region_pass import describe_pass, run_pairs, settle_now
    from flows.signals import stop_on_signals
    from pipeline.config.region import load_region_config
    from pipeline.regions.region import Region

    settings = load_region_config(config, values={"output": output}, assignments=assignments or ())
    check_cluster(settings.cluster)
    now = settle_now(as_of)
    console = make_console()
    with stop_on_signals(), Region.prepare(settings) as region:
        with show_work(console, "Look for scenes"):
            plan = region.plan(now)
        console.print(f"{plan.n_scenes} dates found: {len(plan.to_do)} pairs to do, {plan.n_done} done already")
        for warning in plan.warnings:
            console.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
        run_pairs(region, plan.to_do, run_pair=_make_run_pair(console, has_bars=region.n_at_once == 1))
        with show_work(console, "Put the region together"):
            report = region.merge(plan, now=now)
    _show_pass(console, report)
    code = COMPLETE if report.is_complete else PARTLY_FAILED
    print_result(describe_pass(report, name=settings.name) | {"exit_code": code}, is_json=is_json)
    raise typer.Exit(code)


def _make_run_pair(console: Console, *, has_bars: bool) -> RunPair:
    """Give what runs a pair and shows its progress; of several at once no bars are shown."""
    from functools import partial

    from flows.cli.progress import show_progress
    from flows.cluster import open_run_cluster
    from model.errors import InputError
    from model.redaction import redact_text
    from pipeline.config.run import RunConfig
    from pipeline.runs.run import detect_changes

    def run_pair(config: RunConfig) -> None:
        try:
            compare(config)
        except InputError:
            raise
        except Exception as fault:
            # The region's record has a line of it; whoever mends the program needs all.
            trace = redact_text("".join(traceback.format_exception(fault)))
            console.print(trace, markup=False, highlight=False, soft_wrap=True)
            raise

    def compare(config: RunConfig) -> None:
        # Of a block, its folder says which: blocks/BLOCK/pairs/PAIR.
        of_block = f" of block {Path(config.output).parent.parent.name}" if config.block is not None else ""
        console.print(f"Pair {Path(config.output).name}{of_block}", highlight=False, markup=False)
        name = "" if has_bars else f"{Path(config.output).name}{of_block}"
        with show_progress(console, name=name, has_bars=has_bars) as on_progress:
            detect_changes(config, open_cluster=partial(open_run_cluster, config), on_progress=on_progress)

    return run_pair


def _show_pass(console: Console, report: RegionReport) -> None:
    from rich.markup import escape

    from flows.cli.console import make_table
    from pipeline.regions.left_out import LEFT_OUT_NAME

    table = make_table("pair", "status", "changes", "new", title="Time line")
    for row in report.tables.overview.tail(20).to_dict("records"):
        counts = ["" if row["status"] == "failed" else f"{row[name]:.0f}" for name in ("n_changes", "n_new_changes")]
        table.add_row(row["pair_id"], row["status"], *counts)
    console.print(table)
    if statuses := Counter(block["status"] for block in report.summary.blocks):
        words = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
        console.print(f"{len(report.summary.blocks)} blocks: {words}", highlight=False)
    for pair_id, reason in report.summary.failed.items():
        console.print(f"[yellow]Failed: {escape(pair_id)}: {escape(reason)}[/yellow]", soft_wrap=True, highlight=False)
    for reason, count in report.summary.left_out_reasons.items():
        console.print(f"Left out: {count:,}: {escape(reason)}", soft_wrap=True, highlight=False)
    if report.summary.n_left_out:
        console.print(f"All that was left out: {escape(report.folder.join(LEFT_OUT_NAME))}", soft_wrap=True)
    told = report.summary.events
    words = ", ".join(f"{told[action]} {action}" for action in ("new", "confirmed", "retired"))
    waiting = f"{report.summary.n_provisional} neither confirmed nor denied"
    console.print(f"Events: {words}, {waiting}; region: {escape(report.folder.uri)}", soft_wrap=True)
