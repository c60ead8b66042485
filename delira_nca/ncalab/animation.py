"""NCALab's films of predictions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.compiled import unwrapped
from delira_nca.ncalab.figures import Color
from delira_nca.ncalab.prediction import Prediction
from delira_nca.visualization.film import save_film

__all__ = [
    "Animator",
    "AnimatorStyle",
    "AnimatorView",
    "AnimatorViewInput",
    "animator_style_dark",
    "animator_style_plain",
    "animator_styles",
    "draw_segmentation_overlay",
]

Array = npt.NDArray[Any]
UInt8Array = npt.NDArray[np.uint8]
HIDDEN_COLOURS = np.array(
    [
        *((141, 211, 199), (255, 255, 179), (190, 186, 218), (251, 128, 114), (128, 177, 211), (253, 180, 98)),
        *((179, 222, 105), (252, 205, 229), (217, 217, 217), (188, 128, 189), (204, 235, 197), (255, 237, 111)),
    ]
)
"""Colours of the hidden channels: ColorBrewer's Set3."""


@dataclass
class AnimatorStyle:
    """Colours and caption of a film.

    Parameters
    ----------
    color_background, color_overlay, color_title, color_progress : Color
        Colours of the background, of masks, of the caption and of the progress bar.
    underline : bool
        Whether a line separates the caption from the picture.
    progress_h : int
        Height of the progress bar in pixels; 0 for none.
    caption_format : str
        Caption, formatted with ``current_timestep``.
    caption_size : int
        Size of the caption in pixels.
    cmap_hidden : str
        Not used: hidden channels have the colours of Set3.
    """

    color_background: Color
    color_overlay: Color
    color_title: Color
    color_progress: Color
    underline: bool = True
    progress_h: int = 3
    caption_format: str = "Timestep: {current_timestep:3d}"
    caption_size: int = 16
    cmap_hidden: str = "Set3"


_DARK, _LIGHT, _GREEN = Color(0.1, 0.1, 0.1), Color(0.9, 0.9, 0.9), Color(0.69, 1.0, 0.16)
animator_style_dark = AnimatorStyle(_DARK, _GREEN, _LIGHT, Color(1.0, 0.69, 0.16))
animator_style_plain = AnimatorStyle(_LIGHT, _GREEN, _DARK, _DARK, underline=False, progress_h=0)
animator_styles = {"dark": animator_style_dark, "plain": animator_style_plain}


def draw_segmentation_overlay(
    image: Array,
    mask: Array,
    style: AnimatorStyle = animator_style_dark,
    alpha: float = 0.5,
    contour: bool = True,
    median_denoise_kernel_size: int = 5,
) -> Array:
    """Draw a half transparent mask over an image.

    Parameters
    ----------
    image : ndarray
        (H, W, 3) image with values in [0, 1]. It is not changed.
    mask : ndarray
        (H, W) mask.
    style : AnimatorStyle
        Style with the colour of the mask.
    alpha : float
        Opacity of the mask.
    contour : bool
        Whether to draw the edge of the mask.
    median_denoise_kernel_size : int
        Size of a median filter that removes single cells from the mask; odd, or 0 for none.

    Returns
    -------
    (H, W, 3) array

    Raises
    ------
    ConfigError
        If the size of the filter is even, or the opacity is not in [0, 1].

    Examples
    --------
    >>> drawn = draw_segmentation_overlay(np.zeros((8, 8, 3)), np.ones((8, 8)), alpha=1.0)
    >>> drawn[4, 4].tolist()
    [0.69, 1.0, 0.16]
    """
    require_number("alpha", alpha, 0, 1)
    size = require_whole("median_denoise_kernel_size", median_denoise_kernel_size, 0)
    if size and size % 2 == 0:
        raise ConfigError(f"median_denoise_kernel_size is odd, or 0 for no filter, not {size}")
    inside = np.asarray(mask) > 0
    if size:
        inside = ndimage.median_filter(inside.astype(np.uint8), size) > 0
    colour = np.array(style.color_overlay.rgb3f)
    drawn = np.array(image, float)
    drawn[inside] = alpha * colour + (1 - alpha) * drawn[inside]
    if contour:
        drawn[inside & ~ndimage.binary_erosion(inside, np.ones((3, 3)), border_value=1)] = colour
    return drawn


class AnimatorView:
    """Picture of a prediction: the image channels.

    Parameters
    ----------
    overlay : bool
        Whether the mask, if there is one, is drawn over the image.
    progress : bool
        Not used: the progress bar belongs to the style.
    """

    def __init__(self, overlay: bool = False, progress: bool = False) -> None:
        self.overlay, self.progress = overlay, progress

    def render_frame(self, prediction: Any, style: AnimatorStyle = animator_style_dark) -> Array:
        """Return the picture of a prediction of one sample, (H, W, 3) in [0, 1]."""
        background = np.array(style.color_background.rgb3f)
        picture = _picture(prediction.image_channels_np[0], background)
        mask = prediction.mask_np
        return draw_segmentation_overlay(picture, mask[0, 0], style) if self.overlay and mask is not None else picture


class AnimatorViewInput(AnimatorView):
    """Picture of a prediction: the image channels."""


