"""Training on trajectories: the roll-out follows a sequence of targets, such as the frames of a film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import accepted_keywords, require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.evaluation.runs import evaluating
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.inputs import interpret_range_parameter
from delira_nca.models.network import entry, evaluate, total_loss
from delira_nca.seeding import derive_seed, generator, isolated_rng
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer

__all__ = ["ChunkedTrajectoryTrainer", "TrajectoryTrainer"]


class TrajectoryTrainer(PyTorchNetworkTrainer):
    """Train an automaton whose roll-out passes through a sequence of targets.

    A batch has the initial image or state ``"data"``, (B, C, *spatial), and the sequence of targets ``"label"``,
    (B, T, ...). The roll-out takes ``steps_per_target`` steps to each target; the criterions compare its prediction
    with this target. The loss is the mean over the targets.

    Parameters
    ----------
    *args, **kwargs : object
        Arguments of `PyTorchNetworkTrainer`. Criterions are required; terms over states are not supported.
    steps_per_target : int or (int, int)
        Number of steps to each target, or a range from which it is drawn.
    truncate : int or None
        Number of targets after which the back-propagation is cut (truncated back-propagation through time), so that
        memory does not grow with the length of the sequence. None back-propagates through the whole sequence.
    sequence_keys : sequence of str
        Names of the entries of a batch that are sequences. All have the same length.

    Raises
    ------
    ConfigError
        If an argument is out of range, the network is not a `BasicNCAModel`, the criterions are missing, or several
        processes train together.

    Notes
    -----
    Gradients of all parts of a sequence are accumulated, and each optimizer makes one step per batch. With ``truncate``
    of at least the length of the sequence, the gradient is that of the whole back-propagation.

    Examples
    --------
    >>> import numpy as np
    >>> from delira_nca.losses import mse
    >>> torch.manual_seed(0).initial_seed()
    0
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=3, num_output_channels=0, hidden_size=8)
    >>> trainer = TrajectoryTrainer(model, None, {"mse": mse}, steps_per_target=2, truncate=2)
    >>> batch = {"data": np.zeros((1, 1, 4, 4)), "label": np.zeros((1, 5, 1, 4, 4))}
    >>> _ = trainer.train(1, [batch])
    >>> sorted(trainer.history[0]), [frame.shape for frame in trainer.predict_sequence(batch["data"], 3)]
    (['epoch', 'loss', 'mse'], [torch.Size([1, 1, 4, 4]), torch.Size([1, 1, 4, 4]), torch.Size([1, 1, 4, 4])])
    """

    network: BasicNCAModel

    def __init__(
        self,
        *args: Any,
        steps_per_target: int | tuple[int, int] = 8,
        truncate: int | None = None,
        sequence_keys: Sequence[str] = ("label",),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        interpret_range_parameter(steps_per_target)
        if truncate is not None:
            require_whole("truncate", truncate, 1)
        if not isinstance(self.network, BasicNCAModel):
            raise ConfigError(f"{type(self).__name__} trains a BasicNCAModel, not a {type(self.network).__name__}")
        if not self.criterions or self.loss_terms:
            raise ConfigError(f"{type(self).__name__} needs criterions, and supports no terms over states")
        if self.ranks.size > 1:
            raise ConfigError(f"{type(self).__name__} trains in one process")
        if isinstance(sequence_keys, str) or not sequence_keys:
            raise ConfigError(
                f"sequence_keys are names of entries of a batch, such as ('label',), not {sequence_keys!r}"
            )
        self.steps_per_target, self.truncate, self.sequence_keys = steps_per_target, truncate, tuple(sequence_keys)
        self._first_step = self._last_step = 0  # of the roll-out of a training step

    def _closure(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Roll out through all targets; in training, back-propagate and make a step."""
        if self.loss_terms:
            raise ConfigError(f"{type(self).__name__} supports no terms over states: {sorted(self.loss_terms)}")
        keys = ("train", self.step) if train else ("valid", iter_num)
        seed, length = derive_seed(self.seed, "rollout", *keys), self._length(data_dict)
        cut = length if self.truncate is None else self.truncate
        sums: dict[str, float | Tensor] = {}
        with isolated_rng(derive_seed(self.seed, "closure", *keys)), torch.set_grad_enabled(train):
            state = self.network.initial_state(entry(data_dict, "data", "the network"), seed)
            first = self._first_step if train else 0
            if train:
                for optimizer in self.optimizers.values():
                    optimizer.zero_grad(set_to_none=True)
            part: Tensor | None = None
            for number in range(length):
                with self.precision.autocast():
                    steps = interpret_range_parameter(self.steps_per_target, generator(seed, "steps", number))
                    prediction = self.network(state, steps, start=first, seed=seed, **self._goal(data_dict))
                    named = {**data_dict, **{key: data_dict[key][:, number] for key in self.sequence_keys}}
                    named |= prediction.parts()
                    losses = evaluate(self.criterions, named, self.metric_keys)
                    losses["loss"] = total_loss(losses)
                    part = losses["loss"] / length if part is None else part + losses["loss"] / length
                with torch.no_grad():
                    values = {**losses, **evaluate(self._measuring, named, self.metric_keys)}
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value) / length
                state, first = prediction.output_image, first + steps
                if train and ((number + 1) % cut == 0 or number + 1 == length):
                    self._watch(prediction, losses)
                    self.precision.backward(part)
                    state, part = state.detach(), None
            if train:
                for optimizer in self.optimizers.values():
                    self.precision.step(optimizer)
                self.precision.update()
                self._last_step = first
        return sums, prediction.detach()

    def _length(self, data_dict: Mapping[str, Any]) -> int:
        lengths = {}
        for key in self.sequence_keys:
            sequence = entry(data_dict, key, type(self).__name__)
            if sequence.ndim < 2:
                raise ShapeError(
                    f"entry {key!r} must be a sequence of targets (B, T, ...), not {tuple(sequence.shape)}"
                )
            lengths[key] = sequence.shape[1]
        if len(set(lengths.values())) != 1 or min(lengths.values()) == 0:
            raise ShapeError(f"sequences must have the same length of at least 1, not {lengths}")
        return int(next(iter(lengths.values())))

    def _goal(self, data_dict: Mapping[str, Any]) -> dict[str, Any]:
        return {} if self.network.conditioning is None else {"goal": entry(data_dict, "goal", "the network")}

    def predict_sequence(self, image: Any, num_targets: int, *, seed: int = 0, **given: Any) -> list[Tensor]:
        """Roll out an image or a state, and return the predictions at the targets.

        Parameters
        ----------
        image : array or Tensor
            (B, num_image_channels, *spatial) image or (B, C, *spatial) state.
        num_targets : int
            Number of targets; it may be larger than in the training.
        seed : int
            Seed of the roll-out.
        **given : object
            Further arguments of the network, such as ``goal``.
        """
        require_whole("num_targets", num_targets, 1)
        predictions: list[Tensor] = []
        with evaluating(self.network):
            data = self.network.prepare_batch({"data": image}, self.input_device, self.output_device)["data"]
            state, first = self.network.initial_state(data, seed), 0
            options = accepted_keywords(self.network.forward, given)
            for number in range(num_targets):
                steps = interpret_range_parameter(self.steps_per_target, generator(seed, "steps", number))
                prediction = self.network(state, steps, start=first, seed=seed, **options)
                predictions.append(prediction.pred)
                state, first = prediction.output_image, first + steps
        return predictions


class ChunkedTrajectoryTrainer(TrajectoryTrainer):
    """Train with one step of the optimizers for every part of a sequence, from the state after the part before it.

    With ``truncate``, a batch with a sequence of T targets makes ``ceil(T / truncate)`` steps.

    Parameters
    ----------
    *args, **kwargs : object
        Arguments of `TrajectoryTrainer`.
    """

    def _train_batch(self, batch: Mapping[str, Any], iter_num: int, epoch: int) -> None:
        """Train on the parts of the sequences of one batch."""
        length, part = self._length(batch), dict(batch)
        for first in range(0, length, self.truncate or length):
            rows = slice(first, first + (self.truncate or length))
            part |= {key: batch[key][:, rows] for key in self.sequence_keys}
            self._first_step = self._last_step if first else 0
            _, prediction = self._iterate(part, iter_num, epoch, train=True)
            part["data"] = prediction.output_image.cpu().numpy()
