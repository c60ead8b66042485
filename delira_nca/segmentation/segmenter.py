"""Prediction of images of any size on their own grid, with the doubt of the model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.evaluation.runs import stochastic_runs
from delira_nca.experiment.run import Run
from delira_nca.io.json_file import parse_json
from delira_nca.models import BasicNCAModel, PyramidNCA, tiled_predict
from delira_nca.seeding import derive_seed
from delira_nca.segmentation.data import preprocessing_of
from delira_nca.segmentation.preprocessing import Preprocessing

__all__ = ["Segmentation", "Segmenter", "alarm_of", "classes_of", "folds_in", "with_background", "without_small"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segmentation:
    """Prediction of one image on its own grid.

    Attributes
    ----------
    mask : ndarray
        (*spatial) values of the classes, as in the masks of the training.
    probabilities : ndarray
        (K, *spatial) probabilities of the classes, mean over the roll-outs; the first is the background.
    doubt_map : ndarray
        (*spatial) standard deviation of the probabilities over the roll-outs, the largest of all classes.
    doubt : float
        Doubt about the whole image: NQM, the sum of the standard deviations divided by the sum of the means.
    """

    mask: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    doubt_map: npt.NDArray[np.float32]
    doubt: float


class Segmenter:
    """Trained network, or several of them, with the preprocessing of their images.

    Parameters
    ----------
    network : AbstractPyTorchNetwork or sequence of AbstractPyTorchNetwork
        Trained network. The probabilities of several are averaged.
    preprocessing : Preprocessing or sequence of Preprocessing
        Preprocessing of the training of all networks, or of each; they may differ in their statistics only.
    num_runs : int
        Number of stochastic roll-outs per image and network, at least 2.
    seed : int
        Seed of the roll-outs. The same seed gives the same masks.
    steps : int, optional
        Number of steps of the finest level; that of the training by default.
    threshold : float, optional
        Probability above which a cell is foreground, for a single class; 0.5 by default.
    min_size : int
        Number of cells below which a connected component is background.
    tile : int
        Number of cells along each axis of the tiles of an image that has more cells. Networks of one level are tiled,
        with random numbers that do not depend on the tiles but differ from those of whole images.
    source : mapping, optional
        Arguments of :func:`~delira_nca.segmentation.open_cases` for the data of the training.

    Raises
    ------
    ConfigError
        For a number out of range, or a threshold for several classes.

    Notes
    -----
    Kalkhof et al. (2023), "M3D-NCA: Robust 3D Segmentation with Built-In Quality Control", for the doubt.
    """

    def __init__(
        self,
        network: Any,
        preprocessing: Preprocessing | Sequence[Preprocessing],
        *,
        num_runs: int = 5,
        seed: int = 0,
        steps: int | None = None,
        threshold: float | None = None,
        min_size: int = 1,
        tile: int | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        networks = list(network) if isinstance(network, Sequence) else [network]
        self.networks = [part.eval() for part in networks]
        each = [preprocessing] * len(networks) if isinstance(preprocessing, Preprocessing) else list(preprocessing)
        self._preprocessings, self.preprocessing = each, each[0]
        self.source = dict(source or {})
        self.num_runs, self.seed = require_whole("num_runs", num_runs, 2), seed
        self.steps = None if steps is None else require_whole("steps", steps, 1)
        self.min_size = require_whole("min_size", min_size, 1)
        if threshold is not None:
            require_number("threshold", threshold, above=0, below=1)
            if self.preprocessing.num_classes != 2:
                raise ConfigError("a threshold needs a single class besides the background")
        self.threshold = threshold
        self.tile = (2048 if self.preprocessing.dims == 2 else 256) if tile is None else require_whole("tile", tile, 1)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        checkpoint: str = "best",
        *,
        tuned: bool = False,
        **options: Any,
    ) -> Segmenter:
        """Open a run of :func:`~delira_nca.segmentation.segment`, or the runs of its folds.

        Parameters
        ----------
        folder : str or path
            Folder of the run.
        checkpoint : str
            Weights: ``"best"``, ``"latest"`` or the name of a checkpoint.
        tuned : bool
            Whether to use the best steps, threshold and smallest component of ``scores.json``.
        **options : object
            Further arguments of this class.

        Raises
        ------
        MissingFileError, ConfigError
            If there is no run in the folder, or it does not segment, or it has no such settings.
        """
        runs = [Run.open(part) for part in folds_in(folder) or [Path(folder)]]
        arguments = (runs[0].config.data["train"] or {}).get("init_args", {})
        if "preprocessing" not in arguments:
            raise ConfigError(
                f"the run in {runs[0].folder} does not segment folders of images: it has no preprocessing"
            )
        if tuned:
            best = (_scores_of(folder).get("sweep") or {}).get("best")
            if best is None:
                raise ConfigError(f"{os.fspath(folder)!r} has no tuned settings: its training has not finished")
            options = {name: best[name] for name in ("steps", "threshold", "min_size")} | options
        options["source"] = arguments["source"]
        networks = [run.network(checkpoint) for run in runs]
        parts = [preprocessing_of(run.config.data["train"]["init_args"]["preprocessing"]) for run in runs]
        return cls(networks, parts, **options)

    @property
    def horizon(self) -> int:
        """Number of steps that the networks were trained for, of the finest level."""
        network = self.networks[0]
        if isinstance(network, PyramidNCA):
            return int(network.steps[-1])
        return int(np.mean(network.inference_timesteps))

    def __call__(self, image: npt.NDArray[np.float32], spacing: Sequence[float] | None = None) -> Segmentation:
        """Predict a (C, *spatial) image with the given size of a voxel in mm; volumes have canonical axes."""
        prepared = [preprocessing.image(image, spacing) for preprocessing in self._preprocessings]
        frame = prepared[0][1]
        mean, spread, doubt = self._estimate([torch.from_numpy(data)[None] for data, _ in prepared])
        whole = with_background(frame.restore(mean))
        return Segmentation(
            mask=without_small(self.preprocessing.mask(classes_of(whole, self.threshold)), self.min_size),
            probabilities=whole,
            doubt_map=frame.restore(spread)[0],
            doubt=doubt,
        )

    def states(
        self, image: npt.NDArray[np.float32], spacing: Sequence[float] | None, steps: Sequence[int]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the (K, *spatial) probabilities after several steps of one roll-out of the first network.

        Parameters
        ----------
        image, spacing
            Image, and size of a voxel.
        steps : sequence of int
            Ascending numbers of steps of the finest level.
        """
        data, frame = self.preprocessing.image(image, spacing)
        network = self.networks[0]
        before = sum(network.steps[:-1]) if isinstance(network, PyramidNCA) else 0
        kept = [before + number for number in steps]
        found = network.record(torch.from_numpy(data)[None], self._all_steps(max(steps)), seed=self.seed, keep=kept)
        return [with_background(frame.restore(_probabilities(one.pred)[0].cpu().numpy())) for one in found]

    def _all_steps(self, number: int | None) -> Any:
        """Return the argument ``steps`` of the networks."""
        network = self.networks[0]
        return [*network.steps[:-1], number] if number is not None and isinstance(network, PyramidNCA) else number

    def _estimate(self, images: Sequence[Tensor]) -> tuple[Floats, Floats, float]:
        """Return the mean of the probabilities, their standard deviation and the doubt over all roll-outs."""
        steps, count = self._all_steps(self.steps), 0
        mean = squares = torch.zeros(())
        for run in self._runs(images, steps):
            count += 1  # Welford's algorithm: only one prediction is in memory
            change = run - mean
            mean = mean + change / count
            squares = squares + change * (run - mean)
        spread = (squares / count).clamp_min(0).sqrt()
        doubt = float(spread.sum() / mean.sum().clamp_min(1e-12))
        return mean.numpy(), spread.amax(0, keepdim=True).numpy(), doubt

    def _runs(self, images: Sequence[Tensor], steps: Any) -> Iterator[Tensor]:
        for network, data in zip(self.networks, images, strict=True):
            if isinstance(network, BasicNCAModel) and data[0, 0].numel() > self.tile**self.preprocessing.dims:
                for number in range(self.num_runs):
                    seed = derive_seed(self.seed, "run", number)
                    yield _probabilities(tiled_predict(network, data, self.tile, steps, seed=seed))[0].cpu()
            else:
                found = stochastic_runs(network, data, self.num_runs, seed=self.seed, steps=steps)
                yield from found.predictions[:, 0].float().cpu()


