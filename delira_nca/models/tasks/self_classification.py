"""The task in which every cell tells the class of the whole picture, and the living ones vote."""

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
    """Automaton whose cells each tell the class of the picture that they are part of.

    Parameters
    ----------
    device : torch.device, str or None
        Where the parameters are made.
    num_hidden_channels : int
        Of :class:`BasicNCAModel`.
    num_classes : int
        Of the labels; so many output channels are the logits of each cell.
    fire_rate, hidden_size, num_learned_filters, filter_padding : float, int, str
        Of :class:`BasicNCAModel`.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    num_image_channels : int
        One, for grey; of several the largest says whether a cell lives.
    living_above : float
        The cells whose image is above it are the picture: they are trained, and vote.
    cell_loss : str
        ``"cross_entropy"``, or ``"l2"`` to the one-hot vector, which keeps the cells agreed for longer.
    class_names : list of str or None
        One for each class, kept for the user.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`.

    Raises
    ------
    ConfigError, UnknownNameError, UnknownKeywordError
        For arguments that cannot work, that the task decides, or that nobody takes.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits". The label is (B,) or (B, 1) with whole numbers from 0 to
    ``num_classes - 1``, or one number for each cell: (B, *spatial) or (B, 1, *spatial). The prediction is (B, K), the
    share of the living cells that says each class; it has no gradient: criterions are to be wired to ``"output"``, the
    logits of the cells. Metrics want one class for each picture.

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
        """(B, num_image_channels, *spatial) to (B, 1, *spatial) bool: which cells are part of the picture."""
        return image.amax(1, keepdim=True) > self.living_above

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        prediction = super()._prediction(steps, state)
        if self.head is None:
            prediction.head_prediction = self._votes(prediction)
        return prediction

    @torch.no_grad()
    def _votes(self, prediction: Prediction) -> Tensor:
        """(B, K) share of the living cells that says each class; all 0 where no cell lives."""
        said = F.one_hot(prediction.output_channels.argmax(1).flatten(1), self.num_output_channels)
        living = self.living(prediction.image_channels).flatten(1)
        return (said * living[..., None]).sum(1) / living.sum(1, keepdim=True).clamp(min=1)

    def classify(self, image: Tensor, steps: int | None = None, reduce: bool = False, *, seed: int = 0) -> Tensor:
        """Classes of pictures, by the vote of their living cells.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, *spatial).
        steps : int or None
            Of the roll-out; ``inference_timesteps`` by default.
        reduce : bool
            Whether to tell only which class has most votes; of several, the first.
        seed : int
            Of everything random.

        Returns
        -------
        (B, num_classes) shares of the votes, or (B,) int64 numbers of classes, -1 where no cell lives
        """
        votes = self.predict(image, steps, seed=seed).pred
        return votes.argmax(1).where(votes.sum(1) > 0, -1) if reduce else votes

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Loss of the living cells, and the mean absolute value of the hidden channels.

        Raises
        ------
        ShapeError, ConfigError
            If the label does not fit, or holds other numbers than those of classes.
        """
        logits, living = prediction.output_channels, self.living(prediction.image_channels)
        if self.cell_loss == "l2":
            loss = one_hot_l2(logits, label, living, reduction="mean")
        else:
            loss = cell_cross_entropy(logits, label, living)
        return self._sum(prediction, {"classification": (1.0, loss)})
