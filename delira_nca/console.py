"""The log of the package in scripts that configure no logging. Free of torch."""

from __future__ import annotations

import logging
import os
import sys

from delira_nca.errors import require_choice

__all__ = ["ENVIRONMENT_VARIABLE", "ConsoleHandler", "add_console_handler"]

ENVIRONMENT_VARIABLE = "DELIRA_NCA_LOG_LEVEL"
"""Environment variable with the least level that is shown; ``OFF`` shows nothing."""

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "OFF": 100}


class ConsoleHandler(logging.Handler):
    """Write records to standard error, unless the user has configured logging.

    Records of level WARNING and above are written; those of the logger's own level and above, if it has one. A record
    is left to other handlers if there are any on the logger ``"delira_nca"`` or on the root logger when it is emitted.
    Open progress bars of tqdm are moved out of the way.

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
        except (OSError, ValueError):  # standard error is closed: a record is no reason to end a training
            return


def add_console_handler() -> None:
    """Add a :class:`ConsoleHandler` to the logger of the package, once, with the level of the environment variable.

    Raises
    ------
    UnknownNameError
        If :data:`ENVIRONMENT_VARIABLE` holds no name of a level.
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
