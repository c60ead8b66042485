"""NCALab's choice of the number of steps."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from delira_nca.evaluation import auto_stepper

__all__ = ["AutoStepper"]


class AutoStepper:
    """Roll out until the hidden channels hardly change, with NCALab's order of arguments.

    Parameters
    ----------
    min_steps, max_steps, plateau, verbose, threshold
        See :class:`delira_nca.evaluation.AutoStepper`.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.ncalab import GrowingNCAModel
    >>> model = GrowingNCAModel("cpu")  # untrained, so the state does not change
    >>> AutoStepper(10, 100, 5)(model, model.make_seed(8, 8)).steps
    10
    """

    def __init__(
        self,
        min_steps: int = 10,
        max_steps: int = 100,
        plateau: int = 5,
        verbose: bool = False,
        threshold: float = 1e-2,
    ) -> None:
        self.min_steps, self.max_steps, self.plateau = min_steps, max_steps, plateau
        self.verbose, self.threshold = verbose, threshold
        self._stepper = auto_stepper.AutoStepper(min_steps, max_steps, plateau, verbose=verbose, threshold=threshold)

    def run(self, nca: Any, x: Tensor) -> Any:
        """Return the prediction of (B, c, H, W) images or states, each after the number of steps of its sample."""
        return self._stepper(nca, x).prediction

    def __call__(self, nca: Any, x: Tensor) -> Any:
        """Return the prediction; see :meth:`run`."""
        return self.run(nca, x)
