"""Callback that draws the target of a training and the current result."""

from __future__ import annotations

import logging
import math
import os
from typing import Any, cast

import torch
from torch import Tensor

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.seeding import isolated_rng
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.optimization import validated_network
from delira_nca.training.callbacks.reporting import Pace
from delira_nca.visualization.colour import to_rgb
from delira_nca.visualization.tiles import Tile, lay_out

__all__ = ["Preview"]

_LOGGER = logging.getLogger("delira_nca")


class Preview(AbstractCallback):
    """Write an image during the training of a growing model: the target, and the results after several steps.

    The image is written when the training begins, updated at the ends of epochs, and finally shows the best network.
    The roll-outs do not use the random generators of the training, so a preview does not change the weights.

    Parameters
    ----------
    path : path
        Path of the image, which ends in ``.png``.
    seed : (C, H, W) tensor
        Initial state.
    target : (4, H, W) tensor
        Target image, premultiplied RGBA.
    steps : int, optional
        Horizon n of the training. The states after n/4, n/2, n and 2n steps are shown. The default is the upper end of
        the network's ``training_timesteps``.
    heals : bool
        Whether to add a row with the state after n steps without its right half, and its regeneration after n/2 and n
        steps.
    every : float
        Minimum time between two images in seconds.
    share : float
        Largest fraction of the time spent on drawing; slow machines draw less often.
    title : str
        Title of the image.

    Raises
    ------
    ConfigError, ShapeError
        If the path does not end in ``.png``, ``steps`` is below 1, or seed and target do not fit together.

    Examples
    --------
    >>> from delira_nca.models import make_seed, presets
    >>> from delira_nca.training import PyTorchNetworkTrainer
    >>> path = getfixture("tmp_path") / "preview.png"
    >>> seed, target = make_seed(16, (8, 8)), torch.zeros(4, 8, 8)
    >>> network = BasicNCAModel(**presets.growing(training_timesteps=4))
    >>> trainer = PyTorchNetworkTrainer(network, None, callbacks=[Preview(path, seed, target)])
    >>> _ = trainer.train(1, [{"data": seed.unsqueeze(0), "label": target.unsqueeze(0)}])
    >>> from PIL import Image
    >>> with Image.open(path) as picture:
    ...     picture.width >= 512
    True
    """

    rolls_back = False
    runs_everywhere = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        seed: Tensor,
        target: Tensor,
        *,
        steps: int | None = None,
        heals: bool = False,
        every: float = 5.0,
        share: float = 0.02,
        title: str = "",
    ) -> None:
        self.path = absolute(path)
        if self.path.suffix.lower() != ".png":
            raise ConfigError(f"a preview must be a .png, got {str(path)!r}")
        if seed.dim() != 3 or target.dim() != 3 or len(target) != 4 or seed.shape[1:] != target.shape[1:]:
            raise ShapeError(
                "a preview needs a seed (C, H, W) and a target (4, H, W), "
                f"got {tuple(seed.shape)} and {tuple(target.shape)}"
            )
        if steps is not None:
            require_whole("steps", steps, 1)
        self.seed, self.target, self.steps, self.heals, self.title = seed, target, steps, heals, title
        self._pace = Pace(every, share=share)
        self._num_epochs = 0

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int, **event: Any) -> None:
        """Write the first image, so that invalid settings raise before the first epoch."""
        self._num_epochs = num_epochs
        with self._pace.job():
            self._write(trainer, validated_network(trainer))

    def at_epoch_end(self, trainer: Trainer, **event: Any) -> None:
        """Update the image if it is due. A full disk is logged and does not stop the training."""
        if not self._pace.is_due():
            return
        try:
            with self._pace.job():
                self._write(trainer, validated_network(trainer))
        except OSError as error:
            _LOGGER.warning("the preview was not renewed: %s", error)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Write the image of the best network."""
        epoch = trainer.best.epoch if trainer.best.score is not None else None
        self._write(trainer, cast(BasicNCAModel, trainer.best_network()), epoch)

    def _write(self, trainer: Trainer, network: BasicNCAModel, best: int | None = None) -> None:
        epoch = trainer.start_epoch - 1
        state = f"best epoch: {best} of {epoch}" if best else f"epoch {epoch} of {self._num_epochs}"
        with torch.no_grad(), isolated_rng(0), trainer.ranks.no_sync():
            rows = self._grow(network)
        picture = lay_out(f"{self.title}  {state}".strip(), rows, "figures: log10 of the mean squared error")
        with replaced(self.path) as temporary:
            picture.save(temporary, format="PNG")

    def _grow(self, network: BasicNCAModel) -> list[list[Tile]]:
        """Compute the rows of tiles."""
        trained = network.training_timesteps
        horizon = self.steps or (trained if isinstance(trained, int) else trained[1])
        counts = sorted({max(1, horizon // 4), max(1, horizon // 2), horizon, 2 * horizon})
        grown = network.record(self.seed.unsqueeze(0), max(counts), seed=0, keep=counts)
        rows = [[("target", to_rgb(self.target))]]
        rows[0] += [self._tile(f"{n} steps", frame.output_image) for n, frame in zip(counts, grown, strict=True)]
        if self.heals:
            cut = grown[counts.index(horizon)].output_image.clone()
            cut[..., cut.shape[-1] // 2 :] = 0.0
            counts = sorted({0, max(1, horizon // 2), horizon})
            healed = network.record(cut, horizon, seed=0, keep=counts)
            names = [f"{n} steps later" if n else "half is lost" for n in counts]
            rows.append([self._tile(name, frame.output_image) for name, frame in zip(names, healed, strict=True)])
        return rows

    def _tile(self, name: str, state: Tensor) -> Tile:
        picture = state[0, :4].cpu().float()
        error = float((picture - self.target.cpu().float()).square().mean())
        figure = f"{math.log10(error):.2f}" if 0 < error < math.inf else f"{error:g}"
        return f"{name}: {figure}", to_rgb(picture)
