"""Model for the classification of images, by a head or by the mean over the cells."""

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
    """Automaton that classifies images.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters.
    num_image_channels, num_hidden_channels : int
        See :class:`BasicNCAModel`.
    num_classes : int
        Number of classes.
    fire_rate, hidden_size, use_alive_mask, num_learned_filters, filter_padding
        See :class:`BasicNCAModel`.
    use_laplace, kernel_size, pad_noise, use_temporal_encoding
        See :class:`BasicNCAModel`.
    use_classifier : bool
        Whether a :class:`ClassificationNCAHead` computes the logits from the hidden channels. Otherwise the logits are
        the mean of ``num_classes`` output channels over all cells.
    class_names : list of str or None
        Names of the classes. The model only stores them.
    avg_pool_size : int
        Size of the output of the head's average pooling along each axis.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    gamma : float
        Exponent of the focal loss; 0 gives the cross entropy.
    **kwargs : object
        Other arguments of :class:`BasicNCAModel`; a custom ``head`` replaces the default one.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If an argument is invalid, unknown, or set by the task itself.

    Notes
    -----
    The label has the shape (B,) or (B, 1) and contains integers from 0 to ``num_classes - 1``. The prediction contains
    (B, K) logits.

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
            self._task(kwargs, head=None)  # raises an error that names it
        if use_classifier and kwargs.get("head") is None:
            kwargs["head"] = ClassificationNCAHead(
                num_hidden_channels, num_classes, device, avg_pool_size, dims=kwargs.get("dims", 2)
            )
        self._set_up(locals(), num_output_channels=0 if use_classifier else num_classes)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description of the model. The default head is described by the arguments."""
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
        """Classify images.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, *spatial) images.
        steps : int or None
            Number of steps; ``inference_timesteps`` by default.
        reduce : bool
            Whether to return only the number of the most probable class.
        seed : int
            Seed of all random numbers.

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
            If the shape of the label is wrong, or it contains values outside of 0 to ``num_classes - 1``.
        """
        focal = multiclass_focal(prediction.pred, label, gamma=self.gamma)
        return self._sum(prediction, {"classification": (1.0, focal)})
