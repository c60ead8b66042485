"""Base class of networks in PyTorch, and terms of their losses."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delira_nca.errors import ConfigError
from delira_nca.models.network import (
    AbstractNetwork,
    declared_loss_names,
    entry,
    evaluate,
    named_values,
    parts_of,
    total_loss,
    wired,
)
from delira_nca.models.precision import Precision
from delira_nca.models.pyramid_grid import cropped
from delira_nca.rollout.job import Watched, observing

__all__ = ["AbstractPyTorchNetwork", "LossOf", "LossTerm", "evaluate_terms", "watching"]


LossOf = Callable[[int, Tensor], Tensor]
"""Function of a number of steps and the state after them that returns the loss of a prediction of that state."""


class LossTerm(Protocol):
    """Term that is added to the loss of a training step.

    A term sets ``linked`` to True if gradients must flow through the states that it observes; see
    :class:`delira_nca.rollout.job.Observer`.
    """

    def stops(self, steps: int, seed: int) -> Iterable[int]:
        """Return the numbers of steps after which the term needs the state; ``seed`` is that of the iteration."""
        ...

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor | None:
        """Return the scalar tensor to add to the loss; None if the term only observes states before the backward pass.

        ``rollouts`` are those of the forward pass in order, with the states that any term needs.
        """
        ...


@contextlib.contextmanager
def watching(terms: Mapping[str, LossTerm], seed: int) -> Iterator[Sequence[Watched]]:
    """Collect the roll-outs of a forward pass with the states that the terms need; nothing without terms."""
    if not terms:
        yield []
        return
    linked = any(getattr(term, "linked", False) for term in terms.values())
    with observing(lambda steps: {n for term in terms.values() for n in term.stops(steps, seed)}, linked) as observer:
        yield observer.rollouts


def evaluate_terms(
    terms: Mapping[str, LossTerm],
    rollouts: Sequence[Watched],
    seed: int,
    model: Any,
    named: Mapping[str, Any],
    loss_of: Callable[[Any, Mapping[str, Any]], tuple[Tensor, Any]],
) -> dict[str, Tensor]:
    """Return the value of each term that has one.

    Parameters
    ----------
    terms : mapping
        Terms by name.
    rollouts : sequence
        Recorded roll-outs of the forward pass.
    seed : int
        Seed of the roll-outs.
    model : object
        Model that computed them.
    named : mapping
        Arguments of criterions by name, from the end of the roll-out. For the loss of an intermediate state, the parts
        of its prediction replace those of the end.
    loss_of : callable
        Function of a prediction and the named tensors that returns the loss.

    Raises
    ------
    ConfigError
        If the forward pass has no roll-out, or a term needs predictions of intermediate states and the model makes
        none.
    """
    if not terms:
        return {}
    if not rollouts:
        raise ConfigError(f"{sorted(terms)} look into roll-outs, but {type(model).__name__} computes none")

    def judge(steps: int, state: Tensor) -> Tensor:
        predict = getattr(model, "_prediction", None)
        if predict is None:
            raise ConfigError(f"{type(model).__name__} makes no prediction of a state within a roll-out")
        if isinstance(end := named.get("state"), Tensor):  # a pyramid pads the image
            state = cropped(state, end.shape[2:])
        prediction = predict(steps, state)
        return loss_of(prediction, {**named, **prediction.parts()})[0]

    values = {name: term.value(rollouts, judge, seed) for name, term in terms.items()}
    return {name: value for name, value in values.items() if value is not None}


class AbstractPyTorchNetwork(AbstractNetwork, nn.Module):
    """Base class of PyTorch modules that the trainer can train.

    Override :meth:`forward_batch` to use another input than ``batch["data"]``. Override :meth:`closure` for another
    training step (several optimizers, adversarial training); the training loop remains unchanged.
    """

    loss_names: tuple[str, ...] | None = None
    """Names of the losses that :meth:`loss` returns; None for networks without a loss."""

    @property
    def has_loss(self) -> bool:
        """Whether the network has a loss of its own, even if its class does not declare the names of its terms."""
        return self.loss_names is not None or type(self).loss is not AbstractPyTorchNetwork.loss

    def loss(self, prediction: Any, label: Tensor) -> dict[str, Tensor]:
        """Losses of the network, used by trainers without criterions; ``"total"`` is minimised."""
        raise ConfigError(f"{type(self).__name__} has no loss of its own: give the trainer criterions")

    def forward_batch(
        self, batch: Mapping[str, Any], *, seed: int = 0, train: bool = False
    ) -> tuple[Any, dict[str, Any]]:
        """Return the prediction for a prepared batch, and its parts by name.

        Parameters
        ----------
        batch : dict
            Tensors by name.
        seed : int
            Seed of all random numbers of the prediction.
        train : bool
            Whether the prediction is used for training.

        Returns
        -------
        tuple of (prediction, its parts by name)
            A tensor has the part ``"pred"``. The parts of a dict or a dataclass are its entries; those of a tuple or a
            list are ``"0"``, ``"1"``, ..., and a single one is also ``"pred"``. Parts of a named tuple can be accessed
            by their names, too.
        """
        prediction = self(entry(batch, "data", "the network"))
        return prediction, parts_of(prediction)

    @staticmethod
    def closure(
        model: AbstractPyTorchNetwork,
        data_dict: Mapping[str, Any],
        optimizers: Mapping[str, Optimizer],
        criterions: Mapping[str, Callable[..., Tensor]],
        metrics: Mapping[str, Callable[..., Tensor]],
        fold: int = 0,
        batch_nr: int = 0,
        *,
        keys: Mapping[str, tuple[str, ...]] | None = None,
        precision: Precision | None = None,
        seed: int = 0,
        forward: Callable[[Callable[[], Tensor]], Tensor] | None = None,
        terms: Mapping[str, LossTerm] | None = None,
        partial: bool = False,
        watch: Callable[[Any, Mapping[str, Tensor]], None] | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Any]:
        """Compute the forward pass and the losses and, with optimizers, the backward pass and their steps.

        Parameters
        ----------
        model : AbstractPyTorchNetwork
            Network to train or evaluate.
        data_dict : dict
            Prepared batch.
        optimizers : dict
            Optimizers by name; empty to evaluate only.
        criterions, metrics : dict
            Functions by name. The sum of the criterions is minimised; metrics are not differentiated. Without
            criterions, the :meth:`loss` of the prediction and ``data_dict["label"]`` is minimised.
        fold, batch_nr : int
            Number of the fold and of the iteration, for use in overridden closures.
        keys : dict or None
            Names of the arguments of each criterion or metric, by its name.
        precision : Precision or None
            Precision of the computation; full by default.
        seed : int
            Seed of the roll-out.
        forward : callable or None
            Function that calls the forward pass, a function that returns the loss. In distributed training, it makes
            the gradients those of the whole batch.
        terms : dict or None
            Terms that are added to the loss in training, by name; see :class:`LossTerm`.
        watch : callable or None
            Function that is called with the prediction and the losses, including ``"loss"``, before the backward pass.
        partial : bool
            Whether to skip criterions and metrics with missing arguments, to evaluate without labels.

        Returns
        -------
        tuple of (metric values, loss values with ``"loss"``, prediction), all detached
            ``"loss"`` is missing if a criterion was skipped.
        """
        precision = precision or Precision()
        prediction: Any = None
        named, losses = dict[str, Any](), dict[str, Tensor]()
        active = dict(terms or {}) if optimizers else {}

        def loss_of(predicted: Any, seen: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
            if criterions:
                values = evaluate(wired(criterions, seen, keys) if partial else criterions, seen, keys)
                return (total_loss(values) if len(values) == len(criterions) else None), values
            if partial and "label" not in seen:
                return None, {}
            values = _own_losses(model, predicted, seen)
            return values.pop("total"), values

        def compute() -> Any:
            nonlocal prediction, named, losses
            with watching(active, seed) as rollouts:
                prediction, parts = model.forward_batch(data_dict, seed=seed, train=bool(optimizers))
            named = named_values(data_dict, parts)
            total, losses = loss_of(prediction, named)
            extra = evaluate_terms(active, rollouts, seed, model, named, loss_of)
            losses |= extra
            return sum(extra.values(), start=total) if extra else total

        with torch.set_grad_enabled(bool(optimizers)), precision.autocast():
            total = compute() if forward is None else forward(compute)
        if optimizers:
            _check_total(total, type(model).__name__)
            if watch is not None:
                watch(prediction, {**losses, "loss": total})
            for optimizer in optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            precision.backward(total)
            for optimizer in optimizers.values():
                precision.step(optimizer)
            precision.update()
        with torch.no_grad():
            measured = evaluate(wired(metrics, named, keys) if partial else metrics, named, keys)
        loss_values = {name: value.detach() for name, value in losses.items()}
        if total is not None:
            loss_values["loss"] = total.detach()
        return measured, loss_values, _detach(prediction)

    @staticmethod
    def prepare_batch(
        batch: Mapping[str, Any], input_device: torch.device | str, output_device: torch.device | str
    ) -> dict[str, Any]:
        """Convert a batch to tensors: ``"data"`` on the input device, the rest on the output device.

        Floating-point arrays become float32; integers and booleans keep their dtype; entries that are not arrays of
        numbers remain unchanged.
        """
        prepared = {}
        for key, value in batch.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
                if value.dtype == np.longdouble:  # torch has no long double
                    value = value.astype(np.float64)
                native = value.astype(value.dtype.newbyteorder("="), order="C", copy=not value.flags.writeable)
                value = torch.from_numpy(native)
            if isinstance(value, Tensor):
                dtype = torch.float32 if value.is_floating_point() else value.dtype
                value = value.to(input_device if key == "data" else output_device, dtype)
            prepared[key] = value
        return prepared


def _own_losses(model: AbstractPyTorchNetwork, prediction: Any, named: Mapping[str, Any]) -> dict[str, Tensor]:
    found = model.loss(prediction, entry(named, "label", "the network's own loss"))
    losses = {name: value if isinstance(value, Tensor) else torch.as_tensor(value) for name, value in found.items()}
    names = declared_loss_names(model)
    if "total" not in losses and names is None:
        raise ConfigError(
            f"{type(model).__name__}.loss returns {sorted(losses)}: 'total', which is minimised, is missing"
        )
    if names is not None and ("total" not in losses or set(losses) != set(names)):
        raise ConfigError(
            f"{type(model).__name__}.loss returns {sorted(losses)}, loss_names says {sorted(names or ('total',))}: "
            "they must be the same, with 'total' among them"
        )
    return losses


def _check_total(total: Any, name: str) -> None:
    """Check that the total loss can be minimised."""
    if not isinstance(total, Tensor) or total.numel() != 1:
        shown = f"a tensor of shape {tuple(total.shape)}" if isinstance(total, Tensor) else repr(total)
        raise ConfigError(f"the loss of {name} has to be a tensor with one number, not {shown}")
    if not total.requires_grad:
        raise ConfigError(f"the loss of {name} has no gradient: it is detached from the network")


def _detach(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _detach(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_detach(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if hasattr(value, "detach"):
        return value.detach()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: _detach(getattr(value, name)) for name in fields})
    return value
