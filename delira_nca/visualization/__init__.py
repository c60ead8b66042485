"""Images and films of cells, and curves of their training."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names
from delira_nca.visualization.colour import to_rgb
from delira_nca.visualization.crop import crop_to_life
from delira_nca.visualization.film import Cut, film_strip, save_film, save_growth_film, save_picture
from delira_nca.visualization.plots import save_curves, save_overlay, save_scatter

if TYPE_CHECKING:
    from delira_nca.visualization.case_preview import CasePreview
    from delira_nca.visualization.preview import Preview
    from delira_nca.visualization.visual import Visual, VisualRows

__all__ = [
    "CasePreview",
    "Cut",
    "Preview",
    "Visual",
    "VisualRows",
    "crop_to_life",
    "film_strip",
    "save_curves",
    "save_film",
    "save_growth_film",
    "save_overlay",
    "save_picture",
    "save_scatter",
    "to_rgb",
]

# these need torch
__getattr__, _ = lazy_names(
    __name__, {"CasePreview": "case_preview", "Preview": "preview", "Visual": "visual", "VisualRows": "visual"}
)
