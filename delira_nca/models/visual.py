"""What draws predictions for a person: the base class of NCALab's page, which a model carries as ``plot_function``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from delira_nca.models.prediction import Prediction

__all__ = ["Visual"]


class Visual(ABC):
    """Draws a batch and what a model made of it. Override :meth:`show`."""

    @abstractmethod
    def show(
        self, model: Any, image: npt.NDArray[Any], prediction: Prediction, label: npt.NDArray[Any] | None
    ) -> Figure:
        """Figure of a batch.

        Parameters
        ----------
        model : that made the prediction.
        image : (B, c, *spatial) what the prediction began with; ``B`` may be 1.
        prediction : of the whole batch.
        label : of the whole batch, or None where there is none.
        """
