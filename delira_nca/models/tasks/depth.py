"""Model for the estimation of depth, or another map of real numbers, from an image."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.losses import gradient_l1, mse, shift_free_mse, ssim
from delira_nca.losses.checks import with_channel
from delira_nca.models.prediction import Prediction
from delira_nca.models.tasks.task import TaskNCAModel, check_weights

__all__ = ["DepthNCAModel", "similarity"]


def similarity(pred: Tensor, label: Tensor) -> Tensor:
    """Structural similarity of a (B, 1, *spatial) prediction, with the largest window of up to 11 cells that fits."""
    label = with_channel(label, pred)
    return ssim(pred, label, window=_window(pred))


def _error(pred: Tensor, label: Tensor) -> Tensor:
    return shift_free_mse(pred, with_channel(label, pred))


similarity.direction, _error.direction = "highest", "lowest"  # type: ignore[attr-defined]


def _window(x: Tensor) -> int:
    """Size of the window: 11 cells, or the largest odd number that fits."""
    least = min(x.shape[2:])
    return min(11, least - 1 + least % 2)


class DepthNCAModel(TaskNCAModel):
    """Automaton that predicts the depth of each cell.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters.
    num_image_channels, num_hidden_channels, fire_rate, hidden_size, num_learned_filters, pad_noise
        See :class:`BasicNCAModel`.
    lambda_gradient, lambda_depth, lambda_ssim, lambda_hidden : float
        Weights in the loss of the difference of gradients, the squared error, one minus the structural similarity, and
        the mean absolute value of the hidden channels.
    shift_free : bool
        Whether the medians are subtracted before the squared error, so that it ignores a constant offset.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`. The task sets one output channel, the depth.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If an argument is invalid, unknown, or set by the task itself.

    Notes
    -----
    The label is a (B, *spatial) or (B, 1, *spatial) map with values in [0, 1] and at least 2 cells along each axis. The
    window of the structural similarity has 11 cells along each axis, or the largest odd number that fits.

    Examples
    --------
    >>> model = DepthNCAModel(num_image_channels=1, inference_timesteps=4)
    >>> model.metrics(model.predict(torch.zeros(2, 1, 16, 16)), torch.zeros(2, 16, 16))
    {'ssim': 1.0, 'shift_free_mse': 0.0}
    """

    has_logits = False
    lambda_gradient: float
    lambda_depth: float
    lambda_ssim: float
    shift_free: bool
    loss_names = ("total", "gradient", "depth", "dissimilarity", "hidden")
    task_metrics: ClassVar = {"ssim": similarity, "shift_free_mse": _error}
    default_metric = "ssim"
    decides = ("num_output_channels",)

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_image_channels: int = 3,
        num_hidden_channels: int = 18,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        num_learned_filters: int = 2,
        pad_noise: bool = False,
        lambda_gradient: float = 0.5,
        lambda_depth: float = 1.0,
        lambda_ssim: float = 0.2,
        lambda_hidden: float = 0.0,
        *,
        shift_free: bool = True,
        **kwargs: Any,
    ) -> None:
        check_weights(
            lambda_gradient=lambda_gradient,
            lambda_depth=lambda_depth,
            lambda_ssim=lambda_ssim,
            lambda_hidden=lambda_hidden,
        )
        self._set_up(locals(), num_output_channels=1)

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Weighted sum of the errors of gradients, depths and structure.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is not that of the prediction, or its values are not real numbers.
        """
        depth = prediction.pred.float()
        if not label.is_floating_point():
            raise ConfigError(f"a label of depth is of real numbers, not {label.dtype}")
        label = with_channel(label, depth).float()
        terms = {
            "gradient": (self.lambda_gradient, gradient_l1(depth, label)),
            "depth": (self.lambda_depth, (shift_free_mse if self.shift_free else mse)(depth, label)),
            "dissimilarity": (self.lambda_ssim, 1 - similarity(depth, label)),
        }
        return self._sum(prediction, terms)
