"""Automata on grids of several scales, from the coarsest to the finest."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delira_nca.checks import plain_numbers, require_number, require_type, require_whole, require_wholes
from delira_nca.errors import ConfigError, ShapeError, refuse_unknown_keywords, require_choice
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.description import arguments_of, class_of_package
from delira_nca.models.inputs import as_weights, require_tensor
from delira_nca.models.network import declared_loss_names, entry
from delira_nca.models.prediction import Prediction, evaluating, kept_steps
from delira_nca.models.pyramid_grid import (
    DOWNSCALES,
    Patch,
    cropped,
    draw_patches,
    enlarge,
    interpret_scales,
    pad_to,
    shrink,
)
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.rollout import rollout, trajectory
from delira_nca.rollout.cost import RolloutCost
from delira_nca.rollout.job import current_part
from delira_nca.rollout.untraced import untraced
from delira_nca.seeding import derive_seed, generator

__all__ = [
    "CascadeNCA",
    "PyramidCost",
    "PyramidNCA",
    "check_models",
    "check_size",
    "described",
    "least_cells",
    "made",
    "pyramid_cost",
]


def check_models(models: Sequence[Any], levels: int) -> None:
    """Check that models can be the levels of a pyramid.

    Raises
    ------
    ConfigError
        If one is not an automaton, their number is wrong, or they differ in dimensions or channels.
    """
    for model in models:
        require_type("a level of a pyramid", model, BasicNCAModel)
    if len(models) not in (1, levels):
        raise ConfigError(f"a pyramid has one model, or one for each of its {levels} levels, not {len(models)}")
    if len({id(model) for model in models}) < len(models):
        raise ConfigError("a model stands at several levels: give one model for all, or copies")
    kinds = [(m.dims, m.num_image_channels, m.num_hidden_channels, m.num_output_channels) for m in models]
    if len(set(kinds)) > 1:
        raise ConfigError(
            f"all levels have the same dimensions and image, hidden and output channels, not {kinds} in this order"
        )
    if any(model.conditioning is not None for model in models):
        raise ConfigError("the levels of a pyramid take no goals: none of its models may have a conditioning")
    for level, model in enumerate(models[:-1]):
        if model.head is not None:
            raise ConfigError(f"the head of level {level} would never be asked: only the last model may have one")


def check_size(shape: tuple[int, ...], scales: Sequence[tuple[int, ...]], fewest: Sequence[int]) -> None:
    """Check that an image is large enough for all levels of a pyramid.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of the image.
    scales : sequence of tuple of int
        Scale of each level along each axis, from coarse to fine.
    fewest : sequence of int
        Minimum number of cells along each axis of each level.

    Raises
    ------
    ShapeError
        If the number of axes is wrong, or the image is too small for a level.

    Examples
    --------
    >>> check_size((9, 3), [(4, 4), (1, 1)], [2, 2])
    Traceback (most recent call last):
    delira_nca.errors.ShapeError: an image of (9, 3) is smaller than one cell of the coarsest level, ...
    """
    top = scales[0]
    if len(shape) != len(top):
        raise ShapeError(f"an image of this pyramid has {len(top)} spatial axes, not {len(shape)}: {shape}")
    blocks = [
        max(-(-n * scale[axis] // top[axis]) for n, scale in zip(fewest, scales, strict=True))
        for axis in range(len(top))
    ]
    least = tuple(max(by, (n - 1) * by + 1) for n, by in zip(blocks, top, strict=True))
    if any(size < by for size, by in zip(shape, top, strict=True)):
        raise ShapeError(
            f"an image of {shape} is smaller than one cell of the coarsest level, which is {top}: this pyramid takes "
            f"images of at least {least}"
        )
    for scale, needed in zip(scales, fewest, strict=True):
        cells = tuple(-(-size // by) * by // fine for size, by, fine in zip(shape, top, scale, strict=True))
        if min(cells) < needed:
            raise ShapeError(
                f"an image of {shape} is {cells} cells at scale {scale}, whose padding needs at least {needed} along "
                f"each axis: this pyramid takes images of at least {least}"
            )


def least_cells(model: BasicNCAModel) -> int:
    """Minimum number of cells along an axis that the padding of a model's perception needs."""
    extra = {"reflect": 1, "circular": 0}.get(getattr(model.perception, "padding", ""))
    return 1 if extra is None else max(1, model.radius + extra)


