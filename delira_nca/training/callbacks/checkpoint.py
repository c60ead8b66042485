"""Callback that writes checkpoints of a run and removes old ones. Does not import torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from delira_nca.checks import require_whole
from delira_nca.errors import CheckpointError, ConfigError, require_choice
from delira_nca.io.manifest import Manifest
from delira_nca.io.paths import absolute
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.stopping import Duration, in_words, to_seconds
from delira_nca.training.distributed.context import context_of
from delira_nca.training.scores import find_score_key, higher_is_better

__all__ = ["Checkpoint"]

_LOGGER = logging.getLogger("delira_nca")


class Checkpoint(AbstractCallback):
    """Save the state of the trainer at the end of an epoch, after all other callbacks, and between batches.

    Files are ``checkpoint_epoch_<n>.safetensors`` after an epoch, ``checkpoint_best.safetensors`` after the best epoch,
    and ``checkpoint_epoch_<n>_iter_<k>.safetensors`` after ``k`` batches of an epoch: every ``every_iterations``
    iterations, when ``every_seconds`` have passed, or when the training stops. The last epoch is always saved.

    **By default the 2 newest files and that of the best epoch are kept.** Older files are removed once a newer one is
    safely on disk, and only if ``manifest.json`` in the folder lists them as files of this run. ``last=0`` keeps all.

    Parameters
    ----------
    folder : str or Path, optional
        Folder of the files; the trainer's ``save_path`` by default.
    every : int, optional
        Number of epochs between two files; the trainer's ``save_freq`` by default, 0 writes none.
    every_iterations : int
        Number of iterations between two files within an epoch; 0 writes none. If a routine runs several iterations per
        batch, the file is written after the batch.
    every_seconds : float, str or timedelta, optional
        Time between two files, such as ``30`` (seconds) or ``"10m"``. Shorter epochs are not all saved; longer ones are
        also saved between batches, so that at most this time is lost if the process is killed. Best epochs are always
        saved.
    last : int
        Number of the newest files that are kept; 0 keeps all.
    best : bool
        Whether to keep a file of the best epoch. Every file of the run also contains the best weights.
    top_k : int
        Number of further files to keep: those of the epochs with the best score ``monitor_key``.
    monitor_key, mode : str
        Score for ``top_k``, and whether its minimum (``"min"``) or maximum (``"max"``) is the best.
    on_error : {"raise", "warn"}
        Reaction to a file that cannot be written. Existing files stay unchanged.
    clock : callable
        Function that returns the time in seconds.

    Raises
    ------
    ConfigError, UnknownNameError
        For negative numbers, ``top_k`` without a score, or, at the start of a training, a missing folder.
    """

    rolls_back = False  # files on disk are not rolled back

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        every: int | None = None,
        every_iterations: int = 0,
        every_seconds: Duration | None = None,
        last: int = 2,
        best: bool = True,
        top_k: int = 0,
        monitor_key: str | None = None,
        mode: str = "min",
        on_error: str = "raise",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require_whole("every", 0 if every is None else every, 0)
        require_whole("every_iterations", every_iterations, 0)
        require_whole("last", last, 0)
        require_whole("top_k", top_k, 0)
        if top_k and monitor_key is None:
            raise ConfigError("top_k needs a score: give monitor_key")
        higher_is_better(mode)
        require_choice("reaction to a file that cannot be written", on_error, ("raise", "warn"))
        self.folder = None if folder is None else absolute(folder)
        self.every, self.every_iterations, self.last, self.best = every, every_iterations, last, best
        self.every_seconds = None if every_seconds is None else to_seconds(every_seconds)
        self.clock = clock
        self.top_k, self.monitor_key, self.mode, self.on_error = top_k, monitor_key, mode, on_error
        self.saved: list[int] = []
        self.scores: dict[int, float] = {}
        self._epoch = self._step = 0
        self._last_written = 0.0

    def describe(self, trainer: Any) -> str:
        """Text that describes when files are written, which are kept, and where."""
        every = self._every(trainer)
        if not every:
            return "none"
        times = [f"every {every} epochs" if every > 1 else "every epoch"]
        if (seconds := self._seconds(trainer)) is not None:
            times = [f"every {in_words(seconds)}"]
        if self.every_iterations:
            times.append(f"every {self.every_iterations} iterations")
        kept = [f"the {self.last} newest" if self.last else "all"]
        kept += ["the best"] if self.best else []
        kept += [f"{self.top_k} by {self.monitor_key}"] if self.top_k else []
        return f"{' and '.join(times)}; kept: {', '.join(kept)}; in {self._folder(trainer)}"

    def _folder(self, trainer: Trainer) -> Path:
        folder = getattr(trainer, "save_path", None) if self.folder is None else self.folder
        if folder is None:
            raise ConfigError("Checkpoint has no folder: give it one, or the trainer a save_path")
        return Path(folder)

    def _every(self, trainer: Trainer) -> int:
        return int(trainer.save_freq if self.every is None else self.every)

    def _seconds(self, trainer: Trainer) -> float | None:
        """Time between two files; that of the trainer if the callback has neither time nor number of epochs."""
        if self.every_seconds is None and self.every is None:
            return getattr(trainer, "save_seconds", None)
        return self.every_seconds

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Raise an error if the folder is missing or the score is not computed."""
        self._folder(trainer)
        if self.monitor_key is not None and (names := trainer.score_names()) is not None:
            find_score_key(self.monitor_key, names)
        self._epoch, self._step, self._last_written = 0, getattr(trainer, "step", 0), self.clock()

    def at_iter_done(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Save between two batches if a file is due."""
        if not trainer.is_between_steps:
            return
        before, self._step = self._step, trainer.step
        by_number = self.every_iterations and before // self.every_iterations < trainer.step // self.every_iterations
        if by_number or (self._seconds(trainer) is not None and self._every(trainer) and self._is_time_up(trainer)):
            self._save_step(trainer, curr_epoch, trainer.batch_index)

    def save_now(self, trainer: Trainer, curr_epoch: int) -> None:
        """Save between two batches, although no file is due.

        Parameters
        ----------
        trainer : PyTorchNetworkTrainer
            Trainer, whose ``is_between_steps`` is True.
        curr_epoch : int
            Number of the current epoch.
        """
        self._save_step(trainer, curr_epoch, trainer.batch_index)

    def at_checkpoint(
        self, trainer: Trainer, *, curr_epoch: int, val_metrics: Mapping[str, float], is_best: bool, **event: Any
    ) -> None:
        """Save if a file is due, then remove old files."""
        self._epoch = curr_epoch
        if self.monitor_key is not None:
            measured = trainer.measured_score(self.monitor_key, val_metrics)
            if measured is not None:
                self.scores[curr_epoch] = measured[1]
        every = self._every(trainer)
        due = every and curr_epoch % every == 0 and self._is_time_up(trainer)
        if due or (every and curr_epoch in self._top()):
            self._save(trainer, curr_epoch)
        if every and self.best and is_best:
            self._write(trainer, "checkpoint_best", curr_epoch, 0)

    def at_training_end(self, trainer: Trainer, *, exception: BaseException | None, **event: Any) -> None:
        """Save when the training stops, except after an error, when a step may be incomplete."""
        if not self._every(trainer) or not (exception is None or getattr(trainer, "stop_now", False)):
            return
        if getattr(trainer, "batch_index", 0):
            if trainer.is_between_steps:
                self._save_step(trainer, trainer.start_epoch, trainer.batch_index)
        elif exception is None and self._epoch and self._epoch not in self.saved:
            self._save(trainer, self._epoch)

    def _is_time_up(self, trainer: Trainer) -> bool:
        """Whether the time between two files has passed by the clock of the main rank, so that all ranks agree."""
        seconds = self._seconds(trainer)
        return seconds is None or context_of(trainer).on_main(lambda: self.clock() - self._last_written >= seconds)

    def _save(self, trainer: Trainer, epoch: int) -> None:
        """Write the file of an epoch, then remove those that are not kept."""
        former = self.saved
        self.saved = sorted({*self.saved, epoch})
        kept = {*self.saved[-self.last :], *self._top()}
        dropped = [e for e in self.saved if e not in kept] if self.last else []
        self.saved = [e for e in self.saved if e not in dropped]
        if not self._write(trainer, _name(epoch), epoch, 0):
            self.saved = former
            return
        self._last_written = self.clock()
        self._remove(trainer, dropped, before=(epoch, 0))

    def _save_step(self, trainer: Trainer, epoch: int, iteration: int) -> None:
        """Write a file within an epoch, and remove the previous one."""
        if self._write(trainer, _name(epoch, iteration), epoch - 1, iteration):
            self._last_written = self.clock()
            self._remove(trainer, [], before=(epoch - 1, iteration))

    def _remove(self, trainer: Trainer, epochs: list[int], before: tuple[int, int]) -> None:
        """Remove files of the given epochs, and files written within an epoch before the given (epoch, iteration)."""
        manifest = Manifest(self._folder(trainer), trainer.run_id)

        def remove() -> None:
            for entry in manifest.mine():
                is_older = entry.iteration and (entry.epoch or 0, entry.iteration) < before
                if is_older or (entry.epoch in epochs and Path(entry.name).stem == _name(entry.epoch)):
                    manifest.remove(entry.name)

        context_of(trainer).on_main(remove)

    def _write(self, trainer: Trainer, name: str, epoch: int, iteration: int) -> bool:
        """Write the file after ``epoch`` finished epochs and ``iteration`` batches; return whether it was written."""
        path = self._folder(trainer) / f"{name}.safetensors"
        try:
            trainer.save_state(path, epoch)
            manifest = Manifest(path.parent, trainer.run_id)
            context_of(trainer).on_main(manifest.add, path, epoch=epoch, iteration=iteration)
        except CheckpointError as error:
            if self.on_error == "raise":
                raise
            _LOGGER.warning("training continues without %s: %s", path.name, error)
            return False
        return True

    def _top(self) -> list[int]:
        sign = -1 if higher_is_better(self.mode) else 1
        ranked = sorted((e for e, s in self.scores.items() if s == s), key=lambda e: (sign * self.scores[e], e))
        return ranked[: self.top_k]

    def state_dict(self) -> dict[str, Any]:
        """Epochs saved by this run, and their scores."""
        return {"saved": list(self.saved), "scores": dict(self.scores)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.saved, self.scores = list(state["saved"]), dict(state["scores"])


def _name(epoch: int, iteration: int = 0) -> str:
    """File name, without extension, after an epoch or within one."""
    return f"checkpoint_epoch_{epoch}_iter_{iteration}" if iteration else f"checkpoint_epoch_{epoch}"
