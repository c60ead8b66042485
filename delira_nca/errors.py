"""Every error that the package raises on purpose.

An error says what was given, what was expected, and the nearest right name. Each class also derives from the
built-in exception that a caller would guess, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CallbackError",
    "CallbackTypeError",
    "CheckpointError",
    "ConfigError",
    "DeliraNCAError",
    "DistributedError",
    "ExportError",
    "MemoryBudgetError",
    "MissingDependencyError",
    "MissingFileError",
    "NonFiniteError",
    "ParameterKeyError",
    "RunLockedError",
    "ScoreKeyError",
    "ScoreModeError",
    "ShapeError",
    "StateKeyError",
    "StoreError",
    "UnknownKeywordError",
    "UnknownNameError",
    "UnwritableError",
    "did_you_mean",
    "nearest_name",
    "refuse_unknown_keywords",
    "require_choice",
]


class DeliraNCAError(Exception):
    """Base class of all errors of this package."""


class ConfigError(DeliraNCAError, ValueError):
    """An argument has a value that cannot work."""


class MissingFileError(ConfigError, FileNotFoundError):
    """A file was named that is not there, or is not what it should be."""

    __str__ = Exception.__str__  # OSError would look for an errno


class UnwritableError(ConfigError, OSError):
    """A file or folder cannot be made or written; the message has its path and the reason of the system."""

    __str__ = Exception.__str__


class MemoryBudgetError(ConfigError, MemoryError):
    """What was asked for does not fit into memory, however it is computed."""


class ExportError(ConfigError):
    """A model cannot be written in the form that was asked for; the message names the part that does not fit."""


class ShapeError(ConfigError):
    """A tensor has a shape or a number of channels that does not fit."""


class UnknownNameError(ConfigError):
    """A name was given that nothing is registered under."""


class ParameterKeyError(UnknownNameError, KeyError):
    """A parameter that is not there, or is in several places (a ``KeyError`` in a plain dict)."""

    __str__ = Exception.__str__


class UnknownKeywordError(ConfigError, TypeError):
    """A keyword argument that nobody takes (a ``TypeError`` in plain Python)."""


class ScoreKeyError(UnknownNameError):
    """Nobody computes the score that was asked for."""


class ScoreModeError(ConfigError, AssertionError):
    """The direction of a score is none of the known ones (an ``AssertionError`` in delira)."""


class CallbackError(DeliraNCAError, RuntimeError):
    """A callback failed, or is not one."""


class CallbackTypeError(CallbackError, TypeError, AssertionError):
    """What was registered is not a callback (an ``AssertionError`` on delira's API page)."""


class StateKeyError(CallbackError, KeyError):
    """A hook returned a key of the trainer's state that it may not set."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class CheckpointError(DeliraNCAError, RuntimeError):
    """A checkpoint cannot be written, read, or fitted to this trainer."""


class DistributedError(DeliraNCAError, RuntimeError):
    """A process of a training over several is lost or does something else than the others."""


class RunLockedError(DeliraNCAError, RuntimeError):
    """Another process writes to the folder of this run; the message says which, and on what machine."""


class StoreError(DeliraNCAError, RuntimeError):
    """The statistics of a run cannot be written or read."""


class NonFiniteError(DeliraNCAError, ArithmeticError):
    """A loss, a gradient or a state is NaN or infinite."""


class MissingDependencyError(DeliraNCAError, ImportError):
    """An optional package is needed; the message says which and how to get it."""


_SYNONYMS = (
    {"lr", "learningrate"},
    {"batchsize", "bs"},
    {"epochs", "numepochs", "nepochs", "maxepochs"},
    {"iterations", "numiterations", "maxiterations", "maxsteps", "iters"},
    {"numworkers", "workers", "nprocessaugmentation"},
    {"device", "gpu", "gpus", "gpuids", "accelerator"},
    {"optimizer", "optimizercls", "optim"},
    {"scheduler", "lrscheduler", "lrschedulercls"},
    {"criterions", "criterion", "loss", "losses"},
    {"score", "valscorekey", "monitor"},
    {"seed", "randomseed", "randomstate"},
    {"valfreq", "validationinterval", "valinterval", "checkvaleverynepoch"},
    {"savefreq", "checkpointfreq"},
    {"savepath", "out", "output", "outputdir", "outdir", "root", "rootdir", "defaultrootdir"},
)
"""Names of one setting in this and other packages, in lower case and without separators."""


def _synonym(name: str, names: Iterable[str]) -> str | None:
    """The known name, or the last part of a dotted one, that means the same as a name in another package."""
    plain = name.lower().replace("_", "").replace("-", "")
    group = next((group for group in _SYNONYMS if plain in group), {plain})
    for known in names:
        if known.rpartition(".")[2].lower().replace("_", "").replace("-", "") in group:
            return known
    return None


def did_you_mean(name: object, available: Iterable[object]) -> str:
    """End of an error message: the known names, and the one that was probably meant.

    Parameters
    ----------
    name : the unknown name; anything that is not a string is shown, but gets no suggestion.
    available : the known names.

    Returns
    -------
    str
        ``"Known: 'a', 'b'."``, followed by ``" Did you mean 'a'?"`` where a name is close.

    Examples
    --------
    >>> did_you_mean("dcie", ["loss", "dice"])
    "Known: 'dice', 'loss'. Did you mean 'dice'?"
    """
    names = sorted(map(str, available))
    known = "Known: " + (", ".join(repr(n) for n in names) or "none") + "."
    meant = nearest_name(name, names) if isinstance(name, str) else None
    return known if meant is None else f"{known} Did you mean {meant!r}?"


def nearest_name(name: str, available: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that was probably meant: one for the same setting, or one that is spelled alike; else None.

    Examples
    --------
    >>> nearest_name("learning_rate", ["trainer.lr", "data.batch_size"]), nearest_name("dcie", ["loss", "dice"])
    ('trainer.lr', 'dice')
    """
    names = list(available)
    if (synonym := _synonym(name, names)) is not None:
        return synonym
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return close[0] if close else None


def require_choice(what: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is none of the choices.

    Raises
    ------
    UnknownNameError
        With the value, the choices and the nearest of them.

    Examples
    --------
    >>> require_choice("padding", "zero", ["zeros", "reflect"])
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: unknown padding 'zero'. Known: 'reflect', 'zeros'. Did you mean 'zeros'?
    """
    choices = list(choices)
    if value not in choices:
        raise UnknownNameError(f"unknown {what} {value!r}. {did_you_mean(value, choices)}")


def refuse_unknown_keywords(owner: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keyword arguments that nobody takes.

    Raises
    ------
    UnknownKeywordError
        With the first of them, and the nearest name that is taken.

    Examples
    --------
    >>> refuse_unknown_keywords("Trainer", {"savefreq": 3}, ["save_freq", "fold"])
    Traceback (most recent call last):
    delira_nca.errors.UnknownKeywordError: Trainer takes no argument 'savefreq'. \
Known: 'fold', 'save_freq'. Did you mean 'save_freq'?
    """
    for name in unknown:
        raise UnknownKeywordError(f"{owner} takes no argument {name!r}. {did_you_mean(name, known)}")
