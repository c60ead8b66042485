"""Compiled library of roll-outs: available builds, choice by the CPU, and C interface."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int64, c_uint8, c_uint32, c_void_p
from functools import cache
from pathlib import Path

import torch

from delira_nca.errors import ConfigError, require_choice

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "INSTRUCTION_SETS",
    "Gradients",
    "Job",
    "NativeLibrary",
    "Usage",
    "available",
    "calm_openmp",
    "load",
    "use_instruction_set",
    "why_not",
]

INSTRUCTION_SETS = ("portable", "avx2", "avx512", "avx512_bf16")
"""Builds of the library in ascending order of the required CPU features; every CPU can run the first."""

ENVIRONMENT_VARIABLE = "DELIRA_NCA_INSTRUCTION_SET"
"""Environment variable that names the highest instruction set to use; ``none`` hides the library.

It is read once per process and inherited by child processes. It can be used to test the behaviour of other CPUs.
"""

_ABI = 4
_NO_MEMORY = 1
_forced: str | None = None

_floats = c_void_p


class Usage(Structure):
    """``nca_usage`` of ``csrc/nca.h``."""

    _fields_ = [("cpu", c_double), ("wall", c_double), ("threads", c_int64)]


class Job(Structure):
    """``nca_job`` of ``csrc/nca.h``."""

    _fields_ = [
        ("batch", c_int64),
        ("channels", c_int64),
        ("fixed", c_int64),
        ("shape", c_int64 * 3),
        ("kernel", c_int64 * 3),
        ("padding", c_int64),
        ("filters", c_int64),
        ("filter", _floats),
        ("learned", POINTER(c_uint8)),
        ("filter_bias", _floats),
        ("full_outputs", c_int64),
        ("full", _floats),
        ("full_bias", _floats),
        ("full_relu", c_int64),
        ("hidden", c_int64),
        ("w1", _floats),
        ("b1", _floats),
        ("w2", _floats),
        ("b2", _floats),
        ("has_time", c_int64),
        ("time_scale", c_double),
        ("leak", c_float),
        ("noise", c_float),
        ("alive_channel", c_int64),
        ("threshold", c_float),
        ("before", c_int64),
        ("after", c_int64),
        ("fire_threshold", c_uint32),
        ("seed", c_uint32),
        ("first_sample", c_int64),
        ("masks", c_void_p),
        ("start", c_int64),
        ("steps", c_int64),
        ("num_stops", c_int64),
        ("stops", POINTER(c_int64)),
        ("segment", c_int64),
        ("budget", c_int64),
        ("threads", c_int64),
        ("bf16", c_int64),
        ("usage", POINTER(Usage)),
    ]


class Gradients(Structure):
    """``nca_gradients`` of ``csrc/nca.h``."""

    _fields_ = [(name, _floats) for name in ("x", "filter", "filter_bias", "full", "full_bias", "w1", "b1", "w2", "b2")]


class NativeLibrary:
    """Loaded build of the library.

    Parameters
    ----------
    path : Path
        Path of the file.
    name : str
        Name of its instruction set.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        library = ctypes.CDLL(str(path))
        self.cpu_level: int = library.nca_cpu_level()
        self._forward, self._backward = library.nca_forward, library.nca_backward
        self._forward.argtypes = [POINTER(Job), c_void_p, POINTER(c_void_p), POINTER(c_void_p)]
        self._backward.argtypes = [POINTER(Job), c_void_p, POINTER(c_void_p), POINTER(Gradients)]
        self._free, self._tape_bytes = library.nca_free, library.nca_tape_bytes
        self._free.argtypes, self._free.restype = [c_void_p], None
        self._tape_bytes.argtypes, self._tape_bytes.restype = [c_void_p], c_int64
        self.calm_openmp = library.nca_calm_openmp
        self.calm_openmp.argtypes, self.calm_openmp.restype = [c_void_p], None
        self._pool_bytes = library.nca_pool_bytes
        self._pool_bytes.argtypes, self._pool_bytes.restype = [c_int], c_int64
        if library.nca_abi() != _ABI:
            raise OSError(f"{path} was built for another version of the package: install it again")

    def forward(self, job: Job, x: int, outs: list[int], *, tape: bool) -> int | None:
        """Roll out from the state at address ``x`` to those of ``outs``. Return the address of a tape if requested."""
        handle = c_void_p()
        places = (c_void_p * len(outs))(*outs)
        self._check(self._forward(job, x, places, ctypes.byref(handle) if tape else None))
        return handle.value

    def backward(self, job: Job, tape: int, grads: list[int | None], out: Gradients) -> None:
        """Compute the gradients ``out`` from those of the stops, of which None stands for zero."""
        self._check(self._backward(job, tape, (c_void_p * len(grads))(*grads), out))

    def free(self, tape: int) -> None:
        """Free the memory of a tape."""
        self._free(tape)

    def tape_bytes(self, tape: int) -> int:
        """Return the number of bytes that a tape stores for the backward pass."""
        return int(self._tape_bytes(tape))

    def pool_bytes(self, *, trim: bool = False) -> int:
        """Return the number of bytes held for tapes, used or free. ``trim`` releases free memory first."""
        return int(self._pool_bytes(int(trim)))

    @staticmethod
    def _check(status: int) -> None:
        if status == _NO_MEMORY:
            raise MemoryError("the native roll-out found no memory: give a smaller memory_budget or fewer steps")
        if status:
            raise RuntimeError("the native roll-out failed")


