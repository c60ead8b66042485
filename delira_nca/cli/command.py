"""The command ``delira-nca``. Each command only reads its arguments and calls the function that does the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from delira_nca._version import __version__
from delira_nca.cli.data import add_data
from delira_nca.cli.export import add_export
from delira_nca.cli.grow import add_grow
from delira_nca.cli.info import add_info
from delira_nca.cli.parser import Parser
from delira_nca.cli.runs import add_compare, add_list, add_predict, add_resume, add_show, add_train, add_validate
from delira_nca.cli.sweep import add_sweep
from delira_nca.errors import DeliraNCAError

__all__ = ["main"]

_COMMANDS = (
    add_grow,
    add_train,
    add_resume,
    add_validate,
    add_predict,
    add_list,
    add_show,
    add_compare,
    add_sweep,
    add_data,
    add_export,
    add_info,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status: 0, or 2 for arguments that cannot work.

    Examples
    --------
    >>> main(["grow", "--regime", "persistant"])
    2
    """
    parser = Parser(prog="delira-nca", description="Train Neural Cellular Automata.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"delira-nca {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for add in _COMMANDS:
        add(commands)
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
