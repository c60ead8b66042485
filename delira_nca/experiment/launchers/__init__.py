"""Parallel runs: one function with many sets of arguments, in local processes, on Ray or on Slurm."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.launchers.launcher import Launcher, LaunchError, Outcome, ProcessDiedError, values
    from delira_nca.experiment.launchers.names import LAUNCHERS, launcher_by_name
    from delira_nca.experiment.launchers.process_pool import ProcessPoolLauncher
    from delira_nca.experiment.launchers.ray_launcher import RayLauncher
    from delira_nca.experiment.launchers.serial import SerialLauncher
    from delira_nca.experiment.launchers.submitit_launcher import SubmititLauncher

__all__ = [
    "LAUNCHERS",
    "LaunchError",
    "Launcher",
    "Outcome",
    "ProcessDiedError",
    "ProcessPoolLauncher",
    "RayLauncher",
    "SerialLauncher",
    "SubmititLauncher",
    "launcher_by_name",
    "values",
]

_HOMES = {
    "launcher": ("LaunchError", "Launcher", "Outcome", "ProcessDiedError", "values"),
    "names": ("LAUNCHERS", "launcher_by_name"),
    "process_pool": ("ProcessPoolLauncher",),
    "ray_launcher": ("RayLauncher",),
    "serial": ("SerialLauncher",),
    "submitit_launcher": ("SubmititLauncher",),
}

__getattr__, __dir__ = lazy_names(__name__, {name: home for home, names in _HOMES.items() for name in names})
