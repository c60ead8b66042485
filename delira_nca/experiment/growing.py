"""Training of an automaton that grows a picture from one cell, with a film, a live page and curves."""

from __future__ import annotations

import copy
import functools
import importlib.util
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from delira_nca.checks import require_number, require_whole
from delira_nca.data_loading import AbstractDataset, repeat
from delira_nca.data_loading.sources import emoji, load_target, place
from delira_nca.errors import (
    ConfigError,
    MissingDependencyError,
    MissingFileError,
    refuse_unknown_keywords,
    require_choice,
)
from delira_nca.experiment.config import RunConfig
from delira_nca.experiment.run import Run, write_run
from delira_nca.export.live_page import LivePage
from delira_nca.io.files import make_folder, replaced
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute, shown
from delira_nca.io.run_folder import claim_folder, is_abandoned, kept_if_trained
from delira_nca.logging import TensorboardXSink
from delira_nca.losses import mse, overflow
from delira_nca.models import (
    BasicNCAModel,
    MLPRule,
    Perception,
    Prediction,
    interpret_range_parameter,
    make_seed,
    presets,
)
from delira_nca.rollout.native_library import available
from delira_nca.seeding import isolated_rng
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import MetricLogger, RolloutLoss, StepCurriculum
from delira_nca.training.callbacks.abstract_callback import Trainer
from delira_nca.training.callbacks.reporting import ProgressBar
from delira_nca.training.callbacks.stopping import to_seconds
from delira_nca.training.run_environment import choose_device
from delira_nca.visualization import Preview, save_curves, save_growth_film, save_picture, to_rgb

__all__ = [
    "PRECISIONS",
    "QUALITIES",
    "REGIMES",
    "GrowConfig",
    "GrowResult",
    "GrowthBar",
    "GrowthPage",
    "Regime",
    "bounded_states",
    "event_log",
    "expected_seconds",
    "figures_of",
    "grow",
    "growing_network",
    "growth_preview",
    "is_growing",
    "load_target_array",
    "pairs",
    "resume_growing",
]


