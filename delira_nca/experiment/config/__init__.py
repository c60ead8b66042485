"""Descriptions of runs: plain data that can be written to a file, and that objects are built from."""

from delira_nca.experiment.config.overrides import override
from delira_nca.experiment.config.run_config import RunConfig
from delira_nca.experiment.config.sections import DataSection, RunParts, TaskSection, TrainerSection

__all__ = ["DataSection", "RunConfig", "RunParts", "TaskSection", "TrainerSection", "override"]
