"""The callback that leaves a live page behind when a training ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.export.html import to_html
from delira_nca.models import BasicNCAModel
from delira_nca.training.callbacks.abstract_callback import AbstractCallback

__all__ = ["LivePage"]

Figures = Mapping[str, object] | Callable[[Any], Mapping[str, object]]


class LivePage(AbstractCallback):
    """Write a live page of the best network when the training ends, also where it was interrupted.

    Parameters
    ----------
    path : of the page.
    figures : as for :func:`to_html`, or a function of the trainer that gives them.
    **options : of :func:`to_html`, as they are.

    Raises
    ------
    ExportError, ConfigError
        When the training begins, if the network cannot live on a page or the options do not fit it.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> from delira_nca.training import PyTorchNetworkTrainer
    >>> folder = getfixture("tmp_path")
    >>> network = BasicNCAModel(**presets.growing(training_timesteps=2))
    >>> page = LivePage(folder / "live.html", title="nothing yet", grid=(16, 16))
    >>> trainer = PyTorchNetworkTrainer(network, None, callbacks=[page])
    >>> import torch
    >>> _ = trainer.train(1, [{"data": torch.zeros(1, 16, 8, 8), "label": torch.zeros(1, 4, 8, 8)}])
    >>> (folder / "live.html").exists()
    True
    """

    def __init__(self, path: str | os.PathLike[str], *, figures: Figures | None = None, **options: Any) -> None:
        if "model" in options:
            raise ConfigError("LivePage shows the network of its trainer: leave model out")
        self.path, self.figures, self.options = path, figures, options

    def at_training_begin(self, trainer: Any, **event: Any) -> None:
        """Write the page of the untrained network: what cannot work shows before the work."""
        self._write(trainer.network, None)

    def at_training_end(self, trainer: Any, **event: Any) -> None:
        """Write the page."""
        figures = self.figures(trainer) if callable(self.figures) else self.figures
        self._write(trainer.best_network(), figures)

    def _write(self, network: BasicNCAModel, figures: Mapping[str, object] | None) -> None:
        to_html(network, self.path, figures=figures, **self.options)