@dataclass(frozen=True)
class Regime:
    """Training regime of Mordvintsev et al. (2020).

    Parameters
    ----------
    pool : bool
        Whether to train on a pool of states, which makes the pattern persistent.
    damaged : int
        Number of states out of eight that are damaged, so that the automaton learns to regenerate.
    """

    pool: bool
    damaged: int

    def num_damaged(self, batch_size: int) -> int:
        """Number of damaged states in a batch: three out of eight as in the article, and at least one."""
        return max(1, self.damaged * batch_size // 8) if self.damaged else 0


REGIMES = {"growing": Regime(False, 0), "persistent": Regime(True, 0), "regenerating": Regime(True, 3)}


QUALITIES: dict[str, dict[str, Any]] = {
    "draft": {"size": 28, "steps": (20, 32), "epochs": 20, "pool_size": 128},
    "good": {},
    "fine": {"size": 48, "padding": 10, "steps": (36, 52), "epochs": 100},
}
"""Changed settings by quality; docs/growing.rst lists the duration and the error of each."""

PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class GrowConfig:
    """Settings of a run that grows a picture; :meth:`run_config` is the whole description, which is stored.

    The defaults are the quality ``"good"``; :meth:`of_quality` has others.

    Parameters
    ----------
    target : str
        Name of a drawing, see :data:`delira_nca.data_loading.sources.DRAWINGS`, or file of a picture with
        transparency.
    emoji : str, optional
        Emoji to grow instead, from a colour-emoji font of the system.
    size : int
        Number of cells along the longer side of the picture.
    padding : int
        Number of empty cells on each side of the picture.
    steps : (int, int)
        Roll-outs of training take ``steps[0]`` to ``steps[1] - 1`` steps. The upper number is the horizon, at which
        results are measured. A training of at least 8 epochs starts with roll-outs of a third of these steps.
    fire_rate : float
        Probability that a cell is updated in a step. Values below 1 make updates asynchronous, as in the papers, and
        require more steps and a longer training.
    regime : str
        ``"growing"``, ``"persistent"`` or ``"regenerating"``.
    epochs, iterations : int
        Number of epochs, and of iterations per epoch.
    batch_size, pool_size : int
        Number of states per iteration, and in the pool.
    state_noise : float
        Standard deviation of the noise on states drawn from the pool, which makes the pattern stable.
    learning_rate : float
        Maximum learning rate of Adam, with warm-up and cosine decay. Results are those of the exponential moving
        average of the weights over about 100 iterations.
    save_seconds : float
        Seconds between two checkpoints, and so the maximum time lost if the process is killed.
    out : str, optional
        Folder of the run; the first free of ``runs/<name>``, ``runs/<name>-2``, ... by default.
    seed : int
        Seed of all random numbers.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    precision : str
        ``"float32"``; ``"bfloat16"`` for the matrix products of training, with float32 states and sums, where the
        processor has instructions for it; ``"auto"`` for bfloat16 there and float32 elsewhere.
    """

    target: str = "lizard"
    emoji: str | None = None
    size: int = 36
    padding: int = 8
    steps: tuple[int, int] = (28, 40)
    fire_rate: float = 1.0
    regime: str = "regenerating"
    epochs: int = 50
    iterations: int = 50
    batch_size: int = 3
    pool_size: int = 256
    state_noise: float = 0.03
    learning_rate: float = 4e-3
    save_seconds: float = 30.0
    out: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"

    @classmethod
    def of_quality(cls, quality: str = "good", **changes: Any) -> GrowConfig:
        """Config with the settings of a quality, and given changes.

        Parameters
        ----------
        quality : {"draft", "good", "fine"}
            Name of the quality.
        **changes
            Settings to change.

        Examples
        --------
        >>> GrowConfig.of_quality("draft", target="fish", padding=4).size
        28
        """
        require_choice("quality", quality, QUALITIES)
        known = [field.name for field in fields(cls)]
        refuse_unknown_keywords(cls.__name__, [name for name in changes if name not in known], known)
        return cls(**{**QUALITIES[quality], **changes})

    def checked(self) -> GrowConfig:
        """Check all settings, and return the config with a precision that this machine supports."""
        numbers: dict[str, Any] = {}
        if self.emoji is not None and not self.emoji.strip():
            raise ConfigError("emoji is one character, not an empty text")
        if self.emoji is not None and self.target != GrowConfig.target:
            raise ConfigError(f"give a target ({self.target!r}) or an emoji ({self.emoji!r}), not both")
        require_choice("regime", self.regime, REGIMES)
        if not isinstance(self.steps, (tuple, list)):
            raise ConfigError(f"steps are two numbers, low and high, not {self.steps!r}")
        interpret_range_parameter(tuple(self.steps))  # type: ignore[arg-type]  # the range is checked there
        least = dict.fromkeys(("size", "epochs", "iterations", "batch_size", "pool_size"), 1)
        for name, lowest in {**least, "padding": 0, "seed": 0}.items():
            most = _MOST_CELLS if name in ("size", "padding") else None
            numbers[name] = require_whole(name, getattr(self, name), lowest, most)
        numbers["fire_rate"] = float(require_number("fire_rate", self.fire_rate, most=1, above=0))
        numbers["learning_rate"] = float(require_number("learning_rate", self.learning_rate, above=0))
        numbers["state_noise"] = float(require_number("state_noise", self.state_noise, 0))
        numbers["save_seconds"] = to_seconds(self.save_seconds)
        require_choice("precision", self.precision, PRECISIONS)
        device = choose_device(device=self.device)
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingDependencyError("the curves need matplotlib: pip install 'delira_nca[viz]'")
        low, high = map(int, self.steps)
        return replace(self, **numbers, steps=(low, high), precision=_precision(self.precision, device))

    def run_config(self, name: str, target: str = "target.npy") -> dict[str, Any]:
        """Values of the :class:`~delira_nca.experiment.RunConfig` of the run, with every part of the recipe.

        docs/growing.rst lists the effect of each part.

        Parameters
        ----------
        name : str
            Name of the run.
        target : str
            File with the picture on its grid, a (4, H, W) array.
        """
        grid = self.size + 2 * self.padding
        heals = REGIMES[self.regime].damaged > 0
        page = {"steps": self.steps[1], "heals": heals, "title": self.name, "target": target}
        cycle = {"max_lr": self.learning_rate, "total_steps": self.epochs, "pct_start": 0.25, "div_factor": 5}
        cycle |= {"final_div_factor": 6.7, "cycle_momentum": False}  # from 20 % of the maximum rate to 3 % of it
        is_half = self.precision != "float32"
        return {
            "name": name,
            "model": _made("experiment.growing.growing_network", steps=list(self.steps), fire_rate=self.fire_rate),
            "data": {
                "train": _made("experiment.growing.pairs", target=target, times=self.batch_size * self.iterations),
                "valid": _made("experiment.growing.pairs", target=target, times=4),
                "batch_size": self.batch_size,
                "val_batch_size": 4,
            },
            "task": {"criterions": {"mse": "delira_nca.losses.mse"}, "score": "mse"},
            "trainer": {
                "lr": self.learning_rate,
                "lr_scheduler_cls": "torch.optim.lr_scheduler.OneCycleLR",
                "lr_scheduler_params": cycle,
                "save_seconds": self.save_seconds,
                "save_best": False,  # every checkpoint contains the weights of the best epoch
                "device": self.device,
                "mixed_precision": is_half,
                "mixed_precision_kwargs": {"dtype": self.precision} if is_half else None,
            },
            "callbacks": [
                *self.recipe(grid),
                _made("experiment.growing.event_log"),
                _made("experiment.growing.GrowthPage", seed=self.seed, **page),
                _made("experiment.growing.growth_preview", **page),
            ],
            "seed": self.seed,
            "num_epochs": self.epochs,
        }

    def recipe(self, grid: int) -> list[dict[str, Any]]:
        """Callbacks of a training on a grid with the given side."""
        training = "training.callbacks."
        found = [_made(training + "NaNGuard"), _made(training + "GradientNormalization")]
        regime = REGIMES[self.regime]
        if regime.pool:
            seed = _made("models.make_seed", num_channels=16, shape=[grid, grid])
            pool = _made("training.SamplePool", seed=seed, capacity=self.pool_size, rng_seed=self.seed)
            damaged = regime.num_damaged(self.batch_size)
            update = {"pool": pool, "num_damaged": damaged, "damage": "mixed", "noise": self.state_noise}
            found.append(_made(training + "PoolUpdate", **update))
        found.append(_made("experiment.growing.bounded_states"))
        found.append(_made(training + "WeightAverage", decay=0.99))
        if (curriculum := self.curriculum()) is not None:
            found.append(_made(training + "StepCurriculum", **curriculum))
        return found

    def curriculum(self) -> dict[str, Any] | None:
        """Arguments of a :class:`StepCurriculum` from a third of the steps, or None for a short training."""
        if self.epochs < 8:
            return None
        low, high = self.steps
        short = max(1, round(low / 3))
        first = [short, max(short + 1, round(high / 3))]
        return {"first": first, "last": [low, high], "epochs": max(2, round(0.35 * self.epochs))}

    @property
    def name(self) -> str:
        """Name of the picture."""
        if self.emoji is not None:
            return "emoji-" + "-".join(f"{ord(character):x}" for character in self.emoji)
        return Path(self.target).stem


def _precision(asked: str, device: torch.device) -> str:
    """Precision of training on a device; bfloat16 if the device has instructions for it."""
    if asked == "float32":
        return asked
    if device.type == "cpu":
        has_bfloat16 = "avx512_bf16" in available()
    else:
        has_bfloat16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "bfloat16" and not has_bfloat16:
        raise ConfigError(f"{device} has no instructions for bfloat16: choose precision float32, or auto")
    return "bfloat16" if has_bfloat16 else "float32"


def _made(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"delira_nca.{path}", "init_args": arguments}


_NUM_CHANNELS = 16
_MOST_CELLS = 2048  # largest size and padding; a larger picture is a mistake


def growing_network(steps: tuple[int, int] = (28, 40), fire_rate: float = 1.0, **changes: Any) -> BasicNCAModel:
    """Untrained automaton of the recipe.

    Parameters
    ----------
    steps : (int, int)
        Roll-outs of training take ``steps[0]`` to ``steps[1] - 1`` steps; others take ``steps[1]`` steps.
    fire_rate : float
        Probability that a cell is updated in a step.
    **changes
        Arguments of the model to change.
    """
    # scaled so that gradients and the Laplacian are as large as the state itself
    perception = Perception("identity", "sobel", "laplacian", sobel_scale=4.0, laplacian_scale=0.4)
    arguments: dict[str, Any] = {
        "perception": perception,
        "rule": MLPRule(96, final_bias=True),
        "fire_rate": fire_rate,
        "training_timesteps": tuple(steps),
        "inference_timesteps": steps[1],
    }
    return BasicNCAModel(**presets.growing(**{**arguments, **changes}))


def load_target_array(path: str | os.PathLike[str]) -> Tensor:
    """Load a picture (4, H, W) on its grid from a ``.npy`` file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MissingFileError(f"{os.fspath(path)!r} cannot be read: {error}") from error
    if array.ndim != 3 or len(array) != 4 or array.dtype != np.float32:
        raise MissingFileError(f"{os.fspath(path)!r} must hold (4, H, W) float32, not {array.shape} {array.dtype}")
    return torch.from_numpy(array)


def seed_for(target: Tensor) -> Tensor:
    """State with one living cell at the centre of the grid of a picture."""
    return make_seed(_NUM_CHANNELS, target.shape[1:])


def pairs(target: str, times: int) -> AbstractDataset:
    """Dataset of one repeated sample: the seed as ``data``, the picture as ``label``.

    Parameters
    ----------
    target : str
        File for :func:`load_target_array`.
    times : int
        Number of samples in an epoch.
    """
    label = load_target_array(target)
    return repeat({"data": seed_for(label), "label": label}, times)


def bounded_states(limit: float = 1.0, weight: float = 0.1) -> RolloutLoss:
    """Loss of values beyond a limit. Hidden channels, which have no other loss, could otherwise grow without bound."""
    term = functools.partial(overflow, limit=limit, squared=True, reduction="mean")
    return RolloutLoss(term, name="overflow", weight=weight, num_steps=1)


def event_log(path: str = "events") -> MetricLogger:
    """Callback that writes event files for TensorBoard."""
    return MetricLogger(TensorboardXSink(absolute(path)))


def growth_preview(
    steps: int, heals: bool, title: str, target: str = "target.npy", path: str = "preview.png"
) -> Preview:
    """Callback that updates a picture of the growth during the training."""
    label = load_target_array(target)
    return Preview(path, seed_for(label), label, steps=steps, heals=heals, title=title)


_STEPS = 24  # number of steps of the timed roll-outs
_OVERHEAD = 0.006  # seconds per iteration in addition to the roll-out: batch, pool, optimizer


def expected_seconds(
    network: BasicNCAModel, target: Tensor, batch_size: int, iterations: int, steps: Sequence[float]
) -> list[float]:
    """Estimate the seconds per epoch by timing a few roll-outs with all cells of the target alive.

    Other load on the machine, now or later, makes the estimate wrong.

    Parameters
    ----------
    network : BasicNCAModel
        Network to train; a copy with random weights is timed.
    target : (4, H, W) tensor
        Picture to grow.
    batch_size, iterations : int
        Number of states per iteration, and of iterations per epoch.
    steps : sequence of float
        Mean number of steps of a roll-out in each epoch.
    """
    trial = copy.deepcopy(network)
    states = torch.zeros(batch_size, network.num_channels, *target.shape[1:], device=network.device)
    states[:, : len(target)] = target.to(states)
    states[:, len(target) :] = 0.1 * (target[3] > 0).to(states)
    with isolated_rng(0):
        for parameter in trial.parameters():
            torch.nn.init.normal_(parameter, std=1e-4)  # states hardly change, and no step is skipped
        seconds = min(_time(trial, states) for _ in range(3))
    return [iterations * (seconds * number / _STEPS + _OVERHEAD) for number in steps]


class GrowthBar(ProgressBar):
    """Progress bar with an estimate of the duration of a training on one picture.

    Parameters
    ----------
    *arguments
        Arguments of :func:`expected_seconds` after the network.
    **options
        Options of :class:`~delira_nca.training.callbacks.ProgressBar`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(**options)
        self._arguments = arguments

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int, **event: Any) -> None:
        """Time a few roll-outs, and create the bar."""
        self.expected_seconds = expected_seconds(cast(BasicNCAModel, trainer.network), *self._arguments)
        super().at_training_begin(trainer, num_epochs=num_epochs, **event)


