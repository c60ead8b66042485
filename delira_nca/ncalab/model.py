"""NCALab's base classes of models: the same arguments define the same automaton."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from delira_nca.errors import CheckpointError, ConfigError, refuse_unknown_keywords
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.models import basic_nca
from delira_nca.models.basic_nca import Steps
from delira_nca.models.inputs import interpret_range_parameter
from delira_nca.models.masks import AliveMask
from delira_nca.models.part import Part
from delira_nca.models.prediction import Prediction as AnyPrediction
from delira_nca.models.pytorch_network import evaluate
from delira_nca.models.rule import MLPRule
from delira_nca.models.to_arrays import alive_rule, filter_arrays, require_unmodified
from delira_nca.ncalab.pairs import PairBatches
from delira_nca.ncalab.parts import BasicNCAPerception, MLPNCARule
from delira_nca.ncalab.prediction import Prediction, as_measured
from delira_nca.rollout import DEFAULT_MEMORY_BUDGET, CellParameters, UnsupportedCellError
from delira_nca.rollout.job import Masks
from delira_nca.rollout.untraced import untraced
from delira_nca.seeding import derive_seed, generator, isolated_rng
from delira_nca.training.set_values import SetValues

__all__ = ["AbstractNCAModel", "BasicNCAModel", "NCALabNetwork", "OwnRows"]

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Tanh: "tanh",
}
"""Activations of :class:`MLPNCARule` that the fast back ends support."""


@dataclass(frozen=True)
class OwnRows:
    """Forward hook that reduces the update of all channels to that of the channels which may change.

    Parameters
    ----------
    num_image_channels : int
        Number of immutable image channels, whose update is ignored.
    sets_zero : bool
        Whether their update is set to zero instead of removed. An alive mask acts on them then, as in NCALab.
    """

    num_image_channels: int
    sets_zero: bool = False
    is_part_of_cell = True

    def __call__(self, rule: nn.Module, args: Any, update: Tensor) -> Tensor:
        """Reduce the update of a rule, (B, C, H, W)."""
        return self.rows(update, 1)

    def rows(self, values: Tensor, axis: int) -> Tensor:
        """Apply the reduction along an axis."""
        if not self.num_image_channels:
            return values
        image, own = values.tensor_split([self.num_image_channels], axis)
        return torch.cat([torch.zeros_like(image), own], axis) if self.sets_zero else own


def rename_weights(module: nn.Module, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Remove the prefix of ``torch.compile`` from the names of a state dict; a hook of ``load_state_dict``."""
    for name in [name for name in state if name.startswith(prefix) and "_orig_mod." in name[len(prefix) :]]:
        state[prefix + name[len(prefix) :].replace("_orig_mod.", "")] = state.pop(name)


