"""Losses as expressions of named predictions and targets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from delira_nca.checks import is_number, require_callable, require_number
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from delira_nca.models.pytorch_network import LossTerm

__all__ = [
    "Algebra",
    "Constant",
    "Entry",
    "Node",
    "Penalty",
    "StateTerm",
    "Term",
    "addends",
    "as_node",
    "inp",
    "l1_penalty",
    "l2_penalty",
    "lp_penalty",
    "over_states",
    "pred",
    "target",
    "term",
]

Named = Mapping[str, Any]
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


_Method = Callable[["Node", Any], "Node"]


def _both_ways(symbol: str) -> tuple[_Method, _Method]:
    """Methods of an operator with the node on the left and on the right."""
    return lambda node, other: _combined(symbol, node, other), lambda node, other: _combined(symbol, other, node)


class Node:
    """Base class of expressions. Nodes and numbers are combined by ``+``, ``-``, ``*``, ``/`` and ``**``.

    Attributes
    ----------
    name : str
        Name of the value in logs.
    """

    name: str

    def value(self, named: Named) -> Any:
        """Return the value for tensors by name: the entries of a batch and the parts of a prediction."""
        raise NotImplementedError

    def children(self) -> tuple[Node, ...]:
        """Return the nodes from which this one is computed directly."""
        return ()

    def walk(self) -> Iterator[Node]:
        """Yield the node and all nodes from which it is computed."""
        yield self
        for child in self.children():
            yield from child.walk()

    def needed_keys(self) -> tuple[str, ...]:
        """Return the names of the tensors that the expression needs, sorted."""
        return tuple(sorted({node.key for node in self.walk() if isinstance(node, Entry)}))

    __add__, __radd__ = _both_ways("+")
    __sub__, __rsub__ = _both_ways("-")
    __mul__, __rmul__ = _both_ways("*")
    __truediv__, __rtruediv__ = _both_ways("/")

    def __pow__(self, other: Any) -> Node:
        return _combined("**", self, other)

    def __neg__(self) -> Node:
        return _combined("*", -1.0, self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        """Return the node itself: expressions do not change, and refer to the network that is trained."""
        return self

    def __bool__(self) -> bool:
        raise ConfigError(f"{self!r} has no value before the training, so that it cannot be a condition")

    def __repr__(self) -> str:
        return self.name


class Entry(Node):
    """Tensor of a batch or part of a prediction; made by `pred`, `target` and `inp`.

    Parameters
    ----------
    kind : {"pred", "target", "input"}
        Origin of the tensor.
    key : str
        Name of the tensor.
    model : torch.nn.Module or None
        Network that predicts it, if it is known.
    """

    def __init__(self, kind: str, key: str, model: nn.Module | None = None) -> None:
        if not isinstance(key, str) or not key:
            raise ConfigError(f"{kind}(...) takes the name of a tensor, not {key!r}")
        if model is not None and not isinstance(model, nn.Module):
            raise ConfigError(f"the model of {kind}({key!r}) must be a torch.nn.Module, not {type(model).__name__}")
        self.kind, self.key, self.model = kind, key, model
        self.name = f"{kind}({key!r})"

    def value(self, named: Named) -> Any:
        """Return the tensor.

        Raises
        ------
        UnknownNameError
            If there is none of this name. The message names the most similar one.
        """
        if self.key not in named:
            what = "part of the prediction" if self.kind == "pred" else "entry of the batch"
            raise UnknownNameError(f"there is no {what} {self.key!r}. {did_you_mean(self.key, named)}")
        return named[self.key]


def pred(key: str = "pred", model: nn.Module | None = None) -> Entry:
    """Return the node of a part of the prediction.

    Parameters
    ----------
    key : str
        Name of the part, such as ``"logits"``; see `delira_nca.models.network.parts_of`.
    model : torch.nn.Module or None
        Network that predicts it.
    """
    return Entry("pred", key, model)


def target(key: str = "label") -> Entry:
    """Return the node of a target, an entry of the batch."""
    return Entry("target", key)


def inp(key: str = "data") -> Entry:
    """Return the node of an input of the network, an entry of the batch."""
    return Entry("input", key)


class Constant(Node):
    """Number in an expression."""

    def __init__(self, number: float) -> None:
        self.number = require_number("a number in an expression", number)
        self.name = f"{number:g}"

    def value(self, named: Named) -> float:
        """Return the number."""
        return self.number


class Term(Node):
    """Value of a function of other nodes; made by `term`."""

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Node, ...], name: str, *, per_sample: bool, broadcast: bool
    ) -> None:
        self.function, self.arguments, self.name = function, arguments, name
        self.per_sample, self.broadcast = per_sample, broadcast

    def children(self) -> tuple[Node, ...]:
        """Return the arguments."""
        return self.arguments

    def value(self, named: Named) -> Any:
        """Call the function.

        Raises
        ------
        ShapeError
            If two arguments have shapes that fit only by broadcasting.
        """
        values = [argument.value(named) for argument in self.arguments]
        if not self.broadcast:
            self._require_same_shapes(values)
        return self.function(*values)

    def _require_same_shapes(self, values: list[Any]) -> None:
        tensors = [v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.dim()]
        for other in tensors[1:]:
            first = tensors[0]
            if first.shape != other.shape and _broadcasts(first, other):
                raise ShapeError(
                    f"{self.name} of {', '.join(map(repr, self.arguments))}: shapes {tuple(first.shape)} and "
                    f"{tuple(other.shape)} fit only by broadcasting; make them equal, or set broadcast=True"
                )


def term(
    function: Callable[..., Any],
    *arguments: Any,
    name: str | None = None,
    per_sample: bool = False,
    broadcast: bool = False,
) -> Term:
    """Return the node of a function of other nodes.

    Parameters
    ----------
    function : callable
        Function of tensors: a loss, a torch module, or a metric object with ``update``, ``compute`` and ``reset``.
    *arguments : Node or float
        Arguments of the function; by default ``pred()`` and ``target()``.
    name : str or None
        Name of the value in logs; that of the function by default.
    per_sample : bool
        Whether the value of a batch is a mean over samples, so that the value of a set is the mean over its samples.
        It is known for the mean losses of torch and for metric objects.
    broadcast : bool
        Whether float arguments of different shapes may be broadcast.

    Raises
    ------
    ConfigError
        If the function is not callable, or an argument is not a node or a number.

    Examples
    --------
    >>> import torch
    >>> from torch.nn import functional as F
    >>> loss = term(F.mse_loss, pred("depth"), target("depth_map")) ** 0.5
    >>> loss = loss + 0.1 * term(F.l1_loss, pred("depth"), target())
    >>> loss, loss.needed_keys()
    (mse_loss ** 0.5 + 0.1 * l1_loss, ('depth', 'depth_map', 'label'))
    >>> zero = torch.zeros(2, 1)
    >>> loss.value({"depth": zero, "depth_map": zero + 2.0, "label": zero + 1.0}).item()
    2.0999999046325684
    """
    if isinstance(function, type):
        raise ConfigError(f"{function.__name__} is a class: give an object of it")
    require_callable("the function of a term", function)
    nodes = tuple(as_node(argument) for argument in arguments) or (pred(), target())
    shown = name or getattr(function, "__name__", None) or type(function).__name__
    return Term(function, nodes, shown, per_sample=bool(per_sample), broadcast=bool(broadcast))


class Penalty(Node):
    """Regulariser over the parameters of a module; made by `lp_penalty`."""

    def __init__(self, module: nn.Module, p: float, match: str, name: str) -> None:
        if not isinstance(module, nn.Module):
            raise ConfigError(f"a penalty is of the parameters of a torch.nn.Module, not of {type(module).__name__}")
        self.module, self.p, self.match, self.name = module, require_number("p", p, 1), match, name
        if not self._parameters():
            names = [key for key, _ in module.named_parameters()]
            raise UnknownNameError(f"no parameter has {match!r} in its name. {did_you_mean(match, names)}")

    def _parameters(self) -> list[Tensor]:
        return [p for key, p in self.module.named_parameters() if self.match in key and p.requires_grad]

    def value(self, named: Named) -> Tensor:
        """Return the sum over the parameters."""
        sums = [parameter.abs().pow(self.p).sum() for parameter in self._parameters()]
        return torch.stack(sums).sum()


def lp_penalty(module: nn.Module, p: float = 2.0, match: str = "", *, name: str | None = None) -> Penalty:
    """Return the sum of the absolute values of parameters, each to the power ``p``.

    Parameters
    ----------
    module : torch.nn.Module
        Network, or a part of it.
    p : float
        Exponent, at least 1.
    match : str
        Text in the names of the parameters, such as ``"weight"``; all trainable parameters by default.
    name : str or None
        Name of the value in logs; ``"l2"`` for ``p=2`` by default.
    """
    return Penalty(module, p, match, name or f"l{p:g}")


def l1_penalty(module: nn.Module, match: str = "", *, name: str = "l1") -> Penalty:
    """Return the sum of the absolute values of parameters; see `lp_penalty`."""
    return Penalty(module, 1.0, match, name)


def l2_penalty(module: nn.Module, match: str = "", *, name: str = "l2") -> Penalty:
    """Return the sum of the squares of parameters; see `lp_penalty`."""
    return Penalty(module, 2.0, match, name)


class StateTerm(Node):
    """Regulariser over states within the roll-out; made by `over_states`. It can be added and scaled only.

    It is also a `delira_nca.models.pytorch_network.LossTerm`: a trainer adds its value to the loss of a training step.
    """

    def __init__(self, wrapped: LossTerm, factor: float = 1.0) -> None:
        self.wrapped, self.factor = wrapped, factor
        self.name = str(getattr(wrapped, "name", type(wrapped).__name__))

    @property
    def linked(self) -> bool:
        """Whether gradients flow through the observed states."""
        return bool(getattr(self.wrapped, "linked", False))

    def stops(self, steps: int, seed: int) -> Any:
        """Return the numbers of steps after which the state is needed."""
        return self.wrapped.stops(steps, seed)

    def scaled(self, factor: float) -> StateTerm:
        """Return the term with another factor."""
        return StateTerm(self.wrapped, self.factor * factor)

    def value(self, *args: Any, **kwargs: Any) -> Any:
        """Return the scaled value for the roll-outs of a training step."""
        value = self.wrapped.value(*args, **kwargs)
        return None if value is None else self.factor * value


def over_states(loss_term: LossTerm) -> StateTerm:
    """Return the node of a regulariser over the states within the roll-out.

    Parameters
    ----------
    loss_term : LossTerm
        Term such as `delira_nca.training.callbacks.RolloutLoss` or ``ActivityLoss``.

    Raises
    ------
    ConfigError
        If it has no methods ``stops`` and ``value``.
    """
    if not all(callable(getattr(loss_term, method, None)) for method in ("stops", "value")):
        raise ConfigError(f"over_states takes a loss term such as RolloutLoss, not {type(loss_term).__name__}")
    return StateTerm(loss_term)


class Algebra(Node):
    """Two nodes combined by an operator."""

    def __init__(self, symbol: str, left: Node, right: Node) -> None:
        self.symbol, self.left, self.right = symbol, left, right
        self.name = f"{self._shown(left)} {symbol} {self._shown(right)}"

    def _shown(self, node: Node) -> str:
        inner = isinstance(node, Algebra) and (self.symbol != "+" or node.symbol in ("+", "-"))
        return f"({node.name})" if inner and not (self.symbol == "+" and node is self.left) else node.name

    def children(self) -> tuple[Node, ...]:
        """Return both nodes."""
        return self.left, self.right

    def value(self, named: Named) -> Any:
        """Return the combined value."""
        return self.combine(self.left.value(named), self.right.value(named))

    def combine(self, left: Any, right: Any) -> Any:
        """Apply the operator to two values."""
        return _OPERATORS[self.symbol](left, right)


def as_node(value: Any) -> Node:
    """Convert a number to a node; nodes are returned unchanged.

    Raises
    ------
    ConfigError
        If it is neither a node nor a number.
    """
    if isinstance(value, Node):
        return value
    if is_number(value):
        return Constant(float(value))
    raise ConfigError(f"an expression has nodes and numbers, such as pred('logits') or 0.1, not {value!r}")


def _combined(symbol: str, left: Any, right: Any) -> Node:
    first, second = as_node(left), as_node(right)
    terms = [node for node in (first, second) if any(isinstance(part, StateTerm) for part in node.walk())]
    if symbol in "+-" or not terms:
        if symbol == "-" and isinstance(second, StateTerm):
            return Algebra("+", first, second.scaled(-1.0))
        return Algebra(symbol, first, second)
    factor = second if terms[0] is first else first
    is_scale = symbol == "*" or (symbol == "/" and terms[0] is first)
    if isinstance(terms[0], StateTerm) and isinstance(factor, Constant) and is_scale:
        return terms[0].scaled(1.0 / factor.number if symbol == "/" else factor.number)
    raise ConfigError(f"{terms[0]!r} is a term over states within the roll-out: it can only be scaled and added")


def addends(node: Node) -> list[Node]:
    """Return the nodes whose sum is an expression.

    Examples
    --------
    >>> addends(term(abs, pred(), name="a") - 2.0 * term(abs, pred(), name="b"))
    [a, -1 * (2 * b)]
    """
    if isinstance(node, Algebra) and node.symbol in "+-":
        right = addends(node.right)
        return addends(node.left) + (right if node.symbol == "+" else [-part for part in right])
    return [node]


def _broadcasts(first: Tensor, other: Tensor) -> bool:
    try:
        torch.broadcast_shapes(first.shape, other.shape)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True
