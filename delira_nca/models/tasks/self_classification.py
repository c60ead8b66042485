"""Model for self-classification: every cell predicts the class of the image, and the living cells vote."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.errors import require_choice
from delira_nca.losses import accuracy, agreement, cell_cross_entropy, macro_accuracy, one_hot_l2
from delira_nca.models.prediction import Prediction
from delira_nca.models.tasks.task import TaskNCAModel, check_classes, check_weights

__all__ = ["SelfClassificationNCAModel"]


def _agreement(votes: Tensor, label: Tensor) -> Tensor:
    return agreement(votes)


_agreement.direction = "highest"  # type: ignore[attr-defined]


class SelfClassificationNCAModel(TaskNCAModel):
    """Automaton in which each cell predicts the class of the image.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters.
    num_hidden_channels : int
        See :class:`BasicNCAModel`.
    num_classes : int
        Number of classes, which is the number of output channels, the logits of each cell.
    fire_rate, hidden_size, num_learned_filters, filter_padding
        See :class:`BasicNCAModel`.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    num_image_channels : int
        Number of image channels; 1 for grey images. Of several, the maximum decides whether a cell lives.
    living_above : float
        Threshold of the image. Cells above it are alive: only they are trained and vote.
    cell_loss : str
        ``"cross_entropy"``, or ``"l2"``, the distance to the one-hot vector, which keeps the agreement of the cells for
        longer.
    class_names : list of str or None
        Names of the classes. The model only stores them.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`.

    Raises
    ------
    ConfigError, UnknownNameError, UnknownKeywordError
        If an argument is invalid, unknown, or set by the task itself.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits". The label contains integers from 0 to ``num_classes - 1``,
    one per image, (B,) or (B, 1), or one per cell, (B, *spatial) or (B, 1, *spatial). The prediction is (B, K), the
    fraction of the living cells that vote for each class. It is not differentiable; use ``"output"``, the logits of the
    cells, as the argument of criterions. Metrics need one class per image.

    Examples
    --------
    >>> model = SelfClassificationNCAModel(num_classes=10)
    >>> digits = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> model.classify(digits, steps=4, reduce=True)  # nothing is learned: all logits are 0
    tensor([0, 0])
    """

    living_above: float
    cell_loss: str
    loss_names = ("total", "classification", "hidden")
    task_metrics: ClassVar = {"accuracy_micro": accuracy, "accuracy_macro": macro_accuracy, "agreement": _agreement}
    default_metric = "accuracy_micro"
    decides = ("num_output_channels", "immutable_image_channels")

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_hidden_channels: int = 16,
        num_classes: int = 0,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        num_learned_filters: int = 2,
        filter_padding: str = "reflect",
        lambda_hidden: float = 0.0,
        *,
        num_image_channels: int = 1,
        living_above: float = 0.1,
        cell_loss: str = "cross_entropy",
        class_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        check_classes(num_classes, class_names)
        check_weights(classification=1.0, lambda_hidden=lambda_hidden)
        require_choice("loss of cells", cell_loss, ("cross_entropy", "l2"))
        self._set_up(locals(), num_output_channels=num_classes, immutable_image_channels=True)

    def living(self, image: Tensor) -> Tensor:
        """Map a (B, num_image_channels, *spatial) image to the (B, 1, *spatial) bool mask of living cells."""
        return image.amax(1, keepdim=True) > self.living_above

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        prediction = super()._prediction(steps, state)
        if self.head is None:
            prediction.head_prediction = self._votes(prediction)
        return prediction

    @torch.no_grad()
    def _votes(self, prediction: Prediction) -> Tensor:
        """Fraction of the living cells that vote for each class, (B, K); 0 for samples without living cells."""
        said = F.one_hot(prediction.output_channels.argmax(1).flatten(1), self.num_output_channels)
        living = self.living(prediction.image_channels).flatten(1)
        return (said * living[..., None]).sum(1) / living.sum(1, keepdim=True).clamp(min=1)

    def classify(self, image: Tensor, steps: int | None = None, reduce: bool = False, *, seed: int = 0) -> Tensor:
        """Classify images by the vote of their living cells.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, *spatial) images.
        steps : int or None
            Number of steps; ``inference_timesteps`` by default.
        reduce : bool
            Whether to return only the class with most votes, the first in case of a tie.
        seed : int
            Seed of all random numbers.

        Returns
        -------
        (B, num_classes) fractions of the votes, or (B,) int64 classes, -1 for samples without living cells
        """
        votes = self.predict(image, steps, seed=seed).pred
        return votes.argmax(1).where(votes.sum(1) > 0, -1) if reduce else votes

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Loss of the living cells, and the mean absolute value of the hidden channels.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is wrong, or it contains values outside of 0 to ``num_classes - 1``.
        """
        logits, living = prediction.output_channels, self.living(prediction.image_channels)
        if self.cell_loss == "l2":
            loss = one_hot_l2(logits, label, living, reduction="mean")
        else:
            loss = cell_cross_entropy(logits, label, living)
        return self._sum(prediction, {"classification": (1.0, loss)})
