"""NCALab's figures of batches, and its colours."""

from __future__ import annotations

import colorsys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.visualization.visual import Visual, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Color",
    "Visual",
    "VisualBinaryImageClassification",
    "VisualBinaryImageSegmentation",
    "VisualDepthEstimation",
    "VisualGrowing",
    "VisualMultiImageClassification",
    "VisualRGBImageClassification",
    "show_image_row",
    "string_ellipsis",
]

Array = npt.NDArray[Any]
RGBA = tuple[float, float, float, float]


class Color:
    """Colour with an alpha value.

    Parameters
    ----------
    rgba4f : tuple of float, or float
        Red, green, blue and alpha from 0 to 1; or red only, with the others as further arguments.
    g, b, a : float
        Green, blue and alpha, if ``rgba4f`` is a number.

    Raises
    ------
    ConfigError
        If a value is outside of 0 to 1.

    Examples
    --------
    >>> Color(1.0, 0.5, 0.0).rgba4b, Color.from_rgba4b(255, 51, 0).rgb3f
    ((255, 127, 0, 255), (1.0, 0.2, 0.0))
    """

    def __init__(self, rgba4f: RGBA | float, g: float = 0.0, b: float = 0.0, a: float = 1.0) -> None:
        values = tuple(rgba4f) if isinstance(rgba4f, Sequence) else (rgba4f, g, b, a)
        if len(values) != 4 or not all(0 <= value <= 1 for value in values):
            raise ConfigError(f"a colour has red, green, blue and alpha from 0 to 1, not {values}")
        self.rgba4f: RGBA = values

    @staticmethod
    def from_rgba4b(r: int, g: int, b: int, a: int = 255) -> Color:
        """Make a colour of integers from 0 to 255."""
        return Color((r / 255, g / 255, b / 255, a / 255))

    @staticmethod
    def from_hsva4f(h: float, s: float, v: float, a: float = 1.0) -> Color:
        """Make a colour of hue, saturation and value from 0 to 1."""
        return Color((*colorsys.hsv_to_rgb(h, s, v), a))

    @property
    def hsva4f(self) -> RGBA:
        """Hue, saturation, value and alpha from 0 to 1."""
        return (*colorsys.rgb_to_hsv(*self.rgb3f), self.rgba4f[3])

    @property
    def rgba4b(self) -> tuple[int, int, int, int]:
        """Red, green, blue and alpha from 0 to 255."""
        red, green, blue, alpha = (int(255 * value) for value in self.rgba4f)
        return red, green, blue, alpha

    @property
    def rgb3f(self) -> tuple[float, float, float]:
        """Red, green and blue from 0 to 1."""
        return self.rgba4f[:3]


def string_ellipsis(label: str, max_len: int = 8, ellipsis: str = "…") -> str:
    """Shorten a name: to the initials of its words, or to its first letters.

    Examples
    --------
    >>> string_ellipsis("hello world", 6), string_ellipsis("helloworld", 3), string_ellipsis("cat")
    ('HW', 'he…', 'cat')
    """
    if len(label) <= max_len:
        return label
    words = label.replace("_", " ").split() if " " not in label else label.split()
    return "".join(word[0].upper() for word in words) if len(words) > 1 else label[: max_len - 1] + ellipsis


def _figure(rows: int, columns: int) -> tuple[Figure, Any]:
    if not columns:
        raise ShapeError("a batch to draw needs at least one sample")
    return figure_of(rows, columns, (2 * columns + 0.6, 2.2 * rows))


def _as_picture(image: Array) -> Array:
    """Convert an image with the channels first or last to (H, W), (H, W, 3) or (H, W, 4), with values in [0, 1]."""
    image = np.asarray(image, float)
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[-1] not in (3, 4):
        image = np.moveaxis(image, 0, -1)
    elif image.ndim == 3 and image.shape[-1] not in (1, 3, 4):
        image = image[0]
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def show_image_row(
    ax: Any,
    images: Any,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: Any = None,
    overlays: Any = None,
    overlay_vmin: float | None = None,
    overlay_vmax: float | None = None,
    overlay_cmap: Any = None,
    label: str = "",
    colorbar: bool = False,
    x_index: bool = False,
    normalize: bool = False,
) -> None:
    """Show images side by side.

    Parameters
    ----------
    ax : array of Axes
        One axes object per image.
    images : sequence of ndarray
        Grey, RGB or RGBA images, with the channels first or last.
    vmin, vmax, cmap
        Range and colour map of grey images; see ``imshow`` of matplotlib.
    overlays : sequence of ndarray, optional
        Masks to draw half transparent over the images.
    overlay_vmin, overlay_vmax, overlay_cmap
        Range and colour map of the overlays.
    label : str
        Text beside the first image.
    colorbar : bool
        Whether the last image has a colour bar.
    x_index : bool
        Whether each image has its number below.
    normalize : bool
        Whether to scale the values of all images to [0, 1] if some are negative.
    """
    pictures = [_as_picture(image) for image in images]
    axes = np.atleast_1d(ax)
    if normalize and min(float(picture.min()) for picture in pictures) < 0:
        low, high = min(float(p.min()) for p in pictures), max(float(p.max()) for p in pictures)
        pictures = [(picture - low) / max(high - low, 1e-12) for picture in pictures]
    for number, picture in enumerate(pictures):
        shown = axes[number].imshow(
            picture.clip(0, 1) if picture.ndim == 3 else picture, vmin=vmin, vmax=vmax, cmap=cmap
        )
        if overlays is not None:
            options = {"vmin": overlay_vmin, "vmax": overlay_vmax, "cmap": overlay_cmap or "jet"}
            axes[number].imshow(_as_picture(overlays[number]), alpha=0.5, **options)
        if colorbar and number == len(pictures) - 1:
            axes[number].figure.colorbar(shown, ax=axes[number])
        if x_index:
            axes[number].set_xlabel(str(number))
        axes[number].set_xticks([])
        axes[number].set_yticks([])
    axes[0].set_ylabel(label, fontweight="bold")


