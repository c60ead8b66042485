"""The task of classification: one class for each picture, told by a head or by the mean of the cells."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from delira_nca.checks import require_number
from delira_nca.losses import accuracy, macro_accuracy, multiclass_focal
from delira_nca.models.prediction import Prediction
from delira_nca.models.tasks.head import ClassificationNCAHead
from delira_nca.models.tasks.task import TaskNCAModel, check_classes, check_weights

__all__ = ["ClassificationNCAModel"]


class ClassificationNCAModel(TaskNCAModel):
    """Automaton that tells the class of a picture.

    Parameters
    ----------
    device : torch.device, str or None
        Where the parameters are made.
    num_image_channels, num_hidden_channels : int
        Of :class:`BasicNCAModel`.
    num_classes : int
        Of the labels.
    fire_rate, hidden_size, use_alive_mask, num_learned_filters, filter_padding : float, int, bool, str
        Of :class:`BasicNCAModel`.
    use_laplace, kernel_size, pad_noise, use_temporal_encoding : bool, int
        Of :class:`BasicNCAModel`.
    use_classifier : bool
        Whether a :class:`ClassificationNCAHead` reads the hidden channels. Otherwise there are ``num_classes`` output
        channels, the logits of each cell, of which the mean over all cells is taken.
    class_names : list of str or None
        One for each class, kept for the user.
    avg_pool_size : int
        Parts along each axis that the head looks at.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    gamma : float
        Of the focal loss; 0 is the cross entropy.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`; a ``head`` of one's own takes the place of the usual one.

    Raises
    ------
    ConfigError, UnknownKeywordError
        For arguments that cannot work, that the task decides, or that nobody takes.

    Notes
    -----
    The label is (B,) or (B, 1) with whole numbers from 0 to ``num_classes - 1``; the prediction (B, K) logits.

    Examples
    --------
    >>> model = ClassificationNCAModel(num_image_channels=1, num_hidden_channels=12, num_classes=10)
    >>> model.classify(torch.zeros(2, 1, 8, 8), steps=4).shape
    torch.Size([2, 10])
    """

    gamma: float
    loss_names = ("total", "classification", "hidden")
    task_metrics: ClassVar = {"accuracy_micro": accuracy, "accuracy_macro": macro_accuracy}
    default_metric = "accuracy_micro"
    decides = ("num_output_channels",)

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_image_channels: int = 3,
        num_hidden_channels: int = 16,
        num_classes: int = 0,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        use_alive_mask: bool = False,
        num_learned_filters: int = 2,
        filter_padding: str = "reflect",
        use_laplace: bool = False,
        kernel_size: int = 3,
        pad_noise: bool = False,
        use_temporal_encoding: bool = False,
        use_classifier: bool = True,
        class_names: list[str] | None = None,
        avg_pool_size: int = 8,
        lambda_hidden: float = 0.0,
        *,
        gamma: float = 2.0,
        **kwargs: Any,
    ) -> None:
        check_classes(num_classes, class_names)
        check_weights(classification=1.0, lambda_hidden=lambda_hidden)
        require_number("gamma", gamma, 0)
        if not use_classifier and kwargs.get("head") is not None:
            self._task(kwargs, head=None)  # an error that names it
        if use_classifier and kwargs.get("head") is None:
            kwargs["head"] = ClassificationNCAHead(
                num_hidden_channels, num_classes, device, avg_pool_size, dims=kwargs.get("dims", 2)
            )
        self._set_up(locals(), num_output_channels=0 if use_classifier else num_classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain description of the model; its own head follows from the arguments."""
        config = super().to_dict()
        if self.head is None or type(self.head) is ClassificationNCAHead:
            del config["head"]
        return config

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        prediction = super()._prediction(steps, state)
        if self.head is None:
            prediction.head_prediction = prediction.output_channels.flatten(2).mean(2)
        return prediction

    def classify(self, image: Tensor, steps: int | None = None, reduce: bool = False, *, seed: int = 0) -> Tensor:
        """Classes of pictures.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, *spatial).
        steps : int or None
            Of the roll-out; ``inference_timesteps`` by default.
        reduce : bool
            Whether to tell only which class it is.
        seed : int
            Of everything random.

        Returns
        -------
        (B, num_classes) probabilities, or (B,) int64 numbers of classes
        """
        logits = self.predict(image, steps, seed=seed).pred
        return logits.argmax(1) if reduce else logits.softmax(1)

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Focal loss of the logits, and the mean absolute value of the hidden channels.

        Raises
        ------
        ShapeError, ConfigError
            If the label does not fit, or holds other numbers than those of classes.
        """
        focal = multiclass_focal(prediction.pred, label, gamma=self.gamma)
        return self._sum(prediction, {"classification": (1.0, focal)})
