"""NCALab's estimators of uncertainty; those of :mod:`delira_nca.evaluation` measure probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import require_type, require_whole
from delira_nca.errors import require_choice
from delira_nca.models.compiled import unwrapped
from delira_nca.seeding import derive_seed

__all__ = ["MCMC", "NQM", "UncertaintyEstimator"]

Uncertainty = tuple[Tensor, list[Any]]


class UncertaintyEstimator(ABC):
    """Base class of estimators. A subclass defines ``_estimate(image)``, which returns a heatmap and predictions.

    Parameters
    ----------
    nca : object
        Model or cascade.
    """

    def __init__(self, nca: Any) -> None:
        self.nca = unwrapped(nca)

    @abstractmethod
    def _estimate(self, image: Tensor) -> Uncertainty:
        """Return a (B, C, H, W) heatmap and the predictions that it is computed from."""

    def estimate(self, image: Tensor, reduce: str = "mean") -> tuple[Tensor, list[Any], Tensor]:
        """Estimate the uncertainty of images.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, H, W) images.
        reduce : {"mean", "min", "max"}
            Reduction of the heatmap to the score of each image and channel.

        Returns
        -------
        tuple of (heatmap, predictions, score)
            (B, C, H, W) heatmap, list of predictions, and (B, C) scores.
        """
        require_choice("reduce", reduce, ("mean", "min", "max"))
        heatmap, predictions = self._estimate(image)
        cells = heatmap.flatten(2)
        score = cells.mean(2) if reduce == "mean" else cells.amin(2) if reduce == "min" else cells.amax(2)
        return heatmap, predictions, score

    def __call__(self, image: Tensor, reduce: str = "mean") -> tuple[Tensor, list[Any], Tensor]:
        """Estimate the uncertainty; see :meth:`estimate`."""
        return self.estimate(image, reduce)


class NQM(UncertaintyEstimator):
    """Standard deviation of the output channels over several roll-outs.

    :class:`delira_nca.evaluation.NQM` is the published metric, of probabilities.

    Parameters
    ----------
    nca : object
        Model or cascade with output channels.
    N : int
        Number of roll-outs, at least 2.
    normalize : bool
        Whether to divide by the mean number of cells above 0 of each channel.
    seed : int
        Seed of the roll-outs.
    """

    def __init__(
        self,
        nca: Any,
        N: int = 10,  # noqa: N803
        normalize: bool = False,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(nca)
        self.N, self.normalize, self.seed = require_whole("N", N, 2), normalize, seed
        require_type("normalize", normalize, bool)

    def _estimate(self, image: Tensor) -> Uncertainty:
        found = [self.nca.predict(image, seed=derive_seed(self.seed, "roll-out", n)) for n in range(self.N)]
        outputs = torch.stack([one.output_channels if self.nca.num_output_channels else one.logits for one in found])
        heatmap = outputs.std(0)
        if self.normalize:
            heatmap = heatmap / (outputs > 0).sum((3, 4), keepdim=True).float().mean(0).clamp(min=1)
        return heatmap, found


class MCMC(UncertaintyEstimator):
    """Standard deviation of the hidden channels over the last steps of one roll-out.

    :class:`delira_nca.evaluation.MCMC` measures the probabilities instead.

    Parameters
    ----------
    nca : object
        Model or cascade.
    N_last : int
        Number of last steps, at least 2; all steps if there are fewer.
    normalize : bool
        Whether to divide by 10, as NCALab does.
    seed : int
        Seed of the roll-out.
    """

    def __init__(
        self,
        nca: Any,
        N_last: int = 10,  # noqa: N803
        normalize: bool = False,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(nca)
        self.N_last, self.normalize, self.seed = require_whole("N_last", N_last, 2), normalize, seed
        require_type("normalize", normalize, bool)

    def _estimate(self, image: Tensor) -> Uncertainty:
        last = self.nca.record(image, seed=self.seed)[-self.N_last :]
        heatmap = torch.stack([one.hidden_channels for one in last]).std(0)
        return heatmap / 10 if self.normalize else heatmap, last
