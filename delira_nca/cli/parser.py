"""Arguments of a command line that know which option was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

__all__ = ["Commands", "Parser", "add_command"]


class Parser(argparse.ArgumentParser):
    """A parser that knows which option was probably meant."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Arguments of a command; what it does not know goes into its ``overrides``, or is refused."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown and hasattr(parsed, "overrides"):
            parsed.overrides = unknown
        elif unknown:
            known = getattr(parsed, "options", [])
            close = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            self.error(f"unknown argument {unknown[0]}" + (f". Did you mean {close[0]}?" if close else ""))
        return parsed

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


def add_command(commands: Commands, name: str, short: str, description: str) -> Parser:
    """Add a command with its one line of help and its description."""
    return commands.add_parser(name, help=short, description=description, allow_abbrev=False)
