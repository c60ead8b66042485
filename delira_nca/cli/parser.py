"""Arguments of a command line that know which option was probably meant."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from delira_nca.errors import UnknownKeywordError, nearest_name

__all__ = ["Commands", "Parser", "add_command", "refuse_options_as_overrides"]


class Parser(argparse.ArgumentParser):
    """A parser that knows which option was probably meant."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Arguments of a command; what it does not know goes into its ``overrides``, or is refused."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown and hasattr(parsed, "overrides"):
            parsed.overrides = unknown
        elif unknown:
            self.refuse(unknown[0], getattr(parsed, "options", []))
        return parsed

    def refuse(self, argument: str, options: Sequence[str]) -> NoReturn:
        """Leave because of an unknown argument, and name the option that was probably meant."""
        name = argument.split("=")[0]
        meant = nearest_name(name.lstrip("-"), [option.lstrip("-") for option in options], 0.6)
        self.error(f"unknown argument {name}" + (f". Did you mean --{meant}?" if meant else ""))

    def error(self, message: str) -> NoReturn:
        """Print the message, with the choice that was probably meant, and leave with status 2."""
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


def refuse_options_as_overrides(overrides: Sequence[str], options: Sequence[str]) -> None:
    """Refuse a misspelled option of a command among the values of a config that are set by name.

    Raises
    ------
    UnknownKeywordError
        With the option that was probably meant.
    """
    from delira_nca.experiment import RunConfig

    known = {field.name for field in dataclasses.fields(RunConfig)}
    for argument in overrides:
        name = argument.split("=")[0].removeprefix("--")
        if argument.startswith("--") and "." not in name and name not in known:
            meant = difflib.get_close_matches(f"--{name}", options, n=1, cutoff=0.8)
            if meant:
                raise UnknownKeywordError(f"unknown argument --{name}. Did you mean {meant[0]}?")


def add_command(commands: Commands, name: str, short: str, description: str) -> Parser:
    """Add a command with its one line of help and its description."""
    return commands.add_parser(name, help=short, description=description, allow_abbrev=False)
