"""Target image of a dahlia, cut out of a photograph in scikit-learn."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.data_loading.sources.rgba import Target, fit_square, premultiply
from delira_nca.errors import ConfigError, MissingDependencyError

__all__ = ["FLOWER_SHA256", "cut_dahlia", "dahlia"]

FLOWER_SHA256 = "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"

# Hue of the petals in Pillow's HSV (0 to 255), from pink over orange to yellow.
_HUE_FROM, _HUE_TO = 241, 36
_MIN_SATURATION, _MIN_VALUE = 35, 100


def dahlia(size: int) -> Target:
    """Return a salmon-coloured dahlia on a transparent background, a round target with fine details.

    It is segmented by hue in ``flower.jpg`` of scikit-learn: the largest connected region of petals with filled holes,
    eroded by one pixel of mixed colours. The flower is 275 pixels wide in the photograph.

    Parameters
    ----------
    size : int
        Side of the target in cells, at least 1; 24 to 48 is usual.

    Returns
    -------
    (4, size, size) float32 array in [0, 1], premultiplied, touching all four borders

    Raises
    ------
    MissingDependencyError
        If scikit-learn, or its photograph, is missing.
    ConfigError
        If the installed photograph has another checksum.

    Notes
    -----
    Photograph: ``sklearn/datasets/images/flower.jpg``, 427 x 640. The ``README.txt`` beside it says:
    Creative Commons BY 2.0; "Some rights reserved by danielbuechele"; retrieved 21 August 2011 by Robert
    Layton from https://www.flickr.com/photos/vultilion/6056698931/sizes/z/in/photostream/ (the photostream
    of *vultilion*: name both when you publish a picture made from it). scikit-learn's own citation is
    Pedregosa et al. (2011), JMLR 12.

    Examples
    --------
    >>> target = dahlia(24)
    >>> target.shape, float(target[3].max())
    ((4, 24, 24), 1.0)
    """
    require_whole("size", size, 1)
    path = _find_photograph()
    photograph = path.read_bytes()
    found = hashlib.sha256(photograph).hexdigest()
    if found != FLOWER_SHA256:
        raise ConfigError(
            f"{path} is not the photograph that the dahlia is cut from: its sha256 is {found}, expected {FLOWER_SHA256}"
        )
    return cut_dahlia(photograph, size)


def cut_dahlia(photograph: bytes, size: int) -> Target:
    """Return the target of :func:`dahlia` from a photograph that the caller has read and verified.

    Parameters
    ----------
    photograph : bytes
        Content of ``flower.jpg``.
    size : int
        Side of the target in cells, at least 1.

    Returns
    -------
    (4, size, size) float32 array in [0, 1], premultiplied
    """
    from PIL import Image

    require_whole("size", size, 1)
    with Image.open(io.BytesIO(photograph)) as image:
        pixels = np.asarray(image.convert("RGB"))
    mask = _cut(pixels)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = np.dstack([pixels[box], np.where(mask[box], np.uint8(255), np.uint8(0))])
    return fit_square(premultiply(cut), size)


def _find_photograph() -> Path:
    spec = importlib.util.find_spec("sklearn")  # find the folder without importing the package
    if spec is None or spec.origin is None:
        raise MissingDependencyError("the dahlia is a picture in scikit-learn: pip install scikit-learn")
    path = Path(spec.origin).parent / "datasets" / "images" / "flower.jpg"
    if not path.is_file():
        raise MissingDependencyError(f"the installed scikit-learn has no {path}; install it anew")
    return path


def _cut(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return the mask of the largest flower in (H, W, 3) pixels, without partially covered border pixels."""
    from PIL import Image
    from scipy import ndimage

    hue, saturation, value = np.moveaxis(np.asarray(Image.fromarray(pixels).convert("HSV")), -1, 0)
    petals = ((hue >= _HUE_FROM) | (hue <= _HUE_TO)) & (saturation >= _MIN_SATURATION) & (value >= _MIN_VALUE)
    patches, _ = ndimage.label(petals)
    sizes = np.bincount(patches.ravel())
    sizes[0] = 0
    flower = ndimage.binary_fill_holes(patches == sizes.argmax())
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 2)
    return np.asarray(ndimage.binary_erosion(ndimage.binary_opening(flower, disc)))
