"""The automaton: perception, rule, masks and channels."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from delira_nca.checks import plain_numbers, require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError, refuse_unknown_keywords, require_choice
from delira_nca.losses import mse
from delira_nca.models.compiled import unwrapped
from delira_nca.models.description import arguments_from, arguments_of, describe
from delira_nca.models.dry_run import channels_taken, dimensions_taken, dry_run
from delira_nca.models.inputs import as_weights, interpret_range_parameter, pad_input, require_tensor
from delira_nca.models.masks import AliveMask, InputMask
from delira_nca.models.network import entry
from delira_nca.models.part import Part
from delira_nca.models.perception import LearnedFilters, Perception
from delira_nca.models.prediction import Prediction, evaluating, kept_steps
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import MLPRule
from delira_nca.models.to_arrays import cell_to_arrays
from delira_nca.rollout import (
    DEFAULT_MEMORY_BUDGET,
    Cell,
    CellParameters,
    Job,
    UnsupportedCellError,
    rollout,
    step,
    trajectory,
)
from delira_nca.rollout.cost import RolloutCost, count_cost
from delira_nca.rollout.job import Masks
from delira_nca.rollout.masks import fire_threshold
from delira_nca.rollout.untraced import untraced
from delira_nca.seeding import derive_seed, generator

__all__ = ["BasicNCAModel", "built", "check_arguments", "check_channels", "cost_of", "require_module"]

_SIDE = 16
"""Cells along each axis of the grid on which custom parts are tested."""


def check_arguments(model: BasicNCAModel) -> None:
    """Check the arguments of a model before its parts are built."""
    for name in ("num_image_channels", "num_hidden_channels", "num_output_channels"):
        require_whole(name, getattr(model, name), 0)
    require_choice("number of spatial dimensions", model.dims, (1, 2, 3))
    free = model.num_channels - model.num_fixed_channels
    if not free:
        raise ConfigError(
            f"nothing could change: all {model.num_channels} channels are image channels, and those are immutable"
        )
    alive, mask = model.alive, model.input_mask
    for name, given, kind in (("alive", alive, "AliveMask(...)"), ("input_mask", mask, "InputMask(...)")):
        if given is not None and not (callable(given) and hasattr(given, "channel")):
            raise ConfigError(f"{name} is an {kind} or None, not {given!r}")
    if alive is not None and not 0 <= alive.channel < model.num_channels:
        raise ConfigError(f"alive channel {alive.channel} is none of the {model.num_channels} channels")
    if alive is not None and not 0 <= alive.num_spared < free:
        raise ConfigError(f"num_spared of an alive mask is from 0 to {free - 1} here, not {alive.num_spared}")
    if mask is not None and not 0 <= mask.channel < model.num_fixed_channels:
        raise ConfigError(
            f"channel {mask.channel} of the input mask is none of the {model.num_fixed_channels} immutable image "
            "channels"
        )
    fire_threshold(model.fire_rate)
    require_number("update_noise", model.update_noise, 0)
    interpret_range_parameter(model.training_timesteps)
    interpret_range_parameter(model.inference_timesteps)


def require_module(name: str, given: Any) -> nn.Module:
    """Return a part of a model after checking that it is a module.

    Raises
    ------
    ConfigError
        If it is not a module. The message says how to make one of it.

    Examples
    --------
    >>> require_module("rule", nn.ReLU)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: rule is the class ReLU: make an object of it, ReLU(...)
    """
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, type):
        raise ConfigError(f"{name} is the class {given.__name__}: make an object of it, {given.__name__}(...)")
    what = f"the function {given.__name__!r}" if hasattr(given, "__name__") else repr(given)
    raise ConfigError(f"{name} is a torch.nn.Module, not {what}: put it into the forward of a class of your own")


def built(name: str, given: Any, *numbers: int) -> nn.Module:
    """Copy a part and build it for the given numbers of channels and dimensions; return any other module unchanged."""
    module: Any = require_module(name, given)
    if isinstance(module, Part):
        module = copy.deepcopy(module)
        module.build(*numbers)
    return module  # type: ignore[no-any-return]


def check_channels(model: BasicNCAModel) -> None:
    """Check that a custom perception or rule has the numbers of channels that the model needs.

    Raises
    ------
    ShapeError
        If it has not. The message names the module and both shapes.
    """
    seen = model.input_vector_size
    _try("perception", model.perception, model.num_channels, seen - model.use_temporal_encoding, model.dims)
    _try("rule", model.rule, seen, model.rule_channels, model.dims, model.num_draws)


def _try(name: str, module: nn.Module, in_channels: int, out_channels: int, dims: int, draws: int = 0) -> None:
    """Check that a module maps (B, in_channels, *spatial) to (B, out_channels, *spatial).

    A copy of the module is called on zeros. Parts of the package and modules that cannot be copied are not tested.
    Modules that fail for another reason than their channels pass.

    Parameters
    ----------
    name : str
        Name of the module in the error message.
    draws : int
        Number of random numbers per cell, the second argument of the module; 0 calls it with one argument.
    """
    if isinstance(module, Part):
        return
    grid = (_SIDE,) * dims
    what = f"{name} {type(module).__name__}"

    def run(copied: nn.Module, x: Tensor) -> Any:
        return copied(x, x.new_zeros(1, draws, *grid)) if draws else copied(x)

    given, expected = (1, in_channels, *grid), (1, out_channels, *grid)
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        with torch.no_grad():
            run(module, torch.zeros(given))  # initialises the weights
    try:
        found = dry_run(module, run, given)
    except Exception as error:
        if (taken := dimensions_taken(module)) not in (None, dims):
            raise ShapeError(f"{what} takes {taken} spatial dimensions, but the model has {dims}") from error
        if type(module) is nn.Linear:
            hint = "maps the last axis, but the channels are the second one: use a convolution of size 1"
            raise ShapeError(f"{what} {hint}") from error
        wrong = channels_taken(module) not in (None, in_channels) or isinstance(error, TypeError)
        if isinstance(error, ConfigError) or not wrong:
            return  # it cannot be copied, or needs another grid: its roll-out will raise then
        raise ShapeError(f"{what} cannot take {in_channels} channels, {given}: {error}") from error
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected:
        shown = tuple(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise ShapeError(f"{what} maps {given} to {shown}; {expected} was expected, {out_channels} channels")


def cost_of(
    model: BasicNCAModel, shape: Sequence[int], steps: int, *, batch_size: int, memory_budget: int
) -> RolloutCost:
    """Count parameters, operations and bytes of a roll-out; see :meth:`delira_nca.models.BasicNCAModel.cost`."""
    try:
        with torch.enable_grad():  # requires_grad of the weights decides what is stored
            parameters = model.to_arrays()
    except UnsupportedCellError as error:
        raise ConfigError(f"the cost of this {type(model).__name__} cannot be counted: {error}") from None
    learned: Any = model.perception.learned
    return count_cost(
        parameters,
        shape,
        steps,
        cell=model,
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_convolutions=1 + sum(map(len, learned)),
        batch_size=batch_size,
        memory_budget=memory_budget,
    )


Steps = int | tuple[int, int]


class BasicNCAModel(AbstractPyTorchNetwork):
    """Neural cellular automaton on a grid of one, two or three dimensions.

    A state has the shape (B, C, *spatial). Its channels are the image channels, the hidden channels and the output
    channels, in this order.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the parameters. It can be changed later by ``.to()``.
    num_image_channels, num_hidden_channels, num_output_channels : int
        Number of channels of each kind in the state.
    plot_function : object
        Object that draws predictions. The model only stores it.
    validation_metric : str or None
        Name of the metric by which models are compared. The model only stores it.
    fire_rate : float
        Probability that a cell updates in a step; 1 is deterministic.
    hidden_size : int
        Number of neurons in the hidden layer of the rule.
    use_alive_mask : bool
        Whether cells without a living neighbour die; ``alive=AliveMask(...)`` sets the details.
    immutable_image_channels : bool
        Whether the image channels keep their values. The rule then has no outputs for them.
    num_learned_filters : int
        Number of learned depth-wise filters in addition to the identity; 0 uses Sobel filters instead.
    filter_padding : {"zeros", "reflect", "replicate", "circular"}
        Values beyond the border of the grid.
    use_laplace : bool
        Whether the laplacian is used in addition to the Sobel filters.
    kernel_size : int
        Size of the learned filters; an odd number of cells.
    pad_noise : bool
        Whether the hidden channels that are appended to an image start as noise; else as zeros.
    use_temporal_encoding : bool
        Whether the rule sees a channel with the time ``t / T``, where ``T`` is the (upper) number of training steps
        given to the constructor.
    rule_type : callable
        Class or function that makes the rule, called as ``rule_type(hidden_size, final_bias=False)``.
    training_timesteps, inference_timesteps : int or (int, int)
        Number of steps, or a range ``(low, high)`` from which it is drawn, without ``high``.
    dims : int
        Number of spatial dimensions: 1, 2 or 3.
    perception, rule, alive, head : Module or None, AliveMask or None
        Parts of the model, used instead of the arguments that describe them. A :class:`Part`, such as those of the
        package, is copied and built for the model. Any other module is used unchanged: a perception maps (B, C,
        *spatial) to (B, out_channels, *spatial), and a rule maps (B, out_channels (+ 1 for the time), *spatial) to the
        update. A head maps the hidden channels to the prediction that is compared with the label. A rule may set
        ``local = True`` if the update of a cell depends only on the perception of that cell and needs no random
        numbers; dead space is then skipped, as for the rules of the package.
    conditioning : Module or None
        Module that maps the ``"goal"`` entry of a batch to (B, n) values, which are added to the last n hidden
        channels, for instance a :class:`GoalEmbedding`. See :class:`ConditionedCell`.
    input_mask : InputMask or None
        Mask of the cells that update, computed from an image channel. By default all cells update.
    update_noise : float
        Standard deviation of the noise that is added to the update in every step, in training and in inference.
    memory_budget : int
        Number of bytes that a training roll-out may store; see :func:`delira_nca.rollout.rollout`.

    Raises
    ------
    ConfigError, UnknownNameError, UnknownKeywordError
        If an argument is invalid or unknown.

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
    has_logits: bool = True
    """Whether the output channels, if any, are logits."""

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
        self.rule = self._build_rule(self._define_rule() if rule is None else rule)
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
        """Make the rule. Override to use another one."""
        return self.rule_type(self.hidden_size, final_bias=False)

    def _build_rule(self, rule: nn.Module) -> nn.Module:
        return built("rule", rule, self.input_vector_size, self.rule_channels, self.dims)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def first_output_channel(self) -> int:
        """Index of the first output channel. The output channels are the last ones."""
        return self.num_image_channels + self.num_hidden_channels

    @property
    def use_alive_mask(self) -> bool:
        """Whether cells without a living neighbour die."""
        return self.alive is not None

    @property
    def skips_dead_space(self) -> bool:
        """Whether a roll-out may skip the space around the living cells with the same result."""
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
        """Distance of the farthest cell that a step depends on, as the maximum over the axes."""
        if not hasattr(self.perception, "radius"):
            raise ConfigError(f"perception {type(self.perception).__name__} does not say its radius")
        return int(self.perception.radius) + int(getattr(self.rule, "radius", 0))  # type: ignore[arg-type]

    @property
    def rule_channels(self) -> int:
        """Number of output channels of the rule."""
        return self.num_channels - self.num_fixed_channels

    @property
    def num_draws(self) -> int:
        """Number of random numbers that the rule needs per cell and step."""
        return int(getattr(self.rule, "num_draws", 0))

    @property
    def input_vector_size(self) -> int:
        """Number of input channels of the rule."""
        if not hasattr(self.perception, "out_channels"):
            raise ConfigError(f"perception {type(self.perception).__name__} needs an attribute out_channels")
        return int(self.perception.out_channels) + int(self.use_temporal_encoding)  # type: ignore[arg-type]

    # Interface of a cell, used by roll-outs
    # ------------------------------------------------------------------------------

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """Map the (B, C, *spatial) state at step ``t`` to the (B, input_vector_size, *spatial) perception."""
        return self.with_time(self.perception(x), t)

    def with_time(self, perception: Tensor, t: int) -> Tensor:
        """Append the channel of the time to a perception at step ``t``, if the model has one."""
        if not self.use_temporal_encoding:
            return perception
        time = perception.new_full((perception.shape[0], 1, *perception.shape[2:]), t / self._horizon)
        return torch.cat([perception, time], 1)

    def with_goal(self, goal: Tensor | int | None, batch_size: int) -> Cell:
        """Return the cell of one roll-out with its goals; the model itself if it has no conditioning.

        Raises
        ------
        ConfigError, ShapeError
            If a goal is missing or unknown, the model takes no goals, or their number is not that of the samples.
        """
        if self.conditioning is not None:
            return ConditionedCell(self, goal, batch_size)
        if goal is not None:
            raise ConfigError(f"this {type(self).__name__} has no conditioning: it takes no goals")
        return self

    def to_arrays(self) -> CellParameters:
        """Return the weights and options of the cell, for the back ends that do not call its modules.

        Raises
        ------
        UnsupportedCellError
            If a part is not one of the package's. Only the reference back end can run the model then.
        """
        if "perceive" in vars(self) or type(self).perceive is not BasicNCAModel.perceive:
            raise UnsupportedCellError(f"{type(self).__name__} perceives in a way of its own")
        if self.conditioning is not None:
            raise UnsupportedCellError("its cells have a goal")
        return cell_to_arrays(
            self,
            time_scale=1 / self._horizon if self.use_temporal_encoding else None,
            update_noise=float(self.update_noise),
        )

    def _alive(self, x: Tensor) -> Tensor:
        """Mask of the living cells, (B, 1, *spatial) bool; without an alive mask all cells live."""
        return x.new_ones(x.shape[0], 1, *x.shape[2:], dtype=torch.bool) if self.alive is None else self.alive(x)

    def _update(self, x: Tensor, step: int) -> Tensor:
        """Update before the fire mask and the alive mask are applied, (B, C - fixed, *spatial)."""
        update: Tensor = self.rule(self.perceive(x, step))
        return update

    def _forward_step(self, x: Tensor, step_number: int) -> Tensor:
        """State after one step with the given number, in which all cells fire."""
        cell = self.with_goal(None, len(x))
        job = Job(x, cell, 1, (1,), step_number, masks=lambda t: None).gated()
        return step(cell, x, step_number, job.fires(step_number), None, job.draws(step_number))

    # Roll-outs ----------------------------------------------------------------------------------------------------

    def prepare_input(self, x: Tensor) -> Tensor:
        """Preprocess a padded state before a roll-out. Override it if the input needs preprocessing."""
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
        x : Tensor
            (B, C, *spatial) state with all channels; :func:`pad_input` makes it from an image.
        steps, start, masks : int, int, and Tensor, callable or None
            See :func:`delira_nca.rollout.rollout`.
        seed : int or None
            Seed of the fire masks. By default it is drawn from torch's global generator.
        goal : Tensor, int or None
            Goal of each sample, for a model with a conditioning; see :meth:`with_goal`.

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
        cell = self.with_goal(goal, len(x))
        state = rollout(x, cell, steps, start=start, seed=seed, masks=masks, memory_budget=self.memory_budget)
        return self._prediction(steps, state)

    def forward_batch(
        self, batch: Mapping[str, Any], *, seed: int = 0, train: bool = False
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Roll out ``batch["data"]`` for the number of steps of training or inference, drawn with the seed.

        A model with a conditioning takes the goal of each sample from ``batch["goal"]``.
        """
        timesteps = self.training_timesteps if train else self.inference_timesteps
        steps = interpret_range_parameter(timesteps, generator(seed, "steps"))
        data = entry(batch, "data", type(self).__name__)
        require_tensor(data, "entry 'data' of a batch")
        prediction = self(self.initial_state(data, seed), steps, seed=seed, **self._goal_of(batch))
        return prediction, prediction.parts()

    def _goal_of(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {} if self.conditioning is None else {"goal": entry(batch, "goal", type(self).__name__)}

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
        """Roll out an image or a state without gradients, in evaluation mode.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, *spatial) image or (B, C, *spatial) state. It is not changed. Floats of a narrower
            dtype than the weights are converted.
        steps : int, (int, int) or None
            Number of steps, or a range; ``inference_timesteps`` by default.
        seed : int
            Seed of the number of steps, the noise and the fire masks. The same seed gives the same prediction.
        masks : Tensor, callable or None
            Fire masks to use instead of drawn ones.
        goal : Tensor, int or None
            Goal of each sample, for a model with a conditioning.
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
        """Return predictions after several steps of one roll-out.

        Parameters
        ----------
        image, steps, seed, masks, goal
            See :meth:`predict`. The last prediction equals its result.
        keep : {"all", "last"} or list of int
            ``"all"`` steps from 1 on, the ``"last"``, or a list of step numbers (0 is the input).
        """
        require_tensor(image)
        steps = interpret_range_parameter(
            self.inference_timesteps if steps is None else steps, generator(seed, "steps")
        )
        kept = kept_steps(keep, steps)
        with evaluating(self):
            state = self.initial_state(as_weights(image.to(self.device), self), seed)
            self._check_state(state)
            cell = self.with_goal(goal, len(state))
            states = trajectory(state, cell, steps, keep=kept, seed=seed, masks=masks)
            return [self._prediction(n, states[n]) for n in sorted(states)]

    def initial_state(self, image: Tensor, seed: int) -> Tensor:
        """Return the state at the start of a roll-out.

        Parameters
        ----------
        image : Tensor
            (B, num_image_channels, *spatial) image, the other channels of which are zero or noise, or (B, C, *spatial)
            state.
        seed : int
            Seed of the noise.
        """
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
        """Mean squared error of the prediction. Override it, together with ``loss_names``, for another task."""
        error = mse(prediction.pred, label)
        return {"total": error, "mse": error}

    def metrics(self, pred: Prediction, label: Tensor) -> dict[str, float]:
        """Standard metrics of a prediction. Override them for another task."""
        return {"mse": float(mse(pred.pred, label))}

    def validate(
        self, image: Tensor, label: Tensor, steps: Steps | None = None, *, seed: int = 0, **given: Any
    ) -> tuple[dict[str, float], Prediction]:
        """Predict and compute the metrics. Further keyword arguments are passed to :meth:`predict`."""
        prediction = self.predict(image, steps, seed=seed, **given)
        return self.metrics(prediction, label.to(self.device)), prediction

    def finetune(self, freeze_head: bool = False) -> None:
        """Freeze all parameters but those of the rule's last layer and of the head; set training mode.

        With ``freeze_head``, the head is frozen too.

        Raises
        ------
        ConfigError
            If the rule has no ``freeze()`` method.
        """
        if not callable(getattr(self.rule, "freeze", None)):
            raise ConfigError(f"rule {type(self.rule).__name__} has no freeze(): freeze its layers by hand")
        self.perception.requires_grad_(False)
        self.rule.freeze()  # type: ignore[operator]
        if self.head is not None:
            self.head.requires_grad_(not freeze_head)
        self.train()

    def num_trainable_parameters(self) -> int:
        """Number of trainable weights."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @plain_numbers
    def cost(
        self, shape: Sequence[int], steps: int, *, batch_size: int = 1, memory_budget: int | None = None
    ) -> RolloutCost:
        """Count parameters, operations and bytes of a roll-out without running it.

        Parameters
        ----------
        shape : sequence of int
            Spatial shape of the grid.
        steps : int
            Number of steps.
        batch_size : int
            Number of states in the batch.
        memory_budget : int or None
            Number of bytes that may be stored for the backward pass; that of the model by default.

        Raises
        ------
        ConfigError
            If a number is out of range, or a part of the model is not one of the package's, so that its operations
            cannot be counted.

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
        """Return a plain description of the model, without weights, for :meth:`from_dict`.

        Custom modules are described by their class path and must be passed to :meth:`from_dict` again.
        """
        return describe(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], **modules: Any) -> BasicNCAModel:
        """Make a model from its description, with new weights.

        Parameters
        ----------
        config : dict
            Description returned by :meth:`to_dict`.
        **modules : object
            Custom perception, rule or head, and other arguments to change.

        Raises
        ------
        UnknownKeywordError, ConfigError
            If an argument is unknown, or a custom module is missing.
        """
        return cls(**arguments_from(cls, {**config, **modules}, BasicNCAModel))


