"""Command ``delira-nca``. Each subcommand parses its arguments and calls a function of the package."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from delira_nca._version import __version__
from delira_nca.cli.grow import add_grow
from delira_nca.cli.init import add_init
from delira_nca.cli.parser import Parser
from delira_nca.cli.runs import add_runs
from delira_nca.cli.segment import add_segment
from delira_nca.cli.tools import add_tools
from delira_nca.errors import DeliraNCAError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default. If there are none, the help is printed.

    Returns
    -------
    int
        0 on success; 2, with one line on standard error, for errors of arguments, files, folders or disk space; 130
        after Ctrl+C; 141 if the reader has closed the output.

    Examples
    --------
    >>> main(["grow", "--regime", "persistant"])
    2
    """
    parser = Parser(prog="delira-nca", description="Train Neural Cellular Automata.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"delira-nca {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for add in (add_grow, add_segment, add_init, add_runs, add_tools):
        add(commands)
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except DeliraNCAError as error:
        return _failed(str(error))
    except MemoryError as error:
        return _failed("not enough memory" + (f": {error}" if str(error) else ""))
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # Python's flush at exit must not fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        place = "" if error.filename is None else f": {os.fspath(error.filename)!r}"
        return _failed(f"{error.strerror}{place}" if error.strerror else str(error) or type(error).__name__)
    except KeyboardInterrupt as error:
        print(f"delira-nca: interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
        return 130
    return 0


def _failed(message: str) -> int:
    print(f"delira-nca: error: {message}", file=sys.stderr)
    return 2
