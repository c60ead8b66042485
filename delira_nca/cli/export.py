"""``delira-nca export``: a trained automaton in a form that others can use."""

from __future__ import annotations

import argparse

from delira_nca.cli.parser import Commands
from delira_nca.io.paths import shown

__all__ = ["add_export"]


def add_export(commands: Commands) -> None:
    """Add the command."""
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
    print(shown(export_html(arguments.source, arguments.out, **given)))
