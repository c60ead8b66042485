"""Callback that writes a live page during training."""

from __future__ import annotations

import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ExportError, refuse_unknown_keywords
from delira_nca.export.cell import WEIGHT_NAMES, describe_cell
from delira_nca.export.html import assemble, to_html, write_text
from delira_nca.export.page import describe_page
from delira_nca.io.paths import absolute
from delira_nca.models import BasicNCAModel
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.optimization import validated_network
from delira_nca.training.callbacks.reporting import Pace
from delira_nca.training.scores import describe_metrics

__all__ = ["LivePage", "Snapshots"]

_MOST_CHARACTERS = 700_000  # limit for all snapshots together, so that a page stays below a megabyte
_DENSITY = 0.6  # snapshots are evenly spaced in this power of the epoch: below 1, early epochs are denser


class Snapshots:
    """Limited number of snapshots of epochs; above the limit, the most redundant snapshot is dropped.

    Parameters
    ----------
    most : int
        Maximum number of snapshots. Fewer are kept if they would take more than 700 kB as JSON.

    Examples
    --------
    >>> snapshots = Snapshots(6)
    >>> for epoch in range(1, 81):
    ...     snapshots.add({"epoch": epoch})
    >>> [kept["epoch"] for kept in snapshots.kept]
    [1, 7, 25, 39, 69, 80]
    """

    def __init__(self, most: int) -> None:
        require_whole("snapshots", most, 0)
        self.most = most
        self.kept: list[dict[str, Any]] = []

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Add a snapshot of the next epoch, a mapping of plain values with the key ``"epoch"``.

        Snapshots of the same or later epochs, which exist after a resume from an older checkpoint, are removed.
        """
        most = min(self.most, _MOST_CHARACTERS // len(json.dumps(snapshot)))
        if most < 2:  # a slider needs the first and the last
            self.kept = []
            return
        self.kept = [kept for kept in self.kept if kept["epoch"] < snapshot["epoch"]] + [dict(snapshot)]
        while len(self.kept) > most:
            del self.kept[self._most_redundant()]

    def _most_redundant(self) -> int:
        """Index of the inner snapshot that leaves the smallest gap if removed."""
        places = [kept["epoch"] ** _DENSITY for kept in self.kept]
        return min(range(1, len(places) - 1), key=lambda k: places[k + 1] - places[k - 1])

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots."""
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Load the snapshots."""
        self.kept = list(state["kept"])


def slider_epochs(
    kept: Sequence[Mapping[str, Any]], epoch: int, score: str = "", *, is_best: bool
) -> list[Mapping[str, Any]]:
    """Return the epochs of a slider, ordered; empty without snapshots.

    Parameters
    ----------
    kept : sequence of mapping
        Snapshots.
    epoch : int
        Epoch of the weights of the page itself.
    score : str
        Text of the metrics of this epoch.
    is_best : bool
        Whether the weights of the page are those of the best epoch.
    """
    others = [snapshot for snapshot in kept if snapshot["epoch"] != epoch]
    own = {"epoch": epoch, "score": score, "cell": None, "isBest": is_best}
    return sorted([*others, own], key=lambda snapshot: snapshot["epoch"]) if others else []


def stored_slider(state: Mapping[str, Any], newest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the epochs of the slider of a run that is stored.

    Parameters
    ----------
    state : mapping
        State of the checkpoint whose weights the page has.
    newest : mapping
        State of the newest checkpoint of the run, with the snapshots of a `LivePage`.
    """
    states = [s for s in newest.get("callbacks", {}).values() if isinstance(s, Mapping) and set(s) == {"kept"}]
    kept = states[0]["kept"] if states else []
    best = state.get("best") or {}
    is_best = best.get("score") is not None
    epoch = best["epoch"] if is_best else state.get("epoch", 0)
    scores = [snapshot["score"] for snapshot in kept if snapshot["epoch"] == epoch]
    return slider_epochs(kept, epoch, scores[0] if scores else "", is_best=is_best)


_LOGGER = logging.getLogger("delira_nca")
_OPTIONS = inspect.signature(to_html)
_OPTIONS = _OPTIONS.replace(parameters=[p for name, p in _OPTIONS.parameters.items() if name != "epochs"])
Figures = Mapping[str, object] | Callable[[Any], Mapping[str, object]]


