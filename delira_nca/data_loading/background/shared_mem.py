"""Arrays in memory that forked processes share, with the names of ELEKTRONN2."""

from __future__ import annotations

import ctypes
import multiprocessing
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_wholes
from delira_nca.errors import ConfigError, ShapeError

__all__ = ["SharedMem"]


class SharedMem:
    """Conversion between NumPy arrays and raw shared memory of ``multiprocessing``.

    `BackgroundProc` and `SharedQ` do not need it: their results travel through shared memory by themselves. It is for
    processes of one's own, to which the memory is passed as an argument.

    Examples
    --------
    >>> memory = SharedMem.puthandle(np.float32, (2, 3), np.ones((2, 3)))
    >>> array = SharedMem.shm2ndarray(memory, (2, 3), np.float32)
    >>> array[0] = 7.0
    >>> SharedMem.shm2ndarray(memory, (2, 3), np.float32).tolist()
    [[7.0, 7.0, 7.0], [1.0, 1.0, 1.0]]
    """

    @staticmethod
    def puthandle(dtype: Any, shape: Any, data: Any = None) -> Any:
        """Return shared memory for an array.

        Parameters
        ----------
        dtype : dtype
            Dtype of the array, without Python objects.
        shape : int or tuple of int
            Shape of the array.
        data : array or None
            Values to copy into it; zeros by default. They are not cast to another kind of numbers.

        Raises
        ------
        ConfigError, ShapeError
            If dtype or shape are invalid, or the data do not fit them.
        """
        kind, size = _dtype(dtype), require_wholes("shape", shape, 0, repeat=1)
        memory = multiprocessing.RawArray(ctypes.c_byte, max(1, kind.itemsize * int(np.prod(size, dtype=np.int64))))
        if data is not None:
            SharedMem.ndarray2shm(np.asarray(data), memory, dtype=kind, shape=size)
        return memory

    @staticmethod
    def shm2ndarray(mp_array: Any, shape: Any, dtype: Any = None) -> npt.NDArray[Any]:
        """Return an array that views shared memory.

        Parameters
        ----------
        mp_array : object
            Memory of `puthandle`, or a ``multiprocessing.Array`` or ``RawArray``.
        shape : int or tuple of int
            Shape of the array.
        dtype : dtype or None
            Dtype of the array; for a typed ``multiprocessing.Array``, its own by default.

        Raises
        ------
        ConfigError, ShapeError
            If the memory has another type, or is smaller than the array.
        """
        raw = mp_array.get_obj() if hasattr(mp_array, "get_obj") else mp_array
        if not isinstance(raw, ctypes.Array):
            raise ConfigError(f"shared memory is an Array or RawArray of multiprocessing, not a {type(raw).__name__}")
        if dtype is None and raw._type_ is ctypes.c_byte:
            raise ConfigError("the memory of puthandle has no dtype of its own: give dtype")
        kind = _dtype(raw._type_ if dtype is None else dtype)
        size = require_wholes("shape", shape, 0, repeat=1)
        needed = kind.itemsize * int(np.prod(size, dtype=np.int64))
        if needed > ctypes.sizeof(raw):
            raise ShapeError(f"an array {size} of {kind} needs {needed} bytes, and the memory has {ctypes.sizeof(raw)}")
        buffer: Any = raw
        array: npt.NDArray[Any] = np.frombuffer(buffer, kind, int(np.prod(size, dtype=np.int64)))
        return array.reshape(size)

    @staticmethod
    def ndarray2shm(np_array: Any, mp_array: Any, *, dtype: Any = None, shape: Any = None) -> None:
        """Copy an array into shared memory.

        Parameters
        ----------
        np_array : array
            Values.
        mp_array : object
            Shared memory.
        dtype, shape : dtype and tuple of int, or None
            Dtype and shape of the memory; those of the array by default.

        Raises
        ------
        ConfigError, ShapeError
            If the array does not fit the memory.
        """
        array = np.asarray(np_array)
        size = array.shape if shape is None else require_wholes("shape", shape, 0, repeat=1)
        target = SharedMem.shm2ndarray(mp_array, size or (1,), array.dtype if dtype is None else dtype).reshape(size)
        if array.shape != target.shape:
            raise ShapeError(f"data of shape {array.shape} do not fit memory of shape {target.shape}")
        if not np.can_cast(array.dtype, target.dtype, "same_kind"):
            raise ConfigError(f"{array.dtype} values cannot be stored as {target.dtype}")
        np.copyto(target, array, casting="same_kind")


def _dtype(value: Any) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise ConfigError(f"dtype is a type of numbers, such as np.float32, not {value!r}") from None
    if found.hasobject:
        raise ConfigError(f"dtype is a type of numbers, such as np.float32, not {value!r}")
    return found
