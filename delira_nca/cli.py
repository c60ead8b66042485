"""The command ``delira-nca``. Each command only reads its arguments and calls the function that does the work."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from delira_nca._version import __version__
from delira_nca.errors import DeliraNCAError

if TYPE_CHECKING:
    from delira_nca.experiment import GrowResult

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """A parser that knows which option was probably meant."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
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


def _add_grow(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "grow",
        help="grow a picture from one cell",
        description="Train an automaton to grow a picture from one cell, and leave a film, curves and checkpoints.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--target", metavar="FILE", help="picture with transparency (default: scikit-learn's dahlia)")
    what.add_argument("--emoji", metavar="CHARACTER", help="an emoji, from a colour-emoji font of the system")
    parser.add_argument("--size", type=int, default=40, help="cells along the longer side of the picture")
    parser.add_argument("--padding", type=int, default=16, help="empty cells on each side of it")
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(48, 64), metavar=("LOW", "HIGH"), help="steps of a roll-out in training"
    )
    parser.add_argument("--regime", default="regenerating", help="growing, persistent or regenerating")
    parser.add_argument("--epochs", type=int, default=115)
    parser.add_argument("--iterations", type=int, default=50, help="iterations of an epoch")
    parser.add_argument("--batch-size", type=int, default=3, help="states in one iteration")
    parser.add_argument("--pool-size", type=int, default=256, help="states in the pool")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of Adam, at the beginning")
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: runs/<name>, or the next free)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", default="float32", help="of matrix products in training: float32 or bfloat16")
    parser.set_defaults(run=_grow, options=sorted(parser._option_string_actions))


def _grow(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import GrowConfig, grow

    options = {k: v for k, v in vars(arguments).items() if k not in ("command", "run", "options")}
    _report(grow(GrowConfig(**{**options, "steps": tuple(arguments.steps)})))


def _report(result: GrowResult) -> None:
    for steps, error in result.log10_errors.items():
        print(f"log10 of the mean squared error {steps} steps after the seed: {error:.2f}")
    for steps, error in result.log10_errors_healing.items():
        print(f"log10 of the mean squared error {steps} steps after one half was cut off: {error:.2f}")
    films = ("growth.gif", "healing.gif") if result.log10_errors_healing else ("growth.gif",)
    for name in ("live.html", *films, "curves.png", "metrics.jsonl", "events", "checkpoints"):
        print(result.folder / name)


def _add_data(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser("data", help="list and check the sources of data", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
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

    opened = sources.check(arguments.name, arguments.root)
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


def _add_resume(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "resume",
        help="finish a run that was ended before its last epoch",
        description="Go on with a run from its newest sound checkpoint, bit for bit as if it had not been ended.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    parser.set_defaults(run=_resume, options=sorted(parser._option_string_actions))


def _resume(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import resume_growing
    from delira_nca.io import plan_resume

    print(plan_resume("auto", Path(arguments.folder) / "checkpoints"))
    _report(resume_growing(arguments.folder))


def _add_export(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "export",
        help="write a trained automaton in a form that others can use",
        description="Write the best network of a run, or of one checkpoint, as a page in which it lives.",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="RUN", help="folder of a run, or a checkpoint")
    parser.add_argument("--html", action="store_true", required=True, help="a page that opens in any browser")
    parser.add_argument("--out", metavar="FILE", help="of the page (default: live.html in the run's folder)")
    parser.add_argument("--title", help="of the page (default: name of the run)")
    parser.add_argument("--grid", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="cells of the dish")
    parser.add_argument("--weights", default="float32", help="float32, or float16 for a smaller page")
    parser.set_defaults(run=_export, options=sorted(parser._option_string_actions))


def _export(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import export_html

    grid = None if arguments.grid is None else tuple(arguments.grid)
    given = {"title": arguments.title, "grid": grid, "weights": arguments.weights}
    print(export_html(arguments.source, arguments.out, **given))


def _add_info(commands: argparse._SubParsersAction[_Parser]) -> None:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status: 0, or 2 for arguments that cannot work.

    Examples
    --------
    >>> main(["grow", "--regime", "persistant"])
    2
    """
    parser = _Parser(prog="delira-nca", description="Train Neural Cellular Automata.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"delira-nca {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_grow(commands)
    _add_resume(commands)
    _add_data(commands)
    _add_export(commands)
    _add_info(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except DeliraNCAError as error:
        print(f"delira-nca: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("delira-nca: interrupted", file=sys.stderr)
        return 130
    return 0
