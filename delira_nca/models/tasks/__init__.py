"""Models for common tasks with losses and metrics, under the names of NCALab."""

from delira_nca.models.tasks.classification import ClassificationNCAModel
from delira_nca.models.tasks.depth import DepthNCAModel
from delira_nca.models.tasks.growing import GrowingNCAModel
from delira_nca.models.tasks.head import BasicNCAHead, ClassificationNCAHead
from delira_nca.models.tasks.segmentation import BinarySegmentationNCAModel, SegmentationNCAModel
from delira_nca.models.tasks.self_classification import SelfClassificationNCAModel
from delira_nca.models.tasks.task import TaskNCAModel

__all__ = [
    "BasicNCAHead",
    "BinarySegmentationNCAModel",
    "ClassificationNCAHead",
    "ClassificationNCAModel",
    "DepthNCAModel",
    "GrowingNCAModel",
    "SegmentationNCAModel",
    "SelfClassificationNCAModel",
    "TaskNCAModel",
]