class NCALabNetwork(nn.Module):
    """Methods that NCALab's models and cascades have in common."""

    _metrics: Any

    @property
    def metrics(self) -> Any:
        """Metrics by name: objects with ``update``, ``compute`` and ``reset``, or functions of logits and labels."""
        return self._metrics

    @metrics.setter
    def metrics(self, value: Mapping[str, Any]) -> None:
        self._metrics = value

    def validate(
        self,
        image: Tensor | Iterable[Any] | None = None,
        label: Tensor | Steps | None = None,
        steps: Steps | None = None,
        *,
        dataloader: Iterable[Any] | None = None,
        seed: int = 0,
        **given: Any,
    ) -> tuple[dict[str, float], Any]:
        """Predict a data set, or one batch, and compute the metrics.

        Parameters
        ----------
        image : Tensor or iterable
            Loader of (image, label) pairs; or a (B, C, H, W) batch of images.
        label : Tensor
            Labels of a batch of images. For a loader, the second positional argument is ``steps``.
        steps : int or (int, int), optional
            Number of steps; ``inference_timesteps`` by default.
        dataloader : iterable, optional
            Name of the loader in NCALab.
        seed : int
            Seed of all random numbers.
        **given : object
            Further arguments of ``predict``.

        Returns
        -------
        tuple of (metrics by name, predictions)
            A list with a prediction on the CPU for each batch of a loader, or the prediction of a batch of images. The
            metrics are those of the whole set, whatever the batch size.
        """
        model: Any = self
        if isinstance(image, Tensor) and isinstance(label, Tensor):
            measured, (prediction,) = self._measure([{"data": image, "label": label}], steps, seed, given)
            return measured, prediction
        loader = image if dataloader is None else dataloader
        if loader is None or isinstance(loader, Tensor):
            raise ConfigError("validate() takes a loader of (image, label) pairs, or images and their labels")
        if label is not None and steps is None:
            steps = label  # type: ignore[assignment]
        pairs = PairBatches(loader, label_layout="auto", network=model, seed=seed, stream="valid")
        return self._measure(pairs.get_batchgen(0), steps, seed, given)

    def _measure(
        self, batches: Iterable[Mapping[str, Any]], steps: Any, seed: int, given: Mapping[str, Any]
    ) -> tuple[dict[str, float], list[Any]]:
        model: Any = self
        metrics = model.metrics
        is_mapping = isinstance(metrics, Mapping)
        functions, keys = as_measured(metrics if is_mapping else {})
        values, predictions = SetValues(functions), []
        for number, batch in enumerate(batches):
            chosen = seed if number == 0 else derive_seed(seed, "batch", number)
            prediction = model.predict(batch["data"].to(model.device), steps, seed=chosen, **given)
            named = {**prediction.parts(), "label": batch["label"].to(model.device)}
            found: Any = evaluate(values.functions, named, keys)
            values.add(found if is_mapping else metrics(prediction, named["label"]), len(batch["data"]))
            predictions.append(prediction._mapped(lambda tensor: tensor.cpu()))
        result = values.result()
        return {name: result[name] for name in functions or result}, predictions

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights to a safetensors file. The file appears when it is complete."""
        with replaced(absolute(path)) as temporary:
            save_model(self, str(temporary))

    @staticmethod
    def load(model: Any, path: str | os.PathLike[str]) -> Any:
        """Load the weights of a safetensors file into a model, and return the model.

        Raises
        ------
        CheckpointError
            If the file cannot be read, or does not fit the model. :func:`delira_nca.ncalab.load_ncalab` reads other
            files of NCALab.
        """
        try:
            load_model(model, str(absolute(path)))
        except Exception as error:
            raise CheckpointError(f"{absolute(path)} does not fit a {type(model).__name__}: {error}") from error
        return model


class BasicNCAModel(NCALabNetwork, basic_nca.BasicNCAModel):
    """Automaton as defined by NCALab's arguments.

    It differs from :class:`delira_nca.models.BasicNCAModel` with equal arguments: cells die after the update only, and
    then lose their immutable image channels, too; fixed filters are always padded with zeros; ``use_laplace`` has no
    effect on learned filters; and the rule is created by ``rule_type(device, input_size, hidden_size, output_size)``.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the weights.
    num_image_channels, num_hidden_channels, num_output_channels : int
        Number of channels of each kind in the state, in this order.
    plot_function : object
        Object with ``show(model, image, prediction, label)``, such as a :class:`Visual`.
    validation_metric : str or None
        Name of the metric that selects the best epoch, of which the highest value is the best.
    fire_rate : float
        Probability that a cell updates in a step; 1 is deterministic.
    hidden_size : int
        Number of neurons in the hidden layer of the rule.
    use_alive_mask : bool
        Whether cells die, after the update, if channel 3 is at most 0.1 in them and their 8 neighbours.
    immutable_image_channels : bool
        Whether the image channels keep their values.
    num_learned_filters, filter_padding, use_laplace, kernel_size
        See :class:`BasicNCAPerception`.
    pad_noise : bool
        Whether hidden channels that are appended to an image start as noise; else as zeros.
    use_temporal_encoding : bool
        Whether the rule sees a channel with the time ``t / T``, where ``T`` is the (upper) number of training steps.
    rule_type : type or str
        Class of the rule, or its name.
    training_timesteps, inference_timesteps : int or (int, int)
        Number of steps, or a range ``(low, high)`` from which it is drawn, without ``high``.
    rule_args : mapping, optional
        Further keyword arguments of the rule.
    memory_budget : int
        Number of bytes that a training roll-out may store; see :func:`delira_nca.rollout.rollout`.

    Raises
    ------
    ConfigError, UnknownNameError, UnknownKeywordError
        If an argument is invalid or unknown.

    Notes
    -----
    A subclass may override ``_update`` (the update of all channels, with the fire mask), ``_forward_step``, ``_alive``,
    ``prepare_input``, ``post_prediction`` and ``_post_forward_step``, as in NCALab. With one of the first three, the
    roll-out is a loop over :meth:`_forward_step`, which no fast back end can compute.

    Examples
    --------
    >>> model = BasicNCAModel("cpu", 3, 8, 1, use_alive_mask=True)
    >>> model.predict(torch.rand(2, 3, 16, 16), steps=4).logits.shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        device: torch.device | str | None,
        num_image_channels: int,
        num_hidden_channels: int,
        num_output_channels: int,
        plot_function: Any = None,
        validation_metric: str | None = None,
        fire_rate: float = 0.5,
        hidden_size: int = 128,
        use_alive_mask: bool = False,
        immutable_image_channels: bool = True,
        num_learned_filters: int = 2,
        filter_padding: str = "reflect",
        use_laplace: bool = False,
        kernel_size: int = 3,
        pad_noise: bool = False,
        use_temporal_encoding: bool = False,
        rule_type: Callable[..., nn.Module] | str = MLPNCARule,
        training_timesteps: Steps = 100,
        inference_timesteps: Steps = 100,
        *,
        rule_args: Mapping[str, Any] | None = None,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        **kwargs: Any,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        refuse_unknown_keywords(type(self).__name__, kwargs, arguments)
        keeps_image = immutable_image_channels and not use_alive_mask
        self._given_device, self.rule_args = device, dict(rule_args or {})
        self._own_rows = OwnRows(num_image_channels if immutable_image_channels else 0, not keeps_image)
        super().__init__(
            **{
                **{name: value for name, value in arguments.items() if name not in ("use_alive_mask", "rule_args")},
                "rule_type": _named_rule(rule_type),
                "alive": AliveMask(before=False) if use_alive_mask else None,
                "immutable_image_channels": keeps_image,
            }
        )
        self.immutable_image_channels = immutable_image_channels
        self._init_kwargs = arguments
        if type(self).metrics is NCALabNetwork.metrics:
            self.metrics = {}
        self.register_load_state_dict_pre_hook(rename_weights)  # type: ignore[no-untyped-call]

    def _define_perception(self) -> BasicNCAPerception:
        return BasicNCAPerception(
            self._given_device,
            self.num_channels,
            self.num_learned_filters,
            self.filter_padding,
            False,  # the model appends the time
            self.use_laplace,
            self.training_timesteps,
            self.kernel_size,
        )

    def _define_rule(self) -> nn.Module:
        """Make the rule. Override to use another one."""
        if isinstance(self.rule_type, type) and issubclass(self.rule_type, MLPRule):  # a rule of delira_nca.models
            return self.rule_type(self.hidden_size, final_bias=False, **self.rule_args)
        sizes = (self.input_vector_size, self.hidden_size, self.num_channels)
        made: Any = self.rule_type
        return made(self._given_device, *sizes, **self.rule_args)  # type: ignore[no-any-return]

    def _build_rule(self, rule: nn.Module) -> nn.Module:
        rule = super()._build_rule(rule)
        if not isinstance(rule, Part):
            rule.register_forward_hook(self._own_rows)
        return rule

    @property
    def device(self) -> torch.device:
        """Device of the weights. Setting it moves the model."""
        return super().device

    @device.setter
    def device(self, value: torch.device | str) -> None:
        self.to(value)

    # Roll-outs ----------------------------------------------------------------------------------------------------

    @property
    def _has_own_step(self) -> bool:
        names = ("_update", "_forward_step", "_alive")
        return any(getattr(type(self), name) is not getattr(BasicNCAModel, name) for name in names)

    def _update(self, x: Tensor, step: int) -> Tensor:
        """Update of all channels, (B, C, H, W), with a fire mask from torch's global generator."""
        update: Tensor = self.rule(self.perceive(x, step))
        if self.fire_rate < 1:
            fires = torch.rand(len(x), 1, *x.shape[2:], device=x.device) < self.fire_rate
            update = update.masked_fill(~fires, 0.0)
        missing = self.num_channels - update.shape[1]
        return torch.cat([torch.zeros_like(x[:, :missing]), update], 1) if missing else update

    def _forward_step(self, x: Tensor, step: int) -> Tensor:
        """State after one step."""
        x = x + self._update(x, step)
        return x if self.alive is None else x.masked_fill(~self._alive(x).view(len(x), 1, *x.shape[2:]), 0.0)

    def _post_forward_step(self, x: Tensor) -> Tensor:
        """Change the state after the last step of a roll-out. Override it for post-processing."""
        return x

    def post_prediction(self, prediction: Prediction) -> Prediction:
        """Change a prediction, for instance its logits or its mask. Override it for post-processing."""
        return prediction

    @untraced
    def forward(
        self,
        x: Tensor,
        steps: int = 1,
        *,
        start: int = 0,
        seed: int | None = None,
        masks: Masks | None = None,
        **given: Any,
    ) -> Prediction:
        """Roll a state out; see :meth:`delira_nca.models.BasicNCAModel.forward`."""
        if not self._has_own_step:
            return super().forward(x, steps, start=start, seed=seed, masks=masks, **given)  # type: ignore[return-value]
        self._require_no_masks(masks)
        with isolated_rng(int(torch.randint(2**32, ())) if seed is None else seed):
            for number in range(start, start + steps):
                x = self._forward_step(x, number)
        return self._prediction(steps, x)

    @torch.no_grad()
    def record(
        self,
        image: Tensor,
        steps: Steps | None = None,
        *,
        seed: int = 0,
        masks: Masks | None = None,
        keep: str | list[int] = "all",
        **given: Any,
    ) -> list[AnyPrediction]:
        """Return predictions after several steps; see :meth:`delira_nca.models.BasicNCAModel.record`."""
        if not self._has_own_step:
            return super().record(image, steps, seed=seed, masks=masks, keep=keep, **given)
        self._require_no_masks(masks)
        timesteps = self.inference_timesteps if steps is None else steps
        number = interpret_range_parameter(timesteps, generator(seed, "steps"))
        kept = range(1, number + 1) if keep == "all" else [number] if keep == "last" else keep
        was_training, found = self.training, list[AnyPrediction]()
        self.eval()
        try:
            state = self.initial_state(image.to(self.device), seed)
            with isolated_rng(seed):
                for done in range(number + 1):
                    if done in kept:
                        found.append(self._prediction(done, state))
                    state = state if done == number else self._forward_step(state, done)
        finally:
            self.train(was_training)
        return found

    def _require_no_masks(self, masks: Any) -> None:
        if masks is not None:
            raise ConfigError(f"{type(self).__name__} overrides a step: it draws its own fire masks")

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        state = self._post_forward_step(state)
        prediction = Prediction(self, steps, state)
        if self.head is not None:
            prediction.head_prediction = self.head(prediction.hidden_channels)
        return self.post_prediction(prediction)

    def to_arrays(self) -> CellParameters:
        """Return the weights and options of the cell, for the back ends that do not call its modules.

        Raises
        ------
        UnsupportedCellError
            If a part or a method is not one of the package's. Only the reference back end can run the model then.
        """
        if isinstance(self.rule, Part):
            raise UnsupportedCellError(f"the rule is a {type(self.rule).__name__}, not an MLPNCARule")
        if self._has_own_step or type(self).perceive is not basic_nca.BasicNCAModel.perceive:
            raise UnsupportedCellError(f"{type(self).__name__} computes a step in a way of its own")
        require_unmodified("perception", self.perception, BasicNCAPerception)
        activation = type(self.rule.network[1]) if isinstance(self.rule, MLPNCARule) else nn.Module
        require_unmodified("rule", self.rule, MLPNCARule, nn.Sequential, *ACTIVATIONS)
        perception: Any = self.perception
        filters, learned, *_ = filter_arrays(perception)
        first, _, last = self.rule.network  # type: ignore[misc]
        return CellParameters(
            num_channels=self.num_channels,
            num_fixed_channels=self.num_fixed_channels,
            padding=perception.padding,
            filters=filters,
            learned=learned,
            filter_bias=None,
            full=None,
            full_bias=None,
            full_relu=False,
            weights=(first.weight.flatten(1), self._own_rows.rows(last.weight.flatten(1), 0)),
            biases=(first.bias, None),
            nonlinearity=ACTIVATIONS[activation],
            time_scale=1 / self._horizon if self.use_temporal_encoding else None,
            alive=alive_rule(self.alive),
            fire_rate=self.fire_rate,
            update_noise=0.0,
        )

    # Training -----------------------------------------------------------------------------------------------------

    def finetune(self, freeze_head: bool = False) -> None:
        """Freeze the filters and all layers of the rule but the last, and set training mode.

        With ``freeze_head``, the head is frozen too.
        """
        super().finetune(freeze_head)

    # Description --------------------------------------------------------------------------------------------------

    def _to_dict(self) -> dict[str, Any]:
        """Further entries of :meth:`to_dict`. Override it in a subclass with arguments of its own."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the model as plain values, without device and plot function."""
        arguments = {**self._init_kwargs, **self._to_dict()}
        for name in ("device", "plot_function", "kwargs"):
            arguments.pop(name, None)
        rule_type = arguments.pop("rule_type", MLPNCARule)
        if rule_type not in (MLPNCARule, MLPNCARule.__name__):
            arguments["rule_type"] = f"{rule_type.__module__}.{rule_type.__qualname__}"
        rule_args = arguments.pop("rule_args", None)
        if rule_args:
            arguments["rule_args"] = {
                key: value.__name__ if isinstance(value, type) else value for key, value in rule_args.items()
            }
        return arguments

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], **modules: Any) -> Any:
        """Make a model from its description, with new weights.

        Parameters
        ----------
        config : mapping
            Result of :meth:`to_dict`, of this package or of NCALab.
        **modules : object
            Arguments to change, such as ``device``, or the ``rule_type`` if it is user-defined.

        Raises
        ------
        ConfigError
            If the class of the rule is missing.
        """
        arguments = {"device": None, **config, **modules}
        for name in ("training_timesteps", "inference_timesteps"):
            if isinstance(arguments.get(name), list):
                arguments[name] = tuple(arguments[name])
        return cls(**arguments)


