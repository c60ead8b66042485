"""A pyramid out of one model, as NCALab has it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from delira_nca.errors import refuse_unknown_keywords
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.models.pyramid_levels import described

__all__ = ["CascadeNCA"]

Scale = int | Sequence[int]


class CascadeNCA(PyramidNCA):
    """A pyramid out of one model, with the arguments of NCALab.

    Parameters
    ----------
    wrapped : the model.
    scales, steps : of the levels, as of a :class:`PyramidNCA`.
    single_model : whether the model itself works at all levels; else each level has a copy of its own, whose weights
        go their own ways in training. A head stays with the finest.
    downscale, **options : as of a :class:`PyramidNCA`.

    Notes
    -----
    NCALab varies the steps by a fifth even in evaluation; here they are what is said, and ``jitter=0.2`` varies them in
    training. Its bilinear interpolation aligns the corners; this one aligns the cells.

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
        """Plain description, without weights: what :meth:`from_dict` takes."""
        return {"wrapped": described(self._last), "single_model": self.single_model, **self._options()}
