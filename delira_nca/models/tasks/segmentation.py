"""Models for the segmentation of images, binary or with several classes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.losses import dice_score, multiclass_dice, multiclass_dice_score, soft_dice
from delira_nca.losses.checks import class_labels, mask_values, with_channel
from delira_nca.models.prediction import Prediction
from delira_nca.models.tasks.task import TaskNCAModel, check_classes, check_weights

__all__ = ["BinarySegmentationNCAModel", "SegmentationNCAModel"]


def _binary(pred: Tensor, label: Tensor) -> Tensor:
    """Convert a (B, *spatial) or (B, 1, *spatial) label with values from 0 to 1 to (B, 1, *spatial)."""
    label = with_channel(label, pred)
    mask_values(label)
    return label


def _dice(pred: Tensor, label: Tensor) -> Tensor:
    return dice_score(pred, _binary(pred, label))


_dice.direction = "highest"  # type: ignore[attr-defined]


class BinarySegmentationNCAModel(TaskNCAModel):
    """Automaton for binary segmentation.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters.
    num_image_channels, num_hidden_channels, fire_rate, hidden_size, num_learned_filters, pad_noise, filter_padding
        See :class:`BasicNCAModel`.
    lambda_hidden, lambda_bce, lambda_dice : float
        Weights in the loss of the mean absolute value of the hidden channels, the binary cross entropy and the soft
        Dice loss.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`. The task sets one output channel, the logit of the foreground.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If an argument is invalid, unknown, or set by the task itself.

    Notes
    -----
    The label is a (B, *spatial) or (B, 1, *spatial) mask, 1 in the foreground. ``dice`` is the Dice score of each mask,
    averaged over samples.

    Examples
    --------
    >>> model = BinarySegmentationNCAModel(num_image_channels=1, inference_timesteps=4)
    >>> prediction = model.predict(torch.zeros(2, 1, 8, 8))
    >>> model.mask(prediction).shape, model.metrics(prediction, torch.zeros(2, 8, 8))
    (torch.Size([2, 1, 8, 8]), {'dice': 1.0})
    """

    lambda_bce: float
    lambda_dice: float
    loss_names = ("total", "dice_loss", "bce", "hidden")
    task_metrics: ClassVar = {"dice": _dice}
    default_metric = "dice"
    decides = ("num_output_channels",)

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_image_channels: int = 3,
        num_hidden_channels: int = 16,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        num_learned_filters: int = 2,
        pad_noise: bool = False,
        filter_padding: str = "circular",
        lambda_hidden: float = 1e-3,
        lambda_bce: float = 0.5,
        lambda_dice: float = 0.5,
        **kwargs: Any,
    ) -> None:
        check_weights(lambda_hidden=lambda_hidden, lambda_bce=lambda_bce, lambda_dice=lambda_dice)
        self._set_up(locals(), num_output_channels=1)

    @staticmethod
    def mask(prediction: Prediction) -> Tensor:
        """Return the mask of the foreground, (B, 1, *spatial) bool."""
        return prediction.pred > 0

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Weighted soft Dice loss and binary cross entropy.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is not that of the prediction, or a value is outside of [0, 1].
        """
        logits = prediction.pred.float()
        target = with_channel(label, logits)
        terms = {
            "dice_loss": (self.lambda_dice, soft_dice(logits, target)),
            "bce": (self.lambda_bce, F.binary_cross_entropy_with_logits(logits, target.float())),
        }
        return self._sum(prediction, terms)


class SegmentationNCAModel(TaskNCAModel):
    """Automaton for segmentation into classes.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters.
    num_image_channels, num_hidden_channels : int
        See :class:`BasicNCAModel`.
    num_classes : int
        Number of classes, with the background as class 0. It is the number of output channels, the logits.
    fire_rate, hidden_size, num_learned_filters, pad_noise, filter_padding
        See :class:`BasicNCAModel`.
    lambda_hidden, lambda_ce, lambda_dice : float
        Weights in the loss of the mean absolute value of the hidden channels, the cross entropy and the soft Dice loss
        over all classes.
    class_names : list of str or None
        Names of the classes. The model only stores them.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If an argument is invalid, unknown, or set by the task itself.

    Notes
    -----
    The label has the shape (B, *spatial) or (B, 1, *spatial) and contains integers from 0 to ``num_classes - 1``.
    ``dice`` is the Dice score averaged over samples and all classes but the background.

    Examples
    --------
    >>> model = SegmentationNCAModel(num_image_channels=1, num_classes=3, inference_timesteps=4)
    >>> model.mask(model.predict(torch.zeros(2, 1, 8, 8))).shape
    torch.Size([2, 8, 8])
    """

    lambda_ce: float
    lambda_dice: float
    loss_names = ("total", "dice_loss", "ce", "hidden")
    task_metrics: ClassVar = {"dice": multiclass_dice_score}
    default_metric = "dice"
    decides = ("num_output_channels",)

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_image_channels: int = 3,
        num_hidden_channels: int = 16,
        num_classes: int = 0,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        num_learned_filters: int = 2,
        pad_noise: bool = False,
        filter_padding: str = "circular",
        lambda_hidden: float = 1e-3,
        lambda_ce: float = 0.5,
        lambda_dice: float = 0.5,
        class_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        check_classes(num_classes, class_names)
        check_weights(lambda_hidden=lambda_hidden, lambda_ce=lambda_ce, lambda_dice=lambda_dice)
        self._set_up(locals(), num_output_channels=num_classes)

    @staticmethod
    def mask(prediction: Prediction) -> Tensor:
        """Return the class of each cell, (B, *spatial) int64."""
        return prediction.pred.argmax(1)

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Weighted soft Dice loss and cross entropy.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is wrong, or it contains values outside of 0 to ``num_classes - 1``.
        """
        logits = prediction.pred.float()
        label = class_labels(logits, label)
        terms = {
            "dice_loss": (self.lambda_dice, multiclass_dice(logits, label)),
            "ce": (self.lambda_ce, F.cross_entropy(logits, label)),
        }
        return self._sum(prediction, terms)
