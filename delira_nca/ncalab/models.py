"""Names of NCALab's module ``ncalab.models``."""

from delira_nca.ncalab.cascade import CascadeNCA, downscale, upscale
from delira_nca.ncalab.losses import SmoothnessLoss
from delira_nca.ncalab.model import AbstractNCAModel, BasicNCAModel
from delira_nca.ncalab.parts import (
    AbstractNCAHead,
    AbstractNCARule,
    BasicNCAPerception,
    ClassificationNCAHead,
    MLPNCARule,
)
from delira_nca.ncalab.tasks import (
    BinarySegmentationNCAModel,
    ClassificationNCAModel,
    DepthNCAModel,
    GrowingNCAModel,
    SelfClassificationNCAModel,
)

__all__ = [
    "AbstractNCAHead",
    "AbstractNCAModel",
    "AbstractNCARule",
    "BasicNCAModel",
    "BasicNCAPerception",
    "BinarySegmentationNCAModel",
    "CascadeNCA",
    "ClassificationNCAHead",
    "ClassificationNCAModel",
    "DepthNCAModel",
    "GrowingNCAModel",
    "MLPNCARule",
    "SelfClassificationNCAModel",
    "SmoothnessLoss",
    "downscale",
    "upscale",
]