class _Rows(Visual):
    """Figure with a row for the input, for the label and for the prediction."""

    titles: tuple[str, ...] = ("INPUT", "GROUND TRUTH", "PREDICTION")
    options: dict[str, Any]  # of the rows after the input

    def show(self, model: Any, image: Array, prediction: Any, label: Array | None) -> Figure:
        """Draw a batch; see :class:`Visual`."""
        rows = self.rows(model, np.asarray(image), prediction, label)
        shown = {title: values for title, values in zip(self.titles, rows, strict=True) if values is not None}
        figure, axes = _figure(len(shown), len(prediction.output_image))
        for number, (title, values) in enumerate(shown.items()):
            options = {"normalize": True} if title == "INPUT" else self.options
            show_image_row(axes[number], values, label=title, **options)
        return figure

    def rows(self, model: Any, image: Array, prediction: Any, label: Array | None) -> list[Array | None]:
        """Images of each row."""
        raise NotImplementedError


class VisualBinaryImageSegmentation(_Rows):
    """Figure of images, masks and predicted masks."""

    options = {"cmap": "gray", "vmin": 0, "vmax": 1}  # noqa: RUF012

    def rows(self, model: Any, image: Array, prediction: Any, label: Array | None) -> list[Array | None]:
        """Images of each row."""
        mask = prediction.output_channels_np[:, :1] > 0
        return [image[:, : model.num_image_channels], label, mask.astype(float)]


class VisualDepthEstimation(_Rows):
    """Figure of images, depths and predicted depths."""

    options = {"cmap": "magma", "vmin": 0, "vmax": 1, "colorbar": True}  # noqa: RUF012

    def rows(self, model: Any, image: Array, prediction: Any, label: Array | None) -> list[Array | None]:
        """Images of each row."""
        return [image[:, : model.num_image_channels], label, prediction.output_channels_np[:, :1]]


class VisualGrowing(_Rows):
    """Figure of target images and grown images."""

    titles = ("GROUND TRUTH", "PREDICTION")
    options = {"normalize": True}  # noqa: RUF012

    def rows(self, model: Any, image: Array, prediction: Any, label: Array | None) -> list[Array | None]:
        """Images of each row."""
        target = None if label is None else np.asarray(label)[:, : model.num_image_channels]
        return [target, prediction.image_channels_np]


def _numbers(label: Array | None) -> list[int]:
    return [] if label is None else np.asarray(label).reshape(-1).astype(int).tolist()


class VisualBinaryImageClassification(Visual):
    """Figure of grey images; the rows show the true and the predicted class of each cell as a colour."""

    def show(self, model: Any, image: Array, prediction: Any, label: Array | None) -> Figure:
        """Draw a batch; see :class:`Visual`."""
        shape = np.asarray(image)[:, 0] > 0
        cells = prediction.output_channels_np
        if cells.shape[1]:
            predicted = cells.argmax(1)
        else:
            predicted = np.broadcast_to(prediction.logits_np.argmax(1)[:, None, None], shape.shape)
        rows = {"PREDICTION": np.where(shape, predicted, np.nan)}
        if label is not None:
            true = np.array(_numbers(label))[:, None, None]
            rows = {"INPUT": np.where(shape, true, np.nan), **rows}
        figure, axes = _figure(len(rows), len(shape))
        for number, (title, pictures) in enumerate(rows.items()):
            options = {"vmin": 0, "vmax": max(model.num_classes - 1, 1), "cmap": "tab10"}
            show_image_row(axes[number], pictures, label=title, **options)
        return figure


class VisualRGBImageClassification(Visual):
    """Figure of images with the probabilities of all classes; the bar of the true class is green."""

    def show(self, model: Any, image: Array, prediction: Any, label: Array | None) -> Figure:
        """Draw a batch; see :class:`Visual`."""
        logits = prediction.logits_np.astype(float)
        if logits.ndim > 2:
            logits = logits.reshape(*logits.shape[:2], -1).mean(2)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        labels = _numbers(label)
        figure, axes = _figure(2, len(shares))
        show_image_row(axes[0], prediction.image_channels_np, label="IMAGE", normalize=True)
        names = [string_ellipsis(name) for name in model.class_names]
        for sample, axis in enumerate(axes[1]):
            true = labels[sample] if labels else None
            colours = ["xkcd:yellow green" if k == true else "xkcd:cerulean" for k in range(len(names))]
            axis.barh(range(len(names)), shares[sample], color=colours, tick_label=names)
            axis.set_xlim(0, 1)
            axis.xaxis.set_visible(False)
        axes[1, 0].set_ylabel("PREDICTION", fontweight="bold")
        return figure


class VisualMultiImageClassification(VisualRGBImageClassification):
    """Deprecated name of :class:`VisualRGBImageClassification`."""

    def __init__(self) -> None:
        warnings.warn(
            "VisualMultiImageClassification is VisualRGBImageClassification", DeprecationWarning, stacklevel=2
        )