def described(model: Any) -> dict[str, Any]:
    """Return class path and arguments of the model of a level."""
    return {"class": f"{type(model).__module__}.{type(model).__qualname__}", "arguments": model.to_dict()}


def made(description: Mapping[str, Any]) -> BasicNCAModel:
    """Make a model from the result of :func:`described`, with new weights.

    Raises
    ------
    ConfigError
        If its class is not one of the package's, or a part is custom.
    """
    cls = class_of_package(description["class"], BasicNCAModel)
    if cls is None:
        raise ConfigError(f"a level is a {description['class']}, which is not the package's: pass the models")
    return cls.from_dict(description["arguments"])


@dataclass(frozen=True)
class PyramidCost:
    """Cost of a roll-out over all levels. Its ``str`` is a short report.

    A multiply-add counts as two operations. The resizing of images and states is not counted.

    Attributes
    ----------
    num_parameters : int
        Number of weights; those of a model that is shared by all levels count once.
    batch_size : int
        Number of images.
    shape : tuple of int
        Spatial shape of the images.
    levels : tuple of RolloutCost
        Cost of each level from coarse to fine on its grid. In inference the levels use their memory one after the
        other; in training the stored states of all levels remain until the backward pass.
    """

    num_parameters: int
    batch_size: int
    shape: tuple[int, ...]
    levels: tuple[RolloutCost, ...]

    @property
    def steps(self) -> int:
        """Total number of steps of all levels."""
        return sum(level.steps for level in self.levels)

    def operations(self, *, training: bool = False, every_cell: bool = False) -> int:
        """Return the number of operations of the whole roll-out of the batch.

        Parameters
        ----------
        training, every_cell : bool
            See :meth:`delira_nca.rollout.cost.RolloutCost.step_operations`.
        """
        return sum(
            level.steps * level.step_operations(training=training, every_cell=every_cell) for level in self.levels
        )

    def inference_bytes(self, backend: str) -> int:
        """Return the largest number of bytes that a level needs without gradients on a back end.

        Parameters
        ----------
        backend : str
            Name of the back end, a key of the ``memory`` of the levels.
        """
        return max(level.memory[backend].inference for level in self.levels)

    def kept_bytes(self, backend: str) -> int:
        """Return the largest number of bytes that all levels together store for the backward pass on a back end.

        Parameters
        ----------
        backend : str
            Name of the back end, a key of the ``memory`` of the levels.
        """
        return sum(level.memory[backend].kept for level in self.levels)

    def __str__(self) -> str:
        grid = " x ".join(map(str, self.shape))
        first = (
            f"{len(self.levels)} levels, {self.steps} steps of {self.batch_size} x ({grid}) cells, "
            f"{self.num_parameters:,} parameters"
        )
        return "\n".join([first, *(f"level {number}: {level}" for number, level in enumerate(self.levels))])


def pyramid_cost(
    pyramid: PyramidNCA,
    shape: Sequence[int],
    steps: Sequence[int],
    *,
    batch_size: int,
    memory_budget: int | None,
    patches: bool,
) -> PyramidCost:
    """Count the cost of a roll-out; see :meth:`delira_nca.models.PyramidNCA.cost`."""
    found = []
    for number, grid in enumerate(_grids(pyramid, tuple(shape), patches=patches)):
        model = pyramid.model_of(number)
        try:
            found.append(model.cost(grid, steps[number], batch_size=batch_size, memory_budget=memory_budget))
        except ConfigError as error:
            raise ConfigError(f"level {number} of the pyramid: {error}") from None
    return PyramidCost(
        num_parameters=sum(p.numel() for p in pyramid.parameters()),
        batch_size=batch_size,
        shape=tuple(shape),
        levels=tuple(found),
    )


