"""NCALab's names. Its scripts need one change: ``from delira_nca.ncalab import ...`` for ``from ncalab import ...``.

The same arguments give the same automaton as in NCALab, and its weights can be loaded, see :func:`load_ncalab`.
Trainings, roll-outs and files are those of this package.
"""

from delira_nca._lazy import lazy_names

_NAMES = {
    "animation": (
        *("Animator", "AnimatorStyle", "AnimatorView", "AnimatorViewInput", "animator_style_dark"),
        *("animator_style_plain", "animator_styles", "draw_segmentation_overlay"),
    ),
    "autostepper": ("AutoStepper",),
    "cascade": ("CascadeNCA", "downscale", "upscale"),
    "data": ("GrowingNCADataset",),
    "figures": (
        *("Color", "Visual", "VisualBinaryImageClassification", "VisualBinaryImageSegmentation"),
        *("VisualDepthEstimation", "VisualGrowing", "VisualMultiImageClassification"),
        *("VisualRGBImageClassification", "show_image_row", "string_ellipsis"),
    ),
    "history": ("TrainingHistory", "TrainingStatus"),
    "kfold": ("KFoldCrossValidationTrainer", "SplitDefinition", "TrainValRecord"),
    "listeners": ("EarlyStopping",),
    "losses": ("DiceBCELoss", "DiceLoss", "DiceScore", "FocalLoss", "SmoothnessLoss"),
    "model": ("AbstractNCAModel", "BasicNCAModel"),
    "parts": (
        *("AbstractNCAHead", "AbstractNCARule", "BasicNCAHead", "BasicNCAPerception", "BasicNCARule"),
        *("ClassificationNCAHead", "MLPNCARule"),
    ),
    "paths": ("ROOT_PATH", "TASK_PATH", "WEIGHTS_PATH"),
    "pool": ("Pool",),
    "prediction": ("Prediction",),
    "search": ("ParameterSearch", "ParameterSet"),
    "tasks": (
        *("BinarySegmentationNCAModel", "ClassificationNCAModel", "DepthNCAModel", "GrowingNCAModel"),
        *("SelfClassificationNCAModel",),
    ),
    "trainer": ("BasicNCATrainer",),
    "uncertainty": ("MCMC", "NQM", "UncertaintyEstimator"),
    "utils": (
        *("DEFAULT_RANDOM_SEED", "fix_random_seed", "get_compute_device", "intepret_range_parameter"),
        *("interpret_range_parameter", "pad_input", "print_NCALab_banner", "print_mascot", "release_random_seed"),
        *("unwrap",),
    ),
    "weights": ("load_ncalab",),
}

HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = sorted(HOMES)

__getattr__, __dir__ = lazy_names(__name__, HOMES)
