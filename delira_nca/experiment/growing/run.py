"""Grow a picture from one cell: target, automaton, pool, training, film."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.data_loading import DataManager, repeat
from delira_nca.data_loading.sources import dahlia, emoji, load_image, place
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment.growing.config import REGIMES, GrowConfig, read_config, write_config
from delira_nca.export.html import to_html
from delira_nca.export.live_page import LivePage
from delira_nca.io.files import replaced
from delira_nca.io.run_folder import claim_folder, write_environment
from delira_nca.logging import JSONLSink, TensorboardXSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, Perception, Prediction, make_seed, presets
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
from delira_nca.visualization import crop_to_life, save_curves, save_film, save_picture, to_rgb

__all__ = ["GrowResult", "grow", "resume_growing"]


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

    def figures(self) -> dict[str, str]:
        """What the live page tells of the run, in words."""
        told = {"parameters": f"{self.network.num_trainable_parameters():,}"}
        told |= {f"log10 error after {n} steps": f"{error:.2f}" for n, error in self.log10_errors.items()}
        return told | {
            f"{n} steps after losing a half" if n else "with one half cut off": f"{error:.2f}"
            for n, error in self.log10_errors_healing.items()
        }


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
    target = place(_target(config), config.size + 2 * config.padding)
    return _run(config, torch.from_numpy(target), _claim_folder(config), progress=progress, resume="never")


def resume_growing(folder: str | os.PathLike[str], *, progress: bool = True) -> GrowResult:
    """Finish a run of :func:`grow` that was ended before its last epoch: bit for bit as if it had not been.

    Parameters
    ----------
    folder : of the run.
    progress : whether to show how far it is.

    Raises
    ------
    MissingFileError
        If there is no run in the folder.
    CheckpointError, RunLockedError
        If there are checkpoints but none is sound, or another process works on the run.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not (folder / "target.npy").is_file():
        raise MissingFileError(f"there is no run to resume in {folder}: config.json or target.npy is missing")
    config = read_config(folder / "config.json")
    config.check()
    target = torch.from_numpy(np.load(folder / "target.npy", allow_pickle=False))
    return _run(config, target, folder, progress=progress, resume="auto")


def _run(config: GrowConfig, target: Tensor, folder: Path, *, progress: bool, resume: str) -> GrowResult:
    with isolated_rng(config.seed):
        network = BasicNCAModel(
            **presets.growing(
                perception=Perception("identity", "sobel", "laplacian"),  # learns in fewer iterations
                training_timesteps=tuple(config.steps),
                inference_timesteps=config.steps[1],
            )
        )
    seed = make_seed(network.num_channels, target.shape[1:])
    pool = SamplePool(seed, config.pool_size, rng_seed=config.seed) if REGIMES[config.regime].pool else None
    shown: dict[str, Any] = {"title": config.name, "seed": seed, "target": target, "steps": config.steps[1]}
    callbacks = [*_callbacks(config, pool, folder, progress), LivePage(folder / "live.html", **shown)]
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
    with replaced(folder / "target.npy") as temporary, temporary.open("wb") as file:
        np.save(file, target.numpy())
    pair = {"data": seed, "label": target}
    with (
        DataManager(repeat(pair, config.batch_size * config.iterations), config.batch_size) as train,
        DataManager(repeat(pair, 4), 4) as valid,
    ):
        best = trainer.train(config.epochs, train, valid, "mse", "lowest", resume=resume)
    result = _results(config, trainer, best, seed, target, folder)
    to_html(best, folder / "live.html", figures=result.figures(), **shown)
    return result


def _target(config: GrowConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    if config.target is not None:
        return load_image(config.target, config.size)
    return emoji(config.emoji, config.size) if config.emoji is not None else dahlia(config.size)


def _claim_folder(config: GrowConfig) -> Path:
    if REGIMES[config.regime].pool:
        damaged = REGIMES[config.regime].num_damaged(config.batch_size)
        SamplePool(torch.zeros(1, 1, 1), config.pool_size).check_batch_size(config.batch_size, 1, damaged)
    if config.out is None:
        folder = claim_folder("runs", config.name)
    else:
        folder = Path(config.out)
        if (folder / "config.json").exists():
            raise ConfigError(f"{folder} already holds a run: give another folder, remove it, or resume it")
        folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder / "config.json")
    write_environment(folder)
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
    result = GrowResult(folder, network, errors, healing)
    written = {
        "log10_error_after_steps": errors,
        "log10_error_after_cutting_in_half": healing,
        "best_epoch": trainer.best.epoch,
        "figures": result.figures(),
    }
    with replaced(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(written) + "\n")
    return result


def _log10_error(frame: Prediction, label: Tensor) -> float:
    return math.log10(float(mse(frame.pred, label)))


def _save_film(frames: Sequence[Prediction], path: Path) -> None:
    film = np.concatenate([frame.image_channels_np for frame in frames])
    save_film(to_rgb(crop_to_life(film)), path, scale=8)
