"""Numbers as a table that a spreadsheet opens."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from delira_nca.errors import ConfigError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.logging._files import FileSink
from delira_nca.logging._values import as_floats, as_step

__all__ = ["CSVSink", "read_csv"]


class CSVSink(FileSink):
    """Appends a row per record to a table whose header is the union of all names recorded so far.

    A name that comes later adds a column: the table is written anew, in one piece. A cell is empty where
    nothing was recorded; ``nan``, ``inf`` and ``-inf`` were recorded. Config and pictures lie beside the
    file, as with `JSONLSink`. A file that is there already is continued; a last row that a kill
    tore is cut off.

    Parameters
    ----------
    path : the file; its folder is made by the first write.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.csv"
    >>> sink = CSVSink(path)
    >>> sink.scalars({"loss": 0.25}, step=1)
    >>> sink.scalars({"loss": 0.125, "dice": 0.5}, step=2)
    >>> sink.close()
    >>> print(path.read_text())
    step,loss,dice
    1,0.25,
    2,0.125,0.5
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._header: list[str] = []

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append one row, after new columns where a name is new.

        Raises
        ------
        ConfigError
            Naming the key whose value is not one number, or if the file is not a table of a sink.
            Nothing is written then.
        """
        record = {
            "step": str(as_step(step)),
            **{key: repr(value) for key, value in as_floats(values).items()},
        }
        if not self._file.is_open:
            rows = _read(self.path)
            _cut_torn_row(self.path)
            self._header = rows[0] if rows else []
        new = [key for key in record if key not in self._header]
        if new:
            self._file.close()
            rows = _read(self.path)[1:]
            self._header = [*self._header, *new]
            _write(self.path, [self._header, *([*row, *[""] * len(new)] for row in rows)])
        self._file.write(_format([[record.get(key, "") for key in self._header]]))

    def _drop_after(self, step: int, epochs: float) -> int:
        rows = kept = _read(self.path)
        if rows:
            place = rows[0].index("epoch") if "epoch" in rows[0] else 0

            def is_kept(row: list[str]) -> bool:
                epoch = float(row[place]) if place and row[place] else 0.0
                return int(row[0]) <= step and not epoch > epochs

            kept = [rows[0], *filter(is_kept, rows[1:])]
            _write(self.path, kept)
        return len(rows) - len(kept)


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read the records of a file that a `CSVSink` wrote, while it is written or after a kill.

    Parameters
    ----------
    path : the file. A last row that is torn is left out; the file is not changed.

    Returns
    -------
    list of dict
        ``{"step": int, name: float}`` in the order of writing; a name is missing where its cell is empty.

    Raises
    ------
    ConfigError
        If the file is not a table of a sink.
    FileNotFoundError
        If there is no file.
    """
    path = absolute(path)
    if not path.exists():
        raise FileNotFoundError(f"no file '{path}'")
    header, *rows = _read(path) or [["step"]]
    return [
        {
            "step": int(row[0]),
            **{key: float(cell) for key, cell in zip(header[1:], row[1:], strict=True) if cell},
        }
        for row in rows
    ]


def _format(rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _write(path: Path, rows: Iterable[list[str]]) -> None:
    with replaced(path) as temporary:
        temporary.write_bytes(_format(rows))


def _read(path: Path) -> list[list[str]]:
    """Header and whole rows of the table, or nothing where there is none yet."""
    if not path.exists():
        return []
    data = path.read_bytes()
    rows = list(csv.reader(io.StringIO(data[: data.rfind(b"\n") + 1].decode(), newline="")))
    header = rows[0] if rows else []
    if data and header[:1] != ["step"]:
        raise ConfigError(f"'{path}' is not a table of a CSVSink: its header is {header}, but starts with 'step'")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header) or not row[0].isdecimal():
            raise ConfigError(f"row {number} of '{path}' does not fit its header {header}: {row}")
    return rows


def _cut_torn_row(path: Path) -> None:
    """Cut off what follows the last newline: the front of a number looks like a number."""
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)
