"""Console output of the package's log where the user configures no logging. Does not import torch."""

from __future__ import annotations

import logging
import os
import sys

from delira_nca.errors import require_choice

__all__ = ["ENVIRONMENT_VARIABLE", "ConsoleHandler", "add_console_handler"]

ENVIRONMENT_VARIABLE = "DELIRA_NCA_LOG_LEVEL"
"""Environment variable with the lowest level that is shown; ``OFF`` hides all records."""

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "OFF": 100}


class ConsoleHandler(logging.Handler):
    """Write records to standard error, unless the user has configured logging.

    The threshold is the level of the logger ``"delira_nca"``, or WARNING if it has none. A record is skipped if the
    logger ``"delira_nca"`` or the root logger has another handler when the record is emitted. Open tqdm progress bars
    are kept intact.

    Examples
    --------
    >>> logging.getLogger("delira_nca").setLevel(logging.ERROR)  # hide warnings
    >>> logging.getLogger("delira_nca").setLevel(logging.NOTSET)
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        logger = logging.getLogger("delira_nca")
        others = [handler for handler in logger.handlers if handler is not self]
        if others or (logger.propagate and logging.getLogger().handlers):
            return
        if record.levelno < (logger.level or logging.WARNING) or sys.stderr is None:
            return
        try:
            text, tqdm = self.format(record), getattr(sys.modules.get("tqdm"), "tqdm", None)
            if tqdm is not None:
                tqdm.write(text, file=sys.stderr)
            else:
                sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # standard error is closed: a log record must not end a training
            return


def add_console_handler() -> None:
    """Add one :class:`ConsoleHandler` to the logger of the package and set its level from the environment variable.

    Raises
    ------
    UnknownNameError
        If :data:`ENVIRONMENT_VARIABLE` does not hold the name of a level.
    """
    logger = logging.getLogger("delira_nca")
    level = os.environ.get(ENVIRONMENT_VARIABLE, "").upper()
    if level:
        require_choice(f"value of {ENVIRONMENT_VARIABLE}", level, LEVELS)
        logger.setLevel(LEVELS[level])
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        handler = ConsoleHandler()
        handler.setFormatter(logging.Formatter("delira_nca %(levelname)s: %(message)s"))
        logger.addHandler(handler)
