"""How T steps of an automaton are computed: the step, the masks, the loop, and the memory of back-propagation."""

from delira_nca.rollout.loop import DEFAULT_MEMORY_BUDGET, rollout, trajectory
from delira_nca.rollout.masks import fire_mask
from delira_nca.rollout.reference import Cell, step

__all__ = ["DEFAULT_MEMORY_BUDGET", "Cell", "fire_mask", "rollout", "step", "trajectory"]