def _grids(pyramid: PyramidNCA, shape: tuple[int, ...], *, patches: bool) -> list[tuple[int, ...]]:
    """Number of cells along each axis of each level, or of its patch."""
    coarsest = pyramid.scales[0]
    if len(shape) != len(coarsest):
        raise ShapeError(f"an image of this pyramid has {len(coarsest)} spatial axes, not {len(shape)}: {shape}")
    whole = [size + -size % top for size, top in zip(shape, coarsest, strict=True)]
    grids = [tuple(n // by for n, by in zip(whole, scale, strict=True)) for scale in pyramid.scales]
    if not patches:
        return grids
    if pyramid.patch_size is None:
        raise ConfigError("the pyramid is trained on whole images: it has no patch_size")
    drawn = draw_patches(np.random.default_rng(0), 1, shape, pyramid.scales, pyramid.patch_size, pyramid.patch_levels)
    return [grid if patch is None else patch.shape for grid, patch in zip(grids, drawn, strict=True)]


def _of_the_finest(name: str, doc: str) -> Any:
    return property(lambda pyramid: getattr(pyramid._last, name), doc=doc)


class PyramidNCA(AbstractPyTorchNetwork):
    """Automata on grids from coarse to fine. Each level continues from the states of the previous one.

    The coarsest level starts from the downscaled image. Every further level starts from the states of the previous
    level, with each cell repeated (nearest neighbour) and the image channels replaced by the image at the level's
    resolution; at the finest level that is the image itself. If the size of an image is not a multiple of the largest
    scale, its last cells are repeated, and the prediction is cropped.

    Parameters
    ----------
    models : BasicNCAModel or sequence of BasicNCAModel
        One model for all levels, or one per level from coarse to fine. They are not copied.
    scales : sequence of (int or sequence of int)
        Downscaling factor of each level, from coarse to fine, as one number or one per axis. Each is a multiple of the
        next; the last is 1.
    steps : sequence of int
        Number of steps of each level. It replaces those of the models.
    downscale : str
        Method of downscaling the image: ``"area"``, ``"bilinear"``, ``"bilinear_corners"``, ``"max"`` or ``"nearest"``;
        see :func:`~delira_nca.models.pyramid_grid.shrink`.
    patch_size : int, sequence of int or None
        Number of cells along each axis of the training patches; None trains on whole images. Evaluation always uses
        whole images.
    patch_levels : int
        Number of levels, the finest ones, that use a patch in training. Each patch lies within that of the previous
        level.
    jitter : float
        Largest relative change of the number of steps of a level in a training step.

    Raises
    ------
    ConfigError, UnknownNameError
        If the models do not fit together, the scales do not descend to 1, or a number is out of range.

    Notes
    -----
    Two levels correspond to Med-NCA, more to M3D-NCA (Kalkhof et al., 2023) and OctreeNCA (Krumb et al., 2025).

    One model for all levels continues its step numbers, and its time channel, from level to level; each of several
    models starts at 0. The first level uses the seed as its model alone would, so that a pyramid of one level equals
    its model. Heads of coarse levels would not be used: only the last of several models may have one.

    Each level is rolled out by the back end that supports its model.

    Examples
    --------
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=6, num_output_channels=1)
    >>> pyramid = PyramidNCA(model, scales=[4, 2, 1], steps=[8, 4, 4])
    >>> pyramid.predict(torch.zeros(2, 1, 30, 41)).output_channels.shape
    torch.Size([2, 1, 30, 41])
    """

    def __init__(
        self,
        models: BasicNCAModel | Sequence[BasicNCAModel],
        scales: Sequence[Scale],
        steps: Sequence[int],
        *,
        downscale: str = "area",
        patch_size: Scale | None = None,
        patch_levels: int = 1,
        jitter: float = 0.0,
    ) -> None:
        levels = [unwrapped(model) for model in (models if isinstance(models, Sequence) else [models])]
        check_models(levels, len(scales))
        super().__init__()
        self.models = nn.ModuleList(levels)
        last = self._last
        self.dims = last.dims
        if (names := declared_loss_names(last)) is not None and type(self).loss is PyramidNCA.loss:
            self.loss_names = names
        self.num_image_channels, self.num_hidden_channels = last.num_image_channels, last.num_hidden_channels
        self.num_output_channels, self.num_channels = last.num_output_channels, last.num_channels
        self.scales = interpret_scales(scales, self.dims)
        self.steps = self._interpret_steps(steps)
        require_choice("way to shrink an image", downscale, DOWNSCALES)
        self.downscale = downscale
        self.patch_size: tuple[int, ...] | None = None
        if patch_size is not None:
            self.patch_size = require_wholes("patch_size", patch_size, 1, count=self.dims, repeat=self.dims)
        require_whole("patch_levels", patch_levels, 1, len(self.scales))
        self.patch_levels, self.jitter = patch_levels, float(require_number("jitter", jitter, 0, below=1))

    device = _of_the_finest("device", "Device of the parameters.")
    fire_rate = _of_the_finest("fire_rate", "Probability that a cell of the finest level updates in a step.")
    metrics = _of_the_finest(
        "metrics", "Metrics of the finest level's model: a callable, or a dict of metrics by name if the model has one."
    )
    validation_metric = _of_the_finest(
        "validation_metric", "Name of the validation metric of the finest level's model."
    )
    plot_function = _of_the_finest("plot_function", "Object that draws predictions, from the finest level's model.")

    @property
    def _last(self) -> BasicNCAModel:
        last: Any = self.models[-1]
        return last  # type: ignore[no-any-return]

    def model_of(self, level: int) -> BasicNCAModel:
        """Return the model of a level; level 0 is the coarsest."""
        model: Any = self.models[min(level, len(self.models) - 1)]
        return model  # type: ignore[no-any-return]

    @property
    def num_in_channels(self) -> int:
        """Number of channels of an image."""
        return self.num_image_channels

    def num_trainable_parameters(self) -> int:
        """Return the number of trainable weights; those of a model that is shared by all levels count once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def finetune(self, freeze_head: bool = False) -> None:
        """Freeze all parameters of every level but those of the rule's last layer and of the head.

        With ``freeze_head``, the head is frozen too. Training mode is set. Use :func:`delira_nca.models.finetune` to
        freeze other parts.

        Raises
        ------
        ConfigError
            If a rule has no ``freeze()`` method; nothing is frozen then.
        """
        for level in range(len(self.models)):
            rule = self.model_of(level).rule
            if not callable(getattr(rule, "freeze", None)):
                raise ConfigError(
                    f"rule {type(rule).__name__} of level {level} has no freeze(): freeze its layers by hand"
                )
        for level in range(len(self.models)):
            self.model_of(level).finetune(freeze_head)
        self.train()

    @plain_numbers
    def cost(
        self,
        shape: Sequence[int],
        steps: Sequence[int] | None = None,
        *,
        batch_size: int = 1,
        memory_budget: int | None = None,
        patches: bool = False,
    ) -> PyramidCost:
        """Count parameters, operations and bytes of a roll-out over all levels without running it.

        Parameters
        ----------
        shape : sequence of int
            Spatial shape of the image.
        steps : sequence of int or None
            Number of steps of each level; those of the constructor by default.
        batch_size : int
            Number of images in the batch.
        memory_budget : int or None
            Number of bytes that each level may store for the backward pass; those of the models by default.
        patches : bool
            Whether levels that are trained on patches are counted with the patch as their grid.

        Raises
        ------
        ConfigError
            If a number is out of range, a part of a model is custom or cannot be counted, or ``patches`` is set without
            a ``patch_size``.
        ShapeError
            If the shape has another number of axes, or is too small.

        Examples
        --------
        >>> from delira_nca.models import presets
        >>> cost = PyramidNCA(**presets.med_nca(patch_size=64)).cost((256, 256), patches=True)
        >>> cost.num_parameters, cost.steps, [level.shape for level in cost.levels]
        (25920, 128, [(64, 64), (64, 64)])
        """
        numbers = self._interpret_steps(steps)
        self._check_shape(tuple(shape))
        return pyramid_cost(self, shape, numbers, batch_size=batch_size, memory_budget=memory_budget, patches=patches)

    # Arguments ----------------------------------------------------------------------------------------------------

    def _interpret_steps(self, steps: Sequence[int] | None) -> tuple[int, ...]:
        if steps is None:
            return self.steps
        return require_wholes("steps of a pyramid", steps, 1, count=len(self.scales))

    def _checked(self, image: Tensor) -> Tensor:
        """Check the image and convert it to the dtype of the weights."""
        require_tensor(image)
        shape = tuple(image.shape)
        if image.dim() != self.dims + 2 or shape[1] != self.num_image_channels:
            raise ShapeError(
                f"an image of this pyramid is (B, {self.num_image_channels}, {self.dims} spatial axes), not {shape}"
            )
        self._check_shape(shape[2:])
        return as_weights(image, self)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        check_size(shape, self.scales, [least_cells(self.model_of(level)) for level in range(len(self.scales))])

    # Roll-outs ----------------------------------------------------------------------------------------------------

    def _roll(
        self,
        image: Tensor,
        steps: Sequence[int],
        seed: int,
        kept: Sequence[int] = (),
        patches: Sequence[Patch | None] | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """State of the finest level, and the states after the ``kept`` numbers of steps, resized to the image."""
        shape, image = tuple(image.shape[2:]), pad_to(image, self.scales[0])
        patches = patches or [None] * len(self.scales)
        frames: dict[int, Tensor] = {}
        state, done = image, 0
        for level, (scale, number, patch) in enumerate(zip(self.scales, steps, patches, strict=True)):
            model = self.model_of(level)
            if level == 0:
                state = self._initial_state(image, patch, seed)
                model._check_state(state)
            else:
                seen = shrink(image[:, : self.num_image_channels], scale, self.downscale)
                state = self._carried(state, level, patches[level - 1], patch)
                state = torch.cat([seen if patch is None else patch.cut(seen), state[:, self.num_image_channels :]], 1)
            wanted = {number, *(k - done for k in kept if done < k <= done + number)}
            numbers: dict[str, Any] = {
                "start": done if self._continues_time else 0,
                "seed": seed if level == 0 else derive_seed(seed, "level", level),
                "memory_budget": model.memory_budget,
            }
            if wanted == {number}:  # losses may observe this roll-out
                states = {number: rollout(state, model, number, **numbers)}
            else:
                states = trajectory(state, model, number, keep=wanted, **numbers)
            if level == 0 and 0 in kept:
                states[0] = state
            shown = {done + n: frame for n, frame in states.items() if done + n in kept}
            frames |= {n: cropped(enlarge(frame, scale), shape) for n, frame in shown.items()}
            state, done = states[number], done + number
        return cropped(state, shape), frames

    def _initial_state(self, image: Tensor, patch: Patch | None, seed: int) -> Tensor:
        """State of the coarsest level, or of its patch, at the start of a roll-out."""
        seen = shrink(image, self.scales[0], self.downscale)
        return self.model_of(0).initial_state(seen if patch is None else patch.cut(seen), seed)

    @property
    def _continues_time(self) -> bool:
        """Whether the numbers of the steps of a level follow those of the previous level."""
        return len(self.models) == 1

    def _carried(self, state: Tensor, level: int, before: Patch | None, patch: Patch | None) -> Tensor:
        """States of the previous level, resized to the grid of this level or to its patch."""
        factor = tuple(a // b for a, b in zip(self.scales[level - 1], self.scales[level], strict=True))
        state = enlarge(state, factor)
        return state if patch is None else patch.cut(state, 0 if before is None else before.origin * factor)

    @plain_numbers
    @untraced
    def forward(self, x: Tensor, steps: Sequence[int] | None = None, *, seed: int | None = None) -> Prediction:
        """Roll out whole images over all levels.

        Parameters
        ----------
        x : Tensor
            (B, num_image_channels, *spatial) images.
        steps : sequence of int or None
            Number of steps of each level; those of the constructor by default.
        seed : int or None
            Seed of all random numbers. By default it is drawn from torch's global generator.

        Raises
        ------
        ShapeError, ConfigError
            If the image has the wrong channels or is too small, or the number of ``steps`` is not that of the levels.
        """
        x = self._checked(x)
        numbers = self._interpret_steps(steps)
        if seed is None:
            seed = int(torch.randint(2**32, ())) if self._is_stochastic else 0
        state, _ = self._roll(x, numbers, seed)
        return self._last._prediction(sum(numbers), state)

    @property
    def _is_stochastic(self) -> bool:
        models = [self.model_of(level) for level in range(len(self.models))]
        return any(model.fire_rate < 1 or model.update_noise > 0 or model.pad_noise for model in models)

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        return self._last._prediction(steps, state)

    def forward_batch(
        self, batch: Mapping[str, Any], *, seed: int = 0, train: bool = False
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Roll out ``batch["data"]``.

        In training on patches, the parts contain every tensor of the batch with the spatial shape of the image, cut to
        the patch. Criterions and metrics receive these.

        Raises
        ------
        ShapeError
            If the image has the wrong shape, or the patch is larger than the image.
        """
        image = entry(batch, "data", type(self).__name__)
        require_tensor(image, "entry 'data' of a batch")
        image = self._checked(image)
        steps = self._jittered(seed) if train else self.steps
        patches = self._draw_patches(image, seed) if train and self.patch_size is not None else None
        state, _ = self._roll(image, steps, seed, patches=patches)
        prediction = self._last._prediction(sum(steps), state)
        parts: dict[str, Tensor] = {}
        if patches is not None and (patch := patches[-1]) is not None:
            shape = tuple(image.shape[2:])
            visible = Patch(patch.origin, tuple(min(a, b) for a, b in zip(patch.shape, shape, strict=True)))
            for name, value in batch.items():
                if isinstance(value, Tensor) and value.dim() > self.dims and tuple(value.shape[-self.dims :]) == shape:
                    parts[name] = visible.cut(value)
        return prediction, {**parts, **prediction.parts()}

    def _jittered(self, seed: int) -> tuple[int, ...]:
        if not self.jitter:
            return self.steps
        rng, most = generator(seed, "steps"), [int(self.jitter * n) for n in self.steps]
        return tuple(n + int(rng.integers(-m, m + 1)) for n, m in zip(self.steps, most, strict=True))

    def _draw_patches(self, image: Tensor, seed: int) -> list[Patch | None]:
        shape, size = tuple(image.shape[2:]), self.patch_size or ()
        if any(a > b for a, b in zip(size, shape, strict=True)):
            raise ShapeError(f"a patch of {size} cells is larger than the image of {shape}")
        levels = len(self.scales)
        needed = max(least_cells(self.model_of(level)) for level in range(levels - self.patch_levels, levels))
        if any(a < needed for a in size):
            raise ShapeError(f"a patch has at least {needed} cells along each axis, not {size}")
        part = current_part()
        total, rows = (len(image), slice(None)) if part is None else (part.total, part.rows)
        drawn = draw_patches(generator(seed, "patch"), total, shape, self.scales, size, self.patch_levels)
        return [patch and Patch(patch.origin[rows], patch.shape) for patch in drawn]

    @plain_numbers
    @torch.no_grad()
    def predict(self, image: Tensor, steps: Sequence[int] | None = None, *, seed: int = 0) -> Prediction:
        """Roll out whole images without gradients, in evaluation mode; see :meth:`forward` for the arguments."""
        return self.record(image, steps, seed=seed, keep="last")[-1]

    @plain_numbers
    @torch.no_grad()
    def record(
        self, image: Tensor, steps: Sequence[int] | None = None, *, seed: int = 0, keep: str | list[int] = "all"
    ) -> list[Prediction]:
        """Return predictions after several steps of the roll-out of all levels, each resized to the image.

        Parameters
        ----------
        image, steps, seed
            See :meth:`predict`. The last prediction equals its result.
        keep : str or list of int
            ``"all"`` steps from 1 on, counted over the levels, the ``"last"``, or a list of step numbers (0 is the
            input of the coarsest level). In states of a coarse level every cell is repeated.

        Raises
        ------
        ShapeError, ConfigError
            As in :meth:`forward`, or if a step to keep is out of range.
        """
        numbers = self._interpret_steps(steps)
        total = sum(numbers)
        kept = list(map(int, kept_steps(keep, total)))
        if outside := sorted(k for k in kept if not 0 <= k <= total):
            raise ConfigError(f"cannot keep the states after {outside} of {total} steps: choose from 0 to {total}")
        image = self._checked(image)
        with evaluating(self):
            _, frames = self._roll(image.to(self.device), numbers, seed, kept)
            return [self._last._prediction(n, frames[n]) for n in sorted({*kept})]

    # Training -----------------------------------------------------------------------------------------------------

    @property
    def has_loss(self) -> bool:
        """Whether the pyramid, or the finest level's model, has a loss of its own."""
        return self._last.has_loss if type(self).loss is PyramidNCA.loss else True

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Losses of the finest level's model."""
        return self._last.loss(prediction, label)

    @property
    def validation_mode(self) -> str:
        """``"highest"`` or ``"lowest"``: which value of that metric is best. ``"highest"`` by default."""
        return str(getattr(self._last, "validation_mode", "highest"))

    def validate(
        self, image: Tensor, label: Tensor, steps: Sequence[int] | None = None, *, seed: int = 0
    ) -> tuple[dict[str, float], Prediction]:
        """Predict and compute the metrics."""
        prediction = self.predict(image, steps, seed=seed)
        return self._last.metrics(prediction, label.to(self.device)), prediction

    # Description --------------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        return {
            "scales": [list(scale) for scale in self.scales],
            "steps": list(self.steps),
            "downscale": self.downscale,
            "patch_size": None if self.patch_size is None else list(self.patch_size),
            "patch_levels": self.patch_levels,
            "jitter": self.jitter,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description without weights, for :meth:`from_dict`."""
        return {"models": [described(model) for model in self.models], **self._options()}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], **changes: Any) -> PyramidNCA:
        """Make a pyramid from its description, with new weights.

        Parameters
        ----------
        config : dict
            Description returned by :meth:`to_dict`.
        **changes : object
            Arguments to change; ``models`` is required if a model has a custom class or custom parts.

        Raises
        ------
        UnknownKeywordError, ConfigError
            If an argument is unknown, or the description contains a class that is not one of the package's.
        """
        arguments = {**config, **changes}
        known = arguments_of(cls, PyramidNCA)
        refuse_unknown_keywords(cls.__name__, sorted(arguments.keys() - known), known)
        for name in ("models", "wrapped"):
            value = arguments.get(name)
            if isinstance(value, Mapping):
                arguments[name] = made(value)
            elif isinstance(value, (list, tuple)):
                arguments[name] = [made(one) if isinstance(one, Mapping) else one for one in value]
        return cls(**arguments)


Scale = int | Sequence[int]


class CascadeNCA(PyramidNCA):
    """Pyramid of one model, with the arguments of NCALab.

    Parameters
    ----------
    wrapped : BasicNCAModel
        Model of all levels.
    scales, steps
        Scales and numbers of steps of the levels; see :class:`PyramidNCA`.
    single_model : bool
        Whether all levels share the model; else each level has a copy that is trained separately. Only the finest level
        keeps the head.
    downscale, **options
        See :class:`PyramidNCA`.

    Notes
    -----
    NCALab varies the steps by 20 % even in evaluation; here they are fixed, and ``jitter=0.2`` varies them in training.
    NCALab's bilinear interpolation aligns the corners; this one aligns the cells.

    Examples
    --------
    >>> model = BasicNCAModel(num_image_channels=3, num_hidden_channels=4, num_output_channels=1, hidden_size=16)
    >>> [CascadeNCA(model, [4, 2, 1], [16, 8, 8], one).num_trainable_parameters() for one in (True, False)]
    [624, 1872]
    """

    def __init__(
        self,
        wrapped: BasicNCAModel,
        scales: Sequence[Scale],
        steps: Sequence[int],
        single_model: bool = True,
        *,
        downscale: str = "bilinear",
        **options: Any,
    ) -> None:
        known = ("downscale", "patch_size", "patch_levels", "jitter")
        refuse_unknown_keywords(type(self).__name__, sorted(options.keys() - set(known)), known)
        copies = [wrapped] if single_model else [copy.deepcopy(wrapped) for _ in scales]
        for coarse in copies[:-1]:
            coarse.head = None
        super().__init__(copies, scales, steps, downscale=downscale, **options)
        self.single_model = bool(single_model)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description without weights, for :meth:`from_dict`."""
        return {"wrapped": described(self._last), "single_model": self.single_model, **self._options()}
