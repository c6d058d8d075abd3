"""What a pass over a region tells people: a message, and a page of Markdown for Prefect's pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from flows.artifacts.markdown import escape_markdown, make_link
from model.redaction import redact_text
from pipeline.config.region import NotifyConfig

MAX_FAILURES = 10
MAX_REASON_LENGTH = 300
MAX_BLOCK_ROWS = 1000
"""Blocks in the table of a pass; those that need somebody to look at them come first."""

_BLOCK_ORDER = ("failed", "cloudy", "no_scene", "no_pair", "done", "known")


def choose_notifiers(notify: tuple[NotifyConfig, ...], *, outcome: Mapping[str, Any]) -> list[str]:
    """Name the blocks that are to tell of a pass, each once; of one without news, none.

    Args:
        notify: Who is told of what.
        outcome: What `describe_pass` gave.
    """
    happened = {"new-changes": outcome["events"]["new"] > 0, "failure": bool(outcome["failed"])}
    return list(dict.fromkeys(each.block for each in notify if any(happened[event] for event in each.events)))


def word_subject(outcome: Mapping[str, Any]) -> str:
    """Give the pass in one line."""
    n_failed = len(outcome["failed"])
    failures = f", {n_failed:,} {'pair' if n_failed == 1 else 'pairs'} failed" if n_failed else ""
    n_new = outcome["events"]["new"]
    return f"Region {outcome['region']}: {n_new:,} new {'change' if n_new == 1 else 'changes'}{failures}"


def word_events(outcome: Mapping[str, Any]) -> str:
    """Say what the pass did about events, and how many of all are still to be confirmed."""
    told = outcome["events"]
    done = ", ".join(f"{told[action]:,} {action}" for action in ("added", "confirmed", "altered", "retired"))
    return f"Events: {done}; {outcome['n_provisional']:,} neither confirmed nor denied so far."


def word_message(outcome: Mapping[str, Any]) -> str:
    """Give the pass as plain text for people."""
    lines = [
        f"{word_subject(outcome)}.",
        f"{outcome['n_pairs_done']:,} pairs compared, {outcome['n_pairs_skipped']:,} known already.",
        *([f"Blocks: {blocks}."] if (blocks := count_blocks(outcome)) else []),
        word_events(outcome),
        *(f"Failed: {pair}: {reason}" for pair, reason in _list_failures(outcome)),
        *(f"Report: {path}" for path in outcome["report"] if path.endswith(".html")),
        f"Folder: {outcome['output']}",
    ]
    return redact_text("\n".join(lines))


def write_pass_page(outcome: Mapping[str, Any]) -> str:
    """Give the pass as Markdown; whatever comes from outside is escaped."""
    lines = [
        f"# {escape_markdown(word_subject(outcome))}",
        "",
        f"{outcome['n_scenes']:,} dates found; {outcome['n_pairs_done']:,} pairs compared, "
        f"{outcome['n_pairs_skipped']:,} known already. {word_events(outcome)}",
        *([f"Blocks: {blocks}."] if (blocks := count_blocks(outcome)) else []),
        "",
        *(
            f"- failed: **{escape_markdown(pair)}**: {escape_markdown(reason)}"
            for pair, reason in _list_failures(outcome)
        ),
        "",
        "## Files",
        "",
        *(f"- [{escape_markdown(redact_text(path))}](<{make_link(path)}>)" for path in outcome["report"]),
    ]
    return "\n".join(lines)


def count_blocks(outcome: Mapping[str, Any]) -> str:
    """Say of how many blocks what has become; empty of a region that is a single one."""
    counts = Counter(block["status"] for block in outcome.get("blocks", ()))
    return ", ".join(f"{counts[status]:,} {status}" for status in _BLOCK_ORDER if counts[status])


def tabulate_blocks(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give one row per block: what has become of it, and why."""
    order = {status: place for place, status in enumerate(_BLOCK_ORDER)}
    blocks = sorted(outcome.get("blocks", ()), key=lambda block: (order[block["status"]], block["block_id"]))
    rows = [
        {
            "block": block["block_id"],
            "status": block["status"],
            "dates": block["n_scenes"],
            "pairs": block["n_to_do"],
            "reason": redact_text(str(block["reason"] or ""))[:MAX_REASON_LENGTH],
        }
        for block in blocks[:MAX_BLOCK_ROWS]
    ]
    n_more = len(blocks) - len(rows)
    return [*rows, *([{"block": f"{n_more:,} more", "status": "see region.json"}] if n_more else [])]


def _list_failures(outcome: Mapping[str, Any]) -> list[tuple[str, str]]:
    failed = list(outcome["failed"].items())
    told = [(pair, redact_text(str(reason))[:MAX_REASON_LENGTH]) for pair, reason in failed[:MAX_FAILURES]]
    n_more = len(failed) - len(told)
    return [*told, *([(f"{n_more:,} more", "see the time line")] if n_more else [])]
