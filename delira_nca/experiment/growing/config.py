"""The description of a run that grows a picture."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from delira_nca._version import __version__
from delira_nca.errors import ConfigError, MissingDependencyError, refuse_unknown_keywords, require_choice
from delira_nca.io.files import replaced
from delira_nca.models import interpret_range_parameter
from delira_nca.training.devices import choose_device

__all__ = ["PRECISIONS", "REGIMES", "GrowConfig", "Regime", "read_config", "write_config"]


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


def write_config(config: GrowConfig, path: Path) -> None:
    """Write a config beside its results."""
    with replaced(path) as temporary:
        temporary.write_text(json.dumps({"delira_nca": __version__, **asdict(config)}, indent=2) + "\n")


def read_config(path: Path) -> GrowConfig:
    """Read what :func:`write_config` wrote.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If it is no config of such a run.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is no config of a run that grows a picture")
    values.pop("delira_nca", None)
    known = [field.name for field in fields(GrowConfig)]
    refuse_unknown_keywords(str(path), [name for name in values if name not in known], known)
    return GrowConfig(**{**values, "steps": tuple(values.get("steps", GrowConfig.steps))})
