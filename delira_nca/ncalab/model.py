"""NCALab's base classes of models: the same arguments define the same automaton."""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from delira_nca.checks import accepted_keywords
from delira_nca.errors import CheckpointError, ConfigError, refuse_unknown_keywords
from delira_nca.evaluation.runs import evaluating
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.models import basic_nca
from delira_nca.models.basic_nca import Steps, built, require_module
from delira_nca.models.description import class_of_package, with_tuples
from delira_nca.models.inputs import as_weights, interpret_range_parameter
from delira_nca.models.masks import AliveMask
from delira_nca.models.network import entry, evaluate
from delira_nca.models.part import Part
from delira_nca.models.prediction import Prediction as AnyPrediction
from delira_nca.models.rule import MLPRule
from delira_nca.models.to_arrays import alive_rule, filter_arrays, require_unmodified
from delira_nca.ncalab.pairs import PairBatches
from delira_nca.ncalab.parts import BasicNCAPerception, MLPNCARule
from delira_nca.ncalab.prediction import Prediction, as_measured
from delira_nca.rollout import DEFAULT_MEMORY_BUDGET, CellParameters, UnsupportedCellError
from delira_nca.rollout.job import Job
from delira_nca.seeding import derive_seed, generator, isolated_rng
from delira_nca.training.set_values import SetValues

