"""Losses that know what they need: expressions of named predictions and targets, assembled for a training.

The names are those of hippynn's module ``experiment.assembly``.
"""

from delira_nca.assembly.assemble import (
    AssembledLoss,
    OutputModule,
    TrainingModules,
    assemble_for_training,
    build_loss_modules,
    determine_out_in_targ,
    generate_database_info,
)
from delira_nca.assembly.evaluator import Evaluator, PlotMaker
from delira_nca.assembly.nodes import Node, inp, l1_penalty, l2_penalty, lp_penalty, over_states, pred, target, term
from delira_nca.assembly.set_metric import SetMetric

__all__ = [
    "AssembledLoss",
    "Evaluator",
    "Node",
    "OutputModule",
    "PlotMaker",
    "SetMetric",
    "TrainingModules",
    "assemble_for_training",
    "build_loss_modules",
    "determine_out_in_targ",
    "generate_database_info",
    "inp",
    "l1_penalty",
    "l2_penalty",
    "lp_penalty",
    "over_states",
    "pred",
    "target",
    "term",
]