class AnimatorViewHidden(AnimatorView):
    """Picture of the hidden channels: the colour shows the strongest one, the opacity its strength."""

    def render_frame(self, prediction: Any, style: AnimatorStyle = animator_style_dark) -> Array:
        """Return the picture of a prediction of one sample, (H, W, 3) in [0, 1]."""
        strength = np.abs(prediction.hidden_channels_np[0])
        colours = HIDDEN_COLOURS[strength.argmax(0) % len(HIDDEN_COLOURS)] / 255
        opacity = (strength.max(0) / max(float(strength.max()), 1e-12))[..., None]
        shown: Array = opacity * colours + (1 - opacity) * np.array(style.color_background.rgb3f)
        return shown


def _picture(image: Array, background: Array) -> Array:
    """Convert (c, H, W) image channels to (H, W, 3) in [0, 1]. Values outside of [0, 1] are scaled to it."""
    picture = np.moveaxis(image.astype(float), 0, -1)
    if picture.shape[-1] == 4:
        colour, alpha = picture[..., :3].clip(0, 1), picture[..., 3:].clip(0, 1)
        blended: Array = alpha * colour + (1 - alpha) * background
        return blended
    if picture.min() < 0:
        picture = (picture - picture.min()) / max(float(picture.max() - picture.min()), 1e-12)
    picture = picture if picture.shape[-1] == 3 else picture[..., :1].repeat(3, -1)
    return picture.clip(0, 1)


class Animator:
    """Film of the roll-outs of a batch, one sample after the other.

    Parameters
    ----------
    nca : object
        Model or cascade.
    seed : Tensor
        (B, c, H, W) images or states.
    steps : int, optional
        Number of steps; ``inference_timesteps`` by default. Those of a cascade belong to its levels.
    interval : int
        Duration of a frame in ms, at least 20.
    repeat, repeat_delay : bool, int
        Whether to pause before the film repeats, and the duration of the pause in ms, at most 10000. Films always
        repeat.
    overlay : bool
        Whether masks are drawn over the images.
    show_timestep : bool
        Whether each frame has a caption with its step.
    hidden : bool
        Whether the hidden channels are shown instead of the image.
    show_input : bool
        Whether the image is shown beside the hidden channels.
    style : str or AnimatorStyle
        ``"dark"``, ``"plain"``, or a style.

    Examples
    --------
    >>> from delira_nca.ncalab import GrowingNCAModel
    >>> model = GrowingNCAModel("cpu", num_hidden_channels=4)
    >>> path = getfixture("tmp_path") / "growth.gif"
    >>> Animator(model, model.make_seed(12, 12), steps=4, hidden=True).save(path)
    >>> path.stat().st_size > 100
    True
    """

    def __init__(
        self,
        nca: Any,
        seed: Tensor,
        steps: int | None = None,
        interval: int = 100,
        repeat: bool = True,
        repeat_delay: int = 10000,
        overlay: bool = False,
        show_timestep: bool = True,
        hidden: bool = False,
        show_input: bool = False,
        style: str | AnimatorStyle = "dark",
    ) -> None:
        if isinstance(style, str):
            require_choice("style", style, animator_styles)
            style = animator_styles[style]
        self.interval = require_number("interval", interval, 20)
        self.hold = min(require_number("repeat_delay", repeat_delay, 0) / 1000, 10.0) if repeat else 10.0
        views: list[AnimatorView] = [AnimatorViewInput(overlay)] if show_input or not hidden else []
        views += [AnimatorViewHidden()] if hidden else []
        nca = unwrapped(nca)
        with torch.no_grad():
            recorded = nca.record(seed, steps)
        self.frames: list[UInt8Array] = []
        """Frames, (height, width, 3) uint8 each."""
        for number, prediction in enumerate(Prediction.flatten_recorded_predictions(recorded)):
            step = number % len(recorded)
            picture = np.concatenate([view.render_frame(prediction, style) for view in views], 1)
            caption = style.caption_format.format(current_timestep=prediction.steps) if show_timestep else None
            self.frames.append(_framed(picture, style, (step + 1) / len(recorded), caption))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the film; the suffix sets the format, see :func:`delira_nca.visualization.save_film`."""
        save_film(np.stack(self.frames), path, fps=1000 / self.interval, scale=1, hold=self.hold)


def _framed(picture: Array, style: AnimatorStyle, progress: float, caption: str | None) -> UInt8Array:
    """Enlarge a picture to at least 256 pixels, and add caption and progress bar."""
    scale = max(1, -(-256 // max(picture.shape[0], 1)))
    pixels = (255 * picture.repeat(scale, 0).repeat(scale, 1) + 0.5).astype(np.uint8)
    height, width = pixels.shape[:2]
    top = style.caption_size + 8 if caption is not None else 0
    frame = Image.new("RGB", (width, top + height + style.progress_h), style.color_background.rgba4b[:3])
    frame.paste(Image.fromarray(pixels), (0, top))
    pen, accent = ImageDraw.Draw(frame), style.color_progress.rgba4b[:3]
    if caption is not None:
        pen.text((6, 3), caption, fill=style.color_title.rgba4b[:3], font=ImageFont.load_default(style.caption_size))
        if style.underline:
            pen.line((0, top - 1, width, top - 1), fill=accent)
    if style.progress_h:
        pen.rectangle((0, top + height, round(width * progress) - 1, top + height + style.progress_h), fill=accent)
    return np.asarray(frame)
