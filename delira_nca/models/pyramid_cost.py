"""What a roll-out over the levels of a pyramid costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.pyramid_grid import draw_patches
from delira_nca.rollout.cost import RolloutCost

if TYPE_CHECKING:
    from delira_nca.models.pyramid import PyramidNCA

__all__ = ["PyramidCost", "pyramid_cost"]


@dataclass(frozen=True)
class PyramidCost:
    """What a roll-out over all levels costs. Its text is a short report.

    A multiply-add is two operations. Making images coarser and states finer is not counted.

    Attributes
    ----------
    num_parameters : weights of the pyramid; those of one model for all levels count once.
    batch_size, shape : of the images.
    levels : of each level from coarse to fine, with the grid that it works on. In inference only one of them needs its
        memory at a time; in training what each keeps stays until the backward pass.
    """

    num_parameters: int
    batch_size: int
    shape: tuple[int, ...]
    levels: tuple[RolloutCost, ...]

    @property
    def steps(self) -> int:
        """Steps of all levels together."""
        return sum(level.steps for level in self.levels)

    def operations(self, *, training: bool = False, every_cell: bool = False) -> int:
        """Operations of the whole roll-out of the batch.

        Parameters
        ----------
        training, every_cell : as of :meth:`delira_nca.rollout.cost.RolloutCost.step_operations`.
        """
        return sum(
            level.steps * level.step_operations(training=training, every_cell=every_cell) for level in self.levels
        )

    def inference_bytes(self, backend: str) -> int:
        """Bytes of the level that needs most of them without gradients, on a back end.

        Parameters
        ----------
        backend : a name in the ``memory`` of the levels.
        """
        return max(level.memory[backend].inference for level in self.levels)

    def kept_bytes(self, backend: str) -> int:
        """Bytes that all levels together keep at most for the backward pass, on a back end.

        Parameters
        ----------
        backend : a name in the ``memory`` of the levels.
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
    """Count what a roll-out costs; see :meth:`delira_nca.models.PyramidNCA.cost`.

    Raises
    ------
    ConfigError
        If a number is out of range, or a part of a level's model cannot be written as numbers.
    ShapeError
        If the shape has another number of axes than the pyramid.
    """
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
    """Cells of each level along each axis, or of its patch."""
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
