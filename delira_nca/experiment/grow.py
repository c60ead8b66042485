"""Grow a picture from one cell: target, automaton, pool, training, film."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca._version import __version__
from delira_nca.data_loading import DataManager, repeat
from delira_nca.data_loading.sources import dahlia, emoji, load_image, place
from delira_nca.errors import ConfigError, MissingDependencyError, require_choice
from delira_nca.io import replaced
from delira_nca.logging import JSONLSink, TensorboardXSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, Perception, Prediction, interpret_range_parameter, make_seed, presets
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    GradientNormalization,
    LRSchedulerCallback,
    MetricLogger,
    NaNGuard,
    PoolUpdate,
    ProgressBar,
    StepCurriculum,
    WeightAverage,
)
from delira_nca.training.devices import choose_device
from delira_nca.visualization import crop_to_life, save_curves, save_film, save_picture, to_rgb

__all__ = ["REGIMES", "GrowConfig", "GrowResult", "Regime", "grow"]


@dataclass(frozen=True)
class Regime:
    """What an automaton is trained on: the three of Mordvintsev et al. (2020).

    Parameters
    ----------
    pool : whether states live on from iteration to iteration, so that the pattern learns to stay.
    damaged : how many states of eight get a hole, so that it learns to heal.
    """

    pool: bool
    damaged: int

    def num_damaged(self, batch_size: int) -> int:
        """How many states of a batch get a hole: the article's share of three in eight, and at least one of them."""
        return max(1, self.damaged * batch_size // 8) if self.damaged else 0


PRECISIONS = ("float32", "bfloat16")

REGIMES = {"growing": Regime(False, 0), "persistent": Regime(True, 0), "regenerating": Regime(True, 3)}


@dataclass(frozen=True)
class GrowConfig:
    """Description of a run that grows a picture: plain values, which are written beside its results.

    Parameters
    ----------
    target : picture with transparency to grow; the dahlia of scikit-learn by default.
    emoji : one emoji to grow instead, from a colour-emoji font of the system.
    size : cells along the longer side of the picture.
    padding : empty cells on each side of it.
    steps : roll-outs of training take ``steps[0]`` to ``steps[1] - 1`` steps; the upper number is the horizon, at which
        results are shown. A training of at least 8 epochs begins with roll-outs of a third of that, which
        lengthen over the first 35 % of it.
    regime : growing, persistent or regenerating.
    epochs, iterations : so many epochs of so many iterations.
    batch_size, pool_size : states per iteration, and in the pool.
    learning_rate : of Adam at first; it falls along a cosine to 3 % of that. Results are those of the exponential
        average of the weights over about 100 iterations.
    out : folder of the run; the first free of ``runs/<name>``, ``runs/<name>-2``, ... by default.
    seed : of everything random.
    device : ``auto``, ``cpu``, ``cuda``, ...
    precision : ``float32``, or ``bfloat16`` for matrix products with float32 states and sums.
    """

    target: str | None = None
    emoji: str | None = None
    size: int = 40
    padding: int = 16
    steps: tuple[int, int] = (48, 64)
    regime: str = "regenerating"
    epochs: int = 115
    iterations: int = 50
    batch_size: int = 3
    pool_size: int = 256
    learning_rate: float = 2e-3
    out: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"

    def check(self) -> None:
        """Refuse what cannot work.

        Raises
        ------
        ConfigError, UnknownNameError, MissingDependencyError
            With the value, what was expected, and the nearest right name.
        """
        if self.target is not None and self.emoji is not None:
            raise ConfigError(f"give a target ({self.target!r}) or an emoji ({self.emoji!r}), not both")
        require_choice("regime", self.regime, REGIMES)
        if not isinstance(self.steps, (tuple, list)):
            raise ConfigError(f"steps are two numbers, low and high, not {self.steps!r}")
        interpret_range_parameter(tuple(self.steps))  # type: ignore[arg-type]  # the range is checked there
        for name in ("size", "epochs", "iterations", "batch_size", "pool_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is a whole number of at least 1, not {value!r}")
        if self.padding < 0:
            raise ConfigError(f"padding is at least 0 cells, not {self.padding!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate is greater than 0, not {self.learning_rate!r}")
        require_choice("precision", self.precision, PRECISIONS)
        choose_device(device=self.device)
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingDependencyError("the curves need matplotlib: pip install 'delira_nca[viz]'")

    @property
    def name(self) -> str:
        """Name of what is grown."""
        if self.emoji is not None:
            return "emoji-" + "-".join(f"{ord(character):x}" for character in self.emoji)
        return "dahlia" if self.target is None else Path(self.target).stem


@dataclass(frozen=True)
class GrowResult:
    """What became of a run.

    Attributes
    ----------
    folder : of its files.
    network : the automaton of the best epoch.
    log10_errors : number of steps from the seed to the log10 of the mean squared error over the grid, RGBA.
    log10_errors_healing : the same by the number of steps after one half of the grown picture was cut off; empty where
        nothing was trained to heal.
    """

    folder: Path
    network: BasicNCAModel
    log10_errors: Mapping[int, float]
    log10_errors_healing: Mapping[int, float]


def grow(config: GrowConfig, *, progress: bool = True) -> GrowResult:
    """Train an automaton to grow a picture, and leave film, curves, numbers and checkpoints in the run's folder.

    Parameters
    ----------
    config : of the run.
    progress : whether to show how far it is.

    Raises
    ------
    ConfigError, MissingDependencyError
        Before anything is written: for a config that cannot work, a picture without transparency, a folder that
        already holds a run.
    """
    config.check()
    grid = config.size + 2 * config.padding
    target = torch.from_numpy(place(_target(config), grid))
    with isolated_rng(config.seed):
        network = BasicNCAModel(
            **presets.growing(
                perception=Perception("identity", "sobel", "laplacian"),  # learns in fewer iterations
                training_timesteps=tuple(config.steps),
                inference_timesteps=config.steps[1],
            )
        )
    seed = make_seed(network.num_channels, (grid, grid))
    pool = SamplePool(seed, config.pool_size, rng_seed=config.seed) if REGIMES[config.regime].pool else None
    if pool is not None:
        pool.check_batch_size(config.batch_size, 1, REGIMES[config.regime].num_damaged(config.batch_size))
    folder = _claim_folder(config)
    callbacks = _callbacks(config, pool, folder, progress)
    trainer = PyTorchNetworkTrainer(
        network,
        folder / "checkpoints",
        {"mse": mse},
        torch.optim.Adam,
        {"lr": config.learning_rate},
        callbacks=callbacks,
        device=config.device,
        seed=config.seed,
        mixed_precision=config.precision != "float32",
        mixed_precision_kwargs={"dtype": config.precision} if config.precision != "float32" else None,
    )
    save_picture(to_rgb(target.numpy()), folder / "target.png")
    pair = {"data": seed, "label": target}
    with (
        DataManager(repeat(pair, config.batch_size * config.iterations), config.batch_size) as train,
        DataManager(repeat(pair, 4), 4) as valid,
    ):
        best = trainer.train(config.epochs, train, valid, "mse", "lowest")
    return _results(config, trainer, best, seed, target, folder)


def _target(config: GrowConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    if config.target is not None:
        return load_image(config.target, config.size)
    return emoji(config.emoji, config.size) if config.emoji is not None else dahlia(config.size)


def _claim_folder(config: GrowConfig) -> Path:
    if config.out is not None:
        folder = Path(config.out)
        if (folder / "config.json").exists():
            raise ConfigError(f"{folder} already holds a run: give another folder, or remove it")
    else:
        names = (config.name if n == 1 else f"{config.name}-{n}" for n in range(1, 10_000))
        folder = next(f for f in map(Path("runs").joinpath, names) if not f.exists())
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / "config.json") as temporary:
        temporary.write_text(json.dumps({"delira_nca": __version__, **asdict(config)}, indent=2) + "\n")
    return folder


def _callbacks(config: GrowConfig, pool: SamplePool | None, folder: Path, progress: bool) -> list[Any]:
    callbacks: list[Any] = [NaNGuard(), GradientNormalization()]
    if pool is not None:
        damaged = REGIMES[config.regime].num_damaged(config.batch_size)
        callbacks.append(PoolUpdate(pool, num_damaged=damaged, damage="mixed"))
    callbacks.append(WeightAverage(decay=0.99))
    low, high = config.steps
    if config.epochs >= 8:
        short = max(1, round(low / 3))
        first = (short, max(short + 1, round(high / 3)))
        callbacks.append(StepCurriculum(first, (low, high), epochs=max(2, round(0.35 * config.epochs))))
    callbacks += [
        LRSchedulerCallback(
            torch.optim.lr_scheduler.CosineAnnealingLR,
            {"T_max": config.epochs, "eta_min": 0.03 * config.learning_rate},
        ),
        MetricLogger(JSONLSink(folder / "metrics.jsonl"), TensorboardXSink(folder / "events")),
    ]
    return [*callbacks, ProgressBar(("mse", "val_mse"))] if progress else callbacks


def _results(
    config: GrowConfig,
    trainer: PyTorchNetworkTrainer,
    network: BasicNCAModel,
    seed: Tensor,
    target: Tensor,
    folder: Path,
) -> GrowResult:
    horizon = config.steps[1]
    label = target.unsqueeze(0).to(network.device)
    frames = network.record(seed.unsqueeze(0), 5 * horizon, seed=config.seed, keep=list(range(5 * horizon + 1)))
    errors = {n: _log10_error(frames[n], label) for n in (horizon, 5 * horizon)}
    _save_film(frames[: 2 * horizon + 1], folder / "growth.gif")
    healing = {}
    if REGIMES[config.regime].damaged:
        cut = frames[horizon].output_image.clone()
        cut[..., cut.shape[-1] // 2 :] = 0.0
        healed = network.record(cut, 2 * horizon, seed=config.seed, keep=list(range(2 * horizon + 1)))
        healing = {n: _log10_error(healed[n], label) for n in (0, horizon, 2 * horizon)}
        _save_film([frames[horizon], *healed], folder / "healing.gif")
    title = f"{config.name}, {config.regime}"
    save_curves(trainer.history, folder / "curves.png", keys=["mse", "val_mse"], title=title)
    written = {
        "log10_error_after_steps": errors,
        "log10_error_after_cutting_in_half": healing,
        "best_epoch": trainer.best.epoch,
    }
    with replaced(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(written) + "\n")
    return GrowResult(folder, network, errors, healing)


def _log10_error(frame: Prediction, label: Tensor) -> float:
    return math.log10(float(mse(frame.pred, label)))


def _save_film(frames: Sequence[Prediction], path: Path) -> None:
    film = np.concatenate([frame.image_channels_np for frame in frames])
    save_film(to_rgb(crop_to_life(film)), path, scale=8)
