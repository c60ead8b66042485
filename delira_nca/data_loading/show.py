"""Figures of batches, and the debug mode."""

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
    """Build everything in this process inside the block, regardless of the requested number of processes.

    Results are bit-equal, as they depend on seeds only. The innermost block applies. A block affects the thread (or
    asyncio task) that entered it. Work that has started already is not moved.

    Parameters
    ----------
    enabled : bool
        Whether to enable the mode; False disables it inside the block.

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
    """Whether the debug mode is enabled in this context."""
    return _IS_DEBUG.get()


def DebugEnabled() -> contextlib.AbstractContextManager[None]:  # noqa: N802  the name in delira
    """Return ``debug_mode(True)``; name in delira."""
    return debug_mode(True)


def DebugDisabled() -> contextlib.AbstractContextManager[None]:  # noqa: N802  the name in delira
    """Return ``debug_mode(False)``; name in delira."""
    return debug_mode(False)


Array = npt.NDArray[Any]
_MOST_CLASSES = 64  # an image of integers up to this value is treated as a label mask
_INCHES = 1.9  # width of an image


class _Targets(NamedTuple):
    masks: list[Array]  # (B, *spatial)
    pictures: dict[str, Array]  # (B, C, *spatial)
    words: dict[str, Array]  # (B,)


def draw_batch(batch: Batch, *, image_key: str | None = None, max_samples: int = 8, title: str = "") -> Figure:
    """Draw the samples of a batch side by side with their targets.

    Parameters
    ----------
    batch : Batch
        Batch of a `DataManager`.
    image_key : str or None
        Entry with the (B, C, *spatial) images; by default ``"data"``, or the first suitable entry. Three channels are
        RGB, four are premultiplied RGBA on white; otherwise the first channel is shown in grey. For 3D images the
        middle slice is shown.
    max_samples : int
        Maximum number of samples; the first ones are drawn.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Label masks, (B, *spatial) or (B, 1, *spatial) of whole numbers, or (B, C, *spatial) with one channel per class,
        are drawn over the images in colour; 0 is transparent. Target images are drawn below the images, labels above.

    Raises
    ------
    ConfigError
        If no entry is an image.
    MissingDependencyError
        If matplotlib is not installed.
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
    """Sort the targets into those drawn over, below and above the images. Other entries are ignored."""
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
    """Convert to two spatial dimensions: the middle slice of 3D images, a row for 1D."""
    spatial = array.ndim - first
    if spatial == 3:
        array = array.take(array.shape[first] // 2, axis=first)
    return np.expand_dims(array, first) if spatial == 1 else array


def _to_rgb(images: Array) -> Array:
    """Convert (B, C, *spatial) to (B, H, W, 3) with values from 0 to 1."""
    images = _middle(images, 2)
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    images = np.nan_to_num(images.astype(np.float32)) / np.float32(scale)
    colours, alpha = images[:, :3], None
    if images.shape[1] == 4:
        alpha = np.clip(images[:, 3:], 0.0, 1.0)
    elif images.shape[1] != 3:
        colours = np.repeat(images[:, :1], 3, axis=1)
    low, high = float(colours.min()), float(colours.max())
    if alpha is None and (low < 0.0 or high > 1.0):  # normalised data: scale by the range of the batch
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
