"""Commands ``delira-nca data, export, info`` for data sources, exported pages and the environment."""

from __future__ import annotations

import argparse
import json
import re

from delira_nca.cli.parser import Commands, Parser, add_command, argument, given, print_table
from delira_nca.errors import DeliraNCAError
from delira_nca.io.paths import shown

__all__ = ["add_tools"]

_ROOT_ARGUMENT = re.compile(r"open\('\w+', root=(PATH)\)|root=('[^']*')")


def add_tools(commands: Commands) -> None:
    """Add the commands."""
    data = commands.add_parser("data", help="list and check data sources", allow_abbrev=False)
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    add_command(actions, "list", "list all sources and whether their files are available", _list_data)
    place = "package file, or folder that contains it or its content (default: the installed package)"
    add_command(
        actions,
        "check",
        "open and verify a source",
        _check_data,
        argument("name", metavar="NAME", help="as 'delira-nca data list' shows it"),
        argument("--root", metavar="PATH", help=place),
    )
    add_command(
        commands,
        "export",
        "export a trained automaton",
        _export,
        argument("source", metavar="RUN", help="folder of a run, or a checkpoint"),
        argument("--html", action="store_true", required=True, help="write a page that opens in any browser"),
        argument("--out", metavar="FILE", help="file of the page (default: live.html in the run's folder)"),
        argument("--title", help="title of the page (default: name of the run)"),
        argument("--grid", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="size of the grid in cells"),
        argument("--weights", help="float32, or float16 for a smaller page"),
    )
    as_json = argument("--json", action="store_true", help="print JSON")
    add_command(commands, "info", "show versions, memory and back ends", _info, as_json)


def _list_data(arguments: argparse.Namespace) -> None:
    """List all sources."""
    from delira_nca.data_loading import sources

    rows = [("NAME", "HERE", "FROM", "LICENCE", "WHAT")]
    for source in map(sources.describe, sources.available()):
        here = "yes" if sources.is_here(source.name) else "no"
        rows.append((source.name, here, source.origin, source.licence.partition(" (")[0], source.summary))
    print_table(rows)


def _check_data(arguments: argparse.Namespace) -> None:
    """Open a source, verify the SHA-256 of its files and print its content. Nothing is downloaded."""
    from delira_nca.data_loading import sources

    try:
        opened = sources.check(**given(arguments))
    except DeliraNCAError as error:  # the message names the function's argument, not this command's option
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


def _export(arguments: argparse.Namespace) -> None:
    """Write the best network of a run, or the network of a checkpoint, as a live page."""
    from delira_nca.experiment import export_html

    print(shown(export_html(**given(arguments, "html"))))


def _info(arguments: argparse.Namespace) -> None:
    """Print versions, processor, memory and the back ends that can run, with reasons for those that cannot."""
    from delira_nca.environment import info

    found = info()
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)
