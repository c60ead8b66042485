"""Checkpoints: one file of tensors and plain Python, written whole, read without executing anything."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from delira_nca.errors import CheckpointError
from delira_nca.io.archive import check_archive
from delira_nca.io.disk_space import require_disk_space
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.io.seal import SEAL_BYTES, CountingSink, Damage, SealingSink, check_seal

__all__ = ["checkpoint_bytes", "is_plain", "load_checkpoint", "save_checkpoint", "verify_checkpoint"]

_TYPE = "__delira_nca_type__"
_FACTORIES: dict[str, Any] = {
    "None": None,
    **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)},
}
"""Factories of a defaultdict that a file names."""


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state to a file.

    The file is written beside its place, brought to the disk, read back and compared, and only then put there, so that
    a kill, a full disk or a faulty one leaves the former file as it was. It carries its own checksum as the comment of
    its archive; ``torch.load(path, weights_only=True)`` opens it all the same.

    Parameters
    ----------
    state : nested dicts, lists and tuples of tensors, arrays, numbers, strings, booleans and None. An OrderedDict, a
        Counter and a defaultdict of plain types stay what they are. NumPy's scalars and arrays become Python's numbers
        and tensors; tensors are copied to the CPU.
    path : of the file; its folder is made if need be.

    Raises
    ------
    CheckpointError
        If a value is none of these (its place is named), the disk has not enough space, the file cannot be written, or
        the disk gives back other bytes.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.pt"
    >>> save_checkpoint({"epoch": np.int64(3), "weights": torch.ones(2)}, path)
    >>> load_checkpoint(path)
    {'epoch': 3, 'weights': tensor([1., 1.])}
    """
    plain, path = _plain(state, "state"), absolute(path)
    try:
        total = _file_bytes(plain)
        path.parent.mkdir(parents=True, exist_ok=True)
        require_disk_space(path.parent, total)
        with replaced(path, durable=True) as temporary:
            with open(temporary, "wb") as file:
                sink = SealingSink(file, total)
                _write(plain, sink)
                sink.finish()
                os.fsync(file.fileno())
                _forget_cached(file.fileno())
            with open(temporary, "rb") as file:
                check_archive(file, check_seal(file))
    except Damage as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: read back, {error}") from error
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU. Nothing in the file is executed.

    The checksum is compared first, where there is one. Then what the file declares is compared with what it holds, so
    that a file from elsewhere can neither run anything nor fill the memory.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is empty, cut short, damaged, no checkpoint, declares more bytes than it has, or
        holds more than tensors and plain Python.
    """
    path = absolute(path)
    with _opened(path) as file:
        check_archive(file, check_seal(file))
        file.seek(0)
        try:
            state = _typed(torch.load(file, map_location="cpu", weights_only=True))
        except MemoryError:
            raise
        except Exception as error:  # torch raises many kinds for a broken file
            raise Damage(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not the state of a run")
    return state


def verify_checkpoint(path: str | os.PathLike[str]) -> None:
    """Compare a file with the checksum it carries. Its content is not looked at.

    Of a file without a checksum, as the first versions wrote it, only the beginning and the end are looked at.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is empty, cut short, damaged, or no checkpoint.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.pt"
    >>> save_checkpoint({"epoch": 3}, path)
    >>> verify_checkpoint(path)
    >>> _ = path.write_bytes(path.read_bytes()[:1000])
    >>> verify_checkpoint(path)
    Traceback (most recent call last):
    delira_nca.errors.CheckpointError: ...state.pt is no readable checkpoint: it is cut short at 1000 of ... bytes
    """
    with _opened(absolute(path)) as file:
        check_seal(file)


def checkpoint_bytes(state: Mapping[str, Any]) -> int:
    """Size of the file that :func:`save_checkpoint` would write, exactly. It takes a copy of the state in memory.

    Raises
    ------
    CheckpointError
        If a value is one that a checkpoint cannot hold.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.pt"
    >>> save_checkpoint({"weights": torch.ones(1000)}, path)
    >>> checkpoint_bytes({"weights": torch.ones(1000)}) == path.stat().st_size
    True
    """
    return _file_bytes(_plain(state, "state"))


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold a value.

    Examples
    --------
    >>> is_plain({"steps": (48, 64)}), is_plain({"plot": print})
    (True, False)
    """
    try:
        _plain(value, "value")
    except CheckpointError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open for reading: one and the same file for checks and use, whatever replaces it meanwhile."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with open(path, "rb") as file:
            yield file
    except (Damage, OSError) as error:
        raise CheckpointError(f"{path} is no readable checkpoint: {error}") from error


def _file_bytes(plain: Any) -> int:
    sink = CountingSink()
    _write(plain, sink)
    return sink.size + SEAL_BYTES


def _write(plain: Any, sink: CountingSink | SealingSink) -> None:
    try:
        torch.save(plain, cast(IO[bytes], sink))
    except (AttributeError, TypeError, pickle.PicklingError) as error:  # of a tensor of the user's own class
        raise CheckpointError(f"a tensor of the state cannot be written: {error}") from error


def _forget_cached(descriptor: int) -> None:
    """Ask the system to read a file from the disk next time, where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(value.copy())
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where} is an array of {value.dtype}, which no tensor can hold") from error
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str, bytes, complex):
        return value
    if type(value) in (dict, OrderedDict, Counter, defaultdict, MappingProxyType):
        entries = {_plain_key(key, where): _plain(part, f"{where}[{key!r}]") for key, part in value.items()}
        if _TYPE in entries:
            raise CheckpointError(f"{where} has the key {_TYPE!r}, which checkpoints use themselves")
        if isinstance(value, Counter):
            return {_TYPE: "Counter", "entries": entries}
        if isinstance(value, defaultdict):
            if value.default_factory not in _FACTORIES.values():
                raise CheckpointError(f"{where} is a defaultdict of {value.default_factory!r}, which no file can hold")
            factory = next(name for name, made in _FACTORIES.items() if made is value.default_factory)
            return {_TYPE: "defaultdict", "factory": factory, "entries": entries}
        return OrderedDict(entries) if isinstance(value, OrderedDict) else entries
    if type(value) in (list, tuple, torch.Size):
        parts = [_plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
        return parts if isinstance(value, list) else type(value)(parts)
    raise CheckpointError(
        f"{where} is a {type(value).__name__}, whose type would be lost: a checkpoint holds tensors and plain Python"
    )


def _typed(value: Any) -> Any:
    """What :func:`_plain` was given."""
    if isinstance(value, dict):
        entries = value if _TYPE not in value else value.get("entries")
        if not isinstance(entries, dict):
            raise Damage(f"an entry with {_TYPE!r} has no entries")
        kind = value.get(_TYPE)
        typed = {key: _typed(part) for key, part in entries.items()}
        if kind == "Counter":
            return Counter(typed)
        if kind == "defaultdict" and value.get("factory") in _FACTORIES:
            return defaultdict(_FACTORIES[value["factory"]], typed)
        if kind is not None:
            raise Damage(f"it holds a {kind!r}, which this version does not know")
        return OrderedDict(typed) if isinstance(value, OrderedDict) else typed
    if isinstance(value, list):
        return [_typed(part) for part in value]
    return tuple(map(_typed, value)) if type(value) is tuple else value


def _plain_key(key: Any, where: str) -> Any:
    key = key.item() if isinstance(key, np.generic) else key
    if type(key) not in (bool, int, float, str):
        raise CheckpointError(f"{where} has the key {key!r}: keys in a checkpoint are numbers and strings")
    return key
