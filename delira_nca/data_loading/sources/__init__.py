"""Growing targets: where the pictures come from that cells learn to grow into."""

from delira_nca.data_loading.sources.dahlia import dahlia
from delira_nca.data_loading.sources.emoji import emoji
from delira_nca.data_loading.sources.rgba import area_resize, fit_square, load_image, place, premultiply

__all__ = ["area_resize", "dahlia", "emoji", "fit_square", "load_image", "place", "premultiply"]
