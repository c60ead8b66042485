"""Protocol of sinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

__all__ = ["MetricSink"]


@runtime_checkable
class MetricSink(Protocol):
    """Recorder of the scalars, images and config of a run.

    A sink opens no file before its first write, and flushes every call, so that records survive a kill of the process.
    It can be pickled and deep-copied at any time, and can be written to after ``close()``.

    Examples
    --------
    A user-defined sink needs no base class:

    >>> class Printer:
    ...     def scalars(self, values, step):
    ...         print(step, dict(values))
    ...     def images(self, name, image, step): ...
    ...     def config(self, values): ...
    ...     def truncate(self, step, epochs=None): ...
    ...     def close(self): ...
    >>> isinstance(Printer(), MetricSink)
    True
    """

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record the scalars of a step.

        Parameters
        ----------
        values : mapping of str to float
            Values by name. A value can be anything that ``float()`` accepts, such as a tensor or an array of one
            element.
        step : int
            Epoch or iteration, at least 0. Steps need not be consecutive or ascending.
        """

    def images(self, name: str, image: npt.ArrayLike, step: int) -> None:
        """Record an image.

        Parameters
        ----------
        name : str
            Name of the image, with optional groups, as in ``"val/worst"``.
        image : array or tensor
            (H, W, 3) uint8 image.
        step : int
            Epoch or iteration, at least 0.
        """

    def config(self, values: Mapping[str, Any]) -> None:
        """Record the config of the run. Values that JSON does not support are converted by ``str()``."""

    def truncate(self, step: int, epochs: int | None = None) -> None:
        """Discard scalars and images of steps after ``step``, before a resumed run records them again.

        ``truncate(-1)`` discards all of them. The config is kept. If a run resumes within an epoch, ``epochs`` is the
        number of completed epochs, and records of a later ``"epoch"`` are discarded as well.
        """

    def close(self) -> None:
        """Close open files. It can be called repeatedly; a later write opens the files again."""
