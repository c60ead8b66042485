"""Model for growing an image from one cell."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.losses import mse, psnr
from delira_nca.models.inputs import make_seed
from delira_nca.models.prediction import Prediction
from delira_nca.models.tasks.task import TaskNCAModel, check_weights

__all__ = ["GrowingNCAModel"]


class GrowingNCAModel(TaskNCAModel):
    """Automaton that grows an RGBA image from a seed.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters.
    num_hidden_channels, fire_rate, hidden_size, use_alive_mask, num_learned_filters, filter_padding
        See :class:`BasicNCAModel`.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`. The task sets four mutable image channels, no output channels and no
        initial noise.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If an argument is invalid, unknown, or set by the task itself.

    Notes
    -----
    The label is a (B, 4, H, W) image with premultiplied alpha; the loss is its mean squared error. The published
    automaton (Mordvintsev et al., 2020) is ``BasicNCAModel(**presets.growing())``.

    Examples
    --------
    >>> model = GrowingNCAModel(num_hidden_channels=12, use_alive_mask=True)
    >>> seed = model.make_seed(16, 16)
    >>> seed.shape, len(model.grow(seed, steps=3))
    (torch.Size([1, 16, 16, 16]), 3)
    """

    loss_names = ("total", "growing", "hidden")
    task_metrics: ClassVar = {"psnr": psnr, "mse": mse}
    default_metric = "psnr"
    decides = ("num_image_channels", "num_output_channels", "immutable_image_channels", "pad_noise")

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_hidden_channels: int = 16,
        fire_rate: float = 0.5,
        hidden_size: int = 128,
        use_alive_mask: bool = False,
        lambda_hidden: float = 0.0,
        num_learned_filters: int = 0,
        filter_padding: str = "zeros",
        **kwargs: Any,
    ) -> None:
        check_weights(growing=1.0, lambda_hidden=lambda_hidden)
        self._set_up(
            locals(), num_image_channels=4, num_output_channels=0, immutable_image_channels=False, pad_noise=False
        )

    def make_seed(self, *shape: int) -> Tensor:
        """Make a (1, C, *shape) state with one living cell in the middle; its alpha and hidden channels are 1."""
        return make_seed(self.num_channels, shape)[None].to(self.device)

    def grow(self, seed: Tensor, steps: int = 100, *, rng_seed: int = 0) -> list[npt.NDArray[np.float32]]:
        """Return the image after each step.

        Parameters
        ----------
        seed : Tensor
            (1, C, *spatial) or (C, *spatial) state, such as that of :meth:`make_seed`.
        steps : int
            Number of steps.
        rng_seed : int
            Seed of the fire masks.

        Returns
        -------
        list of (*spatial, 4) arrays in [0, 1]
        """
        state = seed[None] if seed.dim() == self.dims + 1 else seed
        frames = self.record(state, steps, seed=rng_seed)
        return [np.moveaxis(frame.image_channels_np[0].clip(0, 1), 0, -1) for frame in frames]

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the image, and the mean absolute value of the hidden channels.

        Raises
        ------
        ShapeError
            If the shape of the label is not that of the image.
        """
        return self._sum(prediction, {"growing": (1.0, mse(prediction.image_channels, label))})
