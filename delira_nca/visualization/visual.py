"""Figures of a batch: images, labels and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.errors import MissingDependencyError, ShapeError
from delira_nca.models.prediction import Prediction, Visual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Visual", "VisualRows"]

Array = npt.NDArray[Any]


class VisualRows(Visual):
    """Figure with one column per sample and rows for images, labels and predictions.

    Parameters
    ----------
    max_samples : int
        Maximum number of columns.
    sigmoid : bool
        Whether to apply the sigmoid to predictions, for logits of a segmentation.

    Notes
    -----
    Images of 1, 3 (RGB) and 4 channels (premultiplied RGBA over white) are drawn; of others, the first channel. Labels
    that are not images, such as classes, are printed.
    """

    def __init__(self, max_samples: int = 8, *, sigmoid: bool = False) -> None:
        require_whole("max_samples", max_samples, 1)
        self.max_samples, self.sigmoid = max_samples, sigmoid

    def show(self, model: Any, image: Array, prediction: Prediction, label: Array | None) -> Figure:
        """Draw a batch.

        Raises
        ------
        ShapeError
            If the images are not (B, c, H, W).
        MissingDependencyError
            If matplotlib is not installed.
        """
        image = np.asarray(image)[:, : model.num_image_channels]
        if image.ndim != 4 or not len(image):
            raise ShapeError(f"images to draw are (B, c, H, W) with at least one sample, not {image.shape}")
        pred = np.asarray(prediction.pred.detach().float().cpu())
        if self.sigmoid:
            pred = 1 / (1 + np.exp(-pred))
        rows = {"image": image, **({} if label is None else {"label": np.asarray(label)}), "prediction": pred}
        columns = min(len(image), self.max_samples)
        figure, axes = figure_of(len(rows), columns, (1.6 * columns + 0.8, 1.7 * len(rows)))
        for row, (name, values) in enumerate(rows.items()):
            axes[row, 0].set_ylabel(name)
            for column in range(columns):
                _draw(axes[row, column], values[column])
        return figure


def figure_of(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, Any]:
    """Return a figure of a size in inches, and its (rows, columns) axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("drawings need matplotlib: pip install 'delira_nca[viz]'") from error
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw(axis: Any, value: Array) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if value.ndim == 2:
        value = value[None]
    if value.ndim != 3:
        best = value.argmax() if value.ndim == 1 else value
        axis.text(0.5, 0.5, str(best), ha="center", va="center", transform=axis.transAxes)
        return
    picture = value.astype(float).clip(0, 1)
    if len(picture) == 4:
        picture = picture[:3] + (1 - picture[3:])
    if len(picture) == 3:
        axis.imshow(picture.transpose(1, 2, 0).clip(0, 1))
    else:
        axis.imshow(picture[0], vmin=0, vmax=1, cmap="gray")
