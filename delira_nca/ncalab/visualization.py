"""Names of NCALab's module ``ncalab.visualization``."""

from delira_nca.ncalab.animation import (
    Animator,
    AnimatorStyle,
    AnimatorView,
    AnimatorViewInput,
    animator_style_dark,
    animator_style_plain,
    animator_styles,
    draw_segmentation_overlay,
)
from delira_nca.ncalab.figures import (
    Color,
    Visual,
    VisualBinaryImageClassification,
    VisualBinaryImageSegmentation,
    VisualDepthEstimation,
    VisualGrowing,
    VisualMultiImageClassification,
    VisualRGBImageClassification,
    show_image_row,
    string_ellipsis,
)

__all__ = [
    "Animator",
    "AnimatorStyle",
    "AnimatorView",
    "AnimatorViewInput",
    "Color",
    "Visual",
    "VisualBinaryImageClassification",
    "VisualBinaryImageSegmentation",
    "VisualDepthEstimation",
    "VisualGrowing",
    "VisualMultiImageClassification",
    "VisualRGBImageClassification",
    "animator_style_dark",
    "animator_style_plain",
    "animator_styles",
    "draw_segmentation_overlay",
    "show_image_row",
    "string_ellipsis",
]
