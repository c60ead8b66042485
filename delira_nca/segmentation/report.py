"""Callback that keeps the page of a segmentation run, and judges the network at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import yaml

from delira_nca.errors import ConfigError, ExportError
from delira_nca.export import to_html
from delira_nca.export.cases import page_cases
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.segmentation.data import PreparedCases, whole_cases
from delira_nca.segmentation.judge import Judgement, judge_cases, summarise, write_judgements
from delira_nca.segmentation.report_page import render
from delira_nca.segmentation.segmenter import Segmenter
from delira_nca.segmentation.sweep import sweep
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.stopping import in_words

__all__ = ["SegmentationReport"]

_MOST_SHOWN = 3
_REFRESH = 10


class SegmentationReport(AbstractCallback):
    """Write ``report.html`` during the training; at the end, judge the held-out cases.

    The page shows curves, cases with the outlines of reference and prediction, the plan with its reasons, and facts of
    the data. It contains its pictures, and loads itself again while the run is under way. At the end, ``scores.csv``
    and ``scores.json`` are written beside it, and also ``live.html``, which runs the best network on up to four
    held-out cases, if a live page supports the network; otherwise the page gives the reason.

    Parameters
    ----------
    source, preprocessing, splits
        See :func:`~delira_nca.segmentation.whole_cases`.
    folder : str
        Folder of ``plan.json`` and ``fingerprint.json``, which the page shows, if they exist. The page is written to
        the folder of the run.
    every : float
        Seconds between two versions of the page.
    num_runs : int
        Number of stochastic roll-outs of each case.
    seed : int
        Seed of the roll-outs.

    Attributes
    ----------
    outcome : dict
        After a training: the result of :func:`~delira_nca.segmentation.judge.summarise`.
    """

    runs_everywhere = False
    rolls_back = False
    needs_torch = True

    def __init__(
        self,
        source: dict[str, Any],
        preprocessing: dict[str, Any],
        splits: str | float = "splits.json",
        folder: str = ".",
        every: float = 20.0,
        num_runs: int = 5,
        seed: int = 0,
    ) -> None:
        found: Any = whole_cases(source, preprocessing, "valid", splits)
        self._cases: PreparedCases = found
        self.folder, self.every, self.num_runs, self.seed = absolute(folder), float(every), num_runs, seed
        self._out = self.folder
        self.outcome: dict[str, Any] = {}
        self._num_epochs = 0
        self._start = self._written = self._begun = 0.0
        self._first = 1

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int, **event: Any) -> None:
        """Write the page with plan and data."""
        self._out = self.folder if trainer.save_path is None else trainer.save_path.parent
        self._num_epochs, self._start, self._first = num_epochs, time.monotonic(), trainer.start_epoch
        self._write(trainer, [], None, "The training begins.")
        self._written = float("-inf")

    def at_checkpoint(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Write the page with predictions of a few cases, if it is time."""
        now = time.monotonic()
        if now - self._written < self.every or curr_epoch >= self._num_epochs:
            return
        numbers = range(min(_MOST_SHOWN, len(self._cases)))
        found = list(judge_cases(self._segmenter(trainer, 2), self._cases, numbers))
        left = (now - self._start) / (curr_epoch - self._first + 1) * (self._num_epochs - curr_epoch)
        status = f"Epoch {curr_epoch} of {self._num_epochs}. About {in_words(max(1, round(left)))} left."
        self._write(trainer, found, None, status)
        self._written = time.monotonic()

    def at_training_end(self, trainer: Trainer, *, exception: BaseException | None, **event: Any) -> None:
        """Judge all held-out cases with the best network, and finish the page."""
        if exception is not None or trainer.stop_reason is not None:
            is_stopped = exception is None or isinstance(exception, KeyboardInterrupt)
            reason = trainer.stop_reason if is_stopped else f"{type(exception).__name__}: {exception}"
            status = f"The training stopped ({reason}). 'delira-nca resume' finishes it."
            self._write(trainer, [], None, status, is_done=True)
            return
        found = list(judge_cases(self._segmenter(trainer, self.num_runs), self._cases))
        summary = summarise(found, seed=self.seed)
        summary["sweep"] = sweep(self._segmenter(trainer, 2), self._cases).to_dict()
        write_judgements(found, summary, self._out)
        self.outcome = {"dice": summary["dice"], "alarm": summary["alarm"]}
        status = f"Trained for {trainer.start_epoch - 1} epochs."
        self._write(trainer, found, summary, status, is_done=True, no_page=self._write_live_page(trainer))

    def _write_live_page(self, trainer: Trainer) -> str:
        """Write ``live.html``, or return the reason why there is none."""
        network: Any = trainer.best_network()
        try:
            cases = page_cases(self._cases)
            to_html(network, self._out / "live.html", title=self._out.name, cases=cases, random_seed=self.seed)
        except (ConfigError, ExportError) as error:
            return str(error)
        return ""

    def _segmenter(self, trainer: Trainer, num_runs: int) -> Segmenter:
        return Segmenter(trainer.best_network(), self._cases.preprocessing, num_runs=num_runs, seed=self.seed)

    def _write(
        self,
        trainer: Trainer,
        found: list[Judgement],
        summary: Mapping[str, Any] | None,
        status: str,
        *,
        is_done: bool = False,
        no_page: str | None = None,
    ) -> None:
        plan = self._read("plan.json").get("choices", [])
        facts = self._read("fingerprint.json").get("facts", {})
        names = self._read("fingerprint.json").get("class_names") or {}
        text = render(
            title=f"Segmentation {self._out.name}",
            status=status,
            refresh=None if is_done else _REFRESH,
            history=trainer.history,
            found=found,
            summary=summary,
            plan=[(row["name"], _short(row["value"]), row["reason"]) for row in plan],
            data=[(name, _short(value)) for name, value in facts.items()],
            class_names=names,
            no_page=no_page,
        )
        with replaced(self._out / "report.html") as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _read(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=1000)
    text = text.removesuffix("\n...\n").strip()
    return text if len(text) < 200 else text[:197] + "..."
