"""Files of the sinks: opened late, written through, replaced in one piece."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy.typing as npt

from delira_nca.io.files import make_folder, replaced, writable
from delira_nca.io.paths import absolute
from delira_nca.logging._values import as_image, as_json, as_step

__all__ = ["AppendedFile", "FileSink"]

_LOGGER = logging.getLogger("delira_nca")


class AppendedFile:
    """A binary file that is opened by the first ``write`` and never loses what a finished ``write`` took.

    A copy, pickled or deep, comes without the open handle and opens the file again when it writes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute(path)
        self._handle: BinaryIO | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is held open."""
        return self._handle is not None

    def write(self, data: bytes) -> None:
        """Append the bytes and hand them to the operating system.

        Raises
        ------
        UnwritableError
            If the file cannot be written.
        """
        with writable(self.path):
            if self._handle is None:
                make_folder(self.path.parent)
                self._handle = self.path.open("ab")
            self._handle.write(data)
            self._handle.flush()

    def close(self) -> None:
        """Close the file if it is open."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


class FileSink:
    """A sink that appends numbers to one file; what the file cannot hold lies beside it.

    Parameters
    ----------
    path : the file; its folder is made by the first write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = AppendedFile(path)

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._file.path

    def images(self, name: str, image: npt.ArrayLike, step: int) -> None:
        """Write the (H, W, 3) uint8 picture to ``<stem>.images/<name>/<step>.png`` beside the file."""
        from PIL import Image

        picture, number = as_image(image), as_step(step)
        parts = [*map(_as_file_name, name.split("/")), f"{number:08d}.png"]
        with replaced(_image_folder(self.path).joinpath(*parts)) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")

    def config(self, values: Mapping[str, Any]) -> None:
        """Write the config to ``<stem>.config.json`` beside the file, in place of an earlier one."""
        text = as_json(values)
        with replaced(self.path.with_name(f"{self.path.stem}.config.json")) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def truncate(self, step: int, epochs: int | None = None) -> None:
        """Remove the records and pictures of later steps, and those of an epoch beyond ``epochs``.

        A kill leaves the old file or the new one.

        Raises
        ------
        ConfigError
            If the file holds something that is not a record of the sink.
        """
        step = as_step(step, least=-1)
        self.close()
        for picture in _image_folder(self.path).rglob("*.png"):
            if picture.stem.isdecimal() and int(picture.stem) > step:
                picture.unlink()
        if dropped := self._drop_after(step, math.inf if epochs is None else epochs):
            _LOGGER.warning("%d records of later steps than %d are removed from %s", dropped, step, self.path)

    def _drop_after(self, step: int, epochs: float) -> int:
        """Remove the records of later steps, and of later epochs, from the file, and return their number."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file; a later record opens it again."""
        self._file.close()


def _image_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}.images")


def _as_file_name(part: str) -> str:
    """Different names stay different, and none leads out of the folder."""
    name = quote(part, safe=" ") or "%"
    return "%2E" + name[1:] if name.startswith(".") else name