def _time(network: BasicNCAModel, states: Tensor) -> float:
    begin = time.perf_counter()
    loss = network(states, _STEPS).output_image.square().mean()
    loss.backward()
    loss.item()  # synchronises a GPU
    return time.perf_counter() - begin


class GrowthPage(LivePage):
    """Live page of a run that grows a picture. At the end, it adds a film, curves and errors.

    Attributes
    ----------
    outcome : dict
        After a training: ``log10_error_after_steps`` and ``log10_error_after_cutting_in_half``, the decimal logarithms
        of the mean squared RGBA error over the grid, by the number of steps after the seed and after one half of the
        grown picture was removed; and ``figures``, which the page shows.

    Parameters
    ----------
    steps : int
        Horizon: errors are measured after 1, 5 and 50 times this number of steps.
    heals : bool
        Whether to remove one half and measure the regeneration.
    title : str
        Title of the page.
    target : str
        File for :func:`~delira_nca.experiment.growing.load_target_array`.
    folder : str
        Folder of the page, the film and the curves.
    seed : int
        Seed of the measured roll-outs.
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

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Measure errors, draw, and finish the page; after an interruption, only finish the page."""
        if event.get("exception") is None and trainer.stop_reason is None:
            network = cast(BasicNCAModel, trainer.best_network())
            self.outcome = self._measure(network)
            keys, title = ["mse", "val_mse"], self.options["title"]
            save_curves(trainer.history, self.folder / "curves.png", keys=keys, title=title)
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
    """Figures of a run by name, as shown on the live page."""
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
        Log10 of the mean squared RGBA error over the grid, by the number of steps after the seed.
    log10_errors_healing : mapping of int to float
        The same by the number of steps after one half of the grown picture was removed; empty if regeneration was not
        trained.
    """

    folder: Path
    network: BasicNCAModel
    log10_errors: Mapping[int, float]
    log10_errors_healing: Mapping[int, float]

    def figures(self) -> dict[str, str]:
        """Figures of the run by name, as shown on the live page."""
        return figures_of(self.network, dict(self.log10_errors), dict(self.log10_errors_healing))


def grow(config: GrowConfig, *, progress: bool = True) -> GrowResult:
    """Train an automaton to grow a picture; write films, a live page, curves, metrics and checkpoints to a folder.

    The folder is that of a :class:`~delira_nca.experiment.Run`, which can be shown, compared, validated, resumed and
    exported. During training, ``live.html`` and ``preview.png`` are updated every few seconds, and the state of the run
    is saved every ``save_seconds``.

    Parameters
    ----------
    config : GrowConfig
        Settings of the run.
    progress : bool
        Whether to show the progress and the remaining time on standard error.

    Raises
    ------
    ConfigError, UnknownNameError, MissingFileError, MissingDependencyError
        Before anything is written, for an unsuitable config, a picture without transparency, or a folder that already
        contains a run.
    """
    config = config.checked()
    size = config.size + 2 * config.padding
    picture = load_target(config.target, config.size) if config.emoji is None else emoji(config.emoji, config.size)
    target = place(picture, size)
    folder, is_new = _claim_folder(config)
    with kept_if_trained(folder, lambda: bool(checkpoints_in(folder / "checkpoints")), is_new=is_new):
        with replaced(folder / "target.npy") as temporary, temporary.open("wb") as file:
            np.save(file, target)
        save_picture(to_rgb(target), folder / "target.png")
        write_run(RunConfig.from_dict(config.run_config(folder.name), folder), folder)
        run = Run.open(folder)
        return _train(run, "never", _bar(config, torch.from_numpy(target), folder) if progress else None)


def resume_growing(folder: str | os.PathLike[str], *, progress: bool = True) -> GrowResult:
    """Finish an interrupted run of :func:`grow`; the result is bitwise equal to that of an uninterrupted run.

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
        If checkpoints exist but none is intact, or another process is training in the folder.
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
    """Whether a run was started by :func:`grow`."""
    return any(str(part.get("class_path")).endswith(".GrowthPage") for part in config.callbacks)