class AbstractNCAModel(BasicNCAModel, ABC):
    """Base class of NCALab's models, with two Sobel filters by default. A subclass defines :meth:`loss`.

    Parameters
    ----------
    device, num_image_channels, num_hidden_channels, num_output_channels, plot_function, validation_metric, fire_rate
        See :class:`BasicNCAModel`.
    hidden_size, use_alive_mask, immutable_image_channels, num_learned_filters, filter_padding, use_laplace, kernel_size
        See :class:`BasicNCAModel`.
    pad_noise, use_temporal_encoding, rule_type, rule_args, training_timesteps, inference_timesteps, **kwargs
        See :class:`BasicNCAModel`.
    """

    def __init__(
        self,
        device: torch.device | str | None,
        num_image_channels: int,
        num_hidden_channels: int,
        num_output_channels: int,
        plot_function: Any = None,
        validation_metric: str | None = None,
        fire_rate: float = 0.5,
        hidden_size: int = 128,
        use_alive_mask: bool = False,
        immutable_image_channels: bool = True,
        num_learned_filters: int = 0,
        filter_padding: str = "reflect",
        use_laplace: bool = False,
        kernel_size: int = 3,
        pad_noise: bool = False,
        use_temporal_encoding: bool = False,
        rule_type: Callable[..., nn.Module] | str = MLPNCARule,
        rule_args: Mapping[str, Any] | None = None,
        training_timesteps: Steps = 100,
        inference_timesteps: Steps = 100,
        **kwargs: Any,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        super().__init__(**arguments, **kwargs)

    @abstractmethod
    def loss(self, pred: Prediction, label: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the losses by name. ``"total"`` is minimised; the others are recorded."""


def _named_rule(rule_type: Callable[..., nn.Module] | str) -> Callable[..., nn.Module]:
    """Class of a rule by its name."""
    if not isinstance(rule_type, str):
        return rule_type
    known = {"MLPNCARule": MLPNCARule, "BasicNCARule": MLPNCARule}
    if rule_type.rpartition(".")[2] not in known:
        raise ConfigError(f"rule_type {rule_type!r} is not a rule of the package: pass the class, rule_type=...")
    return known[rule_type.rpartition(".")[2]]
