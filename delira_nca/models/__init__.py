"""Models: perception, rule, alive mask, and the cellular automaton that combines them."""

from delira_nca.models import presets
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.build import build_model
from delira_nca.models.conditioning import GoalEmbedding
from delira_nca.models.graph import GraphNCA, ball_damage, precompute_pairs
from delira_nca.models.graph_perception import GraphPerception, Pairs, find_pairs
from delira_nca.models.implicit import ImplicitDecoder
from delira_nca.models.inputs import (
    intepret_range_parameter,
    interpret_range_parameter,
    make_seed,
    pad_input,
    unwrap,
    zero_seed,
)
from delira_nca.models.masks import AliveMask, InputMask
from delira_nca.models.model import Model
from delira_nca.models.network import AbstractNetwork
from delira_nca.models.part import Part
from delira_nca.models.perception import (
    FullFilters,
    GroupedPerception,
    IsotropicPerception,
    LearnedFilters,
    Perception,
    SteerablePerception,
)
from delira_nca.models.prediction import Prediction
from delira_nca.models.pyramid import CascadeNCA, PyramidNCA
from delira_nca.models.pyramid_grid import resize_labels
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import AttentionRule, BasicNCARule, LinearRule, MixtureRule, MLPRule, NormedRule
from delira_nca.models.tasks import (
    BasicNCAHead,
    BinarySegmentationNCAModel,
    ClassificationNCAHead,
    ClassificationNCAModel,
    DepthNCAModel,
    GrowingNCAModel,
    SegmentationNCAModel,
    SelfClassificationNCAModel,
    TaskNCAModel,
)
from delira_nca.models.tiled import tiled_predict
from delira_nca.models.transfer import finetune, graft

__all__ = [
    "AbstractNetwork",
    "AbstractPyTorchNetwork",
    "AliveMask",
    "AttentionRule",
    "BasicNCAHead",
    "BasicNCAModel",
    "BasicNCARule",
    "BinarySegmentationNCAModel",
    "CascadeNCA",
    "ClassificationNCAHead",
    "ClassificationNCAModel",
    "DepthNCAModel",
    "FullFilters",
    "GoalEmbedding",
    "GraphNCA",
    "GraphPerception",
    "GroupedPerception",
    "GrowingNCAModel",
    "ImplicitDecoder",
    "InputMask",
    "IsotropicPerception",
    "LearnedFilters",
    "LinearRule",
    "MLPRule",
    "MixtureRule",
    "Model",
    "NormedRule",
    "Pairs",
    "Part",
    "Perception",
    "Prediction",
    "PyramidNCA",
    "SegmentationNCAModel",
    "SelfClassificationNCAModel",
    "SteerablePerception",
    "TaskNCAModel",
    "ball_damage",
    "build_model",
    "find_pairs",
    "finetune",
    "graft",
    "intepret_range_parameter",
    "interpret_range_parameter",
    "make_seed",
    "pad_input",
    "precompute_pairs",
    "presets",
    "resize_labels",
    "tiled_predict",
    "unwrap",
    "zero_seed",
]
