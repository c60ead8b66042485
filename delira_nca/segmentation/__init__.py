"""Segmentation of folders of images: plan, training, judgement and prediction."""

from delira_nca.segmentation.cases import open_cases
from delira_nca.segmentation.data import augmentation, training_patches, whole_cases
from delira_nca.segmentation.fingerprint import CaseFacts, Fingerprint
from delira_nca.segmentation.plan import Plan, make_plan, segmenting_network
from delira_nca.segmentation.prediction import PredictedCase, predict_folder
from delira_nca.segmentation.preprocessing import Frame, Preprocessing
from delira_nca.segmentation.report import SegmentationReport
from delira_nca.segmentation.scores import SCORES, case_scores, instance_scores
from delira_nca.segmentation.segmenter import Segmentation, Segmenter
from delira_nca.segmentation.training import SegmentationResult, segment

__all__ = [
    "SCORES",
    "CaseFacts",
    "Fingerprint",
    "Frame",
    "Plan",
    "PredictedCase",
    "Preprocessing",
    "Segmentation",
    "SegmentationReport",
    "SegmentationResult",
    "Segmenter",
    "augmentation",
    "case_scores",
    "instance_scores",
    "make_plan",
    "open_cases",
    "predict_folder",
    "segment",
    "segmenting_network",
    "training_patches",
    "whole_cases",
]
