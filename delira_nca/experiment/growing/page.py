"""The live page of a run that grows a picture, and what is measured and drawn at the end of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from delira_nca.experiment.growing.parts import load_target_array, seed_for
from delira_nca.export.live_page import LivePage
from delira_nca.io.paths import absolute
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, Prediction
from delira_nca.visualization import save_curves, save_growth_film

__all__ = ["GrowthPage", "figures_of"]


class GrowthPage(LivePage):
    """Live page of a run that grows a picture. At the end, it draws a film and curves, and measures errors.

    Attributes
    ----------
    outcome : dict
        After the end of a training: ``log10_error_after_steps`` and ``log10_error_after_cutting_in_half``, the decimal
        logarithms of the mean squared errors over the grid, RGBA, by the number of steps after the seed and after one
        half of the grown picture was cut off; and ``figures``, which the page shows.

    Parameters
    ----------
    steps : int
        Horizon: errors are measured after 1, 5 and 50 times that many steps.
    heals : bool
        Whether to cut one half off and measure how it heals.
    title : str
        Title of the page.
    target : str
        File for :func:`~delira_nca.experiment.growing.parts.load_target_array`.
    folder : str
        Folder of the page, the film and the curves.
    seed : int
        Seed of the roll-outs that are measured.
    """

    def __init__(
        self, steps: int, heals: bool, title: str, target: str = "target.npy", folder: str = ".", seed: int = 0
    ) -> None:
        self.folder, self.target = absolute(folder), load_target_array(target)
        self.steps, self.heals, self.seed = steps, heals, seed
        self.outcome: dict[str, Any] = {}
        super().__init__(
            self.folder / "live.html",
            title=title,
            seed=seed_for(self.target),
            target=self.target,
            steps=steps,
            keys={"val_mse": "log10 error"},
            log10=True,
        )

    def at_training_end(self, trainer: Any, **event: Any) -> None:
        """Measure, draw and finish the page; only the last of an interrupted training."""
        if event.get("exception") is None and trainer.stop_reason is None:
            network = trainer.best_network()
            self.outcome = self._measure(network)
            title = f"{self.options['title']}, {'regenerating' if self.heals else 'growing'}"
            save_curves(trainer.history, self.folder / "curves.png", keys=["mse", "val_mse"], title=title)
        self.finish(trainer, self.outcome.get("figures"))

    def _measure(self, network: BasicNCAModel) -> dict[str, Any]:
        label, horizon = self.target.unsqueeze(0).to(network.device), self.steps
        start = seed_for(self.target).unsqueeze(0)
        frames = network.record(start, 5 * horizon, seed=self.seed, keep=list(range(5 * horizon + 1)))
        errors = {n: _log10_error(frames[n], label) for n in (horizon, 5 * horizon)}
        old = network.predict(frames[-1].output_image, 45 * horizon, seed=self.seed + 1)
        errors[50 * horizon] = _log10_error(old, label)
        growth = _states(frames[: round(1.5 * horizon) + 1])
        healing, healed = {}, None
        if self.heals:
            cut = frames[round(1.5 * horizon)].output_image.clone()
            cut[..., cut.shape[-1] // 2 :] = 0.0
            healed = network.record(cut, horizon, seed=self.seed, keep=list(range(horizon + 1)))
            healing = {n: _log10_error(healed[n], label) for n in (0, horizon)}
        save_growth_film(growth, None if healed is None else _states(healed), self.folder / "film.gif")
        return {
            "log10_error_after_steps": errors,
            "log10_error_after_cutting_in_half": healing,
            "figures": figures_of(network, errors, healing),
        }


def figures_of(network: BasicNCAModel, errors: dict[int, float], healing: dict[int, float]) -> dict[str, str]:
    """Figures of a run by name, as the live page shows them."""
    shown = {"parameters": f"{network.num_trainable_parameters():,}"}
    shown |= {f"log10 error after {n} steps": f"{error:.2f}" for n, error in errors.items()}
    return shown | {
        f"{n} steps after losing a half" if n else "with one half cut off": f"{error:.2f}"
        for n, error in healing.items()
    }


def _log10_error(frame: Prediction, label: Tensor) -> float:
    return math.log10(float(mse(frame.pred, label)))


def _states(frames: Sequence[Prediction]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.concatenate([frame.image_channels_np for frame in frames])