class LivePage(AbstractCallback):
    """Write a live page at the beginning of the training, update it during training, and complete it at the end.

    An open page loads newer weights automatically and keeps its current state. It reads them from a script in the same
    folder, ``live.weights.js`` for ``live.html``, since a browser allows a page from the disk to load only scripts. At
    the end, also of an interrupted training, the page contains the best network and a slider over the epochs, and needs
    no other file.

    Parameters
    ----------
    path : str or path-like
        File of the page.
    every : float
        Minimum number of seconds between updates, which take place at the ends of epochs.
    share : float
        Maximum fraction of the time that updates may take; a slow machine updates less often.
    snapshots : int
        Maximum number of epochs on the slider, or 0 for no slider. The epochs are spread over the training, denser at
        its beginning, and are stored in checkpoints. For a large network fewer are kept, so that the page stays below
        a megabyte.
    keys : iterable of str or mapping of str to str, optional
        Metrics to show, with optional labels. The default is the score that selects the best epoch, or else the loss.
    log10 : bool
        Whether to show the decimal logarithms of the metrics.
    figures : mapping or callable, optional
        Names and values to show, as in :func:`to_html`, or a function of the trainer that returns them.
    **options
        Options of :func:`to_html`.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If a number is out of range or an option is unknown.
    ExportError, ConfigError
        At the beginning of the training, if the page does not support the network or the options do not fit it.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> from delira_nca.training import PyTorchNetworkTrainer
    >>> folder = getfixture("tmp_path")
    >>> network = BasicNCAModel(**presets.growing(training_timesteps=2))
    >>> page = LivePage(folder / "live.html", title="nothing yet", grid=(16, 16))
    >>> trainer = PyTorchNetworkTrainer(network, None, callbacks=[page])
    >>> import torch
    >>> _ = trainer.train(1, [{"data": torch.zeros(1, 16, 8, 8), "label": torch.zeros(1, 4, 8, 8)}])
    >>> sorted(file.name for file in folder.iterdir())
    ['live.html', 'live.weights.js']
    """

    rolls_back = False  # the snapshots of completed epochs remain valid after a rollback
    runs_everywhere = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: float = 5.0,
        share: float = 0.02,
        snapshots: int = 20,
        keys: Iterable[str] | Mapping[str, str] | None = None,
        log10: bool = False,
        figures: Figures | None = None,
        **options: Any,
    ) -> None:
        if "model" in options:
            raise ConfigError("LivePage shows the network of its trainer: leave model out")
        known = [name for name in _OPTIONS.parameters if name not in ("model", "path")]
        refuse_unknown_keywords("LivePage", [name for name in options if name not in known], known)
        self.path, self.figures, self.options = absolute(path), figures, options
        self.keys, self.log10 = keys, log10
        self._pace, self._snapshots = Pace(every, share=share), Snapshots(snapshots)
        self._page: dict[str, Any] = {}
        self._num_epochs = 0

    @property
    def news_path(self) -> Path:
        """Path of the script with newer weights for an open page."""
        return self.path.with_suffix(".weights.js")

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int, **event: Any) -> None:
        """Write the page before the first epoch, so that an unsupported network is an error before the training."""
        self._num_epochs = num_epochs
        self._page = self._describe(trainer, validated_network(trainer))
        with self._pace.job():
            self._renew(trainer, self._page["cell"])

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Update the page if it is due, and add a snapshot of the epoch.

        Errors, such as weights that are not finite or a full disk, are logged and do not stop the training.
        """
        network = validated_network(trainer)
        try:
            if self._pace.is_due():
                with self._pace.job():
                    self._renew(trainer, describe_cell(network, self.options.get("weights", "float32")))
            if self._snapshots.most:
                cell = describe_cell(network, "float16")
                weights = {name: cell[name] for name in WEIGHT_NAMES}
                self._snapshots.add({"epoch": curr_epoch, "score": self._score(trainer, curr_epoch), "cell": weights})
        except ExportError as error:
            _LOGGER.warning("the live page was not renewed after epoch %d: %s", curr_epoch, error)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Write the final page."""
        self.finish(trainer, self.figures(trainer) if callable(self.figures) else self.figures)

    def finish(self, trainer: Trainer, figures: Mapping[str, object] | None = None) -> None:
        """Write the page of the best network with a slider over the epochs.

        It can be called again when more figures are known.

        Parameters
        ----------
        trainer : trainer
            Trainer after its training.
        figures : mapping, optional
            Names and values to show, as in :func:`to_html`.

        Raises
        ------
        ExportError
            If the network cannot be shown, or a file cannot be written.
        """
        best = trainer.best.epoch if trainer.best.score is not None else None
        epoch = trainer.start_epoch - 1 if best is None else best
        score = self._score(trainer, epoch)
        epochs = slider_epochs(self._snapshots.kept, epoch, score, is_best=best is not None)
        page = {**self._describe(trainer, cast(BasicNCAModel, trainer.best_network()), figures), "epochs": epochs}
        write_text(assemble(page), self.path)
        news = {name: page[name] for name in ("run", "cell", "epochs", "figures")}
        self._tell({**self._progress(trainer), **news, "epoch": epoch, "isDone": True})

    def _describe(
        self, trainer: Trainer, network: BasicNCAModel, figures: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        arguments = _OPTIONS.bind(network, self.path, figures=figures, **self.options)
        arguments.apply_defaults()
        del arguments.arguments["path"]
        return {**describe_page(**arguments.arguments), "run": trainer.run_id}

    def _renew(self, trainer: Trainer, cell: Mapping[str, Any]) -> None:
        progress = self._progress(trainer)
        write_text(assemble({**self._page, "cell": cell, "training": progress}), self.path)
        self._tell({**progress, "run": trainer.run_id, "cell": cell})

    def _progress(self, trainer: Trainer) -> dict[str, Any]:
        epoch = trainer.start_epoch - 1
        return {
            "news": quote(self.news_path.name),
            "every": self._pace.every,
            "epoch": epoch,
            "numEpochs": self._num_epochs,
            "score": self._score(trainer, epoch),
            "written": time.time(),
        }

    def _tell(self, news: Mapping[str, Any]) -> None:
        """Write the script that an open page loads periodically."""
        write_text(f"globalThis.live?.training?.hear({json.dumps(news, allow_nan=False)});\n", self.news_path)

    def _score(self, trainer: Trainer, epoch: int) -> str:
        """Text of an epoch's metrics; empty before the first epoch."""
        metrics: Mapping[str, float] = next(
            (entry for entry in reversed(trainer.history) if entry["epoch"] == epoch), {}
        )
        keys = self.keys
        if keys is None:
            key = trainer.best.key or "loss"
            keys = [name for name in (f"val_{key}", key) if name in metrics][:1]
        return ", ".join(describe_metrics(metrics, keys, log10=self.log10))

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots of the epochs."""
        return self._snapshots.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the snapshots of the epochs."""
        if state:  # checkpoints of older versions have no snapshots
            self._snapshots.load_state_dict(state)
