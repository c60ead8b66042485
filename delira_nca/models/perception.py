"""Perception of the neighbourhood of a cell by fixed, learned, grouped, isotropic and steerable filters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.checks import plain_numbers, require_number, require_wholes
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.models.part import Part
from delira_nca.rollout.cost import check_padding

__all__ = [
    "CONVOLUTION_LAYERS",
    "FIXED_FILTERS",
    "FRAMES",
    "PADDINGS",
    "FullFilters",
    "GroupedPerception",
    "IsotropicPerception",
    "LearnedFilters",
    "Perception",
    "SteerablePerception",
    "fixed_kernels",
    "pad_state",
]

FIXED_FILTERS = ("identity", "sobel", "laplacian")
PADDINGS = ("zeros", "reflect", "replicate", "circular")
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONVOLUTION_LAYERS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
"""Classes of layers by number of spatial dimensions."""


@plain_numbers
@dataclass(frozen=True)
class LearnedFilters:
    """Learned depth-wise filters, each of which maps every channel to one channel (NCALab, M3D-NCA).

    Parameters
    ----------
    num : int
        Number of filters; they give ``num * C`` channels.
    kernel_size : int
        Number of cells along each axis; odd.
    bias : bool
        Whether each output channel has a bias.
    """

    num: int = 2
    kernel_size: int = 3
    bias: bool = False


@plain_numbers
@dataclass(frozen=True)
class FullFilters:
    """Learned filters over all channels at once (Med-NCA, self-classifying MNIST).

    Parameters
    ----------
    num : int
        Number of filter banks.
    out_channels : int or None
        Number of output channels of each bank; by default that of the state.
    kernel_size : int
        Number of cells along each axis; odd.
    bias : bool
        Whether each output channel has a bias.
    relu : bool
        Whether a ReLU follows.
    """

    num: int = 2
    out_channels: int | None = None
    kernel_size: int = 3
    bias: bool = True
    relu: bool = False


_SHORTHAND: dict[str, LearnedFilters | FullFilters] = {"learned": LearnedFilters(), "full": FullFilters()}
Filter = str | LearnedFilters | FullFilters


def _outer(vectors: list[Tensor]) -> Tensor:
    return reduce(lambda kernel, vector: kernel.unsqueeze(-1) * vector, vectors[1:], vectors[0])


def fixed_kernels(
    name: str, dims: int, angle: float = 0.0, laplacian_scale: float = 1.0, sobel_scale: float = 1.0
) -> list[Tensor]:
    """Return the kernels of one fixed filter, each of shape ``(3,) * dims``."""
    smooth, difference = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
    if name == "identity":
        return [_outer([torch.tensor([0.0, 1.0, 0.0])] * dims)]
    if name == "laplacian":
        kernel = _outer([smooth] * dims)
        kernel[(1,) * dims] -= 4.0**dims
        return [kernel * laplacian_scale]
    gain = 2.0 * 4.0 ** (dims - 1) / sobel_scale  # a ramp of slope 1 then gives sobel_scale
    last_axis_first = range(dims - 1, -1, -1)
    gradients = [_outer([difference if a == axis else smooth for a in range(dims)]) / gain for axis in last_axis_first]
    if dims == 2 and angle:
        cos, sin = math.cos(angle), math.sin(angle)
        along_x, along_y = gradients
        gradients = [cos * along_x - sin * along_y, sin * along_x + cos * along_y]
    return gradients


def pad_state(x: Tensor, padding: str) -> Tensor:
    """Pad a (B, C, *spatial) state by one cell; with zero padding, return it unchanged, as convolutions add zeros.

    Raises
    ------
    ShapeError
        If the grid is too small.
    """
    if padding == "zeros":
        return x
    dims = x.dim() - 2
    check_padding(padding, (1,) * dims, x.shape[2:])
    return F.pad(x, (1, 1) * dims, mode=padding)


class _FixedFilters(torch.autograd.Function):
    """Apply every fixed kernel to every channel in one convolution. Outputs are ordered by kernel.

    One large operation suits GPUs; on CPUs, one convolution per kernel is faster. The function avoids storing the
    repeated state, which autograd would keep although the gradient does not need it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        copies = len(weight) // x.shape[1]
        return _CONVOLUTIONS[x.dim() - 2](
            x.repeat(1, copies, *(1,) * (x.dim() - 2)), weight, padding=padding, groups=len(weight)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        x, weight, ctx.padding = inputs
        ctx.channels = x.shape[1]
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        dims, groups = grad.dim() - 2, len(weight)
        size = [n + 2 - 2 * ctx.padding for n in grad.shape[2:]]
        given = grad if ctx.padding else grad.new_empty(*grad.shape[:2], *size)  # only its shape is used
        one, none = [1] * dims, [0] * dims
        options = (None, one, [ctx.padding] * dims, one, False, none, groups, [True, False, False])
        every: Tensor = torch.ops.aten.convolution_backward(grad, given, weight, *options)[0]
        return every.view(len(every), -1, ctx.channels, *every.shape[2:]).sum(1), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (weight,) = ctx.saved_tensors
        seen: Tensor = _FixedFilters.apply(tangent, weight, ctx.padding)  # type: ignore[no-untyped-call]
        return seen


class Perception(Part):
    """Filters over the neighbourhood of each cell, with concatenated outputs.

    Parameters
    ----------
    *filters : Filter
        ``"identity"``, ``"sobel"`` (one gradient per axis, last axis first, scaled so that a ramp of slope 1 gives 1:
        divided by 8 in 2D), ``"laplacian"``, ``"learned"`` or a :class:`LearnedFilters`, ``"full"`` or a
        :class:`FullFilters`.
    padding : str
        Values beyond the border for all filters: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    angle : float
        Angle in radians by which the two Sobel filters are rotated (2D only), counterclockwise on an image with the
        first axis pointing down, like ``torch.rot90``. Perceiving a rotated image with ``angle=pi/2`` equals rotating
        the perception of the image.
    laplacian_scale : float
        Factor of the laplacian; 1 is the kernel ``[[1, 2, 1], [2, -12, 2], [1, 2, 1]]``.
    sobel_scale : float
        Factor of Sobel's filters; 8 is the kernel ``[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]``.

    Raises
    ------
    UnknownNameError, ConfigError
        If a filter or the padding is unknown, a kernel size is even, no filter is given, or an angle is given without
        Sobel filters in 2D.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata"; the laplacian is the one of Niklasson et al. (2021),
    "Self-Organising Textures". A model builds a copy for its channels, so one perception can be passed to several
    models.

    Examples
    --------
    >>> perception = Perception("identity", "sobel").build(num_channels=16, dims=2)
    >>> perception(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 48, 8, 8])
    """

    fixed_weights: Tensor

    def __init__(
        self,
        *filters: Filter,
        padding: str = "zeros",
        angle: float = 0.0,
        laplacian_scale: float = 1.0,
        sobel_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not filters:
            raise ConfigError("a perception needs at least one filter, for instance 'identity', 'sobel'")
        for spec in filters:
            if isinstance(spec, str):
                require_choice("filter", spec, (*FIXED_FILTERS, *_SHORTHAND))
            elif not isinstance(spec, (LearnedFilters, FullFilters)):
                raise ConfigError(f"a filter is a name, LearnedFilters(...) or FullFilters(...), not {spec!r}")
            elif spec.kernel_size % 2 == 0 or spec.kernel_size < 1 or spec.num < 1:
                raise ConfigError(f"a filter has an odd kernel and there is at least one of it, not {spec}")
            elif isinstance(spec, FullFilters) and spec.out_channels is not None and spec.out_channels < 1:
                raise ConfigError(f"a filter has at least one channel, not {spec}")
        require_choice("padding", padding, PADDINGS)
        self.specs = tuple(_SHORTHAND.get(f, f) if isinstance(f, str) else f for f in filters)
        self.padding, self.angle = padding, float(angle)
        self.laplacian_scale = float(laplacian_scale)
        self.sobel_scale = float(require_number("sobel_scale", sobel_scale, above=0))
        self.num_channels = self.dims = 0

    def build(self, num_channels: int, dims: int = 2) -> Perception:
        """Make the kernels for the numbers of channels and spatial dimensions, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _CONVOLUTIONS)
        if self.angle and dims != 2:
            raise ConfigError(f"angle turns the filters of a 2D perception, not of one in {dims}D")
        self.num_channels, self.dims = num_channels, dims
        fixed = [f for f in self.specs if isinstance(f, str)]
        scales = (self.angle, self.laplacian_scale, self.sobel_scale)
        kernels = [kernel for name in fixed for kernel in fixed_kernels(name, dims, *scales)]
        stacked = torch.stack(kernels) if kernels else torch.zeros(0, *(3,) * dims)
        self.register_buffer("fixed_weights", stacked.repeat_interleave(num_channels, 0).unsqueeze(1), persistent=False)
        learned = [f for f in self.specs if not isinstance(f, str)]
        self.learned = nn.ModuleList(nn.ModuleList(self._convolutions(spec)) for spec in learned)
        return self

    def _convolutions(self, spec: LearnedFilters | FullFilters) -> list[nn.Module]:
        full = isinstance(spec, FullFilters)
        return [
            CONVOLUTION_LAYERS[self.dims](
                self.num_channels,
                (spec.out_channels or self.num_channels) if isinstance(spec, FullFilters) else self.num_channels,
                spec.kernel_size,
                groups=1 if full else self.num_channels,
                bias=spec.bias,
                padding=spec.kernel_size // 2,
                padding_mode=self.padding,  # type: ignore[arg-type]  # checked in the constructor
            )
            for _ in range(spec.num)
        ]

    @property
    def kernels(self) -> Tensor:
        """Kernels of the fixed filters, (number of fixed filters, *kernel)."""
        return self.fixed_weights[:: max(self.num_channels, 1), 0]

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        channels = 0
        for spec in self.specs:
            if isinstance(spec, FullFilters):
                channels += spec.num * (spec.out_channels or self.num_channels)
            elif isinstance(spec, LearnedFilters):
                channels += spec.num * self.num_channels
            else:
                channels += self.num_channels * (self.dims if spec == "sobel" else 1)
        return channels

    @property
    def radius(self) -> int:
        """Distance of the farthest cell that is perceived, as the maximum over the axes."""
        reach = {"identity": 0, "sobel": 1, "laplacian": 1}
        return max(reach[f] if isinstance(f, str) else f.kernel_size // 2 for f in self.specs)

    def forward(self, x: Tensor) -> Tensor:
        """Map a (B, C, *spatial) state to (B, out_channels, *spatial), ordered by filter.

        Raises
        ------
        ShapeError
            If the channels or dimensions differ from those that the perception was built for.
        """
        if x.dim() != self.dims + 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"perception was built for (B, {self.num_channels}, {self.dims} spatial axes), got {tuple(x.shape)}"
            )
        check_padding(self.padding, (self.radius,) * self.dims, x.shape[2:])
        padded = pad_state(x, self.padding) if any(f in ("sobel", "laplacian") for f in self.specs) else x
        parts: list[Tensor] = []
        learned, first = iter(self.learned), 0
        for is_fixed, group in itertools.groupby(self.specs, lambda spec: isinstance(spec, str)):
            specs = list(group)
            if is_fixed:
                parts += self._fixed(x, padded, specs, first)
                first += sum(self.dims if spec == "sobel" else 1 for spec in specs)
                continue
            for spec in specs:
                outputs = [convolution(x) for convolution in next(learned)]  # type: ignore[attr-defined]
                relu = isinstance(spec, FullFilters) and spec.relu
                parts.extend(F.relu(output) for output in outputs) if relu else parts.extend(outputs)
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _fixed(self, x: Tensor, padded: Tensor, names: list[Any], first: int) -> list[Tensor]:
        """Outputs of consecutive fixed filters, beginning with filter ``first`` of all fixed ones."""
        if {*names} == {"identity"}:
            return [x] * len(names)
        channels, padding = self.num_channels, int(self.padding == "zeros")
        kernels = [name for name in names for _ in range(self.dims if name == "sobel" else 1)]
        if x.device.type != "cpu":
            return [self._in_one_call(padded, len(kernels), first)]
        weights = self.fixed_weights.split(channels)[first:]  # type: ignore[no-untyped-call]
        convolution = _CONVOLUTIONS[self.dims]
        return [
            x if name == "identity" else convolution(padded, weight, padding=padding, groups=channels)
            for name, weight in zip(kernels, weights, strict=False)
        ]

    def _in_one_call(self, padded: Tensor, number: int, first: int) -> Tensor:
        """Outputs of ``number`` fixed filters from filter ``first`` on, ordered by filter."""
        channels, weight = self.num_channels, self.fixed_weights
        if number * channels < len(weight):
            weight = weight[first * channels : (first + number) * channels]
        seen: Tensor = _FixedFilters.apply(padded, weight, int(self.padding == "zeros"))  # type: ignore[no-untyped-call]
        return seen

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description, for :meth:`from_dict`."""
        return {
            "filters": [f if isinstance(f, str) else {"type": type(f).__name__, **asdict(f)} for f in self.specs],
            "padding": self.padding,
            "angle": self.angle,
            "laplacian_scale": self.laplacian_scale,
            **({} if self.sobel_scale == 1.0 else {"sobel_scale": self.sobel_scale}),
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Perception:
        """Make an unbuilt perception from the result of :meth:`to_dict`."""
        config = dict(config)
        types = {"LearnedFilters": LearnedFilters, "FullFilters": FullFilters}
        filters = [
            f if isinstance(f, str) else types[f["type"]](**{k: v for k, v in f.items() if k != "type"})
            for f in config.pop("filters")
        ]
        return cls(*filters, **config)


class _FixedPerception(Part):
    """Perception by fixed filters, which see the nearest cells of each channel."""

    kernels: Tensor

    def __init__(self, padding: str, sobel_scale: float) -> None:
        super().__init__()
        require_choice("padding", padding, PADDINGS)
        self.padding, self.sobel_scale = padding, float(require_number("sobel_scale", sobel_scale, above=0))
        self.num_channels = self.dims = 0

    def _set(self, num_channels: int, dims: int, kernels: Sequence[Tensor]) -> None:
        """Store the numbers of channels and dimensions, and the kernels."""
        self.num_channels, self.dims = num_channels, dims
        self.register_buffer("kernels", torch.stack([*kernels]), persistent=False)

    @property
    def radius(self) -> int:
        """Distance of the farthest cell that is perceived."""
        return 1

    def _padded(self, x: Tensor) -> Tensor:
        """Check and pad a state."""
        if x.dim() != self.dims + 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"perception was built for (B, {self.num_channels}, {self.dims} spatial axes), got {tuple(x.shape)}"
            )
        return pad_state(x, self.padding)

    def _filtered(self, padded: Tensor, kernel: Tensor) -> Tensor:
        """Apply one kernel to every channel of a padded state, or to each channel its kernel."""
        weight = kernel.unsqueeze(-1 - self.dims).expand(self.num_channels, 1, *kernel.shape[-self.dims :])
        zeros = int(self.padding == "zeros")
        return _CONVOLUTIONS[self.dims](padded, weight, padding=zeros, groups=self.num_channels)


class GroupedPerception(_FixedPerception):
    """State, one fixed filter per channel, and the absolute values of both.

    The first group of channels is filtered by the laplacian, the next by the Sobel filter along the last axis, and each
    further group by that along the axis before.

    Parameters
    ----------
    groups : tuple of int or None
        Numbers of channels for the laplacian and for the filter of each axis. By default the shares are equal if the
        number of channels is divisible; otherwise that of the laplacian is twice that of each gradient.
    padding : str
        Values beyond the border: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    sobel_scale : float
        Factor of the Sobel filters; 8, the default, is ``[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]``.

    Raises
    ------
    ConfigError, UnknownNameError
        If the groups are not numbers, or their sum is not the number of channels.

    Notes
    -----
    Mordvintsev & Niklasson (2021), "uNCA". The default groups are those of the article: 2, 1 and 1 of 4 channels, 2
    each of 6, 4, 2 and 2 of 8, 4 each of 12.

    Examples
    --------
    >>> perception = GroupedPerception().build(num_channels=8, dims=2)
    >>> perception.groups, perception.out_channels
    ((4, 2, 2), 32)
    """

    def __init__(
        self, groups: tuple[int, ...] | None = None, *, padding: str = "circular", sobel_scale: float = 8.0
    ) -> None:
        super().__init__(padding, sobel_scale)
        self.groups = None if groups is None else require_wholes("groups", groups, 0)

    def build(self, num_channels: int, dims: int = 2) -> GroupedPerception:
        """Make the kernels for the numbers of channels and spatial dimensions, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _CONVOLUTIONS)
        groups = _shares(num_channels, dims) if self.groups is None else self.groups
        if len(groups) != dims + 1 or sum(groups) != num_channels:
            raise ConfigError(
                f"groups of {num_channels} channels in {dims}D are {dims + 1} numbers with the sum {num_channels}, "
                f"the laplacian's and one for each axis, not {groups}"
            )
        self.groups = groups
        filters = [*fixed_kernels("laplacian", dims), *fixed_kernels("sobel", dims, sobel_scale=self.sobel_scale)]
        self._set(num_channels, dims, [k for k, count in zip(filters, groups, strict=True) for _ in range(count)])
        return self

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return 4 * self.num_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) states to (B, 4 C, *spatial): state, filtered state, and the absolute values of both."""
        both = torch.cat([x, self._filtered(self._padded(x), self.kernels)], 1)
        return torch.cat([both, both.abs()], 1)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> GroupedPerception:
        """Make an unbuilt perception from the result of :meth:`to_dict`."""
        groups = config.get("groups")
        return cls(**{**config, "groups": None if groups is None else tuple(groups)})


def _shares(num_channels: int, dims: int) -> tuple[int, ...]:
    share = num_channels // (dims + 1 if num_channels % (dims + 1) == 0 else dims + 2)
    return (num_channels - dims * share, *(share,) * dims)


class IsotropicPerception(_FixedPerception):
    """State, length of its gradient, and its laplacian, per channel.

    Parameters
    ----------
    laplacian : bool
        Whether the laplacian is included.
    padding : str
        Values beyond the border: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    sobel_scale : float
        Factor of the Sobel filters; 1, the default, gives 1 on a ramp of slope 1.

    Raises
    ------
    ConfigError, UnknownNameError
        If the padding is unknown, the scale is not positive, or ``dims`` is not 1, 2 or 3.

    Notes
    -----
    Mordvintsev, Randazzo & Fouts (2022), "Growing Isotropic Neural Cellular Automata". Without the gradient,
    ``Perception("identity", "laplacian")`` is equal, and all back ends support it.

    Examples
    --------
    >>> perception = IsotropicPerception().build(num_channels=1, dims=2)
    >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    >>> perception(ramp)[0, :, 2, 2].tolist()  # state, length of the gradient, laplacian
    [2.0, 1.0, 0.0]
    """

    def __init__(self, *, laplacian: bool = True, padding: str = "circular", sobel_scale: float = 1.0) -> None:
        super().__init__(padding, sobel_scale)
        self.laplacian = bool(laplacian)

    def build(self, num_channels: int, dims: int = 2) -> IsotropicPerception:
        """Make the kernels for the numbers of channels and spatial dimensions, and return the module itself."""
        require_choice("number of spatial dimensions", dims, _CONVOLUTIONS)
        kernels = fixed_kernels("sobel", dims, sobel_scale=self.sobel_scale)
        self._set(num_channels, dims, [*kernels, *fixed_kernels("laplacian", dims)])
        return self

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return self.num_channels * (3 if self.laplacian else 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map a (B, C, *spatial) state to (B, out_channels, *spatial): state, lengths of gradients, laplacian.

        Where a channel is constant, the length has a gradient of 0.
        """
        padded = self._padded(x)
        *sobel, laplacian = self.kernels
        steepness = torch.linalg.vector_norm(torch.stack([self._filtered(padded, k) for k in sobel]), dim=0)
        return torch.cat([x, steepness, *([self._filtered(padded, laplacian)] if self.laplacian else [])], 1)


FRAMES = ("angle", "gradient")


class SteerablePerception(_FixedPerception):
    """State, its two gradients in the frame of the cell, and its laplacian; for 2D only.

    A gradient ``(gx, gy)`` becomes ``(c gx + s gy, c gy - s gx)``: its components along the direction ``(c, s)`` of the
    cell and across it. The direction is computed from the last channel of the state.

    Parameters
    ----------
    frame : str
        ``"angle"``: the last channel is an angle in radians, from the last axis towards the one before it, and is not
        perceived itself. ``"gradient"``: the direction is the gradient of the last channel, divided by its length if
        that is above 1; the last channel is perceived like the others, without its gradient.
    laplacian : bool
        Whether the laplacian is included.
    padding : str
        Values beyond the border: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    sobel_scale : float
        Factor of the Sobel filters; 8, the default, is ``[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]``.

    Raises
    ------
    ConfigError, UnknownNameError
        If the frame or the padding is unknown, there are fewer than 2 channels, or ``dims`` is not 2.

    Notes
    -----
    Randazzo, Mordvintsev & Fouts (2023), "Growing Steerable Neural Cellular Automata". The perception of each cell is
    unchanged if an image is rotated by ``torch.rot90`` and pi/2 is subtracted from all angles.

    Examples
    --------
    >>> perception = SteerablePerception("angle").build(num_channels=16, dims=2)
    >>> perception(torch.zeros(1, 16, 8, 8)).shape  # 4 x 15: the angle is not seen
    torch.Size([1, 60, 8, 8])
    """

    def __init__(
        self, frame: str = "angle", *, laplacian: bool = True, padding: str = "circular", sobel_scale: float = 8.0
    ) -> None:
        require_choice("frame", frame, FRAMES)
        super().__init__(padding, sobel_scale)
        self.frame, self.laplacian = frame, bool(laplacian)

    def build(self, num_channels: int, dims: int = 2) -> SteerablePerception:
        """Make the kernels for the number of channels, and return the module itself."""
        if dims != 2:
            raise ConfigError(f"a steerable perception turns on a plane: it takes dims=2, not {dims}")
        if num_channels < 2:
            raise ConfigError(f"a steerable perception needs a channel beside that of its frame, not {num_channels}")
        kernels = [*fixed_kernels("sobel", 2, sobel_scale=self.sobel_scale), *fixed_kernels("laplacian", 2)]
        self._set(num_channels, dims, kernels)
        return self

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        scalars = self.num_channels - (self.frame == "angle")
        return scalars * (2 if self.laplacian else 1) + 2 * (self.num_channels - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map a (B, C, H, W) state to (B, out_channels, H, W): state, gradients along and across, laplacian."""
        padded = self._padded(x)
        along_x, along_y = (self._filtered(padded, kernel) for kernel in self.kernels[:2])
        cos, sin = self._direction(x[:, -1:], along_x[:, -1:], along_y[:, -1:])
        along_x, along_y = along_x[:, :-1], along_y[:, :-1]
        scalars = x.shape[1] - (self.frame == "angle")
        parts = [x[:, :scalars], cos * along_x + sin * along_y, cos * along_y - sin * along_x]
        if self.laplacian:
            parts.append(self._filtered(padded, self.kernels[2])[:, :scalars])
        return torch.cat(parts, 1)

    def _direction(self, last: Tensor, along_x: Tensor, along_y: Tensor) -> tuple[Tensor, Tensor]:
        if self.frame == "angle":
            return last.cos(), last.sin()
        length = (along_x.square() + along_y.square()).clamp(min=1.0).sqrt()
        return along_x / length, along_y / length