def _probabilities(logits: Tensor) -> Tensor:
    return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(1)


def with_background(probabilities: Floats) -> Floats:
    """Add the probability of the background to that of a single class."""
    return np.concatenate([1 - probabilities, probabilities]) if len(probabilities) == 1 else probabilities


def classes_of(probabilities: Floats, threshold: float | None = None) -> npt.NDArray[np.int64]:
    """Return the most probable class of each cell, or whether the single class is above a threshold."""
    if threshold is None:
        return np.asarray(probabilities.argmax(0))
    return np.asarray(probabilities[1] > threshold).astype(np.int64)


def without_small(mask: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Set the connected components of each class that have fewer cells to the background."""
    if size <= 1:
        return mask
    kept = mask.copy()
    for value in np.unique(mask[mask > 0]):
        components, _ = ndimage.label(mask == value)
        counts = np.bincount(components.ravel())
        counts[0] = size
        kept[(counts < size)[components]] = 0
    return np.asarray(kept)


def folds_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the folders of the folds of a segmentation, or nothing for a single run."""
    return sorted(Path(folder).glob("fold[0-9]*"), key=lambda path: int(path.name[4:]))


def alarm_of(folder: str | os.PathLike[str]) -> float | None:
    """Return the doubt above which the run in a folder raises an alarm, or None if it was not determined."""
    return _scores_of(folder).get("alarm")


def _scores_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    path = Path(folder) / "scores.json"
    found = parse_json(path.read_bytes(), path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