def _train(run: Run, resume: str, bar: ProgressBar | None) -> GrowResult:
    outcome = run.train(resume=resume, callbacks=() if bar is None else [bar]).outcome
    # nothing is measured of a run that a callback has stopped before its last epoch
    errors, healing = ({int(n): error for n, error in outcome.get(name, {}).items()} for name in _ERRORS)
    return GrowResult(run.folder, run.network(), errors, healing)


_ERRORS = ("log10_error_after_steps", "log10_error_after_cutting_in_half")


def _bar(config: GrowConfig, target: Tensor, folder: Path) -> ProgressBar:
    """Progress bar with an estimate of the duration of the training."""
    given = config.curriculum()
    curriculum = None if given is None else StepCurriculum(**given)
    ranges = [config.steps if curriculum is None else curriculum.steps(e) for e in range(1, config.epochs + 1)]
    steps = [(low + high - 1) / 2 for low, high in ranges]
    return GrowthBar(target, config.batch_size, config.iterations, steps, **_shown(folder))


def _shown(folder: Path) -> dict[str, Any]:
    """Options of a progress bar."""
    return {"keys": {"val_mse": "log10 error"}, "log10": True, "look_at": shown(folder / "live.html")}


def _claim_folder(config: GrowConfig) -> tuple[Path, bool]:
    """Folder of a run, and whether it was created here."""
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
