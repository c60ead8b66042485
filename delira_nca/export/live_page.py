"""The callback that keeps a live page of a training, from its beginning to its end."""

from __future__ import annotations

import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ExportError, refuse_unknown_keywords
from delira_nca.export.cell import WEIGHT_NAMES, describe_cell
from delira_nca.export.html import assemble, to_html, write_text
from delira_nca.export.page import describe_page
from delira_nca.io.paths import absolute
from delira_nca.models import BasicNCAModel
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.callbacks.optimization import validated_network
from delira_nca.training.callbacks.reporting import Pace
from delira_nca.training.scores import describe_metrics

__all__ = ["LivePage", "Snapshots"]

_MOST_CHARACTERS = 700_000  # of all snapshots together, so that a page stays below a megabyte
_DENSITY = 0.6  # exponent of the epoch in which snapshots are evenly spaced: below 1, early epochs are denser


class Snapshots:
    """Snapshots of epochs, of which the most redundant is dropped whenever there are too many.

    Parameters
    ----------
    most : int
        Number of snapshots that are kept. Fewer are where all would take more than 700 kB as JSON.

    Raises
    ------
    ConfigError
        If ``most`` is not an integer of at least 0.

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
        """Add a snapshot of the next epoch, plain values with an ``"epoch"``.

        One of the same or a later epoch, from before a run was resumed from an older checkpoint, is replaced.
        """
        most = min(self.most, _MOST_CHARACTERS // len(json.dumps(snapshot)))
        if most < 2:  # the first and the last make a slider
            self.kept = []
            return
        self.kept = [kept for kept in self.kept if kept["epoch"] < snapshot["epoch"]] + [dict(snapshot)]
        while len(self.kept) > most:
            del self.kept[self._most_redundant()]

    def _most_redundant(self) -> int:
        """Index of the snapshot, neither first nor last, that leaves the smallest gap."""
        places = [kept["epoch"] ** _DENSITY for kept in self.kept]
        return min(range(1, len(places) - 1), key=lambda k: places[k + 1] - places[k - 1])

    def state_dict(self) -> dict[str, Any]:
        """Snapshots that are kept."""
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Take up a state."""
        self.kept = list(state["kept"])


_LOGGER = logging.getLogger("delira_nca")
_OPTIONS = inspect.signature(to_html)
Figures = Mapping[str, object] | Callable[[Any], Mapping[str, object]]


class LivePage(AbstractCallback):
    """Write a live page when a training begins, renew it while it runs, and finish it at the end.

    A page that is open takes the newer weights by itself and keeps what lives in its dish. It reads them from a script
    beside the page, ``live.weights.js`` for ``live.html``, since a page from the disk may load nothing else. At the
    end, also of a training that was interrupted, the page holds the best network and a slider over the epochs, and
    needs no other file.

    Parameters
    ----------
    path : path
        Where to write the page.
    every : float
        Seconds between two renewals, at least. They happen at the ends of epochs.
    share : float
        Largest share of the time that renewing may take; a slow machine renews less often.
    snapshots : int
        Largest number of epochs on the slider. They are spread over the training, denser at its beginning, and are
        part of a checkpoint. Fewer are kept of a large network, so that all take less than a megabyte; 0 keeps none.
    keys : names or mapping of name to label, optional
        Metrics to show; the score that decides which epoch is best by default, else the loss.
    log10 : bool
        Whether to show the decimal logarithms of the metrics.
    figures : mapping, or callable that takes the trainer and returns one, optional
        As for :func:`to_html`.
    **options
        As for :func:`to_html`.

    Raises
    ------
    ConfigError, UnknownKeywordError
        For numbers out of range and unknown options.
    ExportError, ConfigError
        When the training begins, if the network cannot live on a page or the options do not fit it.

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

    rolls_back = False  # what the network was at the end of an epoch stays
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
        """Path of the script that tells an open page of newer weights."""
        return self.path.with_suffix(".weights.js")

    def at_training_begin(self, trainer: Any, *, num_epochs: int, **event: Any) -> None:
        """Write the page before the first epoch, so that a network that it cannot show is an error before the work."""
        self._num_epochs = num_epochs
        self._page = self._describe(trainer, validated_network(trainer))
        with self._pace.job():
            self._renew(trainer, self._page["cell"])

    def at_epoch_end(self, trainer: Any, *, curr_epoch: int, **event: Any) -> None:
        """Renew the page where it is time, and keep a snapshot of the epoch.

        What goes wrong here is logged: weights that are not finite, a full disk. It does not end a training.
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

    def at_training_end(self, trainer: Any, **event: Any) -> None:
        """Finish the page."""
        self.finish(trainer, self.figures(trainer) if callable(self.figures) else self.figures)

    def finish(self, trainer: Any, figures: Mapping[str, object] | None = None) -> None:
        """Write the page of the best network with a slider over the epochs, again where its figures are known late.

        Parameters
        ----------
        trainer : trainer whose training has ended
        figures : mapping, optional
            As for :func:`to_html`.

        Raises
        ------
        ExportError
            If the network cannot be shown, or a file cannot be written.
        """
        best = trainer.best.epoch if trainer.best.score is not None else None
        epoch = trainer.start_epoch - 1 if best is None else best
        own = {"epoch": epoch, "score": self._score(trainer, epoch), "cell": None, "isBest": best is not None}
        others = [kept for kept in self._snapshots.kept if kept["epoch"] != epoch]
        epochs = sorted([*others, own], key=lambda kept: kept["epoch"]) if others else []
        page = {**self._describe(trainer, trainer.best_network(), figures), "epochs": epochs}
        write_text(assemble(page), self.path)
        news = {name: page[name] for name in ("run", "cell", "epochs", "figures")}
        self._tell({**self._progress(trainer), **news, "epoch": epoch, "isDone": True})

    def _describe(
        self, trainer: Any, network: BasicNCAModel, figures: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        arguments = _OPTIONS.bind(network, self.path, figures=figures, **self.options)
        arguments.apply_defaults()
        del arguments.arguments["path"]
        return {**describe_page(**arguments.arguments), "run": trainer.run_id}

    def _renew(self, trainer: Any, cell: Mapping[str, Any]) -> None:
        progress = self._progress(trainer)
        write_text(assemble({**self._page, "cell": cell, "training": progress}), self.path)
        self._tell({**progress, "run": trainer.run_id, "cell": cell})

    def _progress(self, trainer: Any) -> dict[str, Any]:
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
        """Write the script that an open page loads again and again."""
        write_text(f"globalThis.live?.training?.hear({json.dumps(news, allow_nan=False)});\n", self.news_path)

    def _score(self, trainer: Any, epoch: int) -> str:
        """Metrics of an epoch as the page shows them; empty before the first one."""
        metrics: Mapping[str, float] = next(
            (entry for entry in reversed(trainer.history) if entry["epoch"] == epoch), {}
        )
        keys = self.keys
        if keys is None:
            key = trainer.best.key or "loss"
            keys = [name for name in (f"val_{key}", key) if name in metrics][:1]
        return ", ".join(describe_metrics(metrics, keys, log10=self.log10))

    def state_dict(self) -> dict[str, Any]:
        """Snapshots of the epochs so far."""
        return self._snapshots.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        if state:  # a checkpoint of an older version has none
            self._snapshots.load_state_dict(state)
