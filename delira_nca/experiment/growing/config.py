"""The description of a run that grows a picture."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, MissingDependencyError, refuse_unknown_keywords, require_choice
from delira_nca.models import interpret_range_parameter
from delira_nca.rollout.native_library import available
from delira_nca.training.callbacks.stopping import to_seconds
from delira_nca.training.run_environment import choose_device

__all__ = ["PRECISIONS", "QUALITIES", "REGIMES", "GrowConfig", "Regime"]


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


REGIMES = {"growing": Regime(False, 0), "persistent": Regime(True, 0), "regenerating": Regime(True, 3)}


QUALITIES: dict[str, dict[str, Any]] = {
    "draft": {"size": 28, "steps": (20, 32), "epochs": 20, "pool_size": 128},
    "good": {},
    "fine": {"size": 48, "padding": 10, "steps": (36, 52), "epochs": 100},
}
"""Name of a quality to the settings that it changes; docs/growing.rst says how long each takes and how good it is."""

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
        Cells along the longer side of the picture.
    padding : int
        Empty cells on each side of it.
    steps : (int, int)
        Roll-outs of training take ``steps[0]`` to ``steps[1] - 1`` steps; the upper number is the horizon, at which
        results are measured. A training of at least 8 epochs begins with roll-outs of a third of that.
    fire_rate : float
        Probability that a cell takes its update in a step. With less than 1, no clock drives the cells, as in the
        papers; the picture then needs more steps and a longer training.
    regime : str
        ``"growing"``, ``"persistent"`` or ``"regenerating"``.
    epochs, iterations : int
        Number of epochs, and of iterations of each.
    batch_size, pool_size : int
        States of an iteration, and states in the pool.
    state_noise : float
        Standard deviation of the noise on the states that are drawn from the pool, so that the pattern stays.
    learning_rate : float
        Highest learning rate of Adam, which warms up to it and then falls along a cosine. Results are those of the
        exponential average of the weights over about 100 iterations.
    save_seconds : float
        Seconds between two checkpoints: the most that a kill costs.
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
        """Config with the settings of a quality, except those that are given.

        Parameters
        ----------
        quality : {"draft", "good", "fine"}
            Name of the quality.
        **changes
            Settings to choose otherwise.

        Raises
        ------
        UnknownNameError, UnknownKeywordError
            With the nearest right name.

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
        """Config with a precision that this machine computes in, after a check of all settings.

        Raises
        ------
        ConfigError, UnknownNameError, MissingDependencyError
            For settings that cannot work: the value, what was expected, and the nearest right name.
        """
        numbers: dict[str, Any] = {}
        if self.emoji is not None and self.target != GrowConfig.target:
            raise ConfigError(f"give a target ({self.target!r}) or an emoji ({self.emoji!r}), not both")
        require_choice("regime", self.regime, REGIMES)
        if not isinstance(self.steps, (tuple, list)):
            raise ConfigError(f"steps are two numbers, low and high, not {self.steps!r}")
        interpret_range_parameter(tuple(self.steps))  # type: ignore[arg-type]  # the range is checked there
        least = dict.fromkeys(("size", "epochs", "iterations", "batch_size", "pool_size"), 1)
        for name, lowest in {**least, "padding": 0, "seed": 0}.items():
            numbers[name] = require_whole(name, getattr(self, name), lowest)
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
        """Values of the :class:`~delira_nca.experiment.RunConfig` of the run, which name every part of the recipe.

        docs/growing.rst says what each part is worth.

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
        cycle |= {"final_div_factor": 6.7, "cycle_momentum": False}  # from a fifth of the highest rate to 3 % of it
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
                "save_best": False,  # the weights of the best epoch are in every checkpoint
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
        """Callbacks that a training on a grid of that side consists of."""
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
        """Arguments of roll-outs that lengthen from a third of the steps; None for a training too short for that."""
        if self.epochs < 8:
            return None
        low, high = self.steps
        short = max(1, round(low / 3))
        first = [short, max(short + 1, round(high / 3))]
        return {"first": first, "last": [low, high], "epochs": max(2, round(0.35 * self.epochs))}

    @property
    def name(self) -> str:
        """Name of what is grown."""
        if self.emoji is not None:
            return "emoji-" + "-".join(f"{ord(character):x}" for character in self.emoji)
        return Path(self.target).stem


def _precision(asked: str, device: torch.device) -> str:
    """Precision of training on a device; bfloat16 where the device has instructions for it."""
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
