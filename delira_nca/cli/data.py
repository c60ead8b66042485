"""``delira-nca data``: the sources of data."""

from __future__ import annotations

import argparse
import re

from delira_nca.cli.parser import Commands, Parser
from delira_nca.errors import DeliraNCAError

__all__ = ["add_data"]

_ROOT_ARGUMENT = re.compile(r"open\('\w+', root=(PATH)\)|root=('[^']*')")


def add_data(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("data", help="list and check the sources of data", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    listing = actions.add_parser(
        "list",
        help="all sources, and whether their files are here",
        description="List all sources.",
        allow_abbrev=False,
    )
    listing.set_defaults(run=_list_data, options=sorted(listing._option_string_actions))
    checking = actions.add_parser(
        "check",
        help="open and verify one source",
        description="Open a source, verify the sha256 of its files, and print what is in it. Nothing is downloaded.",
        allow_abbrev=False,
    )
    checking.add_argument("name", metavar="NAME", help="as 'delira-nca data list' shows it")
    checking.add_argument(
        "--root",
        metavar="PATH",
        help="package file, or folder with it or with its content (default: what is installed)",
    )
    checking.set_defaults(run=_check_data, options=sorted(checking._option_string_actions))


def _list_data(arguments: argparse.Namespace) -> None:
    from delira_nca.data_loading import sources

    rows = [("NAME", "HERE", "FROM", "LICENCE", "WHAT")]
    for source in map(sources.describe, sources.available()):
        here = "yes" if sources.is_here(source.name) else "no"
        rows.append((source.name, here, source.origin, source.licence.partition(" (")[0], source.summary))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _check_data(arguments: argparse.Namespace) -> None:
    from delira_nca.data_loading import sources

    try:
        opened = sources.check(arguments.name, arguments.root)
    except DeliraNCAError as error:  # it names the argument of a function, not the option of this command
        told = _ROOT_ARGUMENT.sub(lambda found: f"--root {found[1] or found[2]}", str(error))
        raise DeliraNCAError(told) from None
    source = opened.source
    known = {file.path: file.sha256 for file in source.files}
    print(f"{source.name}: {source.summary}")
    print(f"from      {source.origin}")
    for file in opened.files:
        print(f"file      {file.path}, in {file.origin}")
        print(f"sha256    {file.sha256}, {'as expected' if file.sha256 == known[file.path] else 'another version'}")
    for spec in source.arrays:
        array = opened.arrays[spec.key]
        print(
            f"array     {spec.key} {array.shape} {array.dtype}, from {array.min():g} to {array.max():g}: {spec.meaning}"
        )
    print(f"licence   {source.licence}")
    print(f"citation  {source.citation}")
    print(f"note      {source.note}")
