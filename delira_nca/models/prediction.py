"""Result of a roll-out, with named parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.models.inputs import HasChannels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Prediction", "Visual"]


class Visual(ABC):
    """Base class of objects that draw a batch and its prediction. Override :meth:`show`."""

    @abstractmethod
    def show(
        self, model: Any, image: npt.NDArray[Any], prediction: Prediction, label: npt.NDArray[Any] | None
    ) -> Figure:
        """Return the figure of a batch.

        Parameters
        ----------
        model : object
            Model that made the prediction.
        image : ndarray
            (B, c, *spatial) input of the prediction; ``B`` may be 1.
        prediction : Prediction
            Prediction of the whole batch.
        label : ndarray or None
            Labels of the whole batch, or None without labels.
        """


Array = npt.NDArray[Any]


class Prediction:
    """State after a roll-out and its named views.

    Parameters
    ----------
    model : HasChannels
        Model that made it. Its numbers of channels define the parts.
    steps : int
        Number of steps.
    output_image : Tensor
        (B, C, *spatial) state with all channels.
    head_prediction : Tensor or None
        Output of the model's head, if it has one.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.models import BasicNCAModel
    >>> model = BasicNCAModel(num_image_channels=3, num_hidden_channels=4, num_output_channels=1, dims=2)
    >>> prediction = model.predict(torch.zeros(2, 3, 8, 8), steps=2)
    >>> prediction.hidden_channels.shape, prediction.output_channels.shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2, 1, 8, 8]))
    """

    def __init__(
        self, model: HasChannels, steps: int, output_image: Tensor, head_prediction: Tensor | None = None
    ) -> None:
        self.model, self.steps = model, steps
        self.output_image, self.head_prediction = output_image, head_prediction
        self._arrays: dict[str, Array] = {}

    @property
    def image_channels(self) -> Tensor:
        """Image channels, a (B, num_image_channels, *spatial) view."""
        return self.output_image[:, : self.model.num_image_channels]

    @property
    def hidden_channels(self) -> Tensor:
        """Hidden channels, a (B, num_hidden_channels, *spatial) view."""
        first = self.model.num_image_channels
        return self.output_image[:, first : first + self.model.num_hidden_channels]

    @property
    def output_channels(self) -> Tensor:
        """Output channels, a (B, num_output_channels, *spatial) view; empty for a model without any."""
        return self.output_image[:, self.model.num_image_channels + self.model.num_hidden_channels :]

    @property
    def pred(self) -> Tensor:
        """Tensor that is compared with the label: the head's prediction, else the output channels, else the image."""
        if self.head_prediction is not None:
            return self.head_prediction
        return self.output_channels if self.model.num_output_channels else self.image_channels

    def parts(self) -> dict[str, Tensor]:
        """Return all parts by name, for the arguments of criterions and metrics.

        ``"logits"`` is another name of ``"pred"`` where that is not the image.
        """
        named = {
            "pred": self.pred,
            "state": self.output_image,
            "image": self.image_channels,
            "hidden": self.hidden_channels,
            "output": self.output_channels,
        }
        if self.head_prediction is not None:
            return {**named, "head": self.head_prediction, "logits": self.head_prediction}
        return {**named, "logits": named["output"]} if self.model.num_output_channels else named

    def detach(self) -> Prediction:
        """Return the prediction without its graph."""
        head = None if self.head_prediction is None else self.head_prediction.detach()
        return Prediction(self.model, self.steps, self.output_image.detach(), head)

    def _array(self, name: str, tensor: Tensor | None) -> Array:
        if tensor is None:
            raise AttributeError(f"this prediction has no {name}: the model has no head")
        if name not in self._arrays:
            found = tensor.detach().cpu()
            self._arrays[name] = np.asarray(found.float() if found.dtype == torch.bfloat16 else found)
        return self._arrays[name]

    @property
    def output_array(self) -> Array:
        """State as an array, copied to the CPU at the first access."""
        return self._array("output_array", self.output_image)

    @property
    def image_channels_np(self) -> Array:
        """Image channels as an array."""
        return self._array("image_channels_np", self.image_channels)

    @property
    def hidden_channels_np(self) -> Array:
        """Hidden channels as an array."""
        return self._array("hidden_channels_np", self.hidden_channels)

    @property
    def output_channels_np(self) -> Array:
        """Output channels as an array."""
        return self._array("output_channels_np", self.output_channels)

    @property
    def head_prediction_array(self) -> Array | None:
        """Prediction of the head as an array, or None."""
        return None if self.head_prediction is None else self._array("head_prediction_array", self.head_prediction)
