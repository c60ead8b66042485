"""Grow a picture from one cell: target, automaton, pool, training, film."""

from __future__ import annotations

import functools
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
from delira_nca.data_loading.sources import emoji, load_target, place
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment.growing.config import REGIMES, GrowConfig, read_config, write_config
from delira_nca.experiment.growing.estimate import expected_seconds
from delira_nca.export.live_page import LivePage
from delira_nca.io.files import make_folder, replaced
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute, shown
from delira_nca.io.run_folder import claim_folder, is_abandoned, kept_if_trained, write_environment
from delira_nca.logging import JSONLSink, TensorboardXSink
from delira_nca.losses import mse, overflow
from delira_nca.models import BasicNCAModel, MLPRule, Perception, Prediction, make_seed, presets
from delira_nca.rollout.backends import begin_run
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    Checkpoint,
    GradientNormalization,
    LRSchedulerCallback,
    MetricLogger,
    NaNGuard,
    PoolUpdate,
    ProgressBar,
    RolloutLoss,
    StepCurriculum,
    WeightAverage,
)
from delira_nca.visualization import Preview, save_curves, save_growth_film, save_picture, to_rgb

__all__ = ["GrowResult", "grow", "make_callbacks", "make_network", "resume_growing"]


@dataclass(frozen=True)
class GrowResult:
    """Result of a run.

    Attributes
    ----------
    folder : Path
        Folder of its files.
    network : BasicNCAModel
        Automaton of the best epoch.
    log10_errors : mapping of int to float
        Number of steps after the seed to the log10 of the mean squared error over the grid, RGBA.
    log10_errors_healing : mapping of int to float
        The same by the number of steps after one half of the grown picture was cut off; empty where nothing was trained
        to heal.
    """

    folder: Path
    network: BasicNCAModel
    log10_errors: Mapping[int, float]
    log10_errors_healing: Mapping[int, float]

    def figures(self) -> dict[str, str]:
        """Figures of the run by name, as the live page shows them."""
        shown = {"parameters": f"{self.network.num_trainable_parameters():,}"}
        shown |= {f"log10 error after {n} steps": f"{error:.2f}" for n, error in self.log10_errors.items()}
        return shown | {
            f"{n} steps after losing a half" if n else "with one half cut off": f"{error:.2f}"
            for n, error in self.log10_errors_healing.items()
        }


def grow(config: GrowConfig, *, progress: bool = True) -> GrowResult:
    """Train an automaton to grow a picture, and leave films, a live page, curves, numbers and checkpoints in a folder.

    While it trains, ``live.html`` and ``preview.png`` are renewed every few seconds, and the state of the run is saved
    every ``save_seconds``.

    Parameters
    ----------
    config : GrowConfig
        Description of the run.
    progress : bool
        Whether to show the progress, and the time that is left, on standard error.

    Raises
    ------
    ConfigError, UnknownNameError, MissingFileError, MissingDependencyError
        Before anything is written: for a config that cannot work, a picture without transparency, a folder that
        already holds a run.
    """
    config = config.checked()
    size = config.size + 2 * config.padding
    target = place(emoji(config.emoji, config.size) if config.emoji else load_target(config.target, config.size), size)
    folder, is_new = _claim_folder(config)
    checkpoints = folder / "checkpoints"
    with kept_if_trained(folder, lambda: bool(checkpoints_in(checkpoints)), is_new=is_new):
        write_environment(folder)
        write_config(config, folder / "config.json")
        return _run(config, torch.from_numpy(target), folder, progress=progress, resume="never")


