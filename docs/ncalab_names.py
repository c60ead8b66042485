"""Write docs/ncalab_names.md: every public name of NCALab 0.5, and its home here."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import delira_nca.ncalab as face

PAGE = Path(__file__).with_name("ncalab_names.md")
NAMES = {
    "autostepper": ["AutoStepper"],
    "data": ["GrowingNCADataset"],
    "losses": ["DiceBCELoss", "DiceLoss", "DiceScore", "FocalLoss"],
    "models": [
        *("AbstractNCAHead", "AbstractNCAModel", "AbstractNCARule", "BasicNCAPerception"),
        *("BinarySegmentationNCAModel", "CascadeNCA", "ClassificationNCAHead", "ClassificationNCAModel"),
        *("DepthNCAModel", "GrowingNCAModel", "MLPNCARule", "SelfClassificationNCAModel", "SmoothnessLoss"),
        *("downscale", "upscale"),
    ],
    "paths": ["ROOT_PATH", "TASK_PATH", "WEIGHTS_PATH"],
    "prediction": ["Prediction"],
    "search": ["ParameterSearch", "ParameterSet"],
    "training": [
        *("BasicNCATrainer", "EarlyStopping", "KFoldCrossValidationTrainer", "Pool", "SplitDefinition"),
        *("TrainValRecord", "TrainingHistory", "TrainingStatus"),
    ],
    "uncertainty": ["MCMC", "NQM", "UncertaintyEstimator"],
    "utils": [
        *("DEFAULT_RANDOM_SEED", "fix_random_seed", "get_compute_device", "interpret_range_parameter", "pad_input"),
        *("print_NCALab_banner", "print_mascot", "release_random_seed", "unwrap"),
    ],
    "visualization": [
        *("Animator", "AnimatorStyle", "AnimatorView", "AnimatorViewInput", "Color", "Visual"),
        *("VisualBinaryImageClassification", "VisualBinaryImageSegmentation", "VisualDepthEstimation"),
        *("VisualGrowing", "VisualMultiImageClassification", "VisualRGBImageClassification"),
        *("animator_style_dark", "animator_style_plain", "animator_styles", "draw_segmentation_overlay"),
        *("show_image_row", "string_ellipsis"),
    ],
}
"""Public names of NCALab 0.5 by module."""
OLDER = {"models": ["BasicNCAHead", "BasicNCAModel", "BasicNCARule"], "utils": ["intepret_range_parameter"]}
"""Names of NCALab's API page that 0.5 no longer has."""


def home(name: str) -> str:
    """Import path of the object behind a name."""
    value = getattr(face, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    return f"delira_nca.ncalab.{face.HOMES[name]}.{name}"


def render() -> str:
    """Return the page. A name that does not exist raises AttributeError."""
    rows = []
    for older, names in ((False, NAMES), (True, OLDER)):
        for module, found in names.items():
            mirrored = importlib.import_module(f"delira_nca.ncalab.{module}")
            for name in found:
                if not older:
                    getattr(mirrored, name)
                rows.append(f"| `{name}` | {'API page' if older else f'`ncalab.{module}`'} | `{home(name)}` |")
    head = [
        "# Names of NCALab",
        "",
        "All public names of NCALab 0.5 and of its API page. Each can be imported from `delira_nca.ncalab`, and those",
        "of version 0.5 also from the module of the same name, such as `delira_nca.ncalab.models` for `ncalab.models`.",
        "`python docs/ncalab_names.py` writes this page.",
        "",
        "| name | in NCALab | defined in |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
