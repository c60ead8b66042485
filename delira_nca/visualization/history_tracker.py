"""Record of a training by hand, with the names of ELEKTRONN2: timeline, history, regression and debug outputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import is_number, require_type
from delira_nca.errors import ConfigError, MissingFileError, ShapeError, did_you_mean
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.visualization.plots import save_curves, save_scatter

__all__ = ["HistoryTracker", "loadhistorytracker"]

Values = Mapping[str, float] | Sequence[float]
_TIMELINE = ("time", "loss", "batch_char")
_HISTORY = ("steps", "time", "train_loss", "valid_loss", "loss_gain", "train_err", "valid_err", "lr", "mom", "gradnet")
_TABLES = ("timeline", "history", "debug_outputs")


class HistoryTracker:
    """Growing tables of a training: ``timeline`` for every step, ``history`` for larger intervals.

    A training with `delira_nca.training.PyTorchNetworkTrainer` has its ``history`` without it; this class is for loops
    of one's own and for scripts of ELEKTRONN2.

    Examples
    --------
    >>> tracker = HistoryTracker()
    >>> tracker.update_timeline({"time": 0.5, "loss": 2.0})
    >>> tracker.update_history([100, 12.5, 0.25, 0.5])  # steps, time, loss of training and of validation
    >>> tracker.timeline["loss"].tolist(), tracker.history["valid_loss"].tolist()
    ([2.0], [0.5])
    """

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, list[float]]] = {name: {} for name in _TABLES}
        self._names: dict[str, tuple[str, ...]] = {"timeline": _TIMELINE, "history": _HISTORY, "debug_outputs": ()}
        self._regression: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []

    @property
    def timeline(self) -> dict[str, npt.NDArray[np.float64]]:
        """Columns of the timeline by name; values that were not given are NaN."""
        return self._arrays("timeline")

    @property
    def history(self) -> dict[str, npt.NDArray[np.float64]]:
        """Columns of the history by name; values that were not given are NaN."""
        return self._arrays("history")

    @property
    def debug_outputs(self) -> dict[str, npt.NDArray[np.float64]]:
        """Columns of the debug outputs by name."""
        return self._arrays("debug_outputs")

    @property
    def regression(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Predictions and targets of all calls of `update_regression`, flattened."""
        predictions = [pred.ravel() for pred, _ in self._regression]
        targets = [target.ravel() for _, target in self._regression]
        return (np.concatenate(predictions), np.concatenate(targets)) if predictions else (np.empty(0), np.empty(0))

    def _arrays(self, table: str) -> dict[str, npt.NDArray[np.float64]]:
        return {name: np.asarray(column, np.float64) for name, column in self._tables[table].items()}

    def _update(self, table: str, vals: Values) -> None:
        names, columns = self._names[table], self._tables[table]
        if not isinstance(vals, Mapping):
            vals = list(vals)
            if len(vals) > len(names):
                raise ConfigError(f"a row of the {table} has {len(names)} values, {', '.join(names)}, not {len(vals)}")
            vals = dict(zip(names, vals, strict=False))
        for name, value in vals.items():
            if not isinstance(name, str) or not (value is None or is_number(value)):
                raise ConfigError(f"the {table} has numbers by name, not {name!r}: {value!r}")
        length = max(map(len, columns.values()), default=0)
        for name in dict.fromkeys([*columns, *vals]):
            number = vals.get(name)
            columns.setdefault(name, [float("nan")] * length).append(float("nan") if number is None else float(number))

    def update_timeline(self, vals: Values) -> None:
        """Append a row to the timeline.

        Parameters
        ----------
        vals : mapping of str to float, or sequence of float
            Values by name; any names are allowed. A sequence has ``time``, ``loss`` and ``batch_char``, or the first of
            them.
        """
        self._update("timeline", vals)

    def update_history(self, vals: Values) -> None:
        """Append a row to the history.

        Parameters
        ----------
        vals : mapping of str to float, or sequence of float
            Values by name; any names are allowed. A sequence has ``steps``, ``time``, ``train_loss``, ``valid_loss``,
            ``loss_gain``, ``train_err``, ``valid_err``, ``lr``, ``mom`` and ``gradnet``, or the first of them.
        """
        self._update("history", vals)

    def update_regression(self, pred: Any, target: Any) -> None:
        """Append predictions and targets of one shape, which `plot` draws against each other.

        Raises
        ------
        ShapeError
            If the shapes differ.
        """
        first, second = np.asarray(pred), np.asarray(target)
        if first.shape != second.shape:
            raise ShapeError(f"pred and target have one shape, not {first.shape} and {second.shape}")
        self._regression.append((first, second))

    def register_debug_output_names(self, names: Iterable[str]) -> None:
        """Set the names of the values of `update_debug_outputs`.

        Raises
        ------
        ConfigError
            If debug outputs have been recorded under other names.
        """
        given = tuple(names)
        if self._tables["debug_outputs"] and given != self._names["debug_outputs"]:
            raise ConfigError(f"debug outputs are recorded as {self._names['debug_outputs']} already, not {given}")
        self._names["debug_outputs"] = given

    def update_debug_outputs(self, vals: Values) -> None:
        """Append a row of debug outputs.

        Parameters
        ----------
        vals : mapping of str to float, or sequence of float
            Values by name, or in the order of the registered names.

        Raises
        ------
        ConfigError
            If a value is not a number, or its name is not registered.
        """
        names = self._names["debug_outputs"]
        for name in vals if isinstance(vals, Mapping) else ():
            if name not in names:
                raise ConfigError(f"{name!r} is not registered as a debug output. {did_you_mean(str(name), names)}")
        self._update("debug_outputs", vals)

    def save(self, save_name: str | os.PathLike[str]) -> Path:
        """Write all tables to an ``.npz`` file without pickled objects, and return its path.

        Parameters
        ----------
        save_name : str or path-like
            Path; the suffix ``.npz`` is appended if it is missing.
        """
        path = _with_suffix(save_name)
        arrays: dict[str, Any] = {f"{t}/{name}": column for t in _TABLES for name, column in self._arrays(t).items()}
        arrays["debug_output_names"] = np.asarray(self._names["debug_outputs"], dtype=np.str_)
        for number, (pred, target) in enumerate(self._regression):
            arrays |= {f"regression/{number}/pred": pred, f"regression/{number}/target": target}
        with replaced(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        return path

    def load(self, file_name: str | os.PathLike[str]) -> HistoryTracker:
        """Replace all tables by those of a file of `save`, and return the tracker.

        Raises
        ------
        MissingFileError
            If the file does not exist or is not one of `save`. The tables are then unchanged.
        """
        path = _with_suffix(file_name)
        loaded = HistoryTracker()
        try:
            with np.load(path, allow_pickle=False) as file:
                loaded._names["debug_outputs"] = tuple(str(name) for name in file["debug_output_names"])
                for key in file.files:
                    table, _, name = key.partition("/")
                    if table in _TABLES:
                        loaded._tables[table][name] = [float(value) for value in file[key]]
                count = sum(key.endswith("/pred") for key in file.files)
                for number in range(count):
                    pair = file[f"regression/{number}/pred"], file[f"regression/{number}/target"]
                    loaded._regression.append(pair)
        except Exception as error:  # a broken archive raises errors of many types
            raise MissingFileError(f"{path} is not a file of HistoryTracker.save: {error}") from error
        self.__dict__.update(loaded.__dict__)
        return self

    def plot(
        self, save_name: str | os.PathLike[str] | None = None, autoscale: bool = True, close: bool = True
    ) -> list[Path]:
        """Draw the tables that have data, and return the paths of the files.

        Parameters
        ----------
        save_name : str or path-like, optional
            Beginning of the paths; ``"history"`` in the working directory by default. ``"_timeline.png"``,
            ``"_history.png"`` and so on are appended.
        autoscale : bool
            Whether quantities with positive values only are drawn on a logarithmic scale.
        close : bool
            Has no effect, since no figure is kept; ELEKTRONN2 keeps figures for ``False``.

        Raises
        ------
        ConfigError
            If no table has data.
        """
        require_type("autoscale", autoscale, bool)
        stem = absolute("history" if save_name is None else save_name)
        files = []
        for table, counter in (("timeline", "step"), ("history", "steps"), ("debug_outputs", "step")):
            columns = self._arrays(table)
            length = max(map(len, columns.values()), default=0)
            if not any(np.isfinite(column).any() for name, column in columns.items() if name != counter):
                continue
            rows = []
            for n in range(length):
                row = {name: None if np.isnan(c[n]) else float(c[n]) for name, c in columns.items() if name != counter}
                at = columns[counter][n] if counter in columns and np.isfinite(columns[counter][n]) else n + 1
                rows.append({"step": at, **row})
            files.append(stem.with_name(f"{stem.name}_{table}.png"))
            save_curves(rows, files[-1], log10=autoscale, title=table)
        if self._regression:
            files.append(stem.with_name(f"{stem.name}_regression.png"))
            predictions, targets = self.regression
            points = targets.tolist(), predictions.tolist()
            save_scatter({"samples": points}, files[-1], xlabel="target", ylabel="prediction")
        if not files:
            raise ConfigError("there is nothing to draw: no table has data")
        return files


def loadhistorytracker(file_name: str | os.PathLike[str]) -> HistoryTracker:
    """Return the tracker of a file of `HistoryTracker.save`.

    Raises
    ------
    MissingFileError
        If the file does not exist or is not one of `HistoryTracker.save`.
    """
    return HistoryTracker().load(file_name)


def _with_suffix(path: str | os.PathLike[str]) -> Path:
    found = absolute(path)
    return found if found.suffix == ".npz" else found.with_name(f"{found.name}.npz")
