"""Layout of results: one array, or a tuple, list or dict of arrays, with dtypes and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.workers.shared_memory import Arrays, shared_bytes

__all__ = ["Flat", "Layout", "flatten"]

_KIND = {"array": "array", "tuple": "sequence", "list": "sequence", "dict": "mapping"}


class Flat(NamedTuple):
    """Flattened result: arrays, type of the container, and the keys of a dict."""

    container: str
    keys: tuple[Any, ...]
    arrays: Arrays

    def join(self) -> Any:
        """Restore the result."""
        if self.container == "array":
            return self.arrays[0]
        if self.container == "dict":
            return dict(zip(self.keys, self.arrays, strict=True))
        return tuple(self.arrays) if self.container == "tuple" else list(self.arrays)


def flatten(result: Any, call: int) -> Flat:
    """Flatten a result.

    Parameters
    ----------
    result : object
        Array, CPU tensor or number, or a tuple, list or dict of these.
    call : int
        Number of the call, for messages.
    """
    if isinstance(result, Mapping):
        return Flat("dict", tuple(result), [_as_array(value, f"entry {key!r}", call) for key, value in result.items()])
    if isinstance(result, (tuple, list)):
        arrays = [_as_array(value, f"entry {i}", call) for i, value in enumerate(result)]
        return Flat("tuple" if isinstance(result, tuple) else "list", (), arrays)
    return Flat("array", (), [_as_array(result, "the result", call)])


def _as_array(value: Any, what: str, call: int) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.hasobject or isinstance(value, np.ma.MaskedArray):
        raise ConfigError(
            f"call {call}: {what} is a {type(value).__name__}, which is not an array of numbers; the target returns "
            "an array, or a tuple, list or dict of arrays"
        )
    return array


@dataclass(frozen=True)
class Layout:
    """Dtypes and shapes of the arrays of every result.

    Attributes
    ----------
    kind : {"array", "sequence", "mapping"}
        Kind of the container.
    container : str
        Container of results that are written in place: ``"array"``, ``"tuple"``, ``"list"`` or ``"dict"``.
    keys : tuple
        Keys of a mapping in order.
    dtypes, shapes : tuple
        Dtype and shape of each array.
    """

    container: str
    keys: tuple[Any, ...]
    dtypes: tuple[np.dtype[Any], ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def kind(self) -> str:
        """Kind of the container: array, sequence or mapping. A result may change from tuple to list."""
        return _KIND[self.container]

    @classmethod
    def of(cls, flat: Flat) -> Layout:
        """Return the layout of a result."""
        return cls(flat.container, flat.keys, tuple(a.dtype for a in flat.arrays), tuple(a.shape for a in flat.arrays))

    @classmethod
    def from_spec(cls, dtypes: Any, shapes: Any) -> Layout | None:
        """Return the layout for one dtype and one shape, or lists or dicts of them; None if both are None.

        Raises
        ------
        ConfigError
            If only one is given, they do not fit together, or one is not a dtype or not a shape.

        Examples
        --------
        >>> Layout.from_spec(["f4", "i2"], [(2, 3), (2,)]).shapes
        ((2, 3), (2,))
        """
        if dtypes is None and shapes is None:
            return None
        if dtypes is None or shapes is None:
            raise ConfigError(f"give both dtypes and shapes, or neither; dtypes={dtypes!r}, shapes={shapes!r}")
        container, keys, types, sizes = "array", (), [dtypes], [shapes]
        if isinstance(dtypes, Mapping):
            if not isinstance(shapes, Mapping) or set(dtypes) != set(shapes):
                raise ConfigError(
                    f"dtypes has the keys {list(dtypes)}, so shapes is a dict with the same, not {shapes}"
                )
            container, keys = "dict", tuple(dtypes)
            types, sizes = list(dtypes.values()), [shapes[key] for key in dtypes]
        elif isinstance(dtypes, (list, tuple)):
            if not isinstance(shapes, (list, tuple)) or len(dtypes) != len(shapes):
                raise ConfigError(f"dtypes has {len(dtypes)} entries, so shapes is a list of as many, not {shapes!r}")
            container = "tuple" if isinstance(dtypes, tuple) else "list"
            types, sizes = list(dtypes), list(shapes)
        return cls(container, keys, tuple(map(_as_dtype, types)), tuple(map(_as_shape, sizes)))

    def fit(self, flat: Flat, call: int) -> Flat:
        """Return the result with its arrays in the order of the layout.

        Raises
        ------
        ShapeError
            If the result has another layout. The message names the call and both layouts.
        """
        if self.kind == "mapping" and flat.container == "dict" and set(flat.keys) == set(self.keys):
            by_key = dict(zip(flat.keys, flat.arrays, strict=True))
            flat = Flat("dict", self.keys, [by_key[key] for key in self.keys])
        elif self.kind == "sequence" and len(self.shapes) == len(flat.arrays) and flat.container == "array":
            pass  # a list of one dtype, and a target that returns the array itself
        elif (self.kind, len(self.shapes), self.keys) != (_KIND[flat.container], len(flat.arrays), flat.keys):
            raise ShapeError(f"call {call} returned {_describe(Layout.of(flat))}, expected {_describe(self)}")
        expected = zip(self.dtypes, self.shapes, strict=True)
        if any((a.dtype, a.shape) != pair for a, pair in zip(flat.arrays, expected, strict=True)):
            raise ShapeError(
                f"call {call} returned {_describe(Layout.of(flat))}, expected {_describe(self)}; every result has "
                "the types and shapes that were given, or else those of the first result"
            )
        return flat

    def arrange(self, values: Sequence[Any]) -> Any:
        """Arrange values as dtypes and shapes: a single value, a list, or a dict."""
        if self.kind == "array":
            return values[0]
        return dict(zip(self.keys, values, strict=True)) if self.kind == "mapping" else list(values)

    @property
    def specs(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtype and shape of each array."""
        return list(zip(self.dtypes, self.shapes, strict=True))

    @property
    def num_bytes(self) -> int:
        """Number of bytes of one result."""
        return shared_bytes(self.specs)


def _as_dtype(value: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] | None = None if value is None else np.dtype(value)
    except TypeError:
        dtype = None
    if dtype is None or dtype.hasobject:
        raise ConfigError(f"dtypes holds types of numbers, such as np.float32, not {value!r}")
    return dtype


def _as_shape(value: Any) -> tuple[int, ...]:
    shape = (value,) if isinstance(value, (int, np.integer)) else value
    is_shape = isinstance(shape, (tuple, list)) and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in shape
    )
    if not is_shape:
        raise ConfigError(f"shapes holds tuples of integers of at least 0, not {value!r}")
    return tuple(int(n) for n in shape)


def _describe(layout: Layout) -> str:
    arrays = [f"{dtype} {shape}" for dtype, shape in zip(layout.dtypes, layout.shapes, strict=True)]
    if layout.kind == "array":
        return arrays[0]
    if layout.kind == "mapping":
        return "{" + ", ".join(f"{key!r}: {array}" for key, array in zip(layout.keys, arrays, strict=True)) + "}"
    return "[" + ", ".join(arrays) + "]"
