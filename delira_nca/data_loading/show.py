"""Batches as pictures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.dataset import Batch
from delira_nca.errors import ConfigError, MissingDependencyError, require_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DebugDisabled", "DebugEnabled", "debug_mode", "draw_batch", "is_debug"]

_IS_DEBUG: ContextVar[bool] = ContextVar("delira_nca.debug", default=False)


@contextlib.contextmanager
def debug_mode(enabled: bool = True) -> Iterator[None]:
    """Build everything in this process inside the block, whatever number of processes was asked for.

    What is built is the same to the last bit: it depends on seeds, not on who works. The innermost block decides. A
    block holds for the thread (or the asyncio task) that entered it. Work that has begun stays where it began.

    Parameters
    ----------
    enabled : bool
        ``False`` turns the mode off inside the block, where an outer one had turned it on.

    Examples
    --------
    >>> with debug_mode():
    ...     is_debug()
    True
    >>> is_debug()
    False
    """
    token = _IS_DEBUG.set(bool(enabled))
    try:
        yield
    finally:
        _IS_DEBUG.reset(token)


def is_debug() -> bool:
    """Whether other processes are to be avoided here and now."""
    return _IS_DEBUG.get()


def DebugEnabled() -> contextlib.AbstractContextManager[None]:  # noqa: N802  the name that delira gave it
    """``debug_mode(True)``, by its name in delira."""
    return debug_mode(True)


def DebugDisabled() -> contextlib.AbstractContextManager[None]:  # noqa: N802  the name that delira gave it
    """``debug_mode(False)``, by its name in delira."""
    return debug_mode(False)


Array = npt.NDArray[Any]
_MOST_CLASSES = 64  # a picture of whole numbers up to here is a label mask
_INCHES = 1.9  # width of a picture


class _Targets(NamedTuple):
    masks: list[Array]  # (B, *spatial)
    pictures: dict[str, Array]  # (B, C, *spatial)
    words: dict[str, Array]  # (B,)


def draw_batch(batch: Batch, *, image_key: str | None = None, max_samples: int = 8, title: str = "") -> Figure:
    """Figure of the samples of a batch side by side, with what is to be predicted of them.

    Parameters
    ----------
    batch : Batch
        Of a `DataManager`.
    image_key : str or None
        Entry that holds the images, (B, C, *spatial); ``None`` for ``"data"``, or the first that can be one. Three
        channels are RGB, four are RGBA with the colours multiplied by alpha, shown on white; of other numbers the first
        channel is shown in gray. Of 3D images the middle slice is shown.
    max_samples : int
        At most so many are drawn, the first ones.
    title : str
        Above all.

    Returns
    -------
    matplotlib.figure.Figure
        Label masks, (B, *spatial) or (B, 1, *spatial) of whole numbers, or (B, C, *spatial) with a channel for each
        class, lie over the images in colour, 0 is see-through. Target images stand below, labels above them.

    Raises
    ------
    ConfigError
        If no entry can be an image.
    MissingDependencyError
        Without matplotlib.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("show_batch needs matplotlib: pip install 'delira_nca[viz]'") from error

    key = _image_key(batch, image_key)
    images = batch[key]
    targets = _sort_targets(batch, key)
    columns, rows = min(len(images), max_samples), 1 + len(targets.pictures)
    height = _INCHES * rows * min(2.0, max(0.3, images.shape[-2] / images.shape[-1] if images.ndim > 3 else 0.3))
    figure = Figure(figsize=(max(3.0, _INCHES * columns), height + 0.7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    colours = colormaps["tab10"](np.arange(_MOST_CLASSES) % 10)
    for row, (name, pictures) in enumerate({key: images, **targets.pictures}.items()):
        shown = _to_rgb(pictures)
        for column in range(columns):
            axes = grid[row, column]
            axes.imshow(shown[column], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(name, fontsize=8)
    for column in range(columns):
        for mask in targets.masks:
            classes = _middle(mask[column : column + 1], 1)[0].astype(np.int64)
            over = colours[(classes - 1) % _MOST_CLASSES].copy()
            over[..., 3] = np.where(classes > 0, 0.5, 0.0)
            grid[0, column].imshow(over, interpolation="nearest")
        words = [f"{name} {_word(values[column])}" for name, values in targets.words.items()]
        grid[0, column].set_title("\n".join(words), fontsize=8, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _image_key(batch: Batch, key: str | None) -> str:
    if key is not None:
        require_choice("entry of the batch", key, batch)
        possible = [key] if _is_image(batch[key]) else []
    else:
        possible = sorted((name for name, array in batch.items() if _is_image(array)), key=lambda name: name != "data")
    if not possible:
        shapes = ", ".join(f"{name!r}: {array.shape}" for name, array in batch.items())
        raise ConfigError(f"there is no image (samples, channels, *spatial) of numbers to show; the batch has {shapes}")
    return possible[0]


def _is_image(array: Array) -> bool:
    return array.ndim in (3, 4, 5) and array.dtype.kind in "biuf" and array.size > 0


def _sort_targets(batch: Batch, image_key: str) -> _Targets:
    """What is drawn over the images, below them, and above them; the rest is left out."""
    images = batch[image_key]
    spatial = images.shape[2:]
    targets = _Targets([], {}, {})
    for name, array in batch.items():
        if name == image_key or len(array) != len(images):
            continue
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
            targets.words[name] = array.reshape(len(array))
        elif array.dtype.kind in "biuf" and array.shape[1:] == spatial and _is_whole(array):
            targets.masks.append(array)
        elif _is_image(array) and array.ndim == images.ndim:
            _add_picture(targets, name, array, fits=array.shape[2:] == spatial)
    return targets


def _add_picture(targets: _Targets, name: str, array: Array, *, fits: bool) -> None:
    is_mask = fits and _is_whole(array) and (array.shape[1] == 1 or array.dtype.kind in "biu")
    if is_mask and array.shape[1] == 1:
        targets.masks.append(array[:, 0])
    elif is_mask and array.max() <= 1:
        targets.masks.append(np.where(array.any(axis=1), array.argmax(axis=1) + 1, 0))
    else:
        targets.pictures[name] = array


def _is_whole(array: Array) -> bool:
    if array.dtype.kind == "b":
        return True
    small = array.min() >= -1 and array.max() < _MOST_CLASSES
    return bool(small and (array.dtype.kind in "iu" or np.array_equal(array, np.round(array))))


def _middle(array: Array, first: int) -> Array:
    """Two spatial dimensions: the middle slice of three, a line as a row."""
    spatial = array.ndim - first
    if spatial == 3:
        array = array.take(array.shape[first] // 2, axis=first)
    return np.expand_dims(array, first) if spatial == 1 else array


def _to_rgb(images: Array) -> Array:
    """(B, C, *spatial) of any numbers to (B, H, W, 3) from 0 to 1."""
    images = _middle(images, 2)
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    images = np.nan_to_num(images.astype(np.float32)) / np.float32(scale)
    colours, alpha = images[:, :3], None
    if images.shape[1] == 4:
        alpha = np.clip(images[:, 3:], 0.0, 1.0)
    elif images.shape[1] != 3:
        colours = np.repeat(images[:, :1], 3, axis=1)
    low, high = float(colours.min()), float(colours.max())
    if alpha is None and (low < 0.0 or high > 1.0):  # normalised data: the batch's own range
        colours = (colours - low) / ((high - low) or 1.0)
    if alpha is not None:
        colours = colours + (1.0 - alpha)
    shown: Array = np.clip(np.moveaxis(colours, 1, -1), 0.0, 1.0)
    return shown


def _word(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.3g}" if math.isfinite(value) else str(value)
    text = str(value)
    return text if len(text) <= 20 else text[:19] + "…"
