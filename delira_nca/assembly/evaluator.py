"""Evaluation of losses on whole sets, and plots of predictions."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.assembly.nodes import Entry, Node
from delira_nca.assembly.set_metric import SetMetric
from delira_nca.checks import require_callable
from delira_nca.errors import ConfigError
from delira_nca.evaluation.runs import evaluating
from delira_nca.io.paths import absolute
from delira_nca.models.network import named_values, parts_of
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.rollout.job import BatchPart, at_part

__all__ = ["Evaluator", "PlotMaker", "named_tensors"]

_LOGGER = logging.getLogger("delira_nca")


class PlotMaker:
    """Plots of expressions over a whole set.

    Parameters
    ----------
    plots : mapping of str to tuple
        Name of a plot to ``(function, *nodes)``. The function is called with the path of the file to write and one CPU
        tensor for each node, over all samples.
    folder : str or path-like
        Folder of the files. It is created when the first plot is drawn.
    suffix : str
        Suffix of the files.

    Raises
    ------
    ConfigError
        If a plot is not a function followed by nodes.
    """

    def __init__(
        self, plots: Mapping[str, tuple[Any, ...]], folder: str | os.PathLike[str] = "plots", *, suffix: str = ".png"
    ) -> None:
        self.plots: dict[str, tuple[Callable[..., Any], tuple[Node, ...]]] = {}
        for name, (function, *nodes) in plots.items():
            require_callable(f"the function of plot {name!r}", function)
            if not nodes or not all(isinstance(node, Node) for node in nodes):
                raise ConfigError(f"plot {name!r} has a function and nodes such as pred('logits'), not {nodes}")
            self.plots[name] = (function, tuple(nodes))
        self.folder, self.suffix = absolute(folder), suffix

    def needed_keys(self) -> tuple[str, ...]:
        """Return the names of the tensors that the plots need, sorted."""
        return tuple(sorted({key for _, nodes in self.plots.values() for node in nodes for key in node.needed_keys()}))

    def draw(self, named: Mapping[str, Tensor], when: str = "") -> list[Path]:
        """Draw all plots of a set.

        Parameters
        ----------
        named : mapping
            CPU tensors over all samples by name.
        when : str
            Prefix of the names of the files, such as ``"epoch_3"``.

        Returns
        -------
        list of Path
            Files. A plot that raises an exception is logged and skipped, so that a training continues.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = []
        for name, (function, nodes) in self.plots.items():
            path = self.folder / f"{when}{'_' if when else ''}{name}{self.suffix}"
            try:
                function(path, *(node.value(named) for node in nodes))
            except Exception:
                _LOGGER.exception("plot %r could not be drawn", name)
                continue
            files.append(path)
        return files


def named_tensors(network: nn.Module, batch: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Return the tensors of a batch and the parts of its prediction by name.

    Parameters
    ----------
    network : torch.nn.Module
        Network; one that is not an `AbstractPyTorchNetwork` is called with ``batch["data"]``.
    batch : mapping
        Arrays or tensors by name.
    seed : int
        Seed of the prediction.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    if isinstance(network, AbstractPyTorchNetwork):
        prepared = network.prepare_batch(batch, device, device)
        return {**prepared, **network.forward_batch(prepared, seed=seed)[1]}
    prepared = AbstractPyTorchNetwork.prepare_batch(batch, device, device)
    return named_values(prepared, parts_of(network(Entry("input", "data").value(prepared))))


class Evaluator:
    """Evaluate losses on whole sets of samples. Values do not depend on the batch size, nor do fire masks.

    Parameters
    ----------
    losses : mapping of str to Node
        Losses by name.
    plot_maker : PlotMaker or None
        Plots to draw.
    network : torch.nn.Module or None
        Network whose predictions are evaluated.
    mode : {"auto", "streaming", "whole"}
        See `delira_nca.assembly.set_metric.SetMetric`.

    Attributes
    ----------
    metrics : dict of str to SetMetric
        Metrics of a trainer that compute the losses.

    Examples
    --------
    >>> from delira_nca.assembly.nodes import pred, target, term
    >>> from delira_nca.losses import mse
    >>> evaluator = Evaluator({"rmse": term(mse, pred(), target()) ** 0.5}, network=nn.Identity())
    >>> batches = [{"data": torch.tensor([[3.0]]), "label": torch.tensor([[0.0]])},
    ...            {"data": torch.tensor([[4.0], [5.0]]), "label": torch.tensor([[0.0], [5.0]])}]
    >>> {name: round(value, 4) for name, value in evaluator.evaluate(batches).items()}
    {'rmse': 2.8868}
    """

    def __init__(
        self,
        losses: Mapping[str, Node],
        plot_maker: PlotMaker | None = None,
        *,
        network: nn.Module | None = None,
        mode: str = "auto",
    ) -> None:
        self.metrics = {name: SetMetric(node, mode) for name, node in losses.items()}
        self.plot_maker, self.network = plot_maker, network

    def metric_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the arguments of each loss."""
        return {name: metric.keys for name, metric in self.metrics.items()}

    def evaluate(
        self,
        generator: Iterable[Mapping[str, Any]],
        eval_type: str = "valid",
        when: str | None = None,
        *,
        seed: int = 0,
    ) -> dict[str, float]:
        """Predict all batches, and return the losses over all samples.

        Parameters
        ----------
        generator : iterable of mapping
            Batches of arrays or tensors.
        eval_type : str
            Name of the set, for the names of plots.
        when : str or None
            Prefix of the names of plots, such as ``"epoch_3"``.
        seed : int
            Seed of the predictions.

        Raises
        ------
        ConfigError
            If the network or the batches are missing.
        """
        if self.network is None:
            raise ConfigError(
                "there is no network to evaluate: name it in pred(key, network), or give Evaluator network="
            )
        metrics = {name: SetMetric(metric.node, metric.mode) for name, metric in self.metrics.items()}
        held: dict[str, list[Tensor]] = {}
        count = 0
        with evaluating(self.network):
            for batch in generator:
                size = _length(batch)
                # samples draw the random numbers of their place in the set, whatever the batch size
                with at_part(BatchPart(count, size, count + size)):
                    named = named_tensors(self.network, batch, seed=seed)
                count += size
                for metric in metrics.values():
                    metric.update(*(named[key] for key in metric.keys))
                for key in self.plot_maker.needed_keys() if self.plot_maker is not None else ():
                    held.setdefault(key, []).append(named[key].cpu())
        if not count:
            raise ConfigError(f"there are no batches in the {eval_type} set")
        if self.plot_maker is not None:
            joined = {key: torch.cat(parts) for key, parts in held.items()}
            self.plot_maker.draw(joined, "_".join(part for part in (when, eval_type) if part))
        return {name: float(metric.compute()) for name, metric in metrics.items()}


def _length(batch: Mapping[str, Any]) -> int:
    lengths = [len(value) for value in batch.values() if getattr(value, "ndim", 0) > 0]
    if not lengths:
        raise ConfigError(f"a batch has arrays with one row per sample, not {sorted(batch)}")
    return max(lengths)
