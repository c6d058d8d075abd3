"""The command ``deltavlm data open-questions``: pairs in, questions and answers that a language model wrote out."""

from __future__ import annotations

import json
import math
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
    """Who writes open questions, how many, and what that may cost."""

    name: str
    """``openai:URL#NAME``."""
    cache: Path
    """File of the replies; one that is there already is gone on with."""
    n_questions: int = 4
    """Questions about each pair."""
    input_price: float | None = None
    """Price of a million tokens that are sent; None: not known."""
    output_price: float | None = None
    """Price of a million tokens that come back; None: not known."""
    max_cost: float | None = None
    """Most that this call may cost; None: the user has to agree."""
    is_agreed: bool = False
    """Whether the user agrees to whatever the estimate says."""


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
    input_price: Annotated[
        float | None, typer.Option(min=0, metavar="PRICE", help="Price of a million tokens sent.")
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, metavar="PRICE", help="Price of a million tokens received.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, metavar="COST", help="Most that this call may cost; needs both prices.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin without asking, whatever the estimate.")] = False,
    is_json: JsonFlag = False,
) -> None:
    """Let a language model write open questions about image pairs.

    It is told captions and what the masks show; it sees no image. Replies are kept beside the output in
    FILE.replies.jsonl, so that a call that was stopped goes on without paying twice.
    """
    from flows.cli.console import call_with_clear_errors, make_console, print_result, show_files
    from model.changechat.building import build_set
    from model.changechat.layouts import Layout, find_pairs
    from model.changechat.masks import LEVIR_MCI_VALUES, parse_class_values

    options = AssistantOptions(
        name=assistant,
        cache=output.with_name(f"{output.name}.replies.jsonl"),
        n_questions=questions,
        input_price=input_price,
        output_price=output_price,
        max_cost=max_cost,
        is_agreed=yes,
    )
    found = call_with_clear_errors(find_pairs, source, captions=captions, splits=tuple(split or ()))
    values = LEVIR_MCI_VALUES if found.layout is Layout.LEVIR_MCI else None
    values = values if class_values is None else call_with_clear_errors(parse_class_values, class_values)
    built = call_with_clear_errors(build_set, found, class_values=values)
    console = make_console()
    records, told = ask_for_questions(built, options=options, console=console)
    call_with_clear_errors(_write_file, records, output)
    show_files(console, [str(output)])
    print_result({"output": str(output), **told}, is_json=is_json)
    raise typer.Exit(told["exit_code"])


def ask_for_questions(
    built: BuiltSet, *, options: AssistantOptions, console: Console
) -> tuple[Sequence[Record], dict[str, Any]]:
    """Estimate, get the user's word, and have questions written about the pairs of a set.

    Args:
        built: The set; `model.changechat.building.add_records` puts the records into it.
        options: Who is asked, and what it may cost.
        console: Where people read.

    Returns:
        The records, and what to say of them in JSON; its ``exit_code`` is 1 where pairs are left without a reply.

    Raises:
        InputError: the server or an option cannot be used, or nobody agreed to the cost.
    """
    from flows.cli.console import call_with_clear_errors
    from model.changechat.asking import NotedPair, write_open_questions
    from model.changechat.pair_notes import note_pair

    asked = call_with_clear_errors(_open_assistant, options)
    pairs = [
        NotedPair(measured=pair, notes=call_with_clear_errors(note_pair, pair, class_values=built.class_values))
        for pair in built.pairs
    ]
    estimate = _agree_on_cost(pairs, assistant=asked, options=options, console=console)
    with console.status("") as status:

        def show(done: int, total: int) -> None:
            spent = "" if asked.cost is None else f", {asked.cost:.2f} spent"
            status.update(f"Replies: {done} of {total}{spent}")

        result = call_with_clear_errors(write_open_questions, pairs, assistant=asked, on_progress=show)
    told = _tell(result, assistant=asked, n_pairs=len(pairs)) | {"estimate": estimate}
    for name, count in told["rejected"].items():
        console.print(f"rejected: {count} x {name}", markup=False, highlight=False)
    for image, why in list(result.failed.items())[:3]:
        console.print(f"no reply about {image}: {why}", markup=False, highlight=False, soft_wrap=True)
    return result.records, told


