"""The process of a trial: runs the body of a case and writes down how it ended. Started by the runner."""

from __future__ import annotations

import importlib
import signal
import sys
import time

from benchmarks.faults.case import Case, note

__all__ = ["main"]


def main(module: str, number: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the runner beside itself ignores it
    case: Case = importlib.import_module(module).CASES[number]
    try:
        case.body()
    except BaseException as error:
        classes = [kind.__name__ for kind in type(error).__mro__]
        note("error", {"time": time.monotonic(), "classes": classes, "text": str(error)})
        raise
    note("end", {"time": time.monotonic()})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
