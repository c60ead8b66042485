"""Result of a roll-out, with named parts."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from delira_nca.errors import require_choice
from delira_nca.models.inputs import HasChannels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

__all__ = ["Prediction", "Visual", "evaluating", "kept_steps"]


def kept_steps(keep: str | Sequence[int], steps: int) -> Sequence[int]:
    """Return the numbers of steps after which a record keeps the state: ``"all"``, the ``"last"``, or those given."""
    if not isinstance(keep, str):
        return keep
    require_choice("keep", keep, ("all", "last"))
    return range(1, steps + 1) if keep == "all" else [steps]


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block, and restore the modes of all modules afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


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
    logits : Tensor or None
        Tensor that is compared with the label; see :attr:`logits` for the default.
    mask : Tensor or None
        Binary segmentation, for models that compute one.

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
        self,
        model: HasChannels,
        steps: int,
        output_image: Tensor,
        head_prediction: Tensor | None = None,
        *,
        logits: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        self.model, self.steps = model, steps
        self.output_image, self.head_prediction = output_image, head_prediction
        self.mask, self._logits = mask, logits
        self._arrays: dict[str, Array] = {}

    @property
    def logits(self) -> Tensor:
        """Logits that were set, else the head's prediction, else the output channels.

        For a model with neither head nor output channels this is the state, as in NCALab.
        """
        if self._logits is not None:
            return self._logits
        if self.head_prediction is not None:
            return self.head_prediction
        return self.output_channels if self.model.num_output_channels else self.output_image

    @logits.setter
    def logits(self, value: Tensor) -> None:
        self._logits = value
        self._arrays.pop("logits_np", None)

    @property
    def _has_logits(self) -> bool:
        given = self._logits is not None or self.head_prediction is not None
        return given or self.model.num_output_channels > 0

    @property
    def image_channels(self) -> Tensor:
        """Image channels, a (B, num_image_channels, *spatial) view."""
        return self.output_image[:, : self.model.num_image_channels]

    @property
    def hidden_channels(self) -> Tensor:
        """Hidden channels, a (B, num_hidden_channels, *spatial) view."""
        first = self.model.num_image_channels
        if self._first_output == first:
            first += self.model.num_output_channels
        return self.output_image[:, first : first + self.model.num_hidden_channels]

    @property
    def _first_output(self) -> int:
        last = self.model.num_image_channels + self.model.num_hidden_channels
        return int(getattr(self.model, "first_output_channel", last))

    @property
    def output_channels(self) -> Tensor:
        """Output channels, a (B, num_output_channels, *spatial) view; empty for a model without any."""
        return self.output_image[:, self._first_output : self._first_output + self.model.num_output_channels]

    @property
    def pred(self) -> Tensor:
        """Tensor that is compared with the label: the logits, or the image of a model that computes no logits."""
        return self.logits if self._has_logits else self.image_channels

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
            named["head"] = self.head_prediction
        if self._has_logits:
            named["logits"] = named["pred"]
        return named

    def detach(self) -> Self:
        """Return the prediction without its graph."""
        return self.mapped(Tensor.detach)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy of the prediction with a function applied to its tensors."""
        mapped = copy.copy(self)
        for name in ("output_image", "head_prediction", "mask", "_logits"):
            value = getattr(self, name)
            setattr(mapped, name, None if value is None else function(value))
        mapped._arrays = {}
        return mapped

    def unwrap_batch(self) -> list[Self]:
        """Return a prediction with a batch size of 1 for each sample."""
        return [
            self.mapped(lambda tensor, row=row: tensor[row : row + 1])  # type: ignore[misc]
            for row in range(len(self.output_image))
        ]

    @staticmethod
    def flatten_recorded_predictions(recorded_predictions: Sequence[Prediction]) -> list[Prediction]:
        """Return the predictions of ``record()`` by sample: all steps of the first sample, then of the second, ...

        Examples
        --------
        >>> import torch
        >>> from delira_nca.models import BasicNCAModel
        >>> frames = BasicNCAModel().record(torch.zeros(2, 4, 8, 8), steps=3)
        >>> [one.steps for one in Prediction.flatten_recorded_predictions(frames)]
        [1, 2, 3, 1, 2, 3]
        """
        samples = zip(*(prediction.unwrap_batch() for prediction in recorded_predictions), strict=True)
        return [prediction for sample in samples for prediction in sample]

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
    def logits_np(self) -> Array:
        """Logits as an array."""
        return self._array("logits_np", self.logits)

    @property
    def mask_np(self) -> Array | None:
        """Mask as an array, or None."""
        return None if self.mask is None else self._array("mask_np", self.mask)

    @property
    def head_prediction_array(self) -> Array | None:
        """Prediction of the head as an array, or None."""
        return None if self.head_prediction is None else self._array("head_prediction_array", self.head_prediction)
