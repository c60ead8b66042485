"""Exceptions of the package.

An error message states the value that was given, what was expected, and the closest valid name. Each class also derives
from the built-in exception that a caller would expect, so that ``except ValueError`` keeps working.
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
    """An argument has an invalid value."""


class MissingFileError(ConfigError, FileNotFoundError):
    """A file does not exist, or does not have the expected content."""

    __str__ = Exception.__str__  # OSError would look for an errno


class UnwritableError(ConfigError, OSError):
    """A file or folder cannot be created or written; the message has its path and the reason of the system."""

    __str__ = Exception.__str__


class MemoryBudgetError(ConfigError, MemoryError):
    """The requested computation does not fit into memory in any available form."""


class ExportError(ConfigError):
    """A model cannot be exported to the requested format; the message names the unsupported part."""


class ShapeError(ConfigError):
    """A tensor has an invalid shape or number of channels."""


class UnknownNameError(ConfigError):
    """A name is not one of the known names."""


class ParameterKeyError(UnknownNameError, KeyError):
    """A parameter does not exist, or exists in several places (a ``KeyError`` in a plain dict)."""

    __str__ = Exception.__str__


class UnknownKeywordError(ConfigError, TypeError):
    """A keyword argument is unexpected (a ``TypeError`` in plain Python)."""


class ScoreKeyError(UnknownNameError):
    """The requested score is not computed."""


class ScoreModeError(ConfigError, AssertionError):
    """The direction of a score is not one of the known ones (an ``AssertionError`` in delira)."""


class CallbackError(DeliraNCAError, RuntimeError):
    """A callback failed, or an object is not a callback."""


class CallbackTypeError(CallbackError, TypeError, AssertionError):
    """A registered object is not a callback (an ``AssertionError`` on delira's API page)."""


class StateKeyError(CallbackError, KeyError):
    """A hook returned a key of the trainer's state that it may not set."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class CheckpointError(DeliraNCAError, RuntimeError):
    """A checkpoint cannot be written, cannot be read, or does not match this trainer."""


class DistributedError(DeliraNCAError, RuntimeError):
    """A process of a distributed training is lost, or differs from the others in what it does."""


class RunLockedError(DeliraNCAError, RuntimeError):
    """Another process writes to the folder of this run; the message names the process and its machine."""


class StoreError(DeliraNCAError, RuntimeError):
    """The statistics of a run cannot be written or read."""


class NonFiniteError(DeliraNCAError, ArithmeticError):
    """A loss, a gradient or a state is NaN or infinite."""


class MissingDependencyError(DeliraNCAError, ImportError):
    """An optional package is missing; the message names it and says how to install it."""


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
"""Groups of names for the same setting in this and other packages, in lower case and without separators."""


def _synonym(name: str, names: Iterable[str]) -> str | None:
    """Known name, dotted or not, that is a synonym of a name from another package; None if there is none."""
    plain = name.lower().replace("_", "").replace("-", "")
    group = next((group for group in _SYNONYMS if plain in group), {plain})
    for known in names:
        if known.rpartition(".")[2].lower().replace("_", "").replace("-", "") in group:
            return known
    return None


def did_you_mean(name: object, available: Iterable[object]) -> str:
    """Return the end of an error message, with the known names and a suggestion.

    Parameters
    ----------
    name : object
        Unknown name. A value that is not a string gets no suggestion.
    available : iterable of object
        Known names.

    Returns
    -------
    str
        ``"Known: 'a', 'b'."``, followed by ``" Did you mean 'a'?"`` if a name is close.

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
    """Return the closest known name: a synonym or a name of similar spelling; None if there is none.

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
    """Raise an error unless a value is one of the choices.

    Raises
    ------
    UnknownNameError
        If the value is not one of the choices; with the value, the choices and the closest of them.

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
    """Raise an error if there are unknown keyword arguments.

    Raises
    ------
    UnknownKeywordError
        With the first of them and the closest known name.

    Examples
    --------
    >>> refuse_unknown_keywords("Trainer", {"savefreq": 3}, ["save_freq", "fold"])
    Traceback (most recent call last):
    delira_nca.errors.UnknownKeywordError: Trainer takes no argument 'savefreq'. \
Known: 'fold', 'save_freq'. Did you mean 'save_freq'?
    """
    for name in unknown:
        raise UnknownKeywordError(f"{owner} takes no argument {name!r}. {did_you_mean(name, known)}")
