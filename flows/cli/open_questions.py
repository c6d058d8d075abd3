"""The command ``deltavlm data open-questions``: pairs in, questions and answers that a language model wrote out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from model.changechat.asking import NotedPair, OpenQuestions
    from model.changechat.assistant import Assistant
    from model.changechat.building import BuiltSet
    from model.changechat.schema import Record


@dataclass(frozen=True, kw_only=True)
class AssistantOptions:
    """Who writes open questions, how many, and how often it may be asked."""

    name: str
    """``openai:URL#NAME``."""
    cache: Path
    """File of the replies; one that is there already is gone on with."""
    n_questions: int = 4
    """Questions about each pair."""
    max_requests: int | None = None
    """Most requests of this call; None: the user has to agree."""
    is_agreed: bool = False
    """Whether the user agrees to however many it takes."""


def open_questions_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder of pairs, or of a set that `data changechat` built.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="JSON file for the questions.")],
    assistant: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Language model behind an OpenAI-compatible server, as openai:URL#NAME."),
    ],
    captions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Captions. Default: LevirCCcaptions.json or captions.json of the source."),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(metavar="SPLIT", help="Only this split. Can be repeated.")] = None,
    class_values: Annotated[
        str | None,
        typer.Option(metavar="VALUES", help="What mask values mean, such as building=255,road=128."),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, max=12, metavar="N", help="Questions about each pair.")] = 4,
    max_requests: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Most requests of this call; the next one goes on with the rest."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Begin without asking, however many requests it takes.")
    ] = False,
    is_json: JsonFlag = False,
) -> None:
    """Let a language model write open questions about image pairs.

    It is told captions and what the masks show; it sees no image. Replies are kept beside the output in
    FILE.replies.jsonl, so that a call that was stopped goes on without paying twice.
    """
    from flows.cli.console import make_console, print_result, show_files
    from model.changechat.building import build_set
    from model.changechat.layouts import Layout, find_pairs
    from model.changechat.masks import LEVIR_MCI_VALUES, parse_class_values

    options = AssistantOptions(
        name=assistant,
        cache=output.with_name(f"{output.name}.replies.jsonl"),
        n_questions=questions,
        max_requests=max_requests,
        is_agreed=yes,
    )
    found = find_pairs(source, captions=captions, splits=tuple(split or ()))
    values = LEVIR_MCI_VALUES if found.layout is Layout.LEVIR_MCI else None
    values = values if class_values is None else parse_class_values(class_values)
    built = build_set(found, class_values=values)
    console = make_console()
    records, told = ask_for_questions(built, options=options, console=console)
    _write_file(records, output)
    show_files(console, [str(output)])
    print_result({"output": str(output), **told}, is_json=is_json)
    raise typer.Exit(told["exit_code"])


def ask_for_questions(
    built: BuiltSet, *, options: AssistantOptions, console: Console
) -> tuple[Sequence[Record], dict[str, Any]]:
    """Count, get the user's word, and have questions written about the pairs of a set.

    Args:
        built: The set; `model.changechat.building.add_records` puts the records into it.
        options: Who is asked, and how often.
        console: Where people read.

    Returns:
        The records, and what to say of them in JSON; its ``exit_code`` is 1 where pairs are left without a reply.

    Raises:
        InputError: the server or an option cannot be used, or nobody agreed to it.
    """
    from flows.cli.work import show_work
    from model.changechat.asking import NotedPair, write_open_questions
    from model.changechat.pair_notes import note_pair

    asked = _open_assistant(options)
    pairs = [NotedPair(measured=pair, notes=note_pair(pair, class_values=built.class_values)) for pair in built.pairs]
    _agree(pairs, assistant=asked, options=options, console=console)
    with show_work(console, "Replies") as tell:
        result = write_open_questions(pairs, assistant=asked, on_progress=tell)
    told = _tell(result, assistant=asked, n_pairs=len(pairs))
    for name, count in told["rejected"].items():
        console.print(f"rejected: {count} x {name}", markup=False, highlight=False)
    for image, why in list(result.failed.items())[:3]:
        console.print(f"no reply about {image}: {why}", markup=False, highlight=False, soft_wrap=True)
    return result.records, told


def _open_assistant(options: AssistantOptions) -> Assistant:
    from model.changechat.assistant import Assistant
    from model.changechat.reply_cache import ReplyCache
    from model.remote.endpoint import Endpoint, EndpointAddress

    return Assistant(
        endpoint=Endpoint(EndpointAddress.parse(options.name)),
        cache=ReplyCache(options.cache),
        n_questions=options.n_questions,
        max_requests=options.max_requests,
    )


def _agree(pairs: Sequence[NotedPair], *, assistant: Assistant, options: AssistantOptions, console: Console) -> None:
    """Show how much is to be sent and go on only if that is agreed to.

    Raises:
        InputError: nobody agreed.
    """
    from model.changechat.asking import make_first_requests
    from model.errors import InputError

    missing = assistant.list_missing(make_first_requests(pairs, n_questions=options.n_questions))
    n_characters = sum(len(message["content"]) for request in missing for message in request.messages)
    console.print(
        f"{len(missing)} of {len(pairs)} pairs to ask about, a request each: {n_characters:,} characters to send. "
        "Second requests about what cannot be used come on top.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if options.is_agreed or options.max_requests is not None or not missing:
        return
    if not (sys.stdin.isatty() and typer.confirm("Begin?", err=True)):
        raise InputError(
            "nobody agreed to this", expected="--yes, or --max-requests", remedy="add one of them to begin"
        )


def _tell(result: OpenQuestions, *, assistant: Assistant, n_pairs: int) -> dict[str, Any]:
    return {
        "model": f"{assistant.endpoint.address.model}@{assistant.endpoint.address.host}",
        "cache": str(assistant.cache.file),
        "pairs": n_pairs,
        "pairs_with_questions": result.n_pairs,
        "questions": len(result.records),
        "rejected": dict(result.rejected),
        "failed": len(result.failed),
        "not_asked": result.n_not_asked,
        "used": {
            "requests": assistant.n_requests,
            "prompt_tokens": assistant.n_prompt_tokens,
            "reply_tokens": assistant.n_reply_tokens,
        },
        "exit_code": int(bool(result.failed) or result.n_not_asked > 0),
    }


def _write_file(records: Sequence[Record], file: Path) -> None:
    from model.changechat.schema import write_record
    from model.errors import refuse_unwritable
    from model.whole_files import write_whole

    entries = [write_record(replace(record, id=str(number))) for number, record in enumerate(records)]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    with refuse_unwritable(file):
        write_whole(file, f"[\n{lines}\n]\n".encode())
