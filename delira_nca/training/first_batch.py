"""Checks of losses and metrics on the first batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from delira_nca.errors import ConfigError, DeliraNCAError, ShapeError
from delira_nca.models.network import DEFAULT_KEYS

__all__ = ["checked"]

_ELEMENTWISE = {
    *("add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide", "pow", "maximum", "minimum"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "where", "dist", "xlogy"),
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "gaussian_nll_loss", "hinge_embedding_loss"),
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__and__", "__or__", "__xor__"),
    *("fmax", "fmin", "fmod", "remainder", "floor_divide", "__floordiv__", "__mod__", "float_power", "copysign"),
    *("hypot", "atan2", "arctan2", "lerp", "addcmul", "addcdiv", "isclose", "logaddexp", "logaddexp2"),
    *("greater", "greater_equal", "less", "less_equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("cosine_similarity", "pairwise_distance"),
}
_DIFFERENCES = {"sub", "subtract", "rsub", "__sub__", "__rsub__", "eq", "ne", "not_equal", "__eq__", "__ne__"}
"""Operations that compare tensors cell by cell: operands of different shape are an error even if the result is not
larger than either."""


def checked(
    functions: Mapping[str, Callable[..., Any]],
    keys: Mapping[str, tuple[str, ...]],
    *,
    what: str,
    differentiated: bool = False,
    values: bool = True,
) -> dict[str, Callable[..., Any]]:
    """Wrap functions so that they check their arguments and their result.

    Parameters
    ----------
    functions : mapping of name to callable
        Criterions or metrics.
    keys : mapping of name to tuple of str
        Names of the arguments of a function; ``("pred", "label")`` by default.
    what : str
        Name of the kind of function in error messages.
    differentiated : bool
        Whether the result must require a gradient.
    values : bool
        Whether to check the result; a custom training step may use results of any kind.

    Returns
    -------
    dict of name to callable
        Functions that raise a :class:`~delira_nca.errors.ShapeError` if tensors fit only by broadcasting, unless the
        function has an attribute ``broadcasts = True``; and a :class:`~delira_nca.errors.ConfigError` for arguments
        that the function does not accept, or a result that is not one number.

    Examples
    --------
    >>> losses = checked({"mse": nn.MSELoss()}, {}, what="criterion")
    >>> losses["mse"](torch.zeros(4, 1), torch.zeros(4))
    Traceback (most recent call last):
    delira_nca.errors.ShapeError: criterion 'mse' broadcasts its arguments: pred (4, 1), label (4,). ...
    """
    return {
        name: _Checked(f"{what} {name!r}", function, tuple(keys.get(name, DEFAULT_KEYS)), differentiated, values)
        for name, function in functions.items()
    }


class _Checked:
    def __init__(
        self, name: str, function: Callable[..., Any], keys: tuple[str, ...], differentiated: bool, values: bool
    ) -> None:
        self.name, self.function, self.keys = name, function, keys
        self.differentiated, self.values = differentiated, values

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._check_arguments(args, kwargs)
        shapes = [tuple(arg.shape) for arg in args if isinstance(arg, Tensor)]
        accident = ShapeError(
            f"{self.name} broadcasts its arguments: {self._named(args)}. Give them one shape; if this is meant, "
            "set an attribute broadcasts = True on the function"
        )
        may_broadcast = getattr(self.function, "broadcasts", False)
        if isinstance(self.function, (torch.jit.ScriptFunction, torch.jit.ScriptModule)) and not may_broadcast:
            self._check_scripted(shapes, accident)
        try:
            with nullcontext() if may_broadcast else _Broadcasts(shapes, accident):
                value = self.function(*args, **kwargs)
        except (DeliraNCAError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("builtins", "torch", "numpy"):
                raise  # the function has exceptions of its own
            dtypes = [str(arg.dtype).removeprefix("torch.") for arg in args if isinstance(arg, Tensor)]
            if len(set(shapes)) > 1 and _is_about_shapes(error):
                raise ShapeError(f"{self.name} cannot be computed of {self._named(args)}: {error}") from error
            kinds = f" of {' and '.join(dict.fromkeys(dtypes))}" if dtypes else ""
            raise ConfigError(
                f"{self.name} cannot be computed of {self._named(args)}{kinds}: {type(error).__name__}: {error}"
            ) from error
        if self.values:
            self._check_value(value)
        return value

    @staticmethod
    def _check_scripted(shapes: list[tuple[int, ...]], accident: ShapeError) -> None:
        """Raise an error for arguments like (4, 1) and (4,) of TorchScript, the operations of which are not seen."""
        try:
            torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return
        if len(set(shapes)) > 1 and len({math.prod(shape) for shape in shapes}) == 1:
            raise accident

    def _named(self, args: tuple[Any, ...]) -> str:
        names = self.keys if len(self.keys) == len(args) else tuple(f"argument {n}" for n in range(len(args)))
        return ", ".join(
            f"{name} {tuple(arg.shape) if isinstance(arg, Tensor) else type(arg).__name__}"
            for name, arg in zip(names, args, strict=True)
        )

    def _check_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        called = self.function.forward if isinstance(self.function, nn.Module) else self.function
        try:
            signature = inspect.signature(called)
        except (TypeError, ValueError):  # a function written in C has no signature
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigError(
                f"{self.name} takes {signature}, but is called with {self._named(args)}: {error}. metric_keys of the "
                "trainer names the arguments"
            ) from None

    def _check_value(self, value: Any) -> None:
        is_one = value.numel() == 1 if isinstance(value, Tensor) else not self.differentiated and _is_number(value)
        if not is_one:
            shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            expected = "a tensor with one number" if self.differentiated else "one number"
            raise ConfigError(f"{self.name} has to return {expected}, not {shown}")
        if isinstance(value, Tensor) and value.is_complex():
            raise ConfigError(f"{self.name} has to return a real number, not a complex one")
        if self.differentiated and not value.requires_grad:
            raise ConfigError(f"{self.name} returns a tensor without a gradient: it is detached from the network")


def _is_about_shapes(error: Exception) -> bool:
    return any(word in str(error).lower() for word in ("size", "shape", "dimension", "broadcast", "batch"))


def _is_number(value: Any) -> bool:
    """Whether a value is a valid result of a metric; None means that it cannot be computed for this batch."""
    try:
        float(0 if value is None else value)
    except (TypeError, ValueError):
        return False
    return True


class _Broadcasts(TorchFunctionMode):
    """Raise an error in element-wise operations with a result larger than either operand, as (4, 1) and (4,)."""

    def __init__(self, shapes: list[tuple[int, ...]], accident: ShapeError) -> None:
        super().__init__()
        self.arguments, self.accident = set(shapes), accident

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _ELEMENTWISE:
            values = (*args, *(kwargs or {}).values())
            operands = [tuple(value.shape) for value in values if isinstance(value, Tensor)]
            if self._is_accident(operands, name):
                raise self.accident
        return func(*args, **(kwargs or {}))

    def _is_accident(self, shapes: list[tuple[int, ...]], name: str) -> bool:
        if len(shapes) < 2 or len(set(shapes)) < 2:
            return False
        try:
            joined = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return False
        size, sizes = torch.Size(joined).numel(), [torch.Size(shape).numel() for shape in shapes]
        if name.endswith("_loss") or name in ("kl_div", "binary_cross_entropy", "binary_cross_entropy_with_logits"):
            return len({torch.Size(s) for s in shapes[:2]}) > 1  # torch only warns
        if name in _DIFFERENCES and set(shapes) <= self.arguments and () not in shapes:
            return True
        grows = size > max(sizes)
        return grows and (len({len(shape) for shape in shapes}) > 1 or set(shapes) <= self.arguments)
