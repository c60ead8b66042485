"""Files of the run's state: the newest, the best, and the best few. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.scores import find_score_key, higher_is_better

__all__ = ["Checkpoint"]


class Checkpoint(AbstractCallback):
    """Save the state of the trainer when every callback has seen the epoch's end.

    Writes ``checkpoint_epoch_<n>.pt``, and ``checkpoint_best.pt`` when the trainer's score is better than ever. The
    last epoch is saved however often the others are. Only files that this callback has written are removed, and only
    after a newer one is safely there.

    Parameters
    ----------
    folder : where to; the trainer's ``save_path`` by default.
    every : save every so many epochs; the trainer's ``save_freq`` by default, 0 never.
    last : keep so many of the newest files; 0 keeps all.
    best : whether to keep the best epoch.
    top_k : keep so many files with the best ``monitor_key`` besides.
    monitor_key, mode : score for ``top_k``, and which way is better.

    Raises
    ------
    ConfigError
        For negative numbers, ``top_k`` without a score, or, at the beginning of a training, no folder.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        every: int | None = None,
        last: int = 2,
        best: bool = True,
        top_k: int = 0,
        monitor_key: str | None = None,
        mode: str = "min",
    ) -> None:
        if min(last, top_k, every or 0) < 0:
            raise ConfigError(f"every, last and top_k are at least 0, not {every!r}, {last!r} and {top_k!r}")
        if top_k and monitor_key is None:
            raise ConfigError("top_k needs a score: give monitor_key")
        higher_is_better(mode)
        self.folder = None if folder is None else Path(folder)
        self.every, self.last, self.best = every, last, best
        self.top_k, self.monitor_key, self.mode = top_k, monitor_key, mode
        self.saved: list[int] = []
        self.scores: dict[int, float] = {}
        self._epoch = 0

    def _path(self, trainer: Any, name: str) -> Path:
        folder = trainer.save_path if self.folder is None else self.folder
        return Path(folder) / f"checkpoint_{name}.pt"

    def at_training_begin(self, trainer: Any, **event: Any) -> None:
        """Refuse to begin without a place to save to, or with a score that nobody computes."""
        if self.folder is None and getattr(trainer, "save_path", None) is None:
            raise ConfigError("Checkpoint has no folder: give it one, or the trainer a save_path")
        if self.monitor_key is not None and (names := trainer.score_names()) is not None:
            find_score_key(self.monitor_key, names)
        self._epoch = 0

    def at_checkpoint(
        self, trainer: Any, *, curr_epoch: int, val_metrics: Mapping[str, float], is_best: bool, **event: Any
    ) -> None:
        """Save where it is time, then prune."""
        self._epoch = curr_epoch
        if self.monitor_key is not None:
            key = find_score_key(self.monitor_key, trainer.score_names() or val_metrics)
            if key in val_metrics:
                self.scores[curr_epoch] = float(val_metrics[key])
        every = trainer.save_freq if self.every is None else self.every
        if every and (curr_epoch % every == 0 or curr_epoch in self._top()):
            self._save(trainer, curr_epoch)
        if every and self.best and is_best:
            trainer.save_state(self._path(trainer, "best"), curr_epoch)

    def at_training_end(self, trainer: Any, *, exception: BaseException | None, **event: Any) -> None:
        """Save the last epoch if it is not there yet; after an exception nothing, since the state is no epoch's."""
        every = trainer.save_freq if self.every is None else self.every
        if exception is None and every and self._epoch and self._epoch not in self.saved:
            self._save(trainer, self._epoch)

    def _save(self, trainer: Any, epoch: int) -> None:
        self.saved = sorted({*self.saved, epoch})
        kept = set(self.saved[-self.last :]) | set(self._top())
        dropped = [e for e in self.saved if e not in kept] if self.last else []
        self.saved = [e for e in self.saved if e not in dropped]
        trainer.save_state(self._path(trainer, f"epoch_{epoch}"), epoch)
        for old in dropped:
            self._path(trainer, f"epoch_{old}").unlink(missing_ok=True)

    def _top(self) -> list[int]:
        sign = -1 if higher_is_better(self.mode) else 1
        ranked = sorted((e for e, s in self.scores.items() if s == s), key=lambda e: (sign * self.scores[e], e))
        return ranked[: self.top_k]

    def state_dict(self) -> dict[str, Any]:
        """Epochs whose files this run has written, and their scores."""
        return {"saved": list(self.saved), "scores": dict(self.scores)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.saved, self.scores = list(state["saved"]), dict(state["scores"])
