"""Numbers, pictures and configs for TensorBoard."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from delira_nca.io.paths import absolute
from delira_nca.logging._files import AppendedFile
from delira_nca.logging._values import as_floats, as_image, as_json, as_step

__all__ = ["TensorboardXSink"]


class TensorboardXSink:
    """Writes event files that TensorBoard shows, with the messages of tensorboardX.

    Parameters
    ----------
    folder : where the event files go, one per opening; made by the first write.
    group : the group of scalars that name none. ``"loss"`` gets the tag ``train/loss``, ``"val_loss"`` gets
        ``val/loss``; a name with a slash in it is the tag.

    Notes
    -----
    The records are written by this class and not by tensorboardX's ``SummaryWriter``, which hands them to a
    queue and a thread: a killed process loses those of up to two minutes, its ``flush()`` does not wait for
    the queue, and a second writer that is opened in the same second overwrites the file of the first.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> sink = TensorboardXSink(folder)
    >>> sink.scalars({"loss": 0.25, "val_dice": 0.5}, step=1)
    >>> sink.close()
    >>> len(list(folder.glob("events.out.tfevents.*")))
    1
    """

    def __init__(self, folder: str | os.PathLike[str], *, group: str = "train") -> None:
        self.folder = absolute(folder)
        self.group = group
        self._file: AppendedFile | None = None
        self._purge_step: int | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record each number under the tag ``group/name``, as float32.

        Raises
        ------
        ConfigError
            Naming the key whose value is not one number. Nothing is written then.
        """
        step, floats = as_step(step), as_floats(values)
        from tensorboardX.proto.summary_pb2 import Summary

        items = [Summary.Value(tag=self._tag(key), simple_value=value) for key, value in floats.items()]
        self._write(step=step, summary=Summary(value=items))

    def images(self, name: str, image: npt.ArrayLike, step: int) -> None:
        """Record the (H, W, 3) uint8 picture, losslessly."""
        step, array = as_step(step), as_image(image)
        from tensorboardX import summary

        self._write(step=step, summary=summary.image(name, array, dataformats="HWC"))

    def config(self, values: Mapping[str, Any]) -> None:
        """Record the config as JSON text under the tag ``config``, at step 0."""
        text = as_json(values)
        from tensorboardX import summary

        self._write(step=0, summary=summary.text("config", f"```json\n{text}\n```"))

    def truncate(self, step: int, epochs: int | None = None) -> None:
        """Make TensorBoard forget later steps: the next file starts with the order to purge them.

        An epoch beyond ``epochs`` at the step itself cannot be forgotten; it is recorded again with the same values.

        The older files stay as they are. After ``truncate(-1)`` the config is forgotten, too.
        """
        first = as_step(step, least=-1) + 1
        self._purge_step = first if self._purge_step is None else min(first, self._purge_step)
        self.close()

    def close(self) -> None:
        """Close the event file; a later record starts another."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _tag(self, key: str) -> str:
        if "/" in key:
            return key
        return f"val/{key.removeprefix('val_')}" if key.startswith("val_") else f"{self.group}/{key}"

    def _write(self, **content: Any) -> None:
        if self._file is None:
            self._file = self._open()
        self._file.write(_record(wall_time=time.time(), **content))

    def _open(self) -> AppendedFile:
        """Start a file; TensorBoard reads them in the order of their names."""
        now = time.time_ns()
        name = f"events.out.tfevents.{now // 10**9:010d}.{now % 10**9:09d}.{socket.gethostname()}.{os.getpid()}"
        file = AppendedFile(self.folder / name)
        head = _record(wall_time=now / 1e9, file_version="brain.Event:2")
        if self._purge_step is not None:
            from tensorboardX.proto.event_pb2 import SessionLog

            start = SessionLog(status=SessionLog.START)
            head += _record(wall_time=now / 1e9, step=self._purge_step, session_log=start)
        file.write(head)
        self._purge_step = None
        return file


def _record(**content: Any) -> bytes:
    """One event as TFRecord: length, its checksum, the message, its checksum."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data: bytes = Event(**content).SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, data))
