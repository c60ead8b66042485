"""``delira-nca info``: what runs here."""

from __future__ import annotations

import argparse
import json

from delira_nca.cli.parser import Commands

__all__ = ["add_info"]


def add_info(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info",
        help="what runs here: versions, memory, back ends",
        description="Print what roll-outs run on here, and what keeps the fast back ends away.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print it for programs")
    parser.set_defaults(run=_info, options=sorted(parser._option_string_actions))


def _info(arguments: argparse.Namespace) -> None:
    from delira_nca.environment import info

    found = info()
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)
