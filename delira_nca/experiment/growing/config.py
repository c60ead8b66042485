"""The description of a run that grows a picture."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from delira_nca._version import __version__
from delira_nca.checks import is_number, is_whole
from delira_nca.errors import ConfigError, MissingDependencyError, refuse_unknown_keywords, require_choice
from delira_nca.io.files import replaced
from delira_nca.models import interpret_range_parameter
from delira_nca.rollout.native_library import available
from delira_nca.training.callbacks.stopping import to_seconds
from delira_nca.training.run_environment import choose_device

__all__ = ["PRECISIONS", "QUALITIES", "REGIMES", "GrowConfig", "Regime", "read_config", "write_config"]


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
    """Description of a run that grows a picture: plain values, which are stored beside its results.

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
            value = getattr(self, name)
            if not is_whole(value) or value < lowest:
                raise ConfigError(f"{name} is a whole number of at least {lowest}, not {value!r}")
            numbers[name] = int(value)
        for name, highest in (("fire_rate", 1.0), ("learning_rate", math.inf)):
            value = getattr(self, name)
            if not is_number(value) or not 0 < value <= highest or value == math.inf:
                upper = " and at most 1" if highest == 1 else ""
                raise ConfigError(f"{name} is above 0{upper}, not {value!r}")
            numbers[name] = float(value)
        if not is_number(self.state_noise) or not 0 <= self.state_noise < math.inf:
            raise ConfigError(f"state_noise is a standard deviation of at least 0, not {self.state_noise!r}")
        numbers["state_noise"] = float(self.state_noise)
        numbers["save_seconds"] = to_seconds(self.save_seconds)
        require_choice("precision", self.precision, PRECISIONS)
        device = choose_device(device=self.device)
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingDependencyError("the curves need matplotlib: pip install 'delira_nca[viz]'")
        low, high = map(int, self.steps)
        return replace(self, **numbers, steps=(low, high), precision=_precision(self.precision, device))

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


def write_config(config: GrowConfig, path: Path) -> None:
    """Write a config beside its results."""
    with replaced(path) as temporary:
        temporary.write_text(
            json.dumps({"delira_nca": __version__, **asdict(config)}, indent=2) + "\n", encoding="utf-8"
        )


def read_config(path: Path) -> GrowConfig:
    """Read what :func:`write_config` wrote.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If the file is not the config of such a run, or that of an older version, which trained differently.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not the config of a run that grows a picture")
    values.pop("delira_nca", None)
    known = [field.name for field in fields(GrowConfig)]
    refuse_unknown_keywords(str(path), [name for name in values if name not in known], known)
    if values.get("target") is None:
        raise ConfigError(
            f"{path} is from an older version, which trained in another way: grow the picture again, or finish the run "
            "with that version"
        )
    values.setdefault("state_noise", 0.0)  # older versions trained without
    return GrowConfig(**{**values, "steps": tuple(values["steps"])})
