"""Files of the sinks: opened late, written through, replaced in one piece."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from delira_nca.io.files import replaced
from delira_nca.logging._values import UInt8Array, as_json

__all__ = ["AppendedFile", "drop_images", "write_config", "write_image"]


class AppendedFile:
    """A binary file that is opened by the first ``write`` and never loses what a finished ``write`` took.

    A copy, pickled or deep, comes without the open handle and opens the file again when it writes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._handle: BinaryIO | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is held open."""
        return self._handle is not None

    def write(self, data: bytes) -> None:
        """Append the bytes and hand them to the operating system."""
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
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


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write the config beside a file of numbers: ``metrics.jsonl`` -> ``metrics.config.json``."""
    text = as_json(values)
    with replaced(path.with_name(f"{path.stem}.config.json")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_image(path: Path, name: str, image: UInt8Array, step: int) -> None:
    """Write a picture beside a file of numbers: ``metrics.images/<name>/<step>.png``."""
    from PIL import Image

    with replaced(_image_folder(path).joinpath(*map(_as_file_name, name.split("/")), f"{step:08d}.png")) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def drop_images(path: Path, step: int) -> None:
    """Remove the pictures of later steps that ``write_image`` made beside a file of numbers."""
    for picture in _image_folder(path).rglob("*.png"):
        if picture.stem.isdecimal() and int(picture.stem) > step:
            picture.unlink()


def _image_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}.images")


def _as_file_name(part: str) -> str:
    """Different names stay different, and none leads out of the folder."""
    name = quote(part, safe=" ") or "%"
    return "%2E" + name[1:] if name.startswith(".") else name