class ConditionedCell(nn.Module):
    """Cell of one roll-out: a model with a goal for each sample.

    The vector of the goal is added to the last hidden channels of living cells before each perception. It is not stored
    in the state, and dead cells do not receive it.

    Parameters
    ----------
    model : BasicNCAModel
        Model with a conditioning.
    goal : Tensor, int or None
        Input of the conditioning: (B,) numbers of goals, or one number for all samples.
    batch_size : int
        Number of samples.

    Raises
    ------
    ConfigError, ShapeError
        If the goals are missing or unknown, or their number is not that of the samples.
    """

    def __init__(self, model: BasicNCAModel, goal: Tensor | int | None, batch_size: int) -> None:
        super().__init__()
        if goal is None:
            raise ConfigError(
                f"this {type(model).__name__} needs goals: give goal=, or batch['goal'], with one for each sample"
            )
        if isinstance(goal, int):
            goal = torch.full((batch_size,), goal)
        if goal.dim() == 0 or len(goal) != batch_size:
            raise ShapeError(f"goals of {batch_size} samples are {batch_size}, not of shape {tuple(goal.shape)}")
        vectors: Tensor = model.conditioning(goal.to(model.device))  # type: ignore[misc]  # called only if there is one
        if vectors.dim() != 2 or len(vectors) != batch_size or vectors.shape[1] > model.num_hidden_channels:
            raise ShapeError(
                f"a conditioning gives {batch_size} vectors for at most {model.num_hidden_channels} hidden channels, "
                f"not {tuple(vectors.shape)}"
            )
        self.model, self.vectors = model, vectors
        self.fire_rate, self.update_noise = model.fire_rate, model.update_noise
        self.num_fixed_channels, self.num_draws = model.num_fixed_channels, model.num_draws
        self.alive, self.rule, self.input_mask = model.alive, model.rule, model.input_mask

    @property
    def skips_dead_space(self) -> bool:
        """Whether a roll-out may skip the space around the living cells, as for the model."""
        return self.model.skips_dead_space

    @property
    def radius(self) -> int:
        """Distance of the farthest cell that a step depends on."""
        return self.model.radius

    def with_goal(self, x: Tensor) -> Tensor:
        """Add the goals to the hidden channels of living cells of a (B, C, *spatial) state."""
        last = self.model.num_image_channels + self.model.num_hidden_channels
        first = last - self.vectors.shape[1]
        vectors = self.vectors.to(x.dtype).view(*self.vectors.shape, *(1,) * (x.dim() - 2))
        added = torch.where(self.model._alive(x), vectors, 0.0)
        return torch.cat([x[:, :first], x[:, first:last] + added, x[:, last:]], 1)

    def perceive(self, x: Tensor, t: int) -> Tensor:
        """Perception of the (B, C, *spatial) state at step ``t`` with the goals added."""
        return self.model.perceive(self.with_goal(x), t)

    def to_arrays(self) -> CellParameters:
        """Raise :class:`UnsupportedCellError`: the fast back ends do not support goals."""
        raise UnsupportedCellError("its cells have a goal")
