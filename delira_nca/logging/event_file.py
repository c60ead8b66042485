"""Sink for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from delira_nca.io.files import make_folder, writable
from delira_nca.io.paths import absolute
from delira_nca.logging._values import as_floats, as_image, as_json, as_step

__all__ = ["TensorboardXSink"]


class TensorboardXSink:
    """Sink that writes TensorBoard event files with tensorboardX.

    Parameters
    ----------
    folder : str or Path
        Folder of the event files. It is created by the first write; each opening adds a file.
    group : str, optional
        Group of scalars with a name without a slash: ``"loss"`` has the tag ``train/loss`` and ``"val_loss"`` the tag
        ``val/loss``. A name with a slash is used as the tag.

    Notes
    -----
    Records are written by tensorboardX's ``EventsWriter``. Its ``SummaryWriter`` adds a queue and a thread: a killed
    process loses the queued records, and on a full disk the thread dies and the training waits forever.

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
        self._writer: Any = None
        self._purge_step: int | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record each number under the tag ``group/name``, as float32."""
        step, floats = as_step(step), as_floats(values)
        from tensorboardX.proto.summary_pb2 import Summary

        items = [Summary.Value(tag=self._tag(key), simple_value=value) for key, value in floats.items()]
        self._write(step, Summary(value=items))

    def images(self, name: str, image: npt.ArrayLike, step: int) -> None:
        """Record a (H, W, 3) uint8 image as PNG."""
        step, array = as_step(step), as_image(image)
        from tensorboardX import summary

        self._write(step, summary.image(name, array, dataformats="HWC"))

    def config(self, values: Mapping[str, Any]) -> None:
        """Record the config as JSON text under the tag ``config``, at step 0."""
        from tensorboardX import summary

        self._write(0, summary.text("config", f"```json\n{as_json(values)}\n```"))

    def truncate(self, step: int, epochs: int | None = None) -> None:
        """Discard later steps: the next event file begins with an event that makes TensorBoard purge them.

        Earlier files are not changed. An epoch beyond ``epochs`` that was recorded at ``step`` itself cannot be
        discarded; it is recorded again with the same values. ``truncate(-1)`` also discards the config.
        """
        first = as_step(step, least=-1) + 1
        self._purge_step = first if self._purge_step is None else min(first, self._purge_step)
        self.close()

    def close(self) -> None:
        """Close the event file. A later record opens a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}

    def _tag(self, key: str) -> str:
        if "/" in key:
            return key
        return f"val/{key.removeprefix('val_')}" if key.startswith("val_") else f"{self.group}/{key}"

    def _write(self, step: int, summary: Any) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        with writable(self.folder):
            if self._writer is None:
                # distinct names for files of one second, sorted in the order in which TensorBoard must read them
                suffix = f".{time.time_ns()}.{os.getpid()}"
                self._writer = EventsWriter(os.fspath(make_folder(self.folder) / "events"), suffix)
                if self._purge_step is not None:
                    start = SessionLog(status=SessionLog.START)
                    self._writer.write_event(Event(wall_time=time.time(), step=self._purge_step, session_log=start))
                    self._purge_step = None
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._writer.flush()