__all__ = ["AbstractNCAModel", "BasicNCAModel", "NCALabNetwork"]

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Tanh: "tanh",
}
"""Activations of :class:`MLPNCARule` that the fast back ends support."""


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
        modules = self._modules.get("metrics")  # a collection of metrics that are modules
        return self._metrics if modules is None else dict(modules.items())  # type: ignore[operator]

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
            A list with a prediction on the CPU for each batch of a loader, or the prediction of a batch of images.
            Metrics with ``update`` and ``compute`` are computed once for the whole set; functions are averaged over
            samples.
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
            options = accepted_keywords(model.predict, {"seed": chosen, **given})
            prediction = model.predict(batch["data"].to(model.device), steps, **options)
            named = {**prediction.parts(), "label": batch["label"].to(model.device)}
            found: Any = evaluate(values.functions, named, keys)
            values.add(found if is_mapping else metrics(prediction, named["label"]), len(batch["data"]))
            predictions.append(prediction.mapped(Tensor.cpu))
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

    It differs from :class:`delira_nca.models.BasicNCAModel` with equal arguments: the alive mask is applied only after
    the update, and also sets the image channels of dead cells to zero; fixed filters are always padded with zeros;
    ``use_laplace`` has no effect on learned filters; and the rule is created by ``rule_type(device, input_size,
    hidden_size, output_size)`` and returns the update of all channels.

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

    Notes
    -----
    A subclass may override ``_update`` (the update of all channels, with the fire mask), ``_forward_step``, ``_alive``,
    ``forward``, ``prepare_input``, ``post_prediction``, ``_predict_head``, ``_post_forward_step``, ``predict`` and
    ``validate``, as in NCALab. With one of the first four, no fast back end can compute the roll-out.

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
        self.rule_args = dict(rule_args or {})
        self._num_ignored = num_image_channels if immutable_image_channels else 0
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
            None,
            self.num_channels,
            self.num_learned_filters,
            self.filter_padding,
            self.use_temporal_encoding,
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
        return made(None, *sizes, **self.rule_args)  # type: ignore[no-any-return]

    @property
    def rule_channels(self) -> int:
        """Number of output channels of the rule: all channels, or those that may change for a rule of the package."""
        is_ours = isinstance(getattr(self, "rule", None), Part)
        return self.num_channels - (self._num_ignored if is_ours else 0)

    def _build_rule(self, rule: nn.Module) -> nn.Module:
        if isinstance(rule, Part):
            return built("rule", rule, self.input_vector_size, self.num_channels - self._num_ignored, self.dims)
        return require_module("rule", rule)

    def own_update(self, update: Tensor, axis: int = 1) -> Tensor:
        """Reduce the update of a rule, along its channels, to that of the channels which may change.

        With an alive mask, which also acts on immutable image channels, their update is zero instead.
        """
        ignored = self._num_ignored
        own = update.narrow(axis, ignored, update.shape[axis] - ignored) if not isinstance(self.rule, Part) else update
        if self.num_fixed_channels == ignored:
            return own
        zeros = own.new_zeros(*own.shape[:axis], ignored, *own.shape[axis + 1 :])
        return torch.cat([zeros, own], axis)

    @property
    def device(self) -> torch.device:
        """Device of the weights. Setting it moves the model."""
        return super().device

    @device.setter
    def device(self, value: torch.device | str) -> None:
        self.to(value)

    # Roll-outs ----------------------------------------------------------------------------------------------------

    @property
    def own_step(self) -> Callable[[Tensor, int, Job], Tensor] | None:
        """Step of a subclass that overrides ``_update``, ``_forward_step`` or ``_alive``; None without one."""
        names = ("_update", "_forward_step", "_alive")
        if all(getattr(type(self), name) is getattr(BasicNCAModel, name) for name in names):
            return None
        return self._step_alone

    def _step_alone(self, x: Tensor, step: int, job: Job) -> Tensor:
        """Step whose random numbers, from torch's global generator, depend only on the seed and the step."""
        if job.masks is not None:
            raise ConfigError(f"{type(self).__name__} overrides a step: it draws its own fire masks")
        with isolated_rng(derive_seed(job.seed, "own step", step)):
            return self._forward_step(x, step)

    def _update(self, x: Tensor, step: int) -> Tensor:
        """Update of all channels, (B, C, H, W), with a fire mask from torch's global generator."""
        update: Tensor = self.rule(self.perceive(x, step))
        if self.fire_rate < 1:
            fires = torch.rand(len(x), 1, *x.shape[2:], device=x.device) < self.fire_rate
            update = update.masked_fill(~fires, 0.0)
        own = self.own_update(update)
        return torch.cat([torch.zeros_like(x[:, : self.num_fixed_channels]), own], 1)

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

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        state = self._post_forward_step(state)
        return self.post_prediction(Prediction(self, steps, state, self._predict_head(state)))

    def _predict_head(self, x: Tensor) -> Tensor | None:
        """Prediction of the head for a state; None without a head."""
        first = self.num_image_channels
        return None if self.head is None else self.head(x[:, first : first + self.num_hidden_channels])

    def to_arrays(self) -> CellParameters:
        """Return the weights and options of the cell, for the back ends that do not call its modules.

        Raises
        ------
        UnsupportedCellError
            If a part or a method is not one of the package's. Only the reference back end can run the model then.
        """
        if self.own_step is not None or type(self).perceive is not basic_nca.BasicNCAModel.perceive:
            raise UnsupportedCellError(f"{type(self).__name__} overrides a step")
        require_unmodified("perception", self.perception, BasicNCAPerception)
        first, last, nonlinearity = _layers(self.rule)
        perception: Any = self.perception
        filters, learned, *_ = filter_arrays(perception)
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
            weights=(first.weight.flatten(1), self.own_update(last.weight.flatten(1), 0)),
            biases=(first.bias, None),
            nonlinearity=nonlinearity,
            time_scale=1 / self._horizon if self.use_temporal_encoding else None,
            alive=alive_rule(self.alive),
            fire_rate=self.fire_rate,
            update_noise=0.0,
        )

    # Overridden methods -------------------------------------------------------------------------------------------

    @property
    def _has_own_forward(self) -> bool:
        return type(self).forward is not basic_nca.BasicNCAModel.forward

    def forward_batch(
        self, batch: Mapping[str, Any], *, seed: int = 0, train: bool = False
    ) -> tuple[AnyPrediction, dict[str, Tensor]]:
        """Roll out ``batch["data"]``; see :meth:`delira_nca.models.BasicNCAModel.forward_batch`."""
        if not self._has_own_forward:
            return super().forward_batch(batch, seed=seed, train=train)
        timesteps = self.training_timesteps if train else self.inference_timesteps
        steps = interpret_range_parameter(timesteps, generator(seed, "steps"))
        with isolated_rng(seed):
            prediction = self.forward(self.initial_state(entry(batch, "data", type(self).__name__), seed), steps=steps)
        return prediction, prediction.parts()

    @torch.no_grad()
    def record(
        self, image: Tensor, steps: Steps | None = None, *, seed: int = 0, keep: str | list[int] = "all", **given: Any
    ) -> list[AnyPrediction]:
        """Return predictions after several steps; see :meth:`delira_nca.models.BasicNCAModel.record`.

        A subclass that overrides :meth:`forward` is called once for each step, or once for all steps with
        ``keep="last"``.
        """
        if not self._has_own_forward:
            return super().record(image, steps, seed=seed, keep=keep, **given)
        if keep not in ("all", "last") or any(value is not None for value in given.values()):
            raise ConfigError(f"{type(self).__name__} overrides forward(): record() keeps 'all' steps or the 'last'")
        timesteps = self.inference_timesteps if steps is None else steps
        number = interpret_range_parameter(timesteps, generator(seed, "steps"))
        found: list[AnyPrediction] = []
        with evaluating(self), isolated_rng(seed):
            state = self.initial_state(as_weights(image.to(self.device), self), seed)
            for done in (number,) if keep == "last" else range(1, number + 1):
                found.append(self.forward(state, steps=number if keep == "last" else 1))
                state, found[-1].steps = found[-1].output_image, done
        return found

    # Description --------------------------------------------------------------------------------------------------

    def _to_dict(self) -> dict[str, Any]:
        """Further entries of :meth:`to_dict`. Override it in a subclass with arguments of its own."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the model as plain values, without device and plot function."""
        arguments = {**self._init_kwargs, **self._to_dict()}
        for name in ("device", "plot_function", "kwargs"):
            arguments.pop(name, None)
        rule_type: Any = _named_rule(arguments.pop("rule_type", MLPNCARule))
        if rule_type is not MLPNCARule:
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
            If an argument, or the class of a user-defined rule, is missing.
        """
        arguments = {"device": None, **config, **modules}
        with_tuples(arguments)
        known = inspect.signature(cls.__init__).parameters.values()
        needed = [p.name for p in known if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        if missing := [name for name in needed if name not in arguments]:
            raise ConfigError(f"a description of {cls.__name__} has no {missing[0]}: pass {missing[0]}=...")
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
    """Class of a rule by its name, or by its path in this package."""
    if not isinstance(rule_type, str):
        return rule_type
    found: Any = {"MLPNCARule": MLPNCARule, "BasicNCARule": MLPNCARule}.get(rule_type)
    found = found or class_of_package(rule_type, nn.Module)
    if found is None:
        raise ConfigError(f"rule_type {rule_type!r} is not a rule of the package: pass the class, rule_type=...")
    return found  # type: ignore[no-any-return]


def _layers(rule: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d, str]:
    """Return both layers of a rule and the name of its activation, if the fast back ends support them."""
    require_unmodified("rule", rule, MLPNCARule, nn.Sequential, *ACTIVATIONS)
    layers: list[Any] = list(rule.network)  # type: ignore[arg-type]
    if [isinstance(layer, nn.Conv2d) for layer in layers] != [True, False, True]:
        raise UnsupportedCellError("the rule does not have two layers")
    first, activation, last = layers
    if not first.kernel_size == last.kernel_size == (1, 1) or last.bias is not None:
        raise UnsupportedCellError("the layers of the rule were replaced")
    if getattr(activation, "negative_slope", 0.01) != 0.01 or getattr(activation, "approximate", "none") != "none":
        raise UnsupportedCellError(f"the activation is {activation}")
    return first, last, ACTIVATIONS[type(activation)]
