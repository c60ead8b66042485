"""Random generators that are functions of a seed and a key, independent of the order of execution.

All random numbers of the package come from a generator or a seed of this module, with a key for their purpose, such as
``(seed, "pool", draw)`` or ``(seed, "augment", epoch, index)``. The same key gives the same numbers in every process,
in every order, and after a resume.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError

__all__ = ["derive_seed", "generator", "isolated_rng", "only_thread"]


def _sequence(seed: int, keys: tuple[int | str, ...]) -> np.random.SeedSequence:
    require_whole("a seed", seed, 0)
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else int(key) for key in keys]
    return np.random.SeedSequence(int(seed), spawn_key=words)


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Return a generator for one purpose.

    Parameters
    ----------
    seed : int
        Seed of the run, at least 0.
    *keys : int or str
        Names and counters that identify the purpose.

    Examples
    --------
    >>> float(generator(0, "pool", 3).random()) == float(generator(0, "pool", 3).random())
    True
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, keys)))


def derive_seed(seed: int, *keys: int | str) -> int:
    """Return a 32-bit seed for one purpose, for functions that accept only a number.

    Examples
    --------
    >>> derive_seed(0, "rollout", 1) != derive_seed(0, "rollout", 2)
    True
    """
    return int(_sequence(seed, keys).generate_state(1, np.uint32)[0])


@contextlib.contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch inside the block, and restore them afterwards.

    Code that can only draw from the global generators (batchgenerators' transforms, dropout) becomes a function of
    ``seed``, and the state of the user's generators is preserved. Torch's generators are seeded only if torch is
    imported.

    The global generators belong to the process: one thread at a time can be inside such a block, and others wait.

    Examples
    --------
    >>> with isolated_rng(7):
    ...     a = np.random.rand()
    >>> with isolated_rng(7):
    ...     b = np.random.rand()
    >>> a == b
    True
    """
    seed = derive_seed(seed)
    with _turn:
        python_state = random.getstate()
        random.seed(seed)
        try:
            with _isolated_numpy(seed), _isolated_torch(seed) if "torch" in sys.modules else contextlib.nullcontext():
                yield
        finally:
            random.setstate(python_state)


@contextlib.contextmanager
def only_thread(work: str) -> Iterator[None]:
    """Allow only one thread of the process inside such a block.

    Trainings in two threads would draw from the same global generators, so that their weights would depend on each
    other.

    Parameters
    ----------
    work : str
        Description of the work, for the error message in the other thread.

    Raises
    ------
    ConfigError
        If another thread is inside such a block; with its work and its name.

    Examples
    --------
    >>> with only_thread("training a"), only_thread("training b"):  # nested, in one thread
    ...     pass
    """
    global _owner
    me = threading.current_thread()
    with _turn:
        before = _owner
        if before is not None and before[0] is not me:
            raise ConfigError(
                f"{work} cannot run beside {before[1]} in thread {before[0].name!r}: both would draw from the random "
                "generators of this process. Use processes, as ProcessPoolLauncher does, or one after the other"
            )
        _owner = (me, work)
    try:
        yield
    finally:
        _owner = before


_turn = threading.RLock()
_owner: tuple[threading.Thread, str] | None = None


def _forget_threads() -> None:
    """Release, in a forked process, what a thread of the parent process holds."""
    global _turn, _owner
    _turn = threading.RLock()
    _owner = _owner if _owner is not None and _owner[0] is threading.current_thread() else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


@contextlib.contextmanager
def _isolated_numpy(seed: int) -> Iterator[None]:
    # The user's bit generator is exchanged as an object, since reading and writing its state is slow. The exchange
    # loses the cached second number of a pair of normal numbers; only if there is one, the state is written back.
    state = np.random.get_state()
    users = get_bit_generator()
    spare = _SPARE.pop() if _SPARE else np.random.MT19937()
    set_bit_generator(spare)
    np.random.seed(seed)
    try:
        yield
    finally:
        set_bit_generator(users)
        if isinstance(state, dict) or state[3]:
            np.random.set_state(state)
        _SPARE.append(spare)


_SPARE: list[np.random.MT19937] = []  # constructing one is the slowest part; its state is irrelevant


@contextlib.contextmanager
def _isolated_torch(seed: int) -> Iterator[None]:
    import torch

    state = torch.get_rng_state()
    cuda = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    torch.default_generator.manual_seed(seed)
    if cuda:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)
