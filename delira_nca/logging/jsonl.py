"""Numbers as one JSON object a line."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.logging._files import FileSink
from delira_nca.logging._values import as_floats, as_step

__all__ = ["JSONLSink", "read_jsonl"]

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class JSONLSink(FileSink):
    """Appends ``{"step": 3, "loss": 0.25}`` to a text file, one line a record, flushed with each.

    Every line is valid JSON: what is not finite is written as the string ``"NaN"``, ``"Infinity"`` or
    ``"-Infinity"``, which `read_jsonl` restores. What a line cannot hold lies beside the file: the config in
    ``<stem>.config.json``, pictures in ``<stem>.images/<name>/<step>.png``. A file that is there already is
    continued; a last line that a kill tore is cut off.

    Parameters
    ----------
    path : the file; its folder is made by the first write.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> sink = JSONLSink(path)
    >>> sink.scalars({"loss": 0.25}, step=1)
    >>> sink.scalars({"loss": float("nan")}, step=2)
    >>> sink.close()
    >>> print(path.read_text())
    {"step": 1, "loss": 0.25}
    {"step": 2, "loss": "NaN"}
    >>> read_jsonl(path)
    [{'step': 1, 'loss': 0.25}, {'step': 2, 'loss': nan}]
    """

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append one line.

        Raises
        ------
        ConfigError
            Naming the key whose value is not one number. Nothing is written then.
        """
        record = {"step": as_step(step), **{key: _to_json(value) for key, value in as_floats(values).items()}}
        line = json.dumps(record, allow_nan=False) + "\n"
        if not self._file.is_open:
            _mend(self.path)
        self._file.write(line.encode())

    def _drop_after(self, step: int, epochs: float) -> int:
        if not self.path.exists():
            return 0
        _mend(self.path)
        lines = self.path.read_bytes().splitlines(keepends=True)
        records = [_parse(self.path, number, line) for number, line in enumerate(lines, 1)]
        kept = [
            line
            for line, record in zip(lines, records, strict=True)
            if record["step"] <= step and not _is_beyond(record.get("epoch"), epochs)
        ]
        if len(kept) < len(lines):
            with replaced(self.path) as temporary:
                temporary.write_bytes(b"".join(kept))
        return len(lines) - len(kept)


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read the records of a file that a `JSONLSink` wrote, while it is written or after a kill.

    Parameters
    ----------
    path : the file. A last line that is torn is left out; the file is not changed.

    Returns
    -------
    list of dict
        ``{"step": int, name: float}`` in the order of writing, with NaN and infinities restored.

    Raises
    ------
    ConfigError
        If a line before the last is not a record, with its number.
    """
    path = absolute(path)
    data = path.read_bytes()
    return [_parse(path, number, line) for number, line in enumerate(data[: _whole(data)].splitlines(), 1)]


def _is_beyond(epoch: object, epochs: float) -> bool:
    return isinstance(epoch, (int, float)) and epoch > epochs


def _to_json(value: float) -> float | str:
    return value if math.isfinite(value) else next(k for k, v in NON_FINITE.items() if str(v) == str(value))


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        step = operator.index(record["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"line {number} of '{path}' is not a record with a step: {line[:80]!r}") from error
    values = {key: NON_FINITE.get(value, value) if isinstance(value, str) else value for key, value in record.items()}
    return {**values, "step": step}


def _whole(data: bytes) -> int:
    """Length of the whole lines; a last one that lacks only its newline is whole."""
    end = data.rfind(b"\n") + 1
    try:
        return len(data) if isinstance(json.loads(data[end:]), dict) else end
    except ValueError:
        return end


def _mend(path: Path) -> None:
    """Cut a torn last line off, or end a whole one, so that the next record starts on a line of its own."""
    if not path.exists():
        return
    data = path.read_bytes()
    end = _whole(data)
    if end < len(data):
        os.truncate(path, end)
    elif data and not data.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