def _openmp() -> ctypes.CDLL | None:
    """Return GNU's OpenMP library in the copy that PyTorch has loaded."""
    root = Path(torch.__file__).parent
    for path in sorted([*root.glob("lib/libgomp*"), *root.parent.glob("torch.libs/libgomp*")]):
        library = ctypes.CDLL(str(path))
        if hasattr(library, "GOMP_parallel"):
            return library
    return None


@cache
def calm_openmp() -> None:
    """Reduce the time for which the threads of PyTorch's OpenMP library spin, if that is GNU's.

    By default they spin for milliseconds after each operation of PyTorch, which delays the threads of a roll-out and,
    on a busy machine, other programs. After this call they sleep after microseconds until the process ends.
    """
    library = _openmp()
    if library is not None:
        load().calm_openmp(ctypes.cast(library.GOMP_parallel, c_void_p))


@cache
def _load(name: str) -> NativeLibrary | None:
    files = sorted(Path(__file__).parent.glob(f"_native_{name}.*"))
    if not files:
        return None
    return NativeLibrary(files[0], name)


@cache
def available() -> tuple[str, ...]:
    """Return the instruction sets that were built and that this CPU supports, slowest first.

    :data:`ENVIRONMENT_VARIABLE` limits them.

    Raises
    ------
    UnknownNameError, ConfigError
        If :data:`ENVIRONMENT_VARIABLE` contains an unknown name, or one that was not built or is not supported by this
        CPU.
    """
    highest = os.environ.get(ENVIRONMENT_VARIABLE)
    if highest:
        require_choice(f"value of {ENVIRONMENT_VARIABLE}", highest, [*INSTRUCTION_SETS, "none"])
    portable = None if highest == "none" else _load("portable")
    able = () if portable is None else INSTRUCTION_SETS[: portable.cpu_level + 1]
    names = tuple(name for name in able if _load(name) is not None)
    if not highest or highest == "none":
        return names
    if highest not in names:
        raise ConfigError(f"{ENVIRONMENT_VARIABLE}={highest} was not built or is not in this CPU: there are {names}")
    return names[: names.index(highest) + 1]


@cache
def why_not() -> str | None:
    """Return why no library can be loaded, or None."""
    try:
        if available():
            return None
        if os.environ.get(ENVIRONMENT_VARIABLE) == "none":
            return f"{ENVIRONMENT_VARIABLE}=none hides it"
        return "it was not built (install the package again where a C++ compiler is found)"
    except (OSError, AttributeError) as error:
        return f"its library cannot be loaded: {error}"


def use_instruction_set(name: str | None) -> None:
    """Set the instruction set, for comparisons and tests; None selects the best one.

    Raises
    ------
    UnknownNameError, ConfigError
        If the name is unknown, or the instruction set was not built or is not supported by this CPU.
    """
    global _forced
    if name is not None:
        require_choice("instruction set", name, INSTRUCTION_SETS)
        if name not in available():
            raise ConfigError(f"instruction set {name!r} was not built or is not in this CPU: there are {available()}")
    _forced = name


def load() -> NativeLibrary:
    """Return the best build that this CPU supports, or the one that was set."""
    library = None if why_not() is not None else _load(_forced or available()[-1])
    if library is None:
        raise ConfigError(f"the native roll-out cannot run here: {why_not()}")
    return library