def resume_growing(folder: str | os.PathLike[str], *, progress: bool = True) -> GrowResult:
    """Finish a run of :func:`grow` that was ended before its last epoch; the result is equal bit for bit.

    Parameters
    ----------
    folder : path
        Folder of the run.
    progress : bool
        Whether to show the progress on standard error.

    Raises
    ------
    MissingFileError
        If there is no run in the folder.
    CheckpointError, RunLockedError
        If there are checkpoints but none is sound, or another process works on the run.
    """
    folder = absolute(folder)
    if not (folder / "config.json").is_file() or not (folder / "target.npy").is_file():
        raise MissingFileError(f"there is no run to resume in {folder}: config.json or target.npy is missing")
    config = read_config(folder / "config.json").checked()
    target = torch.from_numpy(np.load(folder / "target.npy", allow_pickle=False))
    return _run(config, target, folder, progress=progress, resume="auto")


def _run(config: GrowConfig, target: Tensor, folder: Path, *, progress: bool, resume: str) -> GrowResult:
    network = make_network(config)
    seed = make_seed(network.num_channels, target.shape[1:])
    page = LivePage(
        folder / "live.html",
        title=config.name,
        seed=seed,
        target=target,
        steps=config.steps[1],
        keys={"val_mse": "log10 error"},
        log10=True,
    )
    heals = REGIMES[config.regime].damaged > 0
    preview = Preview(folder / "preview.png", seed, target, steps=config.steps[1], heals=heals, title=config.name)
    callbacks = [*make_callbacks(config, seed), MetricLogger(*_sinks(folder)), page, preview]
    trainer = PyTorchNetworkTrainer(
        network,
        folder / "checkpoints",
        {"mse": mse},
        torch.optim.Adam,
        {"lr": config.learning_rate},
        callbacks=[*callbacks, Checkpoint(every_seconds=config.save_seconds, best=False)],
        device=config.device,
        seed=config.seed,
        mixed_precision=config.precision != "float32",
        mixed_precision_kwargs={"dtype": config.precision} if config.precision != "float32" else None,
    )
    if progress:
        trainer.register_callback(_progress_bar(config, trainer, target, page))
    save_picture(to_rgb(target.numpy()), folder / "target.png")
    with replaced(folder / "target.npy") as temporary, temporary.open("wb") as file:
        np.save(file, target.numpy())
    pair = {"data": seed, "label": target}
    with (
        DataManager(repeat(pair, config.batch_size * config.iterations), config.batch_size) as train,
        DataManager(repeat(pair, 4), 4) as valid,
    ):
        try:
            best = trainer.train(config.epochs, train, valid, "mse", "lowest", resume=resume)
        except KeyboardInterrupt:
            if not checkpoints_in(folder / "checkpoints"):
                raise
            raise KeyboardInterrupt(f"'delira-nca resume {folder}' resumes the run") from None
    result = _results(config, trainer, best, seed, target, folder)
    page.finish(trainer, result.figures())
    return result


def _claim_folder(config: GrowConfig) -> tuple[Path, bool]:
    """Folder of a run, and whether it was made for it."""
    if REGIMES[config.regime].pool:
        damaged = REGIMES[config.regime].num_damaged(config.batch_size)
        SamplePool(torch.zeros(1, 1, 1), config.pool_size).check_batch_size(config.batch_size, 1, damaged)
    if config.out is None:
        return claim_folder("runs", config.name), True
    folder = absolute(config.out)
    if (folder / "config.json").exists() and not is_abandoned(folder):
        raise ConfigError(f"{folder} already holds a run: give another folder, remove it, or resume it")
    is_new = not folder.exists()
    return make_folder(folder), is_new


def make_network(config: GrowConfig, **changes: Any) -> BasicNCAModel:
    """Untrained automaton of a run; the changes are arguments of the model to set otherwise."""
    with isolated_rng(config.seed):
        return BasicNCAModel(
            **presets.growing(
                **{
                    # features of one size: gradients and the Laplacian are as large as the state itself
                    "perception": Perception("identity", "sobel", "laplacian", sobel_scale=4.0, laplacian_scale=0.4),
                    "rule": MLPRule(96, final_bias=True),
                    "fire_rate": config.fire_rate,
                    "training_timesteps": config.steps,
                    "inference_timesteps": config.steps[1],
                    **changes,
                }
            )
        )


