"""Result of a training of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TrainedRun"]


@dataclass(frozen=True)
class TrainedRun:
    """Result of a run, with its network.

    Attributes
    ----------
    network : torch.nn.Module
        Network of the best epoch, or of the last where no score decides.
    folder : Path
        Folder of its files.
    history : tuple of dict
        Scores of each epoch.
    best_epoch, best_score : int and float, or None
        Best epoch by the score that decides; None where none does.
    stop_reason : str or None
        Reason why it stopped before its last epoch.
    """

    network: Any
    folder: Path
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    best_score: float | None
    stop_reason: str | None
