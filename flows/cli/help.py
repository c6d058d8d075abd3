"""How ``--help`` reads: plain text that wraps at the terminal's width, with an example of every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_WHOLE = 1000


class HelpGroup(TyperGroup):
    """A command that only has others below it: typed alone, it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Ask for help where nothing is asked for."""
        return super().parse_args(ctx, args or ["--help"])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with their first sentence, which wraps where typer's own list cuts it."""
        rows = [(name, self.commands[name].get_short_help_str(limit=_WHOLE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class HelpCommand(TyperCommand):
    """A command whose arguments are shown by the words that stand in the manual, without their Python types."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Give the words of the usage line: what may be left out stands in brackets."""
        words = [name if argument.required else f"[{name}]" for name, argument in self._list_arguments(ctx)]
        return ["[OPTIONS]", *words]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List arguments, then options."""
        records = [
            parameter.get_help_record(ctx) for parameter in self.get_params(ctx)[len(self._list_arguments(ctx)) :]
        ]
        if arguments := [(name, argument.help) for name, argument in self._list_arguments(ctx)]:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Show the example line by line: wrapped elsewhere, it could not be copied."""
        with formatter.section("Example"):
            formatter.write_text(f"\b\n{ctx.command.epilog}")

    def _list_arguments(self, ctx: Any) -> list[tuple[str, Any]]:
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return [(argument.metavar or str(argument.name).upper(), argument) for argument in arguments]


def make_app(help_text: str, *, name: str | None = None, epilog: str | None = None) -> typer.Typer:
    """Make a command that others are put below."""
    return typer.Typer(
        name=name,
        help=help_text,
        epilog=epilog,
        cls=HelpGroup,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def add_command(app: typer.Typer, name: str, function: Callable[..., None], *, example: str) -> None:
    """Put a command below another one.

    Args:
        app: The other one.
        name: What people type.
        function: Its parameters are the options, its docstring is the help.
        example: Shown at the end of the help; lines of up to 46 characters, a backslash at the end of all but the last.
    """
    app.command(name, cls=HelpCommand, epilog=example)(function)
