"""Randomness as a function of names and numbers, never of who ran first.

Whatever draws in this package asks here for a generator, or for a seed, keyed by what it is for:
``(seed, "pool", draw)``, ``(seed, "augment", epoch, index)``. The same key gives the same numbers in any process, in
any order, after any resume.
"""

from __future__ import annotations

import contextlib
import random
import sys
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator

from delira_nca.errors import ConfigError

__all__ = ["derive_seed", "generator", "isolated_rng"]


def _sequence(seed: int, keys: tuple[int | str, ...]) -> np.random.SeedSequence:
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"a seed is an integer of at least 0, not {seed!r}")
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else int(key) for key in keys]
    return np.random.SeedSequence(int(seed), spawn_key=words)


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Generator for one purpose.

    Parameters
    ----------
    seed : the run's seed, at least 0.
    keys : what the numbers are for: names and counters.

    Examples
    --------
    >>> float(generator(0, "pool", 3).random()) == float(generator(0, "pool", 3).random())
    True
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, keys)))


def derive_seed(seed: int, *keys: int | str) -> int:
    """Seed of 32 bits for one purpose, to hand to something that takes only a number.

    Examples
    --------
    >>> derive_seed(0, "rollout", 1) != derive_seed(0, "rollout", 2)
    True
    """
    return int(_sequence(seed, keys).generate_state(1, np.uint32)[0])


@contextlib.contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch inside the block, and put them back after it.

    Code that can only draw from the globals (batchgenerators' transforms, dropout) becomes a function of ``seed``,
    and the user's own generators are left as they were. Torch's generators are touched only where torch is loaded.

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
    python_state = random.getstate()
    random.seed(seed)
    try:
        with _isolated_numpy(seed), _isolated_torch(seed) if "torch" in sys.modules else contextlib.nullcontext():
            yield
    finally:
        random.setstate(python_state)


@contextlib.contextmanager
def _isolated_numpy(seed: int) -> Iterator[None]:
    # The user's bit generator is put aside as it is: reading and writing its state is slow. What numpy forgets when
    # it changes generators is the second of a pair of normal numbers; where there is one, the state is written.
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


_SPARE: list[np.random.MT19937] = []  # making one takes longer than all the rest; what is in it does not matter


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
