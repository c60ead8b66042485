"""NCALab's cascade: one model on several scales."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import is_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import pyramid
from delira_nca.models.compiled import unwrapped
from delira_nca.models.pyramid_grid import Patch, shrink
from delira_nca.ncalab.model import BasicNCAModel, NCALabNetwork, rename_weights

__all__ = ["CascadeNCA", "downscale", "upscale"]

_LOGGER = logging.getLogger("delira_nca")
OF_WRAPPED = (
    *("avg_pool_size", "class_names", "filter_padding", "head", "hidden_size", "inference_timesteps", "num_classes"),
    *("pad_noise", "perception", "prepare_input", "rule", "training_timesteps", "use_alive_mask"),
)
"""Attributes of a cascade that are those of its model."""


def upscale(image: Tensor, scale: float, mode: str = "nearest") -> Tensor:
    """Upscale a (B, C, H, W) image by a factor of at least 1; see :func:`torch.nn.functional.interpolate`."""
    if scale < 1:
        raise ConfigError(f"scale is at least 1, not {scale}")
    return F.interpolate(image, scale_factor=float(scale), mode=mode)


def downscale(image: Tensor, scale: float, mode: str = "bilinear") -> Tensor:
    """Downscale a (B, C, H, W) image by a factor of at least 1, with the corner cells of both grids aligned."""
    if scale < 1:
        raise ConfigError(f"scale is at least 1, not {scale}")
    return F.interpolate(image, scale_factor=1.0 / scale, mode=mode, align_corners=True)


def _rename_wrapped(module: Any, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Convert the names of a cascade of NCALab: its own rule, perception and head are copies or unused."""
    rename_weights(module, state, prefix)
    wrapped = [name for name in state if name.startswith(f"{prefix}wrapped.")]
    if not wrapped:
        return
    weights = {name.removeprefix(f"{prefix}wrapped."): state[name] for name in wrapped}
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]
    last = len(module.models) - 1
    for level in range(len(module.models)):
        for name, tensor in weights.items():
            if level == last or not name.startswith("head."):
                state[f"{prefix}models.{level}.{name}"] = tensor


class CascadeNCA(NCALabNetwork, pyramid.CascadeNCA):  # type: ignore[misc]  # validate() also takes a loader
    """Model on several scales, from coarse to fine, with the interpolation of NCALab.

    It differs from :class:`delira_nca.models.CascadeNCA`: images are downscaled with aligned corners, initial noise is
    drawn at the resolution of the image and downscaled, the steps are counted over all scales, and the number of steps
    of each scale varies by 20 % in training. In evaluation it is fixed; NCALab's varies there, too.

    Parameters
    ----------
    wrapped : BasicNCAModel
        Model of all scales.
    scales : sequence of int
        Downscaling factors, from coarse to fine; the last is 1.
    steps : sequence of int
        Number of steps at each scale.
    single_model : bool
        Whether all scales share the model; else each has a copy that is trained separately.
    jitter : float
        Largest relative change of the numbers of steps in training.
    downscale : str
        Method of downscaling the image.
    **options : object
        Other arguments of :class:`delira_nca.models.PyramidNCA`.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.ncalab import BinarySegmentationNCAModel
    >>> cascade = CascadeNCA(BinarySegmentationNCAModel("cpu", pad_noise=True), [4, 2, 1], [4, 2, 2])
    >>> cascade.predict(torch.rand(1, 3, 16, 16)).mask.shape, len(cascade.record(torch.rand(1, 3, 16, 16)))
    (torch.Size([1, 1, 16, 16]), 8)
    """

    def __init__(
        self,
        wrapped: BasicNCAModel,
        scales: Sequence[int],
        steps: Sequence[int],
        single_model: bool = True,
        *,
        jitter: float = 0.2,
        downscale: str = "bilinear_corners",
        **options: Any,
    ) -> None:
        super().__init__(unwrapped(wrapped), scales, steps, single_model, downscale=downscale, jitter=jitter, **options)
        self.register_load_state_dict_pre_hook(_rename_wrapped)  # type: ignore[no-untyped-call]

    @property
    def wrapped(self) -> Any:
        """Model of the finest scale."""
        return self._last

    @property
    def metrics(self) -> Any:
        """Metrics of the wrapped model."""
        return self._last.metrics

    @metrics.setter
    def metrics(self, value: Any) -> None:
        self.wrapped.metrics = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name) if name in OF_WRAPPED else super().__getattr__(name)

    @property
    def _continues_time(self) -> bool:
        return True

    def _interpret_steps(self, steps: Any) -> tuple[int, ...]:
        if is_whole(steps):  # NCALab passes a number, and ignores it
            if steps != sum(self.steps):
                _LOGGER.warning("steps=%d is not used: a cascade makes %s steps at its scales", steps, self.steps)
            steps = None
        return super()._interpret_steps(steps)

    def _checked(self, image: Tensor) -> Tensor:
        """Check an image, or a state with all channels."""
        if isinstance(image, Tensor) and image.dim() == 4 and image.shape[1] == self.num_channels:
            super()._checked(image[:, : self.num_image_channels])
            return image.to(next(self.parameters()).dtype)
        return super()._checked(image)

    def _initial_state(self, image: Tensor, patch: Patch | None, seed: int) -> Tensor:
        """Downscaled state; noise is drawn for the cells of the image."""
        model = self.model_of(0)
        if patch is not None and model.pad_noise:
            raise ShapeError("a cascade with pad_noise=True is trained on whole images: patch_size must be None")
        state = shrink(model.initial_state(image, seed), self.scales[0], self.downscale)
        return state if patch is None else patch.cut(state)
