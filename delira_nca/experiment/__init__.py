"""Named runs: described by a config, trained, resumed, compared and launched on one machine or a cluster.

Names load on use. Reading and listing runs does not import torch.
"""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.comparison import Comparison, RunSummary, compare_runs, summarise
    from delira_nca.experiment.config import RunConfig
    from delira_nca.experiment.database import StatsDatabase
    from delira_nca.experiment.experiment import BaseExperiment, Experiment, PyTorchExperiment, TrainedRun
    from delira_nca.experiment.export_run import export_html
    from delira_nca.experiment.folds import FoldPlan, FoldResult, KFoldResult
    from delira_nca.experiment.growing import QUALITIES, REGIMES, GrowConfig, GrowResult, Regime, grow, resume_growing
    from delira_nca.experiment.launchers import (
        Launcher,
        LaunchError,
        Outcome,
        ProcessPoolLauncher,
        RayLauncher,
        SerialLauncher,
        SubmititLauncher,
    )
    from delira_nca.experiment.parameters import Parameters
    from delira_nca.experiment.predictor import Predictor
    from delira_nca.experiment.recorder import StatsRecorder
    from delira_nca.experiment.result import RunResult
    from delira_nca.experiment.run import Run, run_from_config
    from delira_nca.experiment.search import Range, grid, random_search, sweep
    from delira_nca.experiment.start import LoadReport, StartConfig, load_start
    from delira_nca.experiment.stats import (
        Criterion,
        EvaluationScores,
        TrainingIterationStats,
        TrainingStats,
        ValidationIterationScores,
        ValidationScores,
    )
    from delira_nca.experiment.store import BestResult, RunStore, StoredRun
    from delira_nca.experiment.template import TEMPLATES, write_template

__all__ = [
    "QUALITIES",
    "REGIMES",
    "TEMPLATES",
    "BaseExperiment",
    "BestResult",
    "Comparison",
    "Criterion",
    "EvaluationScores",
    "Experiment",
    "FoldPlan",
    "FoldResult",
    "GrowConfig",
    "GrowResult",
    "KFoldResult",
    "LaunchError",
    "Launcher",
    "LoadReport",
    "Outcome",
    "Parameters",
    "Predictor",
    "ProcessPoolLauncher",
    "PyTorchExperiment",
    "Range",
    "RayLauncher",
    "Regime",
    "Run",
    "RunConfig",
    "RunResult",
    "RunStore",
    "RunSummary",
    "SerialLauncher",
    "StartConfig",
    "StatsDatabase",
    "StatsRecorder",
    "StoredRun",
    "SubmititLauncher",
    "TrainedRun",
    "TrainingIterationStats",
    "TrainingStats",
    "ValidationIterationScores",
    "ValidationScores",
    "compare_runs",
    "export_html",
    "grid",
    "grow",
    "load_start",
    "random_search",
    "resume_growing",
    "run_from_config",
    "summarise",
    "sweep",
    "write_template",
]

_NAMES = {
    "comparison": "Comparison RunSummary compare_runs summarise",
    "config": "RunConfig",
    "database": "StatsDatabase",
    "experiment": "BaseExperiment Experiment PyTorchExperiment TrainedRun",
    "export_run": "export_html",
    "folds": "FoldPlan FoldResult KFoldResult",
    "growing": "GrowConfig GrowResult QUALITIES REGIMES Regime grow resume_growing",
    "launchers": "LaunchError Launcher Outcome ProcessPoolLauncher RayLauncher SerialLauncher SubmititLauncher",
    "parameters": "Parameters",
    "predictor": "Predictor",
    "recorder": "StatsRecorder",
    "result": "RunResult",
    "run": "Run run_from_config",
    "search": "Range grid random_search sweep",
    "start": "LoadReport StartConfig load_start",
    "stats": "Criterion EvaluationScores "
    "TrainingIterationStats TrainingStats ValidationIterationScores ValidationScores",
    "store": "BestResult RunStore StoredRun",
    "template": "TEMPLATES write_template",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
