"""Callback that draws fixed cases with their labels and predictions."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from delira_nca.checks import require_type, require_whole
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.evaluation.runs import Activation, evaluating, is_of_logits, predicted, probabilities
from delira_nca.io.paths import absolute
from delira_nca.logging import MetricSink
from delira_nca.models import BasicNCAModel, Prediction
from delira_nca.seeding import isolated_rng
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.optimization import validated_network
from delira_nca.visualization.colour import to_rgb
from delira_nca.visualization.film import save_film
from delira_nca.visualization.tiles import Tile, lay_out

__all__ = ["CasePreview"]

_LOGGER = logging.getLogger("delira_nca")
Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
_CLASSES = np.array(
    [(0, 0, 0), (230, 97, 1), (94, 160, 214), (0, 158, 115), (240, 228, 66), (204, 121, 167), (160, 160, 160)]
)
"""Colours of the first classes; further ones repeat all but the first, which is that of the background."""


class CasePreview(AbstractCallback):
    """Draw fixed cases with their labels and predictions during the training.

    The image has a row for each case, and for each slice of a volume. It is recorded before the first epoch, after
    every ``every`` epochs, and by the command ``preview`` of a `Console`. The predictions are those of the network that
    is validated, with a fixed seed; the random generators of the training are not used. An error of a later preview is
    logged, and the training continues.

    Parameters
    ----------
    cases : mapping of str to array
        Batch with the images or volumes (B, channels, *spatial) in ``"data"``, and optionally their labels.
    sinks : MetricSink or sequence of MetricSink
        Recorders of the image, such as `TensorboardXSink`, or `JSONLSink`, which writes a PNG file.
    every : int
        Number of epochs between two images.
    name : str
        Name of the images.
    label_key : str
        Name of the labels: images, masks of classes (B, *spatial) or (B, 1, *spatial), or one number per case.
    activation : str or callable
        Function that maps scores to probabilities, or ``"sigmoid"``, ``"softmax"``, ``"none"`` or ``"auto"``: the
        sigmoid for one channel and the softmax for several, and none for images and depths.
    num_slices : int
        Number of slices of a volume along its last axis, evenly spaced around the middle.
    seed : int
        Seed of the predictions.
    film : str or path-like, optional
        Folder of films ``<name>_<epoch>.gif`` of the predictions over the steps. The network must be a `BasicNCAModel`.

    Raises
    ------
    ConfigError, ShapeError, UnknownNameError
        If an argument is invalid; from the training, before the first epoch, if the cases do not fit the network.

    Examples
    --------
    >>> from delira_nca.logging import JSONLSink
    >>> from delira_nca.training import PyTorchNetworkTrainer
    >>> folder = getfixture("tmp_path")
    >>> network = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1)
    >>> batch = {"data": torch.rand(2, 1, 8, 8), "label": torch.ones(2, 1, 8, 8)}
    >>> preview = CasePreview(batch, JSONLSink(folder / "preview.jsonl"))
    >>> trainer = PyTorchNetworkTrainer(network, None, callbacks=[preview])
    >>> _ = trainer.train(2, [batch])
    >>> sorted(path.name for path in folder.rglob("*.png"))
    ['00000000.png', '00000001.png', '00000002.png']
    """

    rolls_back = False
    runs_everywhere = False

    def __init__(
        self,
        cases: Mapping[str, Any],
        sinks: MetricSink | Sequence[MetricSink],
        *,
        every: int = 1,
        name: str = "preview",
        label_key: str = "label",
        activation: Activation = "auto",
        num_slices: int = 3,
        seed: int = 0,
        film: str | os.PathLike[str] | None = None,
    ) -> None:
        require_type("cases", cases, Mapping)
        self.cases = {key: torch.as_tensor(values) for key, values in cases.items()}
        require_choice("entry of the cases", "data", self.cases)
        if self.cases["data"].dim() not in (4, 5) or not len(self.cases["data"]):
            shape = tuple(self.cases["data"].shape)
            raise ShapeError(f"cases are (B, channels, H, W) or (B, channels, X, Y, Z) with at least one, not {shape}")
        self.sinks = list(sinks) if isinstance(sinks, Sequence) else [sinks]
        for sink in self.sinks:
            if not isinstance(sink, MetricSink):
                raise ConfigError(f"{sink!r} is not a sink: it lacks a method of delira_nca.logging.MetricSink")
        if not callable(activation):
            require_choice("activation", activation, ("auto", "none", "sigmoid", "softmax"))
        self.every, self.num_slices = require_whole("every", every, 1), require_whole("num_slices", num_slices, 1)
        self.name, self.label_key, self.activation, self.seed = name, label_key, activation, seed
        self.film = None if film is None else absolute(film)

    def console_commands(self) -> Mapping[str, Callable[[Trainer], Any]]:
        """Return the command ``preview``."""
        return {"preview": lambda trainer: self.draw(trainer, trainer.step, f"{self.name}_step")}

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Record the first image, so that invalid cases raise before the first epoch."""
        if self.film is not None and not isinstance(trainer.network, BasicNCAModel):
            raise ConfigError(f"film requires a BasicNCAModel, not a {type(trainer.network).__name__}")
        self.draw(trainer, trainer.start_epoch - 1)

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Record an image if it is due."""
        if curr_epoch % self.every:
            return
        try:
            self.draw(trainer, curr_epoch)
        except Exception:  # a preview must not end a training
            _LOGGER.exception("the preview of epoch %d failed", curr_epoch)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Close the sinks."""
        for sink in self.sinks:
            sink.close()

    def draw(self, trainer: Trainer, number: int, name: str | None = None) -> None:
        """Predict the cases, and record the image.

        Parameters
        ----------
        trainer : PyTorchNetworkTrainer
            Trainer.
        number : int
            Step of the image for the sinks.
        name : str, optional
            Name of the image; that of the constructor by default.
        """
        name = self.name if name is None else name
        network = validated_network(trainer)
        with evaluating(network), isolated_rng(self.seed), trainer.ranks.no_sync(), trainer.precision.autocast():
            batch = network.prepare_batch(dict(self.cases), trainer.input_device, trainer.output_device)
            inputs = {key: batch[key] for key in ("data", "goal") if key in batch}
            prediction, scores = predicted(
                network, inputs if hasattr(network, "predict") else batch, seed=self.seed, steps=None
            )
            found, exclusive = self._activate(prediction, scores)
            frames = self._film(network, inputs) if self.film is not None else []
        title = f"{self.name}: {'epoch' if name == self.name else 'step'} {number}"
        image = np.asarray(lay_out(title, list(self._rows(_as_array(found), exclusive))))
        for sink in self.sinks:
            sink.images(name, image, number)
        if self.film is not None:
            save_film(frames, self.film / f"{name}_{number:04d}.gif")

    def _activate(self, prediction: Any, scores: torch.Tensor) -> tuple[torch.Tensor, bool]:
        is_image = isinstance(prediction, Prediction) and not is_of_logits(prediction)
        activation = "none" if self.activation == "auto" and is_image else self.activation
        return probabilities(prediction, scores, activation)

    def _slices(self) -> list[int | None]:
        """Slices to draw along the last axis of a volume, or None for an image."""
        shape = self.cases["data"].shape
        if len(shape) == 4:
            return [None]
        count = min(self.num_slices, shape[-1])
        return [round((place + 1) * shape[-1] / (count + 1) - 0.5) for place in range(count)]

    def _rows(self, found: Array, exclusive: bool) -> Iterator[list[Tile]]:
        data = _as_array(self.cases["data"])
        labels = _as_array(self.cases[self.label_key]) if self.label_key in self.cases else None
        num_classes = found.shape[1] if exclusive else 0
        for case in range(len(data)):
            for place in self._slices():
                at = "" if place is None else f", slice {place}"
                tiles = [(f"case {case}{at}", _pixels(_section(data[case], place)))]
                if labels is not None:
                    tiles.append(_tile("label", labels[case], data.shape[2:], place, num_classes))
                tiles.append(_tile("prediction", found[case], data.shape[2:], place, num_classes))
                empty = np.full_like(tiles[0][1], 255)
                yield [(caption, pixels if pixels.size else empty) for caption, pixels in tiles]

    def _film(self, network: BasicNCAModel, inputs: Mapping[str, Any]) -> list[Pixels]:
        """Return the predictions of all cases side by side after each step."""
        place = self._slices()[len(self._slices()) // 2]
        frames = []
        for prediction in network.record(inputs["data"], seed=self.seed, goal=inputs.get("goal")):
            parts = prediction.parts()
            found, exclusive = self._activate(prediction, parts["logits"] if "logits" in parts else parts["pred"])
            classes = found.shape[1] if exclusive else 0
            frames.append(
                np.concatenate([_pixels(_section(case, place), classes) for case in _as_array(found)], axis=1)
            )
        return frames


def _as_array(values: torch.Tensor) -> Array:
    found: Array = values.detach().cpu().to(torch.float32 if values.is_floating_point() else values.dtype).numpy()
    return found


def _section(values: Array, place: int | None) -> Array:
    return values if place is None else values[..., place]


def _tile(name: str, values: Array, spatial: tuple[int, ...], place: int | None, num_classes: int) -> Tile:
    """Return a tile of a mask or of channels; of other values, a caption and no pixels."""
    if values.shape == spatial:
        values = values[None]
    if values.shape[1:] != spatial:
        best: Any = values.tolist() if values.size <= 8 else f"shape {values.shape}"
        if num_classes and values.size == num_classes > 1:
            best = f"class {int(values.argmax())}"
        return f"{name}: {best}", np.empty(0, np.uint8)
    return name, _pixels(_section(values, place), num_classes)


def _pixels(values: Array, num_classes: int = 0) -> Pixels:
    """Colours of (C, H, W) probabilities of classes, of a (1, H, W) mask of classes, or of an image."""
    if num_classes > 1:
        numbers = np.arange(num_classes)
        if len(values) == 1:  # a mask; numbers of no class, such as those of ignored cells, are black
            values = (values == numbers[:, None, None]).astype(np.float32)
        colours = _CLASSES[np.where(numbers > 0, (numbers - 1) % (len(_CLASSES) - 1) + 1, 0)]
        mixed: Pixels = np.tensordot(values.clip(0, 1), colours, (0, 0)).round().clip(0, 255).astype(np.uint8)
        return mixed
    if len(values) >= 4:
        return to_rgb(values)
    grey = values.astype(np.float32) if len(values) == 3 else values[:1].astype(np.float32)
    low, high = float(np.nanmin(grey)), float(np.nanmax(grey))
    if low < 0.0 or high > 1.0:
        grey = (grey - low) / max(high - low, 1e-12)
    levels: Pixels = (255 * np.nan_to_num(grey).clip(0, 1)).round().astype(np.uint8)
    coloured: Pixels = np.repeat(levels, 3 // len(levels), axis=0).transpose(1, 2, 0)
    return coloured
