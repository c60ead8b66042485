"""Prediction of images of any size on their own grid, with the doubt of the model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from delira_nca.errors import ConfigError
from delira_nca.evaluation import NQM
from delira_nca.experiment.run import Run
from delira_nca.io.json_file import parse_json
from delira_nca.segmentation.data import preprocessing_of
from delira_nca.segmentation.preprocessing import Preprocessing

__all__ = ["Segmentation", "Segmenter", "alarm_of"]


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
    """Trained network with the preprocessing of its images.

    Parameters
    ----------
    network : AbstractPyTorchNetwork
        Trained network.
    preprocessing : Preprocessing
        Preprocessing of the training.
    num_runs : int
        Number of stochastic roll-outs per image, at least 2.
    seed : int
        Seed of the roll-outs. The same seed gives the same masks.
    source : mapping, optional
        Arguments of :func:`~delira_nca.segmentation.open_cases` for the data of the training.

    Notes
    -----
    Kalkhof et al. (2023), "M3D-NCA: Robust 3D Segmentation with Built-In Quality Control", for the doubt.
    """

    def __init__(
        self,
        network: Any,
        preprocessing: Preprocessing,
        *,
        num_runs: int = 5,
        seed: int = 0,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.preprocessing = network.eval(), preprocessing
        self.source = dict(source or {})
        self._estimator = NQM(network, num_runs, seed=seed)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], checkpoint: str = "best", *, num_runs: int = 5, seed: int = 0
    ) -> Segmenter:
        """Open a run of :func:`~delira_nca.segmentation.segment`.

        Raises
        ------
        MissingFileError, ConfigError
            If there is no run in the folder, or it does not segment.
        """
        run = Run.open(folder)
        arguments = (run.config.data["train"] or {}).get("init_args", {})
        if "preprocessing" not in arguments:
            raise ConfigError(f"the run in {run.folder} does not segment folders of images: it has no preprocessing")
        preprocessing = preprocessing_of(arguments["preprocessing"])
        options: dict[str, Any] = {"num_runs": num_runs, "seed": seed, "source": arguments["source"]}
        return cls(run.network(checkpoint), preprocessing, **options)

    def __call__(self, image: npt.NDArray[np.float32], spacing: Sequence[float] | None = None) -> Segmentation:
        """Predict a (C, *spatial) image with the given size of a voxel in mm; volumes have canonical axes."""
        data, frame = self.preprocessing.image(image, spacing)
        with torch.no_grad():
            found = self._estimator.estimate(torch.from_numpy(data)[None])
        mean = found.predictions.mean(0)[0].cpu().float().numpy()
        spread = found.heatmap[0].amax(0, keepdim=True).cpu().float().numpy()
        whole = frame.restore(mean)
        if len(whole) == 1:
            whole = np.concatenate([1 - whole, whole])
        return Segmentation(
            mask=self.preprocessing.mask(whole.argmax(0)),
            probabilities=whole,
            doubt_map=frame.restore(spread)[0],
            doubt=float(found.score.mean()),
        )


def alarm_of(folder: str | os.PathLike[str]) -> float | None:
    """Return the doubt above which the run in a folder raises an alarm, or None if it was not determined."""
    path = os.path.join(folder, "scores.json")
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        found = parse_json(file.read(), path)
    return found.get("alarm") if isinstance(found, dict) else None
