"""Result of a training, as plain values in the folder of its run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from delira_nca.errors import MissingFileError
from delira_nca.experiment.plain_files import read_plain, write_plain
from delira_nca.io.paths import absolute
from delira_nca.training.callbacks.abstract_callback import Trainer

__all__ = ["RESULT", "RunResult"]

RESULT = "result.json"


@dataclass(frozen=True)
class RunResult:
    """Result of a run: plain values.

    Attributes
    ----------
    name, folder : str
        Name and folder of the run.
    num_epochs : int
        Number of finished epochs.
    best_epoch, best_score : int and float, or None
        Best epoch and its score; None if no score is given.
    scores : dict
        Scores of the last epoch.
    test_scores : dict
        Scores of the best network on the test samples; empty without test samples.
    seconds : float
        Training time of this process.
    stop_reason : str or None
        Reason for stopping before the last epoch, or None.
    computation : dict
        Back end, processor and instruction set of the training.
    outcome : dict
        Further plain values, measured by callbacks of the config, or of a fold.
    """

    name: str
    folder: str
    num_epochs: int
    best_epoch: int | None
    best_score: float | None
    scores: dict[str, float]
    test_scores: dict[str, float]
    seconds: float
    stop_reason: str | None
    computation: dict[str, str]
    outcome: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        trainer: Trainer,
        folder: Path,
        *,
        seconds: float,
        test_scores: Mapping[str, float] | None = None,
        outcome: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Result of a trainer after its training."""
        return cls(
            name=folder.name,
            folder=str(folder),
            test_scores={k: float(v) for k, v in (test_scores or {}).items()},
            seconds=seconds,
            outcome=dict(outcome or {}),
            **trainer.summary(),
        )

    def write(self) -> None:
        """Write the result to the folder of its run."""
        write_plain(asdict(self), Path(self.folder) / RESULT)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> RunResult:
        """Load the result from the folder of a run.

        Raises
        ------
        MissingFileError
            If the run is not finished.
        """
        path = absolute(folder) / RESULT
        if not path.is_file():
            raise MissingFileError(f"there is no result of a run in {path.parent}")
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in read_plain(path).items() if name in known})
