"""Roll-outs of automata: the step, its random numbers, the back ends, and their memory."""

from delira_nca.rollout.backends import BACKENDS, Backend, current_backend, register_backend, set_backend, using_backend
from delira_nca.rollout.cell_parameters import AliveRule, CellParameters, UnsupportedCellError
from delira_nca.rollout.job import DEFAULT_MEMORY_BUDGET, Job, observing
from delira_nca.rollout.loop import rollout, trajectory
from delira_nca.rollout.masks import fire_mask, update_noise
from delira_nca.rollout.reference import Cell, step

__all__ = [
    "BACKENDS",
    "DEFAULT_MEMORY_BUDGET",
    "AliveRule",
    "Backend",
    "Cell",
    "CellParameters",
    "Job",
    "UnsupportedCellError",
    "current_backend",
    "fire_mask",
    "observing",
    "register_backend",
    "rollout",
    "set_backend",
    "step",
    "trajectory",
    "update_noise",
    "using_backend",
]
