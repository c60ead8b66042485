"""What a cell is: perception, rule, alive mask, and the model that puts them together."""

from delira_nca.models import presets
from delira_nca.models.abstract_network import AbstractNetwork
from delira_nca.models.alive import AliveMask
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.build import build_model
from delira_nca.models.inputs import (
    intepret_range_parameter,
    interpret_range_parameter,
    make_seed,
    pad_input,
    unwrap,
)
from delira_nca.models.model import Model
from delira_nca.models.perception import FullFilters, LearnedFilters, Perception
from delira_nca.models.prediction import Prediction
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import BasicNCARule, MLPRule

__all__ = [
    "AbstractNetwork",
    "AbstractPyTorchNetwork",
    "AliveMask",
    "BasicNCAModel",
    "BasicNCARule",
    "FullFilters",
    "LearnedFilters",
    "MLPRule",
    "Model",
    "Perception",
    "Prediction",
    "build_model",
    "intepret_range_parameter",
    "interpret_range_parameter",
    "make_seed",
    "pad_input",
    "presets",
    "unwrap",
]