def make_callbacks(config: GrowConfig, seed: Tensor) -> list[Any]:
    """Callbacks that a training consists of; docs/growing.rst says what each of them is worth."""
    callbacks: list[Any] = [NaNGuard(), GradientNormalization()]
    if REGIMES[config.regime].pool:
        pool = SamplePool(seed, config.pool_size, rng_seed=config.seed)
        damaged = REGIMES[config.regime].num_damaged(config.batch_size)
        callbacks.append(PoolUpdate(pool, num_damaged=damaged, damage="mixed", noise=config.state_noise))
    # channels that no loss reaches would grow without bound after hundreds of steps
    bounded = functools.partial(overflow, limit=1.0, squared=True, reduction="mean")
    callbacks.append(RolloutLoss(bounded, name="overflow", weight=0.1, num_steps=1))
    callbacks.append(WeightAverage(decay=0.99))
    if (curriculum := _curriculum(config)) is not None:
        callbacks.append(curriculum)
    cycle = {"max_lr": config.learning_rate, "total_steps": config.epochs, "pct_start": 0.25, "div_factor": 5}
    cycle |= {"final_div_factor": 6.7, "cycle_momentum": False}  # from a fifth of the highest rate to 3 % of it
    return [*callbacks, LRSchedulerCallback(torch.optim.lr_scheduler.OneCycleLR, cycle)]


def _curriculum(config: GrowConfig) -> StepCurriculum | None:
    """Roll-outs that lengthen from a third of the steps; none for a training that is too short for that."""
    if config.epochs < 8:
        return None
    low, high = config.steps
    short = max(1, round(low / 3))
    return StepCurriculum(
        (short, max(short + 1, round(high / 3))), (low, high), epochs=max(2, round(0.35 * config.epochs))
    )


def _sinks(folder: Path) -> list[Any]:
    return [JSONLSink(folder / "metrics.jsonl"), TensorboardXSink(folder / "events")]


def _progress_bar(config: GrowConfig, trainer: PyTorchNetworkTrainer, target: Tensor, page: LivePage) -> ProgressBar:
    """Bar that knows from the start how long the training will take."""
    begin_run(trainer.run_id)  # what the estimate logs of its back end is not repeated in the training
    curriculum = _curriculum(config)
    ranges = [curriculum.steps(e) if curriculum else config.steps for e in range(1, config.epochs + 1)]
    steps = [(low + high - 1) / 2 for low, high in ranges]
    expected = expected_seconds(trainer.network, target, config.batch_size, config.iterations, steps)
    return ProgressBar({"val_mse": "log10 error"}, log10=True, look_at=shown(page.path), expected_seconds=expected)


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
    old = network.predict(frames[-1].output_image, 45 * horizon, seed=config.seed + 1)
    errors[50 * horizon] = _log10_error(old, label)
    growth = _states(frames[: round(1.5 * horizon) + 1])
    healing, healed = {}, None
    if REGIMES[config.regime].damaged:
        cut = frames[round(1.5 * horizon)].output_image.clone()
        cut[..., cut.shape[-1] // 2 :] = 0.0
        healed = network.record(cut, horizon, seed=config.seed, keep=list(range(horizon + 1)))
        healing = {n: _log10_error(healed[n], label) for n in (0, horizon)}
    save_growth_film(growth, None if healed is None else _states(healed), folder / "film.gif")
    title = f"{config.name}, {config.regime}"
    save_curves(trainer.history, folder / "curves.png", keys=["mse", "val_mse"], title=title)
    result = GrowResult(folder, network, errors, healing)
    written = {
        "log10_error_after_steps": errors,
        "log10_error_after_cutting_in_half": healing,
        "best_epoch": trainer.best.epoch,
        "figures": result.figures(),
        **trainer.computation(),
    }
    with replaced(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(written) + "\n", encoding="utf-8")
    return result


def _log10_error(frame: Prediction, label: Tensor) -> float:
    return math.log10(float(mse(frame.pred, label)))


def _states(frames: Sequence[Prediction]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.concatenate([frame.image_channels_np for frame in frames])
