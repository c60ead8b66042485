"""Grow a picture from one cell: a run with a film, a live page and curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.data_loading.sources import emoji, load_target, place
from delira_nca.errors import ConfigError
from delira_nca.experiment.config import RunConfig
from delira_nca.experiment.growing.config import REGIMES, GrowConfig
from delira_nca.experiment.growing.estimate import GrowthBar
from delira_nca.experiment.growing.page import figures_of
from delira_nca.experiment.run import Run, write_run
from delira_nca.io.files import make_folder, replaced
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute, shown
from delira_nca.io.run_folder import claim_folder, is_abandoned, kept_if_trained
from delira_nca.models import BasicNCAModel
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import ProgressBar, StepCurriculum
from delira_nca.visualization import save_picture, to_rgb

__all__ = ["GrowResult", "grow", "is_growing", "resume_growing"]


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
        return figures_of(self.network, dict(self.log10_errors), dict(self.log10_errors_healing))


def grow(config: GrowConfig, *, progress: bool = True) -> GrowResult:
    """Train an automaton to grow a picture, and leave films, a live page, curves, numbers and checkpoints in a folder.

    The folder is that of a :class:`~delira_nca.experiment.Run`, which can be shown, compared, validated, resumed and
    exported like any other. While it trains, ``live.html`` and ``preview.png`` are renewed every few seconds, and the
    state of the run is saved every ``save_seconds``.

    Parameters
    ----------
    config : GrowConfig
        Settings of the run.
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
    with kept_if_trained(folder, lambda: bool(checkpoints_in(folder / "checkpoints")), is_new=is_new):
        with replaced(folder / "target.npy") as temporary, temporary.open("wb") as file:
            np.save(file, target)
        save_picture(to_rgb(target), folder / "target.png")
        write_run(RunConfig.from_dict(config.run_config(folder.name), folder), folder)
        run = Run.open(folder)
        return _train(run, "never", _bar(config, torch.from_numpy(target), folder) if progress else None)


def resume_growing(folder: str | os.PathLike[str], *, progress: bool = True) -> GrowResult:
    """Finish a run of :func:`grow` that was stopped before its last epoch; the result is equal bit for bit.

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
    if not (folder / "config.yaml").is_file() and (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is from an older version, which trained in another way: grow the picture again, or finish the "
            "run with that version"
        )
    run = Run.open(folder)
    if not is_growing(run.config):
        raise ConfigError(f"the run in {folder} does not grow a picture: resume it with Run.open(...).train()")
    return _train(run, "auto", ProgressBar(**_shown(folder)) if progress else None)


def is_growing(config: RunConfig) -> bool:
    """Whether a run was begun by :func:`grow`."""
    return any(str(part.get("class_path")).endswith(".GrowthPage") for part in config.callbacks)


def _train(run: Run, resume: str, bar: ProgressBar | None) -> GrowResult:
    outcome = run.train(resume=resume, callbacks=() if bar is None else [bar]).outcome
    errors, healing = ({int(n): error for n, error in outcome[name].items()} for name in _ERRORS)
    return GrowResult(run.folder, run.network(), errors, healing)


_ERRORS = ("log10_error_after_steps", "log10_error_after_cutting_in_half")


def _bar(config: GrowConfig, target: Tensor, folder: Path) -> ProgressBar:
    """Bar that knows from the start how long the training will take."""
    given = config.curriculum()
    curriculum = None if given is None else StepCurriculum(**given)
    ranges = [config.steps if curriculum is None else curriculum.steps(e) for e in range(1, config.epochs + 1)]
    steps = [(low + high - 1) / 2 for low, high in ranges]
    return GrowthBar(target, config.batch_size, config.iterations, steps, **_shown(folder))


def _shown(folder: Path) -> dict[str, Any]:
    """Options of a progress bar."""
    return {"keys": {"val_mse": "log10 error"}, "log10": True, "look_at": shown(folder / "live.html")}


def _claim_folder(config: GrowConfig) -> tuple[Path, bool]:
    """Folder of a run, and whether it was made for it."""
    if REGIMES[config.regime].pool:
        damaged = REGIMES[config.regime].num_damaged(config.batch_size)
        SamplePool(torch.zeros(1, 1, 1), config.pool_size).check_batch_size(config.batch_size, 1, damaged)
    if config.out is None:
        return claim_folder("runs", config.name), True
    folder = absolute(config.out)
    if any((folder / name).exists() for name in ("config.yaml", "config.json")) and not is_abandoned(folder):
        raise ConfigError(f"{folder} already holds a run: give another folder, remove it, or resume it")
    is_new = not folder.exists()
    return make_folder(folder), is_new
