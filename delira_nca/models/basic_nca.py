"""The neural cellular automaton: a perception, a rule, an alive mask and, maybe, a head."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.checks import plain_numbers
from delira_nca.errors import ConfigError, ShapeError, refuse_unknown_keywords, require_choice
from delira_nca.losses import mse
from delira_nca.models.alive import AliveMask
from delira_nca.models.checks import built, check_arguments, check_channels, require_module
from delira_nca.models.compiled import unwrapped
from delira_nca.models.conditioning import ToldCell
from delira_nca.models.counting import cost_of
from delira_nca.models.description import arguments_from, arguments_of, describe
from delira_nca.models.input_mask import InputMask
from delira_nca.models.inputs import as_weights, interpret_range_parameter, pad_input, require_tensor
from delira_nca.models.perception import LearnedFilters, Perception
from delira_nca.models.plain import plain_cell
from delira_nca.models.prediction import Prediction
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import MLPRule
from delira_nca.models.wiring import entry
from delira_nca.rollout import DEFAULT_MEMORY_BUDGET, Cell, Job, NotPlainError, PlainCell, rollout, step, trajectory
from delira_nca.rollout.cost import RolloutCost
from delira_nca.rollout.job import Masks
from delira_nca.rollout.untraced import untraced
from delira_nca.seeding import derive_seed, generator

__all__ = ["BasicNCAModel"]

Steps = int | tuple[int, int]


class BasicNCAModel(AbstractPyTorchNetwork):
    """Neural cellular automaton on a grid of one, two or three dimensions.

    A state is (B, C, *spatial) with the image channels first, then the hidden, then the output channels.

    Parameters
    ----------
    device : where the parameters are made; they follow ``.to()`` like those of any module.
    num_image_channels, num_hidden_channels, num_output_channels : of the state.
    plot_function : object that draws predictions, kept for the user.
    validation_metric : name of the metric that says how good the model is, kept for the user.
    fire_rate : probability that a cell updates in a step; 1 is deterministic.
    hidden_size : neurons of the rule's hidden layer.
    use_alive_mask : whether cells die outside of life; ``alive=AliveMask(...)`` says how.
    immutable_image_channels : whether the image channels stay what they are. The rule then has no rows for them.
    num_learned_filters : learned depth-wise filters beside the identity; 0 takes Sobel's instead.
    filter_padding : zeros, reflect, replicate or circular.
    use_laplace : whether the laplacian joins Sobel's filters.
    kernel_size : of the learned filters.
    pad_noise : whether the hidden channels of an image that is given start as noise.
    use_temporal_encoding : whether each cell is told the time: a channel of ``t / T``, with ``T`` the (upper) number
        of training steps that the model was made with.
    rule_type : makes the rule from ``(hidden_size, final_bias=False)``.
    training_timesteps, inference_timesteps : a number of steps, or a range ``(low, high)`` to draw below ``high``.
    dims : spatial dimensions, 1, 2 or 3.
    perception, rule, alive, head : the parts themselves, instead of the arguments that describe them. A :class:`Part`,
        as those of the package are, is copied and built for the model; any other module is taken as it is and maps
        (B, C, *spatial) to (B, out_channels, *spatial), and (B, out_channels (+ 1 for the time), *spatial) to the
        update. A head maps the hidden channels to what is compared with the label. A rule whose update of a cell
        depends only on what that cell perceives, and draws no random numbers, may say ``local = True``: dead space is
        then left out, as with the package's own.
    conditioning : what tells each sample its goal, a :class:`GoalEmbedding` for instance, or any module that maps a
        batch's ``"goal"`` to (B, n): numbers for the last n hidden channels. See
        :class:`delira_nca.models.conditioning.ToldCell`.
    input_mask : where cells update at all, by an image channel; everywhere by default.
    update_noise : standard deviation of the noise that joins the update in every step, in training and after it.
    memory_budget : bytes that a training roll-out may store; see :func:`delira_nca.rollout.rollout`.

    Raises
    ------
    ConfigError, UnknownNameError, UnknownKeywordError
        For arguments that cannot work, before anything is built.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata"; the argument names are NCALab's.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> model = BasicNCAModel(**presets.growing())
    >>> model.num_trainable_parameters()
    8336
    """

    loss_names: tuple[str, ...] | None = ("total", "mse")

    def __init__(
        self,
        device: torch.device | str | None = None,
        num_image_channels: int = 4,
        num_hidden_channels: int = 12,
        num_output_channels: int = 0,
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
        rule_type: Callable[..., nn.Module] = MLPRule,
        training_timesteps: Steps = 100,
        inference_timesteps: Steps = 100,
        *,
        dims: int = 2,
        perception: nn.Module | None = None,
        rule: nn.Module | None = None,
        alive: AliveMask | None = None,
        head: nn.Module | None = None,
        conditioning: nn.Module | None = None,
        input_mask: InputMask | None = None,
        update_noise: float = 0.0,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        **kwargs: Any,
    ) -> None:
        arguments = arguments_of(type(self), BasicNCAModel)
        refuse_unknown_keywords(type(self).__name__, kwargs, arguments)
        perception, rule, head, conditioning = map(unwrapped, (perception, rule, head, conditioning))
        super().__init__(**{key: value for key, value in locals().items() if key in arguments})
        self.num_image_channels, self.num_hidden_channels = num_image_channels, num_hidden_channels
        self.num_output_channels = num_output_channels
        self.num_channels = num_image_channels + num_hidden_channels + num_output_channels
        self.immutable_image_channels = immutable_image_channels
        self.num_fixed_channels = num_image_channels if immutable_image_channels else 0
        self.alive: AliveMask | None = AliveMask() if alive is None and use_alive_mask else alive
        self.input_mask = input_mask
        self.fire_rate, self.update_noise, self.hidden_size, self.dims = fire_rate, update_noise, hidden_size, dims
        self.training_timesteps, self.inference_timesteps = training_timesteps, inference_timesteps
        check_arguments(self)
        self._horizon = max(training_timesteps if isinstance(training_timesteps, int) else training_timesteps[1], 1)
        self.plot_function, self.validation_metric = plot_function, validation_metric
        self.num_learned_filters, self.filter_padding = num_learned_filters, filter_padding
        self.use_laplace, self.kernel_size = use_laplace, kernel_size
        self.pad_noise, self.use_temporal_encoding = pad_noise, use_temporal_encoding
        self.rule_type, self.memory_budget = rule_type, memory_budget
        perception = self._define_perception() if perception is None else perception
        self.perception = built("perception", perception, self.num_channels, dims)
        rule, free = self._define_rule() if rule is None else rule, self.num_channels - self.num_fixed_channels
        self.rule = built("rule", rule, self.input_vector_size, free, dims)
        self.conditioning = None if conditioning is None else built("conditioning", conditioning, num_hidden_channels)
        self.head = None if head is None else require_module("head", head)
        if device is not None:
            self.to(device)
        if type(self).perceive is BasicNCAModel.perceive:
            check_channels(self)

    def _define_perception(self) -> Perception:
        if self.num_learned_filters:
            if self.use_laplace:
                raise ConfigError("use_laplace belongs to the fixed filters: it needs num_learned_filters=0")
            learned = LearnedFilters(self.num_learned_filters, self.kernel_size)
            return Perception("identity", learned, padding=self.filter_padding)
        fixed = ("identity", "sobel", "laplacian") if self.use_laplace else ("identity", "sobel")
        return Perception(*fixed, padding=self.filter_padding)

    def _define_rule(self) -> nn.Module:
        """Rule for the model; override to make another."""
        return self.rule_type(self.hidden_size, final_bias=False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def use_alive_mask(self) -> bool:
        """Whether cells die outside of life."""
        return self.alive is not None

    @property
    def skips_dead_space(self) -> bool:
        """Whether a roll-out may leave out the space around all life, with the same result."""
        return (
            type(self.alive) is AliveMask
            and self.alive.before
            and self.alive.threshold >= 0
            and self.num_fixed_channels == 0
            and type(self.perception) is Perception
            and self.perception.padding == "zeros"
            and self.alive.num_spared == 0
            and (type(self.rule) is MLPRule or getattr(self.rule, "local", False) is True)
            and type(self).perceive is BasicNCAModel.perceive
        )

    @property
    def radius(self) -> int:
        """Farthest cell, by the larger of the axis distances, that one step can see."""
        if not hasattr(self.perception, "radius"):
            raise ConfigError(f"perception {type(self.perception).__name__} does not say its radius")
        return int(self.perception.radius) + int(getattr(self.rule, "radius", 0))  # type: ignore[arg-type]

    @property
    def num_draws(self) -> int:
        """Random numbers by which each cell chooses in a step."""
        return int(getattr(self.rule, "num_draws", 0))

    @property
    def input_vector_size(self) -> int:
        """Channels that the rule sees."""
        if not hasattr(self.perception, "out_channels"):
            raise ConfigError(f"perception {type(self.perception).__name__} needs an attribute out_channels")
        return int(self.perception.out_channels) + int(self.use_temporal_encoding)  # type: ignore[arg-type]

    # The cell, as a roll-out sees it ------------------------------------------------------------------------------

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """(B, C, *spatial) state at step ``t`` to (B, input_vector_size, *spatial)."""
        perception: Tensor = self.perception(x)
        if not self.use_temporal_encoding:
            return perception
        time = perception.new_full((x.shape[0], 1, *x.shape[2:]), t / self._horizon)
        return torch.cat([perception, time], 1)

    def told(self, goal: Tensor | int | None, batch_size: int) -> Cell:
        """The automaton of samples that know their goals; itself, where there is nothing to know.

        Raises
        ------
        ConfigError, ShapeError
            If a goal is missing or given for nothing, is none of the goals, or there is not one for each sample.
        """
        if self.conditioning is not None:
            return ToldCell(self, goal, batch_size)
        if goal is not None:
            raise ConfigError(f"this {type(self).__name__} has no conditioning: it cannot be told a goal")
        return self

    def plain(self) -> PlainCell:
        """The cell as numbers, for the back ends that do not call its modules.

        Raises
        ------
        NotPlainError
            If a part of it is not the package's own: only the reference back end can run it then.
        """
        if "perceive" in vars(self) or type(self).perceive is not BasicNCAModel.perceive:
            raise NotPlainError(f"{type(self).__name__} perceives in a way of its own")
        if self.conditioning is not None:
            raise NotPlainError("its cells are told a goal")
        return plain_cell(
            self,
            time_scale=1 / self._horizon if self.use_temporal_encoding else None,
            update_noise=float(self.update_noise),
        )

    def _alive(self, x: Tensor) -> Tensor:
        """(B, 1, *spatial) bool: which cells live; all where there is no alive mask."""
        return x.new_ones(x.shape[0], 1, *x.shape[2:], dtype=torch.bool) if self.alive is None else self.alive(x)

    def _update(self, x: Tensor, step: int) -> Tensor:
        """(B, C - fixed, *spatial) update before fire and alive mask."""
        update: Tensor = self.rule(self.perceive(x, step))
        return update

    def _forward_step(self, x: Tensor, step_number: int) -> Tensor:
        """State after the one step of this number, every cell firing that ever updates."""
        cell = self.told(None, len(x))
        job = Job(x, cell, 1, (1,), step_number, masks=lambda t: None).gated()
        return step(cell, x, step_number, job.fires(step_number), None, job.draws(step_number))

    # Roll-outs ----------------------------------------------------------------------------------------------------

    def prepare_input(self, x: Tensor) -> Tensor:
        """Preprocess a padded state before a roll-out. Override where an input needs it."""
        return x

    @plain_numbers
    @untraced
    def forward(
        self,
        x: Tensor,
        steps: int = 1,
        *,
        start: int = 0,
        seed: int | None = None,
        masks: Masks | None = None,
        goal: Tensor | int | None = None,
    ) -> Prediction:
        """Roll a state out.

        Parameters
        ----------
        x : (B, C, *spatial) state, all channels; :func:`pad_input` makes one of an image.
        steps, start, masks : see :func:`delira_nca.rollout.rollout`.
        seed : of the fire masks. Without one it is drawn from torch's global generator, as dropout would.
        goal : of each sample, for a model with a conditioning; see :meth:`told`.

        Raises
        ------
        ShapeError, ConfigError
            If the state does not have the model's channels and dimensions, or the goal does not fit.
        """
        x = as_weights(x, self)
        self._check_state(x)
        if seed is None:
            stochastic = (self.fire_rate < 1 and masks is None) or self.update_noise > 0 or self.num_draws > 0
            seed = int(torch.randint(2**32, ())) if stochastic else 0
        cell = self.told(goal, len(x))
        state = rollout(x, cell, steps, start=start, seed=seed, masks=masks, memory_budget=self.memory_budget)
        return self._prediction(steps, state)

    def forward_batch(
        self, batch: Mapping[str, Any], *, seed: int = 0, train: bool = False
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Roll ``batch["data"]`` out for the number of steps of training or inference; both are drawn by the seed.

        A model with a conditioning takes the goal of each sample from ``batch["goal"]``.
        """
        timesteps = self.training_timesteps if train else self.inference_timesteps
        steps = interpret_range_parameter(timesteps, generator(seed, "steps"))
        goal = {} if self.conditioning is None else {"goal": entry(batch, "goal", type(self).__name__)}
        data = entry(batch, "data", type(self).__name__)
        require_tensor(data, "entry 'data' of a batch")
        prediction = self(self._state_of(data, seed), steps, seed=seed, **goal)
        return prediction, prediction.parts()

    @plain_numbers
    @torch.no_grad()
    def predict(
        self,
        image: Tensor,
        steps: Steps | None = None,
        *,
        seed: int = 0,
        masks: Masks | None = None,
        goal: Tensor | int | None = None,
    ) -> Prediction:
        """Roll an image or a state out without gradients, in evaluation mode.

        Parameters
        ----------
        image : (B, num_image_channels, *spatial) image or (B, C, *spatial) state. It is not changed. Floats that are
            narrower than the weights are converted.
        steps : how many, or a range; ``inference_timesteps`` by default.
        seed : of everything random: steps, noise and fire masks. The same seed gives the same prediction.
        masks : fire masks from outside.
        goal : of each sample, for a model with a conditioning.
        """
        return self.record(image, steps, seed=seed, masks=masks, keep="last", goal=goal)[-1]

    @plain_numbers
    @torch.no_grad()
    def record(
        self,
        image: Tensor,
        steps: Steps | None = None,
        *,
        seed: int = 0,
        masks: Masks | None = None,
        keep: str | list[int] = "all",
        goal: Tensor | int | None = None,
    ) -> list[Prediction]:
        """Predictions along one roll-out.

        Parameters
        ----------
        image, steps, seed, masks, goal : as for :meth:`predict`, whose result the last prediction equals.
        keep : ``"all"`` steps from 1 on, the ``"last"``, or a list of step numbers (0 is the input).
        """
        require_tensor(image)
        steps = interpret_range_parameter(
            self.inference_timesteps if steps is None else steps, generator(seed, "steps")
        )
        if isinstance(keep, str):
            require_choice("keep", keep, ("all", "last"))
        kept = range(1, steps + 1) if keep == "all" else [steps] if keep == "last" else keep
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            state = self._state_of(as_weights(image.to(self.device), self), seed)
            self._check_state(state)
            cell = self.told(goal, len(state))
            states = trajectory(state, cell, steps, keep=kept, seed=seed, masks=masks)  # type: ignore[arg-type]
            return [self._prediction(n, states[n]) for n in sorted(states)]
        finally:
            for module, training in modes:
                module.training = training

    def _state_of(self, image: Tensor, seed: int) -> Tensor:
        noise = torch.Generator().manual_seed(derive_seed(seed, "noise")) if self.pad_noise else None
        return self.prepare_input(pad_input(image, self, noise=self.pad_noise, generator=noise))

    def _prediction(self, steps: int, state: Tensor) -> Prediction:
        prediction = Prediction(self, steps, state)
        if self.head is not None:
            prediction.head_prediction = self.head(prediction.hidden_channels)
        return prediction

    def _check_state(self, x: Tensor) -> None:
        if x.dim() != self.dims + 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"a state of this model is (B, {self.num_channels}, {self.dims} spatial axes), not {tuple(x.shape)}; "
                "pad_input() makes one of an image"
            )

    # Training -----------------------------------------------------------------------------------------------------

    def loss(self, prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the prediction; override, together with ``loss_names``, for another task."""
        error = mse(prediction.pred, label)
        return {"total": error, "mse": error}

    def metrics(self, pred: Prediction, label: Tensor) -> dict[str, float]:
        """Standard metrics of a prediction; override for another task."""
        return {"mse": float(mse(pred.pred, label))}

    def validate(
        self, image: Tensor, label: Tensor, steps: Steps | None = None, *, seed: int = 0, **given: Any
    ) -> tuple[dict[str, float], Prediction]:
        """Predict, with what else is given, and measure against the label."""
        prediction = self.predict(image, steps, seed=seed, **given)
        return self.metrics(prediction, label.to(self.device)), prediction

    def finetune(self, freeze_head: bool = False) -> None:
        """Freeze all but the rule's last layer and, unless it is to be frozen too, the head; set training mode.

        Raises
        ------
        ConfigError
            If the rule is a module of the user's that has no ``freeze()``.
        """
        if not callable(getattr(self.rule, "freeze", None)):
            raise ConfigError(f"rule {type(self.rule).__name__} has no freeze(): freeze its layers by hand")
        self.perception.requires_grad_(False)
        self.rule.freeze()  # type: ignore[operator]
        if self.head is not None:
            self.head.requires_grad_(not freeze_head)
        self.train()

    def num_trainable_parameters(self) -> int:
        """Number of weights that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @plain_numbers
    def cost(
        self, shape: Sequence[int], steps: int, *, batch_size: int = 1, memory_budget: int | None = None
    ) -> RolloutCost:
        """Count parameters, operations and bytes of a roll-out; nothing is run.

        Parameters
        ----------
        shape : spatial shape of the grid.
        steps : how many.
        batch_size : how many states are rolled out together.
        memory_budget : bytes that may be kept for the backward pass; the model's own by default.

        Raises
        ------
        ConfigError
            If a number is out of range, or a part of the model is not the package's own: its work cannot be counted.

        Examples
        --------
        >>> from delira_nca.models import presets
        >>> cost = BasicNCAModel(**presets.growing()).cost((72, 72), steps=80, batch_size=8)
        >>> cost.num_parameters, 2 * cost.rule, cost.forward_operations, cost.training_operations
        (8336, 16384, 16768, 62592)
        """
        budget = self.memory_budget if memory_budget is None else memory_budget
        return cost_of(self, shape, steps, batch_size=batch_size, memory_budget=budget)

    # Description --------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain description of the model, without weights: what :meth:`from_dict` takes.

        Modules of the user's own appear under their class path, and must be handed in again to :meth:`from_dict`.
        """
        return describe(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], **modules: Any) -> BasicNCAModel:
        """Model from its description, with fresh weights.

        Parameters
        ----------
        config : from :meth:`to_dict`.
        **modules : perception, rule or head, where they are modules of the user's own; or other arguments to change.

        Raises
        ------
        UnknownKeywordError, ConfigError
            If an argument is unknown, or a module of the user's is missing.
        """
        return cls(**arguments_from(cls, {**config, **modules}, BasicNCAModel))
