"""Automata on graphs: cells are points in space, or nodes of a mesh, and perceive their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.graph_perception import GraphPerception, Pairs, find_pairs
from delira_nca.models.masks import AliveMask
from delira_nca.models.network import entry
from delira_nca.rollout import CellParameters, UnsupportedCellError

__all__ = ["GraphCell", "GraphNCA", "GraphPerception", "ball_damage", "find_pairs", "pair_keys", "precompute_pairs"]

Array = npt.NDArray[Any]


class _GraphAlive:
    """Alive mask of nodes: the maximum of the alive channel over a node and its neighbours exceeds a threshold."""

    def __init__(self, mask: AliveMask, index: Tensor, there: Tensor) -> None:
        self.before, self.after, self.num_spared = mask.before, mask.after, mask.num_spared
        self._mask, self._index, self._there = mask, index, there

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            alpha = x[:, self._mask.channel : self._mask.channel + 1]
            around = _gathered(alpha, self._index).masked_fill(~self._there.unsqueeze(1), float("-inf"))
            return torch.maximum(alpha, around.amax(-1)) > self._mask.threshold


class GraphCell(nn.Module):
    """Cell of one roll-out on a graph: a model with the pairs of each sample.

    Parameters
    ----------
    model : GraphNCA
        Model.
    pairs : Pairs
        Tensors of the neighbours (B, N, M) and displacements (B, N, M, D).

    Raises
    ------
    ShapeError, ConfigError
        If the shapes do not fit, or an index is out of range.
    """

    skips_dead_space = False
    radius = 1

    def __init__(self, model: GraphNCA, pairs: Pairs) -> None:
        super().__init__()
        neighbours, displacements = pairs
        dims = model.perception.space_dims
        if neighbours.dim() != 3 or displacements.shape != (*neighbours.shape, dims):
            raise ShapeError(
                f"pairs have neighbours (B, N, M) and displacements (B, N, M, {dims}), not "
                f"{tuple(neighbours.shape)} and {tuple(displacements.shape)}"
            )
        if neighbours.numel() and not -1 <= int(neighbours.min()) <= int(neighbours.max()) < neighbours.shape[1]:
            raise ConfigError(f"neighbours have indices from -1 to {neighbours.shape[1] - 1}")
        self.model, there = model, neighbours >= 0
        self._index = neighbours.clamp(min=0)
        self._weights, self._own = model.perception.weights(Pairs(neighbours, displacements))
        self.fire_rate, self.update_noise = model.fire_rate, model.update_noise
        self.num_fixed_channels, self.num_draws = model.num_fixed_channels, model.num_draws
        self.alive = None if model.alive is None else _GraphAlive(model.alive, self._index, there)
        self.rule, self.input_mask = model.rule, model.input_mask

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """Map the (B, C, N) state at step ``t`` to the (B, P, N) perception, ordered by filter."""
        around = _gathered(x, self._index)
        seen = torch.einsum("bcnm,bknm->bkcn", around, self._weights.to(x.dtype))
        seen = seen + self._own.to(x.dtype).unsqueeze(2) * x.unsqueeze(1)
        return self.model.with_time(self.model.perception.arrange(x, seen), t)

    def to_arrays(self) -> CellParameters:
        """Raise `UnsupportedCellError`: the fast back ends compute grids."""
        raise UnsupportedCellError("its cells are the nodes of a graph")


def _gathered(x: Tensor, index: Tensor) -> Tensor:
    """Return the (B, C, N, M) values of the neighbours."""
    flat = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    return x.gather(2, flat).view(*x.shape[:2], *index.shape[1:])


class GraphNCA(BasicNCAModel):
    """Automaton whose cells are points in space, or nodes of a mesh.

    States are (B, C, N). The pairs of neighbours come from the batch: the entries that `precompute_pairs` adds, or
    ``"positions"``, (B, N, D), from which they are found in every iteration. All else, from the rule and the fire rate
    to pool, trainer and resume, is as for a `BasicNCAModel`.

    Parameters
    ----------
    perception : GraphPerception
        Perception with the neighbourhood.
    **kwargs : object
        Arguments of `BasicNCAModel`, except those of its grid.

    Raises
    ------
    ConfigError, UnknownKeywordError
        If the perception is not one of a graph, or an argument is invalid or unknown.

    Notes
    -----
    Grattarola et al. (2021), "Learning Graph Cellular Automata".

    Examples
    --------
    >>> model = GraphNCA(perception=GraphPerception(radius=1.5), num_image_channels=1, num_hidden_channels=3)
    >>> positions = torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(0)) * 4
    >>> model.predict(torch.zeros(2, 1, 20), steps=3, goal=model.pairs({"positions": positions})).pred.shape
    torch.Size([2, 1, 20])
    """

    perception: GraphPerception

    def __init__(self, *, perception: GraphPerception, **kwargs: Any) -> None:
        if not isinstance(perception, GraphPerception):
            raise ConfigError(f"the perception of a GraphNCA is a GraphPerception, not {type(perception).__name__}")
        if kwargs.pop("dims", 1) != 1:
            raise ConfigError("a GraphNCA has no dims: space_dims of its perception are those of the positions")
        super().__init__(perception=perception, dims=1, **kwargs)

    def with_goal(self, goal: Any, batch_size: int) -> GraphCell:
        """Return the cell of one roll-out on a graph.

        Parameters
        ----------
        goal : Pairs
            Pairs of each sample, from `pairs`.
        batch_size : int
            Number of samples.

        Raises
        ------
        ConfigError, ShapeError
            If the pairs are missing, or their number differs from the number of samples.
        """
        if not isinstance(goal, tuple) or len(goal) != 2:
            raise ConfigError("a GraphNCA needs the pairs of its nodes: goal=model.pairs(batch)")
        if len(goal[0]) != batch_size:
            raise ShapeError(f"{batch_size} samples need as many graphs, not {len(goal[0])}")
        return GraphCell(self, Pairs(*goal))

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """Raise an error: a `GraphCell` perceives."""
        return self.perception(x)  # type: ignore[no-any-return]

    def pairs(self, batch: Mapping[str, Any]) -> Pairs:
        """Return the pairs of a batch as tensors on the device of the model.

        Parameters
        ----------
        batch : mapping
            Batch with the entries of `precompute_pairs`, or with ``"positions"``.

        Raises
        ------
        UnknownNameError
            If it has neither, or pairs of other settings.
        """
        keys = pair_keys(self)
        if all(key in batch for key in keys):
            found = [torch.as_tensor(batch[key]) for key in keys]
        elif stale := sorted(key for key in batch if key.startswith("neighbours:")):
            raise UnknownNameError(f"{stale[0]!r} are pairs of other settings: call precompute_pairs again")
        else:
            positions = entry(batch, "positions", type(self).__name__)
            found = list(map(torch.as_tensor, _stacked([self.perception.find_pairs(np.asarray(p)) for p in positions])))
        return Pairs(found[0].to(self.device, torch.int64), found[1].to(self.device, torch.float32))

    def _goal_of(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {"goal": self.pairs(batch)}


def pair_keys(model: GraphNCA) -> tuple[str, str]:
    """Return the names of the entries of precomputed pairs, which depend on what determines the pairs."""
    digest = model.perception.digest
    return f"neighbours:{digest}", f"displacements:{digest}"


def precompute_pairs(
    model: GraphNCA,
    database: Mapping[str, Any],
    batch_size: int = 10,
    device: Any = None,
    make_dense: bool = False,
    n_images: int = 1,
) -> dict[str, Any]:
    """Find the pairs of all samples once, and return the data with them.

    Parameters
    ----------
    model : GraphNCA
        Model with the neighbourhood.
    database : mapping
        Arrays by name, with ``"positions"``, (S, N, D).
    batch_size : int
        Number of samples that are processed at a time.
    device : object
        Only the CPU is supported: None or ``"cpu"``.
    make_dense : bool
        Whether the pairs are (S, N, N) arrays with a column for every node, instead of a column for each of the
        neighbours. They are much larger, and have the same shape for all data.
    n_images : int
        Number of copies of a periodic box; see `find_pairs`.

    Returns
    -------
    dict
        The arrays, and the entries of the pairs. Their names depend on the settings of the neighbourhood, so that a
        model with others refuses them.

    Raises
    ------
    UnknownNameError, ConfigError
        If the positions are missing, or an argument is invalid.

    Notes
    -----
    hippynn's function changes the graph of the model instead.
    """
    require_whole("batch_size", batch_size, 1)
    if device is not None and torch.device(device).type != "cpu":
        raise ConfigError(f"pairs are found on the CPU, not on {device!r}")
    if not isinstance(model, GraphNCA):
        raise ConfigError(f"pairs are those of a GraphNCA, not of a {type(model).__name__}")
    positions = np.asarray(entry(database, "positions", "precompute_pairs"))
    if positions.ndim != 3:
        raise ShapeError(f"positions must be (S, N, D), not {positions.shape}")
    pairs: list[Pairs] = []
    for first in range(0, len(positions), batch_size):
        pairs += [model.perception.find_pairs(p, n_images=n_images) for p in positions[first : first + batch_size]]
    neighbours, displacements = _stacked(list(map(_dense, pairs)) if make_dense else pairs)
    return {**database, **dict(zip(pair_keys(model), (neighbours.astype(np.int32), displacements), strict=True))}


def _dense(pairs: Pairs) -> Pairs:
    """Return pairs with a column for every node."""
    count, dims = len(pairs.neighbours), pairs.displacements.shape[-1]
    rows, columns = np.nonzero(pairs.neighbours >= 0)
    others = pairs.neighbours[rows, columns]
    if len(np.unique(rows * count + others)) != len(rows):
        raise ConfigError("a node is a neighbour several times, in several copies of the box: set make_dense=False")
    neighbours, displacements = np.full((count, count), -1), np.zeros((count, count, dims), np.float32)
    neighbours[rows, others], displacements[rows, others] = others, pairs.displacements[rows, columns]
    return Pairs(neighbours, displacements)


def _stacked(pairs: Sequence[Pairs]) -> tuple[Array, Array]:
    """Stack the pairs of samples, padded to the largest number of neighbours."""
    width = max(pair.neighbours.shape[1] for pair in pairs)
    fill = [width - pair.neighbours.shape[1] for pair in pairs]
    neighbours = [np.pad(p.neighbours, ((0, 0), (0, n)), constant_values=-1) for p, n in zip(pairs, fill, strict=True)]
    displacements = [np.pad(p.displacements, ((0, 0), (0, n), (0, 0))) for p, n in zip(pairs, fill, strict=True)]
    return np.stack(neighbours), np.stack(displacements)


def ball_damage(positions: Any, radius: float) -> Any:
    """Return a damage for `delira_nca.training.callbacks.PoolUpdate`: the nodes in a ball around a random node.

    Parameters
    ----------
    positions : array
        (N, D) positions of the nodes.
    radius : float
        Radius of the ball.
    """
    points = np.asarray(positions, np.float64)
    require_number("radius", radius, above=0)
    if points.ndim != 2:
        raise ShapeError(f"positions must be (N, D), not {points.shape}")

    def damage(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
        if tuple(shape) != (len(points),):
            raise ShapeError(f"the damage of {len(points)} nodes does not fit states of shape {tuple(shape)}")
        centre = points[rng.integers(len(points))]
        return torch.from_numpy(np.linalg.norm(points - centre, axis=1) <= radius)

    return damage
