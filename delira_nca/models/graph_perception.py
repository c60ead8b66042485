"""Neighbours of points in space, and perception of them by filters of their displacements."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.models.part import Part

__all__ = ["GraphPerception", "Pairs", "find_pairs"]

Array = npt.NDArray[Any]
_FILTERS = ("identity", "sobel", "laplacian")


class Pairs(NamedTuple):
    """Neighbours of every node, padded to their largest number M.

    Attributes
    ----------
    neighbours : array or Tensor
        (..., N, M) indices of the neighbours, without the node itself; -1 where there is none.
    displacements : array or Tensor
        (..., N, M, D) vectors from the node to the neighbour; 0 where there is none.
    """

    neighbours: Any
    displacements: Any


def find_pairs(
    positions: Any,
    *,
    radius: float | None = None,
    num_neighbours: int | None = None,
    edges: Any = None,
    box: float | Sequence[float] | None = None,
    n_images: int = 1,
) -> Pairs:
    """Find the neighbours of every point.

    Parameters
    ----------
    positions : array
        (N, D) positions.
    radius : float or None
        Largest distance of neighbours. Give this, ``num_neighbours`` or ``edges``.
    num_neighbours : int or None
        Number of nearest points that are neighbours.
    edges : array or None
        (2, E) indices of a node and its neighbour, for each direction.
    box : float, sequence of float or None
        Lengths of a periodic box, or one length for all axes; None for open boundaries.
    n_images : int
        Number of copies of the box in each direction that are searched. A radius up to ``n_images`` times the shortest
        length of the box needs no more.

    Returns
    -------
    Pairs
        int64 and float32 arrays. Neighbours are ordered by their index, then by the copy of the box.

    Raises
    ------
    ShapeError, ConfigError
        If the positions are not finite numbers (N, D), not exactly one kind of neighbours is given, a number is out of
        range, or ``n_images`` is too small.

    Examples
    --------
    >>> pairs = find_pairs([[0.0], [1.0], [2.5]], radius=1.5)
    >>> pairs.neighbours.tolist(), pairs.displacements[..., 0].tolist()
    ([[1, -1], [0, 2], [1, -1]], [[1.0, 0.0], [-1.0, 1.5], [-1.5, 0.0]])
    """
    points = np.asarray(positions, np.float64)
    if points.ndim != 2 or 0 in points.shape or not np.isfinite(points).all():
        raise ShapeError(f"positions must be finite numbers (N, D), not of shape {points.shape}")
    kinds = {"radius": radius, "num_neighbours": num_neighbours, "edges": edges}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(f"give one of radius, num_neighbours and edges, not {given or 'none'}")
    require_whole("n_images", n_images, 1)
    lengths = None if box is None else _lengths(box, points.shape[1])
    if edges is not None:
        sources, targets = _checked_edges(edges, len(points))
        vectors = points[targets] - points[sources]
        if lengths is not None:
            vectors -= lengths * np.round(vectors / lengths)  # to the nearest copy
        return _padded(len(points), sources, targets, vectors)
    from scipy.spatial import cKDTree

    copies, shifts = points, np.zeros((1, points.shape[1]))
    if lengths is not None:
        points = points - lengths * np.floor(points / lengths)
        moves = itertools.product(range(-n_images, n_images + 1), repeat=points.shape[1])
        shifts = np.asarray(sorted(moves, key=lambda move: any(move))) * lengths  # the box itself first
        copies = (points[None] + shifts[:, None]).reshape(-1, points.shape[1])
    tree, count = cKDTree(copies), len(points)
    if radius is not None:
        require_number("radius", radius, above=0)
        if lengths is not None and radius > n_images * lengths.min():
            raise ConfigError(f"radius={radius:g} reaches over {n_images} copies of the box {lengths}: raise n_images")
        found = tree.query_ball_point(points, radius)
    else:
        require_whole("num_neighbours", num_neighbours, 1)
        if num_neighbours >= len(copies):  # type: ignore[operator]
            raise ConfigError(f"num_neighbours={num_neighbours} needs more than the {len(copies)} points there are")
        found = tree.query(points, num_neighbours + 1)[1]  # type: ignore[operator]
    pairs = [(node, other) for node, others in enumerate(found) for other in sorted(others) if other != node]
    sources, others = np.asarray(pairs, np.int64).reshape(-1, 2).T
    return _padded(count, sources, others % count, copies[others] - points[sources])


def _lengths(box: float | Sequence[float], dims: int) -> npt.NDArray[np.float64]:
    given = np.asarray(box, np.float64)
    lengths = np.broadcast_to(given, (dims,)) if given.ndim == 0 else given
    if lengths.shape != (dims,) or not np.isfinite(lengths).all() or (lengths <= 0).any():
        raise ConfigError(f"box must be {dims} lengths above 0, or one for all axes, not {box!r}")
    return lengths


def _checked_edges(edges: Any, count: int) -> tuple[Array, Array]:
    table = np.asarray(edges)
    if table.ndim != 2 or len(table) != 2 or table.dtype.kind not in "iu":
        raise ShapeError(f"edges must be integers (2, E), not {table.dtype} of shape {table.shape}")
    if table.size and not (table.min() >= 0 and table.max() < count):
        raise ConfigError(f"edges have indices from 0 to {count - 1}, not from {table.min()} to {table.max()}")
    order = np.lexsort((table[1], table[0]))
    return table[0][order].astype(np.int64), table[1][order].astype(np.int64)


def _padded(count: int, sources: Array, targets: Array, vectors: Array) -> Pairs:
    """Arrange pairs that are sorted by their first node in rows."""
    degrees = np.bincount(sources, minlength=count)
    width = max(int(degrees.max(initial=0)), 1)
    columns = np.arange(len(sources)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
    neighbours = np.full((count, width), -1, np.int64)
    displacements = np.zeros((count, width, vectors.shape[1]), np.float32)
    neighbours[sources, columns], displacements[sources, columns] = targets, vectors
    return Pairs(neighbours, displacements)


class GraphPerception(Part):
    """Perception of the neighbours of a node by filters that depend on their displacement.

    The filters are those of the grid: on points of a square grid with the 8 nearest neighbours they equal
    `delira_nca.models.Perception` with zero padding. Between the points of the grid they are interpolated linearly.

    Parameters
    ----------
    *filters : str
        ``"identity"``, ``"sobel"`` and ``"laplacian"``; the first two by default.
    radius : float or None
        Largest distance of neighbours, in the units of the positions. Give this or ``num_neighbours``.
    num_neighbours : int or None
        Number of nearest points that are neighbours.
    box : float, sequence of float or None
        Lengths of a periodic box.
    spacing : float
        Distance of neighbouring points of a grid of the same density. A filter sees neighbours closer than twice this
        distance along each axis.
    normalize : bool
        Whether the filters of a node are divided by the sum of its smoothing weights, so that they do not depend on the
        density of the points.
    space_dims : int
        Number of dimensions of the positions, 1 to 3.

    Raises
    ------
    ConfigError, UnknownNameError
        If a number is out of range, or a filter is unknown.
    """

    def __init__(
        self,
        *filters: str,
        radius: float | None = None,
        num_neighbours: int | None = None,
        box: float | Sequence[float] | None = None,
        spacing: float = 1.0,
        normalize: bool = False,
        space_dims: int = 2,
    ) -> None:
        super().__init__()
        for name in filters:
            require_choice("filter of a graph", name, _FILTERS)
        if (radius is None) == (num_neighbours is None):
            raise ConfigError("a perception of a graph has a radius or num_neighbours")
        if radius is not None:
            require_number("radius", radius, above=0)
        else:
            require_whole("num_neighbours", num_neighbours, 1)
        require_number("spacing", spacing, above=0)
        require_whole("space_dims", space_dims, 1, 3)
        self.filters = filters or ("identity", "sobel")
        self.max_distance, self.num_neighbours, self.spacing = radius, num_neighbours, float(spacing)
        self.box = None if box is None else tuple(_lengths(box, space_dims).tolist())
        self.normalize, self.space_dims, self.num_channels = bool(normalize), space_dims, 0

    def build(self, num_channels: int, dims: int = 1) -> GraphPerception:
        """Set the number of channels."""
        self.num_channels = num_channels
        return self

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return self.num_channels * sum(self.space_dims if name == "sobel" else 1 for name in self.filters)

    @property
    def radius(self) -> int:
        """Number of pairs to the farthest node that is perceived."""
        return 1

    def find_pairs(self, positions: Any, *, n_images: int = 1) -> Pairs:
        """Return the neighbours of (N, D) positions; see `find_pairs`."""
        return find_pairs(
            positions, radius=self.max_distance, num_neighbours=self.num_neighbours, box=self.box, n_images=n_images
        )

    @property
    def digest(self) -> str:
        """Digest of what determines the pairs, in the names of precomputed entries."""
        content = [1, self.max_distance, self.num_neighbours, self.box]  # 1: version of the format
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the weights of the neighbours (B, K, N, M) and of the nodes themselves (B, K, N) in each filter.

        K is the number of all filters but the identity, with one for each axis of ``"sobel"``.
        """
        there = pairs.neighbours >= 0
        u = pairs.displacements / self.spacing
        tents = (2 - u.abs()).clamp(min=0.0) * there.unsqueeze(-1)  # 2 at the node, 1 at a neighbour of the grid
        smooth, own = tents.prod(-1), tents.new_full(there.shape[:-1], 2.0**self.space_dims)
        scale = 4.0**self.space_dims / (smooth.sum(-1) + own) if self.normalize else torch.ones_like(own)
        gain = 2.0 * 4.0 ** (self.space_dims - 1)
        of_neighbours: list[Tensor] = []
        of_node: list[Tensor] = []
        for name in self.filters:
            if name == "laplacian":
                of_neighbours.append(smooth * scale.unsqueeze(-1))
                of_node.append(own * scale - 4.0**self.space_dims)
            elif name == "sobel":
                for axis in range(self.space_dims - 1, -1, -1):
                    slope = torch.minimum(u[..., axis].abs(), tents[..., axis]) * u[..., axis].sign()
                    for other in range(self.space_dims):
                        slope = slope * tents[..., other] if other != axis else slope
                    of_neighbours.append(slope / gain * scale.unsqueeze(-1))
                    of_node.append(torch.zeros_like(own))
        if not of_node:  # the identity alone
            return smooth.unsqueeze(1)[:, :0], own.unsqueeze(1)[:, :0]
        return torch.stack(of_neighbours, 1), torch.stack(of_node, 1)

    def arrange(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return the perception (B, P, N) of a state (B, C, N) and the filters of `weights` of it (B, K, C, N)."""
        parts, first = [], 0
        for name in self.filters:
            last = first + (0 if name == "identity" else self.space_dims if name == "sobel" else 1)
            parts.append(x if name == "identity" else seen[:, first:last].flatten(1, 2))
            first = last
        return torch.cat(parts, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Raise an error: the perception of a graph needs its pairs, which a `GraphCell` has."""
        raise ConfigError("the perception of a graph needs pairs: call the GraphNCA with them")

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description, for :meth:`from_dict`."""
        return {
            "filters": list(self.filters),
            "radius": self.max_distance,
            "num_neighbours": self.num_neighbours,
            "box": None if self.box is None else list(self.box),
            "spacing": self.spacing,
            "normalize": self.normalize,
            "space_dims": self.space_dims,
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> GraphPerception:
        """Make an unbuilt perception from the result of :meth:`to_dict`."""
        given = dict(config)
        return cls(*given.pop("filters"), **given)
