"""NCALab's models of tasks, with its loss terms and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError
from delira_nca.losses import accuracy, hidden_penalty, mse
from delira_nca.losses.checks import class_labels, mask_values, with_channel
from delira_nca.losses.metric import MacroAccuracy, MacroAUROC, MacroF1
from delira_nca.models.tasks.depth import similarity
from delira_nca.models.tasks.segmentation import BinarySegmentationNCAModel as OurSegmentation
from delira_nca.models.tasks.task import Metrics, check_classes
from delira_nca.ncalab.figures import (
    VisualBinaryImageClassification,
    VisualBinaryImageSegmentation,
    VisualDepthEstimation,
    VisualGrowing,
    VisualRGBImageClassification,
)
from delira_nca.ncalab.losses import DiceLoss, FocalLoss, SmoothnessLoss
from delira_nca.ncalab.model import AbstractNCAModel
from delira_nca.ncalab.parts import ClassificationNCAHead
from delira_nca.ncalab.prediction import Prediction

__all__ = [
    "BinarySegmentationNCAModel",
    "ClassificationNCAModel",
    "DepthNCAModel",
    "GrowingNCAModel",
    "SelfClassificationNCAModel",
]

Device = torch.device | str | None


class _TaskModel(AbstractNCAModel):
    """Model of a task, which sets some arguments of the automaton itself."""

    lambda_hidden: float = 0.0
    decides: tuple[str, ...] = ()
    """Arguments of :class:`AbstractNCAModel` that the task sets."""

    def _set_up(self, given: Mapping[str, Any], own: Sequence[str] = (), **decided: Any) -> None:
        """Initialise the automaton from the ``locals()`` of a constructor and the arguments that the task sets.

        ``own`` names arguments that become attributes. The caller may repeat what is decided, and give another plot
        function or metric.
        """
        further = dict(given["kwargs"])
        chosen = {name: further.pop(name) for name in ("plot_function", "validation_metric") if name in further}
        decided |= chosen
        for name, value in decided.items():
            if further.pop(name, value) != value:
                raise ConfigError(f"{type(self).__name__} sets {name} itself, to {value!r}: leave it out")
        skipped = {"self", "kwargs", "__class__"}
        arguments = {name: value for name, value in given.items() if name not in skipped}
        for name in own:
            if name.startswith("lambda_"):
                require_number(name, arguments[name], 0)
        inherited = {name: value for name, value in arguments.items() if name not in own}
        super().__init__(**inherited, **further, **decided)
        self._init_kwargs = {**arguments, **further, **chosen}
        for name in own:
            setattr(self, name, arguments[name])

    def _sum(self, pred: Prediction, **weighted: tuple[float, Tensor]) -> dict[str, Tensor]:
        """Return the losses with ``total``, their weighted sum, and the mean absolute value of the hidden channels."""
        terms = {**weighted, "hidden": (self.lambda_hidden, hidden_penalty(pred.hidden_channels))}
        total = torch.stack([weight * value for weight, value in terms.values() if weight]).sum()
        return {"total": total, **{name: value for name, (_, value) in terms.items()}}


class GrowingNCAModel(_TaskModel):
    """Automaton that grows an RGBA image from a seed, with four mutable image channels.

    Parameters
    ----------
    device, num_hidden_channels, fire_rate, hidden_size, use_alive_mask
        See :class:`BasicNCAModel`.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    **kwargs : object
        Other arguments of :class:`AbstractNCAModel`.

    Examples
    --------
    >>> model = GrowingNCAModel("cpu", num_hidden_channels=12, use_alive_mask=True)
    >>> frames = model.grow(model.make_seed(16, 16), steps=3)
    >>> len(frames), frames[0].shape
    (3, (4, 16, 16))
    """

    loss_names = ("total", "growing", "hidden")
    decides = ("num_image_channels", "num_output_channels", "immutable_image_channels", "pad_noise")

    def __init__(
        self,
        device: Device,
        num_hidden_channels: int = 16,
        fire_rate: float = 0.5,
        hidden_size: int = 128,
        use_alive_mask: bool = False,
        lambda_hidden: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self._set_up(
            locals(),
            ("lambda_hidden",),
            num_image_channels=4,
            num_output_channels=0,
            immutable_image_channels=False,
            pad_noise=False,
            plot_function=VisualGrowing(),
        )

    def loss(self, pred: Prediction, label: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Mean squared error of the image.

        Raises
        ------
        ShapeError
            If the shape of the label is not that of the image.
        """
        return self._sum(pred, growing=(1.0, mse(pred.image_channels, label)))

    def make_seed(self, width: int, height: int) -> Tensor:
        """Make a (1, C, width, height) state with one living cell in the middle; its alpha and hidden channels are 1.

        Parameters
        ----------
        width, height : int
            Sizes of the third and the fourth axis.
        """
        seed = torch.zeros(1, self.num_channels, width, height, device=self.device)
        seed[:, self.num_image_channels - 1 :, width // 2, height // 2] = 1.0
        return seed

    def grow(self, seed: Tensor, steps: int = 100) -> list[npt.NDArray[np.float32]]:
        """Return the (4, W, H) image after each step, with values in [0, 1].

        Parameters
        ----------
        seed : Tensor
            (1, C, W, H) state, such as that of :meth:`make_seed`.
        steps : int
            Number of steps.
        """
        return [frame.image_channels_np.squeeze(0).clip(0, 1) for frame in self.record(seed, steps)]


class BinarySegmentationNCAModel(_TaskModel):
    """Automaton for binary segmentation. Its predictions have a ``mask``, (B, 1, H, W) bool.

    Parameters
    ----------
    device, num_image_channels, num_hidden_channels, fire_rate, hidden_size
        See :class:`BasicNCAModel`.
    num_learned_filters, pad_noise, filter_padding
        See :class:`BasicNCAModel`.
    lambda_hidden, lambda_bce, lambda_dice : float
        Weights in the loss of the mean absolute value of the hidden channels, the binary cross entropy and the Dice
        loss over the whole batch.
    **kwargs : object
        Other arguments of :class:`AbstractNCAModel`.

    Notes
    -----
    The metric ``dice`` is the Dice score of each mask, averaged over the samples. NCALab's is a mean over image rows.
    """

    loss_names = ("total", "dice", "bce", "hidden")
    decides = ("num_output_channels", "use_alive_mask", "immutable_image_channels")
    lambda_bce: float
    lambda_dice: float

    def __init__(
        self,
        device: Device,
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
        self._set_up(
            locals(),
            ("lambda_hidden", "lambda_bce", "lambda_dice"),
            num_output_channels=1,
            validation_metric="dice",
            use_alive_mask=False,
            immutable_image_channels=True,
            plot_function=VisualBinaryImageSegmentation(),
        )
        self.metrics = Metrics(OurSegmentation.task_metrics)

    def loss(self, pred: Prediction, label: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Weighted Dice loss and binary cross entropy of a (B, H, W) or (B, 1, H, W) mask.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is not that of the prediction, or a value is outside of [0, 1].
        """
        target = with_channel(label, pred.logits)
        mask_values(target)
        return self._sum(
            pred,
            dice=(self.lambda_dice, DiceLoss()(pred.logits, target)),
            bce=(self.lambda_bce, F.binary_cross_entropy_with_logits(pred.logits, target.to(pred.logits.dtype))),
        )

    def post_prediction(self, prediction: Prediction) -> Prediction:
        """Add the mask, the cells with a probability above 0.5."""
        prediction.mask = prediction.logits.sigmoid() > 0.5
        return prediction


class _Classifier(_TaskModel):
    """Model with one class per image."""

    num_classes: int
    class_names: list[str]

    def _set_up_classes(self, given: Mapping[str, Any], own: Sequence[str], **decided: Any) -> None:
        names, number = given["class_names"], given["num_classes"]
        check_classes(number, names)
        own = ("num_classes", "class_names", "lambda_hidden", *own)
        self._set_up(given, own, validation_metric="f1", immutable_image_channels=True, **decided)
        self.class_names = [str(k) for k in range(number)] if names is None else list(names)
        self.metrics = Metrics(
            accuracy_macro=MacroAccuracy(), accuracy_micro=accuracy, auroc=MacroAUROC(), f1=MacroF1()
        )


class ClassificationNCAModel(_Classifier):
    """Automaton that classifies images, by a head or by the mean of its output channels.

    Parameters
    ----------
    device, num_image_channels, num_hidden_channels
        See :class:`BasicNCAModel`.
    num_classes : int
        Number of classes.
    fire_rate, hidden_size, use_alive_mask, num_learned_filters, filter_padding
        See :class:`BasicNCAModel`.
    use_laplace, kernel_size, pad_noise, use_temporal_encoding
        See :class:`BasicNCAModel`.
    use_classifier : bool
        Whether a :class:`ClassificationNCAHead` computes the logits from the hidden channels; otherwise they are the
        mean of ``num_classes`` output channels.
    class_names : list of str or None
        Names of the classes, for figures.
    avg_pool_size : int
        Size of the output of the head's average pooling along each axis.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    **kwargs : object
        Other arguments of :class:`AbstractNCAModel`.
    """

    decides = ("num_output_channels", "immutable_image_channels")
    use_classifier: bool
    loss_names = ("total", "classification", "hidden")

    def __init__(
        self,
        device: Device,
        num_image_channels: int,
        num_hidden_channels: int,
        num_classes: int,
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
        class_names: Sequence[str] | None = None,
        avg_pool_size: int = 8,
        lambda_hidden: float = 0,
        **kwargs: Any,
    ) -> None:
        self._set_up_classes(
            locals(),
            ("use_classifier", "avg_pool_size"),
            num_output_channels=0 if use_classifier else num_classes,
            plot_function=VisualRGBImageClassification()
            if num_image_channels > 1
            else VisualBinaryImageClassification(),
        )
        if use_classifier:
            self.head = ClassificationNCAHead(num_hidden_channels, num_classes, device, avg_pool_size)

    def classify(self, image: Tensor, steps: int | tuple[int, int] = 100, reduce: bool = False) -> Tensor:
        """Classify images.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, H, W) images. Without a head, the output channels of a grey image are multiplied by
            it before the softmax of each cell.
        steps : int or (int, int)
            Number of steps.
        reduce : bool
            Whether to return only the number of the most probable class.

        Returns
        -------
        (B, num_classes) probabilities, or (B,) int64 numbers of classes
        """
        prediction = self.predict(image, steps)
        if prediction.head_prediction is not None:
            probability = prediction.head_prediction.softmax(1)
        else:
            cells = prediction.output_channels
            if self.num_image_channels == 1:
                cells = cells * image[:, :1].to(cells)
            probability = cells.softmax(1).mean((2, 3))
        return probability.argmax(1) if reduce else probability

    def loss(self, pred: Prediction, label: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Focal loss of (B,) or (B, 1) labels.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is wrong, or it contains values outside of 0 to ``num_classes - 1``.
        """
        return self._sum(pred, classification=(1.0, FocalLoss()(pred.logits, class_labels(pred.logits, label))))

    def post_prediction(self, prediction: Prediction) -> Prediction:
        """Average the logits of the cells of a model without a head."""
        if prediction.head_prediction is None:
            prediction.logits = prediction.output_channels.mean((2, 3))
        return prediction


class SelfClassificationNCAModel(_Classifier):
    """Automaton in which each cell of a grey image predicts its class.

    Parameters
    ----------
    device, num_hidden_channels
        See :class:`BasicNCAModel`.
    num_classes : int
        Number of classes and of output channels.
    fire_rate, hidden_size, num_learned_filters, filter_padding
        See :class:`BasicNCAModel`.
    use_laplace, kernel_size, pad_noise, use_temporal_encoding
        See :class:`BasicNCAModel`.
    class_names : list of str or None
        Names of the classes, for figures.
    lambda_hidden : float
        Weight of the mean absolute value of the hidden channels in the loss.
    **kwargs : object
        Other arguments of :class:`AbstractNCAModel`.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits". Cells where the image exceeds 0.1 are trained; the logits
    of an image are their mean.
    """

    decides = ("num_image_channels", "num_output_channels", "use_alive_mask", "immutable_image_channels")
    loss_names = ("total", "classification", "hidden")

    def __init__(
        self,
        device: Device,
        num_hidden_channels: int,
        num_classes: int,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        num_learned_filters: int = 2,
        filter_padding: str = "reflect",
        use_laplace: bool = False,
        kernel_size: int = 3,
        pad_noise: bool = False,
        use_temporal_encoding: bool = False,
        class_names: Sequence[str] | None = None,
        lambda_hidden: float = 0,
        **kwargs: Any,
    ) -> None:
        self._set_up_classes(
            locals(),
            (),
            num_image_channels=1,
            num_output_channels=num_classes,
            use_alive_mask=False,
            plot_function=VisualBinaryImageClassification(),
        )

    def loss(self, pred: Prediction, label: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Cross entropy of the cells of the digit, over the whole batch.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is wrong, or it contains values outside of 0 to ``num_classes - 1``.
        """
        cells = pred.output_channels
        classes = class_labels(pred.logits, label)[:, None, None].expand(len(cells), *cells.shape[2:])
        error, counts = F.cross_entropy(cells, classes, reduction="none"), self._digit(pred)[:, 0]
        return self._sum(pred, classification=(1.0, (error * counts).sum() / (counts.sum() + 1e-8)))

    def _digit(self, pred: Prediction) -> Tensor:
        return pred.image_channels[:, :1] > 0.1

    def post_prediction(self, prediction: Prediction) -> Prediction:
        """Average the logits of the cells of the digit."""
        counts = self._digit(prediction).to(prediction.output_image.dtype)
        prediction.logits = (prediction.output_channels * counts).sum((2, 3)) / (counts.sum((2, 3)) + 1e-8)
        return prediction


class DepthNCAModel(_TaskModel):
    """Automaton that predicts the depth of each cell.

    Parameters
    ----------
    device, num_image_channels, num_hidden_channels, fire_rate, hidden_size, num_learned_filters, pad_noise
        See :class:`BasicNCAModel`.
    **kwargs : object
        Other arguments of :class:`AbstractNCAModel`.

    Notes
    -----
    The metric ``ssim``, which selects the best epoch, is the structural similarity with windows of 11 cells, or of the
    largest odd number that fits. NCALab has no metric here, and selects no epoch.
    """

    loss_names = ("total", "tv", "depth", "ssim")
    has_logits = False
    decides = ("num_output_channels", "use_alive_mask", "immutable_image_channels", "kernel_size")

    def __init__(
        self,
        device: Device,
        num_image_channels: int = 3,
        num_hidden_channels: int = 18,
        fire_rate: float = 0.8,
        hidden_size: int = 128,
        num_learned_filters: int = 2,
        pad_noise: bool = False,
        **kwargs: Any,
    ) -> None:
        self._set_up(
            locals(),
            num_output_channels=1,
            validation_metric="ssim",
            use_alive_mask=False,
            immutable_image_channels=True,
            kernel_size=3,
            plot_function=VisualDepthEstimation(),
        )
        self.metrics = Metrics(ssim=similarity)

    def loss(self, pred: Prediction, label: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Weighted errors of gradients, depths without their medians, and structure, of a (B, H, W) label.

        Raises
        ------
        ShapeError, ConfigError
            If the shape of the label is not that of the prediction, or its values are not floats.
        """
        depth = pred.output_channels
        if not label.is_floating_point():
            raise ConfigError(f"a label of depth has floats, not {label.dtype}")
        label = with_channel(label, depth)
        tv, ssim = SmoothnessLoss()(depth, label), 1 - similarity(depth, label)
        error = F.mse_loss(depth - _median(depth), label - _median(label))
        return {"total": 0.5 * tv + error + 0.2 * ssim, "tv": tv, "depth": error, "ssim": ssim}


def _median(depth: Tensor) -> Tensor:
    """Median over the columns of the medians of each column, (B, 1, 1, 1)."""
    return depth.median(2).values.median(2).values[..., None, None]
