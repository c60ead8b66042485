"""Sources of data: files of installed or given packages, computed data, and images as targets."""

from delira_nca.data_loading.sources.dahlia import dahlia
from delira_nca.data_loading.sources.drawings import DRAWINGS, drawing, load_target
from delira_nca.data_loading.sources.emoji import emoji
from delira_nca.data_loading.sources.registry import Opened, available, check, describe, is_here, open_source
from delira_nca.data_loading.sources.registry import open_source as open  # noqa: A004
from delira_nca.data_loading.sources.rgba import area_resize, fit_square, load_image, place, premultiply
from delira_nca.data_loading.sources.scenes import scenes
from delira_nca.data_loading.sources.source import Source
from delira_nca.data_loading.sources.synthetic import blobs, discs, vessels

__all__ = [
    "DRAWINGS",
    "Opened",
    "Source",
    "area_resize",
    "available",
    "blobs",
    "check",
    "dahlia",
    "describe",
    "discs",
    "drawing",
    "emoji",
    "fit_square",
    "is_here",
    "load_image",
    "load_target",
    "open",
    "open_source",
    "place",
    "premultiply",
    "scenes",
    "vessels",
]
