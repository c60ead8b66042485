"""Sinks that write text files: JSON lines and CSV tables."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy.typing as npt

from delira_nca.errors import ConfigError
from delira_nca.io.files import replaced, writable
from delira_nca.io.paths import absolute
from delira_nca.logging._values import as_floats, as_image, as_json, as_step

__all__ = ["CSVSink", "JSONLSink", "read_csv", "read_jsonl"]

_LOGGER = logging.getLogger("delira_nca")

Record = dict[str, float]


class _TextSink:
    """Append records to a file; images and the config are written to the same folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute(path)
        self._names: list[str] = []
        self._handle: BinaryIO | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append a record and flush it to the operating system."""
        record = {"step": as_step(step), **as_floats(values)}
        with writable(self.path):
            if self._handle is None or not self._fits(record):
                self._rewrite(self._read() if self.path.exists() else [], record)
                self._handle = self.path.open("ab")
            self._handle.write(self._rows([record]))
            self._handle.flush()

    def images(self, name: str, image: npt.ArrayLike, step: int) -> None:
        """Write a (H, W, 3) uint8 image to ``<stem>.images/<name>/<step>.png`` in the folder of the file."""
        from PIL import Image

        picture, number = as_image(image), as_step(step)
        parts = [*map(_as_file_name, name.split("/")), f"{number:08d}.png"]
        with replaced(self._images.joinpath(*parts)) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")

    def config(self, values: Mapping[str, Any]) -> None:
        """Write the config to ``<stem>.config.json`` in the folder of the file. An existing config is replaced."""
        with replaced(self.path.with_name(f"{self.path.stem}.config.json")) as temporary:
            temporary.write_text(as_json(values) + "\n", encoding="utf-8")

    def truncate(self, step: int, epochs: int | None = None) -> None:
        """Remove the records and images of later steps, and the records of epochs beyond ``epochs``.

        The file is replaced atomically.
        """
        step, last = as_step(step, least=-1), math.inf if epochs is None else epochs
        for picture in self._images.rglob("*.png"):
            if picture.stem.isdecimal() and int(picture.stem) > step:
                picture.unlink()
        self.close()
        records = self._read() if self.path.exists() else []
        kept = [record for record in records if record["step"] <= step and not record.get("epoch", 0) > last]
        if self.path.exists():
            self._rewrite(kept)
        if dropped := len(records) - len(kept):
            _LOGGER.warning("%d records of later steps than %d are removed from %s", dropped, step, self.path)

    def close(self) -> None:
        """Close the file. A later record opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    @property
    def _images(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.images")

    def _rewrite(self, records: list[Record], *coming: Record) -> None:
        """Write these records without an incomplete last one, with the names of the coming record in the header."""
        self.close()
        self._names = list(dict.fromkeys(["step", *(name for record in [*records, *coming] for name in record)]))
        data = self._header() + self._rows(records)
        if not self.path.exists() or self.path.read_bytes() != data:
            with replaced(self.path) as temporary:
                temporary.write_bytes(data)

    def _fits(self, record: Record) -> bool:
        """Whether a record can be appended without rewriting the file."""
        return True

    def _header(self) -> bytes:
        return b""

    def _rows(self, records: Iterable[Record]) -> bytes:
        raise NotImplementedError

    def _read(self) -> list[Record]:
        raise NotImplementedError


class JSONLSink(_TextSink):
    """Sink that appends each record, such as ``{"step": 3, "loss": 0.25}``, as a line to a text file.

    Every line is valid JSON: values that are not finite are written as the strings ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``, which `read_jsonl` restores. In the same folder, the config is written to ``<stem>.config.json``
    and images to ``<stem>.images/<name>/<step>.png``. Records are appended to an existing file; an incomplete last
    line, which a kill can leave, is removed.

    Parameters
    ----------
    path : str or Path
        File to write. Its folder is created by the first write.

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

    def _rows(self, records: Iterable[Record]) -> bytes:
        lines = ({key: v if math.isfinite(v) else json.dumps(v) for key, v in record.items()} for record in records)
        return "".join(f"{json.dumps(line)}\n" for line in lines).encode()

    def _read(self) -> list[Record]:
        return read_jsonl(self.path)


class CSVSink(_TextSink):
    """Sink that appends each record as a row to a CSV table. The header is the union of all recorded names.

    A new name adds a column: the table is rewritten atomically. A cell is empty if the record has no such name; values
    that are not finite are ``nan``, ``inf`` and ``-inf``. The config and images are written as by `JSONLSink`. Records
    are appended to an existing file; an incomplete last row, which a kill can leave, is removed.

    Parameters
    ----------
    path : str or Path
        File to write. Its folder is created by the first write.

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

    def _fits(self, record: Record) -> bool:
        return record.keys() <= set(self._names)

    def _header(self) -> bytes:
        return self._rows([{name: name for name in self._names}])  # type: ignore[misc]

    def _rows(self, records: Iterable[Record]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._names, lineterminator="\n").writerows(records)
        return text.getvalue().encode()

    def _read(self) -> list[Record]:
        return read_csv(self.path)


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read the records of a `JSONLSink` file. The file can be open for writing or left by a killed process.

    Parameters
    ----------
    path : str or Path
        File to read. It is not changed; an incomplete last line is skipped.

    Returns
    -------
    list of dict
        ``{"step": int, name: float}`` in the order of writing, with NaN and infinities restored.

    Raises
    ------
    ConfigError
        If a line before the last is not a record; with the number of the line.
    """
    path = absolute(path)
    *lines, last = path.read_bytes().split(b"\n")
    if _is_json(last):  # only its newline is missing
        lines.append(last)
    records = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            step = operator.index(values["step"])
            records.append({**{key: float(value) for key, value in values.items()}, "step": step})
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"line {number} of '{path}' is not a record with a step: {line[:80]!r}") from error
    return records


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read the records of a `CSVSink` file. The file can be open for writing or left by a killed process.

    Parameters
    ----------
    path : str or Path
        File to read. It is not changed; an incomplete last row is skipped.

    Returns
    -------
    list of dict
        ``{"step": int, name: float}`` in the order of writing, without the names of empty cells.

    Raises
    ------
    ConfigError
        If the file is not a table of a `CSVSink`.
    """
    path = absolute(path)
    data = path.read_bytes()
    # a truncated number still parses as a number, so only a newline completes a row
    rows = list(csv.reader(io.StringIO(data[: data.rfind(b"\n") + 1].decode("utf-8-sig"), newline="")))
    header = rows[0] if rows else []
    if data and header[:1] != ["step"]:
        raise ConfigError(f"'{path}' is not a table of a CSVSink: its header is {header}, but starts with 'step'")
    records = []
    for number, row in enumerate(rows[1:], 2):
        try:
            cells = zip(header, row, strict=True)
            records.append({**{name: float(cell) for name, cell in cells if cell}, "step": int(row[0])})
        except ValueError as error:
            raise ConfigError(f"row {number} of '{path}' does not fit its header {header}: {row}") from error
    return records


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _as_file_name(part: str) -> str:
    """Quote a name injectively, such that the path stays inside the folder."""
    name = quote(part, safe=" ") or "%"
    return "%2E" + name[1:] if name.startswith(".") else name
