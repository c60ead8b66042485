"""Argument parser that suggests the closest option for a misspelled one."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from delira_nca.errors import UnknownKeywordError, nearest_name

__all__ = ["Commands", "Parser", "add_command", "argument", "given", "print_table", "refuse_options_as_overrides"]

Argument = tuple[tuple[str, ...], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """Argument parser that suggests the closest option or choice."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse arguments. Unknown ones go into ``overrides`` if the command has them, and are an error otherwise."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown and hasattr(parsed, "overrides"):
            parsed.overrides = unknown
        elif unknown:
            name, options = unknown[0].split("=")[0], getattr(parsed, "options", [])
            meant = nearest_name(name.lstrip("-"), [option.lstrip("-") for option in options], 0.6)
            self.error(f"unknown argument {name}" + (f". Did you mean --{meant}?" if meant else ""))
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message with a suggested choice and exit with status 2."""
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong is not None:
            close = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1)
            message += f". Did you mean {close[0]!r}?" if close else ""
        print(f"delira-nca: error: {message}", file=sys.stderr)
        raise SystemExit(2)


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Parser]
else:
    Commands = argparse._SubParsersAction


def argument(*flags: str, **options: Any) -> Argument:
    """Return an argument for :func:`add_command`, from parameters of :meth:`argparse.ArgumentParser.add_argument`.

    Only flags have a default, which is False. Other arguments are absent unless given, so that the defaults of the
    called function apply.
    """
    return flags, {"default": False if options.get("action") == "store_true" else argparse.SUPPRESS, **options}


def add_command(
    commands: Commands,
    name: str,
    short: str,
    run: Callable[[argparse.Namespace], None],
    *arguments: Argument | list[Argument],
    **defaults: Any,
) -> None:
    """Add a command.

    Parameters
    ----------
    commands : Commands
        Commands of a parser.
    name, short : str
        Name of the command, and its description in the list of commands.
    run : callable
        Function that takes the parsed arguments and runs the command; its docstring is the help of the command.
    *arguments : Argument or list of Argument
        Arguments; a list forms a mutually exclusive group.
    **defaults
        Default values of the parsed arguments. With ``overrides``, the command accepts values of a config.
    """
    parser = commands.add_parser(name, help=short, description=run.__doc__, allow_abbrev=False)
    for each in arguments:
        group = parser.add_mutually_exclusive_group() if isinstance(each, list) else parser
        for flags, options in each if isinstance(each, list) else [each]:
            group.add_argument(*flags, **options)
    parser.set_defaults(run=run, options=sorted(parser._option_string_actions), **defaults)


def given(arguments: argparse.Namespace, *others: str) -> dict[str, Any]:
    """Return the given arguments of a command as keyword arguments, without the names in ``others``."""
    hidden = {"command", "action", "run", "options", "overrides", *others}
    return {name: value for name, value in vars(arguments).items() if name not in hidden}


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as aligned columns; the first row is the header."""
    from delira_nca.experiment.plain_files import as_table

    print(as_table(rows))


def refuse_options_as_overrides(overrides: Sequence[str], options: Sequence[str]) -> None:
    """Raise an error if an override of a config is a misspelled option of the command."""
    from delira_nca.experiment import RunConfig

    known = {field.name for field in dataclasses.fields(RunConfig)}
    for argument in overrides:
        name = argument.split("=")[0].removeprefix("--")
        if argument.startswith("--") and "." not in name and name not in known:
            meant = difflib.get_close_matches(f"--{name}", options, n=1, cutoff=0.8)
            if meant:
                raise UnknownKeywordError(f"unknown argument --{name}. Did you mean {meant[0]}?")
