"""NCALab's folders. They lie in the working directory, and are not created."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT_PATH", "TASK_PATH", "WEIGHTS_PATH"]

ROOT_PATH: Path
WEIGHTS_PATH: Path
TASK_PATH: Path


def __getattr__(name: str) -> Path:
    folders = {"ROOT_PATH": ".", "WEIGHTS_PATH": "weights", "TASK_PATH": "tasks"}
    if name not in folders:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Path.cwd() / folders[name]
