"""Plain form of a model: the weights and options for back ends that do not call its modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.models.masks import AliveMask
from delira_nca.models.perception import FullFilters, GroupedPerception, LearnedFilters, Perception, fixed_kernels
from delira_nca.models.rule import LinearRule, MLPRule
from delira_nca.rollout.cell_parameters import AliveRule, CellParameters, UnsupportedCellError

__all__ = ["alive_rule", "cell_to_arrays", "filter_arrays", "require_unmodified"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def cell_to_arrays(model: Any, *, time_scale: float | None, update_noise: float) -> CellParameters:
    """Return the weights and options of a model that consists of parts of the package; gradients flow to the weights.

    Parameters
    ----------
    model : object
        Model with a :class:`Perception`, an :class:`MLPRule` and, optionally, an :class:`AliveMask`.
    time_scale : float or None
        Scale of the time channel, the last input of the rule; None without a time channel.
    update_noise : float
        Standard deviation of the noise on the updates.

    Raises
    ------
    UnsupportedCellError
        If a part is custom, or has hooks.
    """
    perception, rule, alive = model.perception, model.rule, model.alive
    if type(rule) is LinearRule:
        return _linear_cell(model, time_scale=time_scale, update_noise=update_noise)
    require_unmodified("perception", perception, Perception)
    require_unmodified("rule", rule, MLPRule)
    life = alive_rule(alive)
    filters, learned, filter_bias, full, full_bias, full_relu, order = filter_arrays(perception)
    layers = [*rule.hidden, rule.last]
    weights = [layer.weight.flatten(1) for layer in layers]
    biases = [layer.bias for layer in layers]
    if rule.spare_rows:
        weights[-1] = weights[-1][rule.spare_rows :]
        biases[-1] = None if biases[-1] is None else biases[-1][rule.spare_rows :]
    if order is not None:
        extra = range(len(order), weights[0].shape[1])
        weights[0] = weights[0][:, [*order, *extra]]
    return CellParameters(
        num_channels=model.num_channels,
        num_fixed_channels=model.num_fixed_channels,
        padding=perception.padding,
        filters=filters,
        learned=learned,
        filter_bias=filter_bias,
        full=full,
        full_bias=full_bias,
        full_relu=full_relu,
        weights=tuple(weights),
        biases=tuple(biases),
        nonlinearity=rule.nonlinearity,
        time_scale=time_scale,
        alive=life,
        fire_rate=model.fire_rate,
        update_noise=update_noise,
    )


def alive_rule(alive: Any) -> AliveRule | None:
    """Return the plain form of an alive mask.

    Raises
    ------
    UnsupportedCellError
        If it is not an :class:`AliveMask`, or spares channels.
    """
    if alive is None:
        return None
    if type(alive) is not AliveMask:
        raise UnsupportedCellError(f"the alive mask is a {type(alive).__name__}, not an AliveMask")
    if alive.num_spared:
        raise UnsupportedCellError("the alive mask spares channels")
    return AliveRule(alive.channel, alive.threshold, alive.before, alive.after)


def _linear_cell(model: Any, *, time_scale: float | None, update_noise: float) -> CellParameters:
    """Write a linear rule as a perceptron: x is relu(x) - relu(-x), and abs(x) is relu(x) + relu(-x).

    It raises if gradients are needed: at x = 0 the gradient of the two ReLUs is 0, but that of x is 1.
    """
    perception, rule = model.perception, model.rule
    require_unmodified("rule", rule, LinearRule)
    require_unmodified("perception", perception, GroupedPerception)
    if torch.is_grad_enabled():
        raise UnsupportedCellError("the fast back ends have no gradients of a linear rule")
    identity = fixed_kernels("identity", perception.dims)[0].to(perception.kernels)
    filters = torch.stack([identity.expand_as(perception.kernels), perception.kernels])
    weight, seen = rule.last.weight.flatten(1), 2 * perception.num_channels
    signed, absolute = weight[:, :seen], weight[:, seen : 2 * seen]
    positive, negative = absolute + signed, absolute - signed
    size = seen + (time_scale is not None)
    both_signs = torch.cat([torch.eye(size), -torch.eye(size)[:seen]]).to(weight)
    return CellParameters(
        num_channels=model.num_channels,
        num_fixed_channels=model.num_fixed_channels,
        padding=perception.padding,
        filters=filters,
        learned=(False, False),
        filter_bias=None,
        full=None,
        full_bias=None,
        full_relu=False,
        weights=(both_signs, torch.cat([positive, weight[:, 2 * seen :], negative], 1)),
        biases=(None, rule.last.bias),
        nonlinearity="relu",
        time_scale=time_scale,
        alive=alive_rule(model.alive),
        fire_rate=model.fire_rate,
        update_noise=update_noise,
    )


def require_unmodified(what: str, module: nn.Module, cls: type[nn.Module], *others: type[nn.Module]) -> None:
    """Check that a part is of a class itself, and that it and its modules have no hooks and no replaced methods.

    Parameters
    ----------
    what : str
        Name of the part in the error message.
    module, cls : Module, type
        Part and its class.
    *others : type
        Further classes of its modules, besides module lists and convolutions.

    Raises
    ------
    UnsupportedCellError
        If the part differs.
    """
    if type(module) is not cls:
        raise UnsupportedCellError(f"the {what} is a {type(module).__name__}, not {cls.__name__} itself")
    for name, part in module.named_modules():
        if any(getattr(part, hooks, None) for hooks in _HOOKS):
            raise UnsupportedCellError(f"a hook listens to the {what}'s {name or 'forward'}")
        if type(part) not in (cls, *others, nn.ModuleList, nn.Conv1d, nn.Conv2d, nn.Conv3d):
            raise UnsupportedCellError(f"part {name} of the {what} is a {type(part).__name__}")
        if "forward" in vars(part):
            raise UnsupportedCellError(f"the forward of the {what}'s {name or 'module'} was replaced")


def filter_arrays(
    perception: Perception,
) -> tuple[Tensor, tuple[bool, ...], Tensor | None, Tensor | None, Tensor | None, bool, list[int] | None]:
    """Return depth-wise filters, then full filters, with one kernel size; and the new order of outputs if it changed.

    Raises
    ------
    UnsupportedCellError
        If only some of the full filters have a ReLU.
    """
    channels, dims = perception.num_channels, perception.dims
    width = 2 * perception.radius + 1
    depthwise: list[Tensor] = []
    learned: list[bool] = []
    biases: list[Tensor | None] = []
    banks: list[tuple[Tensor, Tensor | None, bool]] = []
    places: tuple[list[int], list[int]] = [], []
    kernel, convolutions, column = 0, iter(perception.learned), 0
    for spec in perception.specs:
        full = isinstance(spec, FullFilters)
        if isinstance(spec, (LearnedFilters, FullFilters)):
            for convolution in next(convolutions):  # type: ignore[attr-defined]
                weight = _widened(convolution.weight, width, dims)
                if isinstance(spec, FullFilters):
                    banks.append((weight, convolution.bias, spec.relu))
                else:
                    depthwise.append(weight[:, 0])
                    learned.append(True)
                    biases.append(convolution.bias)
                places[full].extend(range(column, column + len(weight)))
                column += len(weight)
        else:
            for _ in range(dims if spec == "sobel" else 1):
                one = _widened(perception.kernels[kernel], width, dims)
                depthwise.append(one.expand(channels, *one.shape))
                learned.append(False)
                biases.append(None)
                places[full].extend(range(column, column + channels))
                column, kernel = column + channels, kernel + 1
    if len({relu for *_, relu in banks}) > 1:
        raise UnsupportedCellError("some of the full filters have a rectifier and some have none")
    order = [*places[0], *places[1]]
    first = next(iter([*depthwise, *(bank for bank, *_ in banks)]))
    zero = first.new_zeros(())
    return (
        torch.stack(depthwise) if depthwise else first.new_zeros(0, channels, *(width,) * dims),
        tuple(learned),
        _stacked(biases, zero.expand(channels)),
        torch.cat([bank for bank, *_ in banks]) if banks else None,
        torch.cat([zero.expand(len(bank)) if bias is None else bias for bank, bias, _ in banks])
        if any(bias is not None for _, bias, _ in banks)
        else None,
        bool(banks) and banks[0][2],
        None if order == list(range(column)) else order,
    )


def _stacked(biases: list[Tensor | None], nothing: Tensor) -> Tensor | None:
    if all(bias is None for bias in biases):
        return None
    return torch.stack([nothing if bias is None else bias for bias in biases])


def _widened(kernel: Tensor, width: int, dims: int) -> Tensor:
    """Kernel with the given width in its last axes: padded by zeros, or cut to the middle if the rest is zero."""
    margin = (width - kernel.shape[-1]) // 2
    return F.pad(kernel, (margin, margin) * dims) if margin else kernel