def _open_assistant(options: AssistantOptions) -> Assistant:
    from model.changechat.assistant import Assistant, Prices
    from model.changechat.reply_cache import ReplyCache
    from model.remote.endpoint import Endpoint, EndpointAddress

    prices = None
    if options.input_price is not None and options.output_price is not None:
        prices = Prices(prompt_per_million=options.input_price, reply_per_million=options.output_price)
    if prices is None and options.max_cost is not None:
        raise ValueError(
            f"--max-cost {options.max_cost:g} without prices; expected what tokens cost; "
            "add --input-price and --output-price, per million tokens"
        )
    return Assistant(
        endpoint=Endpoint(EndpointAddress.parse(options.name)),
        cache=ReplyCache(options.cache),
        n_questions=options.n_questions,
        prices=prices,
        max_cost=math.inf if options.max_cost is None else options.max_cost,
    )


def _agree_on_cost(
    pairs: Sequence[NotedPair], *, assistant: Assistant, options: AssistantOptions, console: Console
) -> dict[str, Any]:
    """Show what asking will take and go on only if that is agreed to; gives the estimate."""
    from model.changechat.asking import make_first_requests
    from model.errors import InputError

    usage = assistant.estimate(make_first_requests(pairs, n_questions=options.n_questions))
    cost = None if assistant.prices is None else assistant.prices.compute_cost(usage)
    text = (
        f"{usage.n_requests} of {len(pairs)} pairs to ask about: about {usage.n_prompt_tokens:,} tokens to send and "
        f"{usage.n_reply_tokens:,} to get (4 characters a token, 50 tokens a question with its answer, no second tries)"
    )
    price = "cost not known, as --input-price and --output-price are not given" if cost is None else f"cost {cost:.2f}"
    console.print(f"{text}: {price}.", markup=False, highlight=False, soft_wrap=True)
    estimate = {
        "requests": usage.n_requests,
        "prompt_tokens": usage.n_prompt_tokens,
        "reply_tokens": usage.n_reply_tokens,
        "cost": None if cost is None else round(cost, 4),
    }
    if options.is_agreed or not usage.n_requests:
        return estimate
    if options.max_cost is not None and cost is not None:
        if cost > options.max_cost:
            raise InputError(
                f"an estimated cost of {cost:.2f}",
                expected=f"at most --max-cost {options.max_cost:g}",
                remedy="raise it, take fewer pairs with --split, or add --yes to stop when it is reached",
            )
        return estimate
    if not (sys.stdin.isatty() and typer.confirm("Begin?", err=True)):
        raise InputError(
            "nobody agreed to this",
            expected="--yes, or --max-cost with prices",
            remedy="add one of them to begin",
        )
    return estimate


def _tell(result: OpenQuestions, *, assistant: Assistant, n_pairs: int) -> dict[str, Any]:
    cost = assistant.cost
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
            "requests": assistant.used.n_requests,
            "prompt_tokens": assistant.used.n_prompt_tokens,
            "reply_tokens": assistant.used.n_reply_tokens,
            "cost": None if cost is None else round(cost, 4),
        },
        "exit_code": int(bool(result.failed) or result.n_not_asked > 0),
    }


def _write_file(records: Sequence[Record], file: Path) -> None:
    from model.changechat.schema import write_record

    entries = [write_record(replace(record, id=str(number))) for number, record in enumerate(records)]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        draft.replace(file)
    except OSError as problem:
        raise ValueError(
            f"{file} cannot be written ({problem.strerror or problem}); expected a file that can be made; "
            "name another --output"
        ) from None
