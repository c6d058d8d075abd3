"""A conversation in the terminal: lines in, answers on the console, every turn kept for the end."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from flows.cli.console import make_table, show_problem
from model.conversation import Conversation, Reply
from model.errors import InputError
from model.images import check_mask_file, write_mask
from model.interface import ChangeModel, Prompt
from model.parsing import close_stops
from model.prompts import load_prompt_book
from model.questions.replies import is_declined, list_known_questions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

from model.conversation import describe_meaning, describe_reply

_COMMANDS = {
    "/tile ID": "go to another tile of the run; the history begins anew",
    "/tiles": "list changed tiles of the run",
    "/prompts": "list the questions that the model knows best",
    "/NAME": "ask one of those by its name, such as /count",
    "/dialogue": "ask the turns of the dialogue one after the other, with a history of their own",
    "/mask FILE": "write the change mask of this place as PNG",
    "/history": "show what was asked and answered since the history began",
    "/reset": "begin the history anew",
    "/quit": "end; so do Ctrl-D and Ctrl-C",
}


class Session:
    """What a conversation in the terminal holds."""

    def __init__(
        self,
        model: ChangeModel,
        pair: npt.NDArray[np.uint8],
        *,
        console: Console,
        run: str | None = None,
        tile_id: str | None = None,
    ) -> None:
        """Begin with one place.

        Args:
            model: Answers the questions.
            pair: uint8 RGB of shape (date=2, band=3, y, x).
            console: Where people read.
            run: Folder of the run that the place is a tile of.
            tile_id: That tile.
        """
        self.conversation = Conversation(model, pair)
        self.console = console
        self.run = run
        self.tile_id = tile_id
        self.turns: list[dict[str, Any]] = []
        self.masks: list[dict[str, Any]] = []

    def converse(self) -> None:
        """Answer lines from stdin until they end, someone says so, or Ctrl-C is pressed."""
        place = f"tile {self.tile_id} of {self.run}" if self.run is not None else "these two images"
        model_id = self.conversation.model.identity.model_id
        self.console.print(escape(f"About {place}, with {model_id}. Ask a question; /help tells more."), soft_wrap=True)
        # A model of another package may take long, and Ctrl-C must not lose the turns before.
        with suppress(KeyboardInterrupt):
            for line in read_lines(self.console):
                if not self.handle(line):
                    break

    def handle(self, line: str) -> bool:
        """Do what one line says; gives whether the conversation goes on."""
        words = line.split(maxsplit=1)
        if not words:
            return True
        if not words[0].startswith("/"):
            self._answer(line)
            return True
        name, argument = words[0].lower(), words[1].strip() if len(words) > 1 else ""
        if name in {"/quit", "/exit", "/q"}:
            return False
        try:
            self._find_command(name)(argument)
        except InputError as problem:
            show_problem(self.console, problem)
        return True

    def ask(self, question: str) -> dict[str, Any]:
        """Put a question, show the answer and keep the turn, which is given.

        Raises:
            QuestionError: it cannot be put.
            EndpointError: the server that answers fails.
        """
        reply = self.conversation.ask(question)
        show_reply(self.console, reply)
        self.turns.append({"tile_id": self.tile_id, **describe_reply(reply)})
        return self.turns[-1]

    def write_mask(self, file: str) -> None:
        """Write the change mask of this place.

        Raises:
            InputError: the model has no masks, or the file cannot be written.
        """
        check_mask_file(Path(file))
        masks = self.conversation.predict_masks()
        write_mask(masks, file)
        is_changed = masks.probabilities[0] >= 0.5
        fractions = {label: round(float(mask.mean()), 6) for label, mask in zip(masks.labels, is_changed, strict=True)}
        self.masks.append({"tile_id": self.tile_id, "file": file, "changed_fraction": fractions})
        self.console.print(f"Mask: {escape(file)}", soft_wrap=True)

    def _answer(self, question: str) -> None:
        """Put a question; one that cannot be put or is not answered is a turn with its error."""
        try:
            self.ask(question)
        except InputError as problem:
            self.turns.append({"tile_id": self.tile_id, "question": question.strip(), "error": str(problem)})
            show_problem(self.console, problem)

    def _find_command(self, name: str) -> Callable[[str], None]:
        commands = {
            "/tile": self._go_to_tile,
            "/tiles": self._list_tiles,
            "/prompts": self._list_prompts,
            "/dialogue": self._ask_dialogue,
            "/mask": self._write_mask,
            "/history": self._show_history,
            "/reset": self._reset,
            "/help": self._help,
        }
        known = {f"/{prompt.name}": prompt for prompt in load_prompt_book().list_all()}
        if name in known:
            return lambda _: self._ask_known(known[name])
        if name not in commands:
            raise InputError(
                f"no command {name}", expected=f"one of {', '.join(_COMMANDS)}", remedy="type /help, or ask without /"
            )
        return commands[name]

    def _go_to_tile(self, tile_id: str) -> None:
        if self.run is None:
            raise InputError("/tile without a run", expected="deltavlm ask RUN TILE", remedy="start it on a run")
        if not tile_id:
            raise InputError("/tile without an id", expected="/tile r0000_c0000", remedy="see /tiles")
        from pipeline.runs.read import read_tile_pair

        self.conversation = Conversation(self.conversation.model, read_tile_pair(self.run, tile_id))
        self.tile_id = tile_id
        self.console.print(f"Now about tile {escape(tile_id)}.")

    def _list_tiles(self, _: str) -> None:
        if self.run is None:
            raise InputError("/tiles without a run", expected="deltavlm ask RUN TILE", remedy="start it on a run")
        from pipeline.runs.read import list_changed_tiles

        tiles = list_changed_tiles(self.run)
        more = f" and {len(tiles) - 20} more" if len(tiles) > 20 else ""
        self.console.print(f"{len(tiles)} changed: {' '.join(tiles[:20])}{more}", highlight=False, soft_wrap=True)

    def _list_prompts(self, _: str) -> None:
        table = make_table("name", "kind", "words")
        for prompt in load_prompt_book().list_all():
            table.add_row(f"/{prompt.name}", prompt.kind.value, escape(prompt.text))
        self.console.print(table)

    def _ask_known(self, prompt: Prompt) -> None:
        self.console.print(prompt.text, style="dim", markup=False, highlight=False, soft_wrap=True)
        self._answer(prompt.text)

    def _ask_dialogue(self, _: str) -> None:
        self.conversation.forget()
        for prompt in load_prompt_book().dialogue:
            self._ask_known(prompt)

    def _write_mask(self, file: str) -> None:
        if not file:
            raise InputError("/mask without a file", expected="/mask FILE", remedy="name a PNG file to be written")
        self.write_mask(file)

    def _show_history(self, _: str) -> None:
        for reply in self.conversation.replies:
            text = f"q: {reply.question}\na: {reply.text}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        if not self.conversation.replies:
            self.console.print("Nothing was asked since the history began.")

    def _reset(self, _: str) -> None:
        self.conversation.forget()
        self.console.print("The history begins anew.")

    def _help(self, _: str) -> None:
        table = make_table("command", "meaning", is_headed=False)
        for command, meaning in _COMMANDS.items():
            table.add_row(command, meaning)
        self.console.print(table)


def read_lines(console: Console) -> Iterator[str]:
    """Give the lines of stdin until it ends or Ctrl-C is pressed; lines that come through a pipe are shown."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A byte that is no text must not end the conversation.
        sys.stdin.reconfigure(errors="replace")
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with suppress(ImportError):
            import readline  # noqa: F401 - gives `input` arrow keys and a history
    while True:
        try:
            line = console.input("[bold]> [/bold]")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not is_terminal:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        yield line


def show_reply(console: Console, reply: Reply) -> None:
    """Show an answer, and under it how sure the model is and what the words mean."""
    console.print(close_stops(reply.text) or "(no words)", style="bold", markup=False, highlight=False, soft_wrap=True)
    confidence = f"confidence {reply.confidence:.2f}" if math.isfinite(reply.confidence) else "confidence not known"
    parts = [reply.kind.value, confidence, describe_meaning(reply)]
    console.print(", ".join(part for part in parts if part), style="dim", highlight=False, soft_wrap=True)
    if is_declined(reply.text):
        console.print(
            f"What can be asked: {' '.join(list_known_questions())}", style="dim", highlight=False, soft_wrap=True
        )
