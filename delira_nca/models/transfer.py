"""Transfer of weights to another task: freezing of parts, and interpolation between two models."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from delira_nca.checks import plain_numbers, require_number
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError, did_you_mean
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.model import Model

__all__ = ["finetune", "graft"]

M = TypeVar("M", bound=nn.Module)

ALL_BUT_LAST = "all_but_last"


def finetune(
    model: nn.Module, freeze: str | Iterable[str] = ALL_BUT_LAST, freeze_head: bool = False
) -> dict[str, nn.Parameter]:
    """Freeze parts of a model and set training mode.

    All parameters that are not frozen become trainable.

    Parameters
    ----------
    model : Module
        Automaton, or a model that contains automata. In a pyramid, the parts of all levels are frozen.
    freeze : str or iterable of str
        Names of the parts to freeze: ``"perception"``, ``"rule"``, ``"head"``, ``"all_but_last"`` (all but the last
        layer of the rule and the head), or the name of any module or parameter of the model, such as
        ``"rule.hidden.0"``. An empty list freezes nothing.
    freeze_head : bool
        Whether to freeze the head, too; this is NCALab's argument.

    Returns
    -------
    dict of str to Parameter
        Trainable parameters by name. The values can be passed to an optimizer.

    Raises
    ------
    UnknownNameError
        If a name is unknown. The message names the most similar one.
    ConfigError
        If the model has no such part, a custom rule has no ``freeze()``, or no trainable parameter would remain. The
        model is unchanged then.

    Notes
    -----
    :func:`delira_nca.experiment.load_start` starts a run from the weights of another run.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> list(finetune(BasicNCAModel(**presets.growing()), "all_but_last"))
    ['rule.last.weight', 'rule.last.bias']
    """
    model = unwrapped(model)
    names = [freeze] if isinstance(freeze, str) else list(freeze)
    if freeze_head:
        names.append("head")
    parts = _parts(model)
    for name in names:
        if name not in parts:
            raise UnknownNameError(f"unknown part {name!r} to freeze. {did_you_mean(name, parts)}")
        if name in ("perception", "rule", "head", ALL_BUT_LAST) and not parts[name]:
            raise ConfigError(f"{type(model).__name__} has no {'rule' if name == ALL_BUT_LAST else name} to freeze")
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        _freeze(model, names, parts)
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not trainable:
            raise ConfigError(f"nothing would be left to train: {', '.join(map(repr, names))} is everything")
    except BaseException:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
        raise
    model.train()
    return trainable


def _parts(model: nn.Module) -> dict[str, list[Any]]:
    """Modules and parameters by name."""
    automata = [module for module in model.modules() if isinstance(module, BasicNCAModel)]
    heads: list[Any] = [automaton.head for automaton in automata if automaton.head is not None]
    heads += [module.prediction_head for module in model.modules() if isinstance(module, Model)]
    rules: list[Any] = [automaton.rule for automaton in automata]
    perceptions: list[Any] = [automaton.perception for automaton in automata]
    named = {name: [part] for name, part in (*model.named_modules(), *model.named_parameters()) if name}
    return {**named, "perception": perceptions, "rule": rules, "head": heads, ALL_BUT_LAST: rules}


def _freeze(model: nn.Module, names: list[str], parts: Mapping[str, list[Any]]) -> None:
    model.requires_grad_(True)
    if ALL_BUT_LAST in names:
        model.requires_grad_(False)
        for rule in parts["rule"]:
            if not callable(getattr(rule, "freeze", None)):
                raise ConfigError(f"rule {type(rule).__name__} has no freeze(): name the layers to freeze instead")
            rule.requires_grad_(True)
            rule.freeze()
        for head in parts["head"]:
            head.requires_grad_(True)
    for name in names:
        for part in parts[name] if name != ALL_BUT_LAST else ():
            part.requires_grad_(False)


@plain_numbers
def graft(model: M, other: nn.Module, share: float | Mapping[str, float] = 0.5) -> M:
    """Interpolate between the weights of two models of equal shapes.

    Parameters
    ----------
    model, other : Module
        Models with tensors of the same names and shapes. They are not changed.
    share : float or dict
        Weight of ``other``: 0 gives exactly ``model``, 1 exactly ``other``; values between interpolate linearly. A dict
        gives one number per part by the name of a module or a tensor; the longest matching name counts. Tensors without
        a matching name are those of ``model``.

    Returns
    -------
    a copy of ``model`` with new weights; whole numbers, such as counters, are ``model``'s.

    Raises
    ------
    ShapeError
        If the two models have different tensors.
    ConfigError
        If a share is not between 0 and 1.
    UnknownNameError
        If a part is unknown.

    Notes
    -----
    Interpolation is meaningful between a model and its fine-tuned copy. Weights of models that were trained separately
    need not correspond to each other.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> a, b = BasicNCAModel(**presets.growing()), BasicNCAModel(**presets.growing())
    >>> child = graft(a, b, {"rule": 1.0})
    >>> torch.equal(child.rule.hidden[0].weight, b.rule.hidden[0].weight)
    True
    """
    model, other = unwrapped(model), unwrapped(other)
    mine, theirs = model.state_dict(), other.state_dict()
    _check_equal_shape(mine, theirs)
    shares = {"": share} if not isinstance(share, Mapping) else dict(share)
    modules = {name for name, _ in model.named_modules()}
    for part, value in shares.items():
        if part and part not in modules and part not in mine:
            raise UnknownNameError(
                f"unknown part {part!r} to graft. {did_you_mean(part, (modules | set(mine)) - {''})}"
            )
        require_number("a share", value, 0, 1)
    blended = {}
    for name, tensor in mine.items():
        weight = _share_of(name, shares)
        floating = tensor.is_floating_point() or tensor.is_complex()
        blended[name] = torch.lerp(tensor, theirs[name].to(tensor), weight) if floating and weight else tensor
    child = copy.deepcopy(model)
    child.load_state_dict(blended)
    return child


def _share_of(name: str, shares: Mapping[str, float]) -> float:
    fitting = [part for part in shares if not part or name == part or name.startswith(part + ".")]
    return float(shares[max(fitting, key=len)]) if fitting else 0.0


def _check_equal_shape(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for name in mine:
        if name not in theirs:
            raise ShapeError(f"the other model has no tensor {name!r}. {did_you_mean(name, theirs)}")
        if mine[name].shape != theirs[name].shape:
            shapes = tuple(mine[name].shape), tuple(theirs[name].shape)
            raise ShapeError(f"tensor {name!r} is {shapes[0]} in one model and {shapes[1]} in the other")
    if more := sorted(set(theirs) - set(mine)):
        raise ShapeError(f"the other model has a tensor {more[0]!r} more. {did_you_mean(more[0], mine)}")
