"""Checkpoint files of tensors and plain Python values, written atomically and read without executing code.

The file has the format of `safetensors <https://github.com/huggingface/safetensors>`_: a JSON header and the bytes of
each tensor. The metadata of the header contains the structure of the state and a checksum of the file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from delira_nca.errors import CheckpointError
from delira_nca.io.files import replaced, require_disk_space
from delira_nca.io.paths import absolute
from delira_nca.io.torch_file import FACTORIES, DamagedFileError, read_torch_file

__all__ = ["checkpoint_bytes", "is_plain", "load_checkpoint", "save_checkpoint", "verify_checkpoint"]

_KEY = "delira_nca"
_ZEROS = "0" * 64
_HEAD = b'{"__metadata__":{"delira_nca":"{\\"format\\": 2, \\"sha256\\": \\"'
"""Beginning of the header. The length of the header in 8 bytes precedes it; the checksum in hexadecimal follows."""
_SUM = slice(8 + len(_HEAD), 8 + len(_HEAD) + len(_ZEROS))
_CHUNK = 1 << 20
_MOST_TEXT = 40_000_000
"""Maximum number of characters of the structure: a safetensors header has at most 100 MB, and escaping each quotation
mark doubles it."""
_ARCHIVE = b"PK\x03\x04"
"""First bytes of a file of torch.save, such as the checkpoints of version 0.1."""
_MAPPINGS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
_SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "Size": torch.Size, "set": set, "frozenset": frozenset}


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state to a checkpoint file.

    The state is written to a temporary file, flushed to the disk, read back and compared; then the temporary file
    replaces ``path``. After a kill, a full disk or a faulty disk, an existing file is unchanged. ``safetensors`` can
    open the file; the names of its tensors are their paths in the state, such as ``network.rule.0.weight``.

    Parameters
    ----------
    state : mapping
        Nested dicts, lists, tuples and sets of tensors, arrays, numbers, strings, bytes, booleans and None. An
        OrderedDict, a Counter, a torch.Size and a defaultdict of a plain type keep their type. NumPy scalars become
        Python numbers, and tensors are copied to the CPU.
    path : str or path-like
        File to write. Its folder is created if it does not exist. The usual extension is ``.safetensors``.

    Raises
    ------
    CheckpointError
        If a value has another type (the message has its path in the state), the disk has too little space, the file
        cannot be written, or the bytes that are read back differ.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.safetensors"
    >>> save_checkpoint({"epoch": np.int64(3), "weights": torch.ones(2)}, path)
    >>> load_checkpoint(path)
    {'epoch': 3, 'weights': tensor([1., 1.])}
    """
    path = absolute(path)
    # serialized in memory: save_file creates a temporary file with an unknown name, which a kill would leave behind
    content = memoryview(_serialized(state))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        require_disk_space(path.parent, len(content))
        with replaced(path, durable=True) as temporary, open(temporary, "w+b") as file:
            digest = hashlib.sha256(content).hexdigest().encode()
            file.writelines((content[: _SUM.start], digest, content[_SUM.stop :]))
            file.flush()
            os.fsync(file.fileno())
            _drop_from_cache(file.fileno())
            _check(file)
    except DamagedFileError as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: read back, {error}") from error
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of :func:`save_checkpoint` onto the CPU. No code in the file is executed.

    The checksum is verified first. Files of ``torch.save``, such as the checkpoints of version 0.1, can be read if they
    contain only tensors and plain Python values. A file that declares more bytes than it has is rejected before memory
    is allocated.

    Parameters
    ----------
    path : str or path-like
        File to read.

    Returns
    -------
    dict
        The state.

    Raises
    ------
    CheckpointError
        If the file does not exist, is empty, truncated, damaged or not a checkpoint, declares more bytes than it has,
        or contains values other than tensors and plain Python.
    """
    path = absolute(path)
    with _opened(path) as file:
        is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
        if not is_archive:
            _check(file)
        file.seek(0)
        content = file.read()
        state = read_torch_file(content) if is_archive else _decoded(content)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not the state of a run")
    return state


def verify_checkpoint(path: str | os.PathLike[str]) -> None:
    """Verify the checksum of a checkpoint file. A file of ``torch.save`` is read completely instead.

    Raises
    ------
    CheckpointError
        If the file does not exist, or is empty, truncated, damaged or not a checkpoint.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.safetensors"
    >>> save_checkpoint({"epoch": 3, "weights": torch.ones(500)}, path)
    >>> verify_checkpoint(path)
    >>> _ = path.write_bytes(path.read_bytes()[:1000])
    >>> verify_checkpoint(path)
    Traceback (most recent call last):
    delira_nca.errors.CheckpointError: ...is not a readable checkpoint: it is cut short at 1000 of ... bytes
    """
    with _opened(absolute(path)) as file:
        if file.read(len(_ARCHIVE)) == _ARCHIVE:
            file.seek(0)
            read_torch_file(file.read())
        else:
            _check(file)


def checkpoint_bytes(state: Mapping[str, Any]) -> int:
    """Return the exact size in bytes of the file that :func:`save_checkpoint` would write.

    The computation needs memory for two copies of the state.

    Raises
    ------
    CheckpointError
        If a checkpoint cannot store a value.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.safetensors"
    >>> save_checkpoint({"weights": torch.ones(1000)}, path)
    >>> checkpoint_bytes({"weights": torch.ones(1000)}) == path.stat().st_size
    True
    """
    return len(_serialized(state))


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can store a value.

    Examples
    --------
    >>> is_plain({"steps": (48, 64)}), is_plain({"plot": print})
    (True, False)
    """
    try:
        _encode(value, "value", {})
    except CheckpointError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file once for checks and reading, so that both see the same file if it is replaced meanwhile."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with open(path, "rb") as file:
            yield file
    except (DamagedFileError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error


def _check(file: IO[bytes]) -> None:
    """Verify the declared length and checksum of a file."""
    actual = file.seek(0, os.SEEK_END)
    if actual == 0:
        raise DamagedFileError("it is empty")
    file.seek(0)
    head = file.read(_SUM.stop)
    if head[8 : _SUM.start] != _HEAD[: max(0, len(head) - 8)]:
        raise DamagedFileError(f"it is neither a checkpoint nor a file of torch.save: it begins with {head[:16]!r}")
    length = int.from_bytes(head[:8], "little")
    if actual < 8 + length:
        raise DamagedFileError(f"it is cut short at {actual} of {8 + length} bytes or more")
    if _digest(file) != head[_SUM].decode("ascii", "replace"):
        file.seek(8)
        raise DamagedFileError(_damage(file.read(length), actual))


def _damage(header: bytes, actual: int) -> str:
    """Describe the damage of a file with a wrong checksum. The header may be damaged as well."""
    try:
        tensors = [value for key, value in json.loads(header).items() if key != "__metadata__"]
        total = 8 + len(header) + max([int(tensor["data_offsets"][1]) for tensor in tensors], default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        total = actual
    if actual < total:
        return f"it is cut short at {actual} of {total} bytes"
    return "its checksum differs: some of its bytes are not those that were written"


def _digest(file: IO[bytes]) -> str:
    """Checksum of a file in which the stored checksum is replaced by zeros."""
    file.seek(0)
    result = hashlib.sha256(file.read(_SUM.start) + _ZEROS.encode())
    file.seek(_SUM.stop)
    while chunk := file.read(_CHUNK):
        result.update(chunk)
    return result.hexdigest()


def _drop_from_cache(descriptor: int) -> None:
    """Drop a file from the page cache where supported, so that the next read comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _serialized(state: Mapping[str, Any]) -> bytes:
    """Content of a state's file, with zeros in place of the checksum."""
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, "state", tensors)
    text = json.dumps({"format": 2, "sha256": _ZEROS, "state": tree})
    if len(text) > _MOST_TEXT:
        raise CheckpointError(
            f"the state has {len(text)} bytes beside its tensors, a checkpoint holds {_MOST_TEXT}: put long lists into "
            "arrays"
        )
    # a single key: safetensors writes several in arbitrary order, and equal states must give equal bytes
    return safetensors.torch.save(tensors, {_KEY: text})


def _decoded(content: bytes) -> Any:
    length = int.from_bytes(content[:8], "little")
    try:
        described = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
        tensors = safetensors.torch.load(content)
        return _decode(described["state"], tensors)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise DamagedFileError(f"its header does not describe a state: {type(error).__name__}: {error}") from error


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """Convert a value to JSON types. A value of another type becomes a list of the type's name and the content."""
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        try:
            tensor = torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where} is an array of {value.dtype}, which no tensor can hold") from error
        return ["array", _encode_tensor(tensor, where, tensors)]
    if isinstance(value, Tensor):
        return _encode_tensor(value, where, tensors)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is bytes:
        return ["bytes", base64.b64encode(value).decode()]
    if type(value) is complex:
        return ["complex", value.real, value.imag]
    if type(value) in (dict, MappingProxyType, *_MAPPINGS.values(), defaultdict):
        pairs = [[_encode_key(key, where), _encode(part, f"{where}[{key!r}]", tensors)] for key, part in value.items()]
        if isinstance(value, defaultdict):
            if value.default_factory not in FACTORIES.values():
                raise CheckpointError(f"{where} is a defaultdict of {value.default_factory!r}, which no file can hold")
            factory = next(name for name, made in FACTORIES.items() if made is value.default_factory)
            return ["defaultdict", factory, pairs]
        kind = "dict" if isinstance(value, MappingProxyType) else type(value).__name__
        return dict(pairs) if kind == "dict" and all(type(key) is str for key, _ in pairs) else [kind, pairs]
    if type(value) in _SEQUENCES.values():
        parts = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [type(value).__name__, [_encode(part, f"{where}[{i}]", tensors) for i, part in enumerate(parts)]]
    raise CheckpointError(
        f"{where} is a {type(value).__name__}, whose type would be lost: a checkpoint holds tensors and plain Python"
    )


def _encode_key(key: Any, where: str) -> Any:
    key = key.item() if isinstance(key, np.generic) else key
    if type(key) not in (bool, int, float, str):
        raise CheckpointError(f"{where} has the key {key!r}: keys in a checkpoint are numbers and strings")
    return key


def _encode_tensor(tensor: Tensor, where: str, tensors: dict[str, Tensor]) -> Any:
    if type(tensor) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):
        raise CheckpointError(f"{where} is a {type(tensor).__name__}, whose type would be lost: pass a plain tensor")
    if tensor.is_meta:
        raise CheckpointError(f"{where} is a tensor on the meta device, which has no values")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.layout == torch.sparse_coo:
        indices, values = tensor._indices(), tensor._values()
        parts = [_encode_tensor(part, f"{where}.{name}", tensors) for name, part in (("i", indices), ("v", values))]
        return ["sparse", *parts, list(tensor.shape), tensor.is_coalesced()]
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise CheckpointError(f"{where} is a tensor of {tensor.layout}, {tensor.dtype}, which a checkpoint cannot hold")
    if tensor.is_complex():  # not supported by all versions of safetensors
        return ["complex tensor", _encode_tensor(torch.view_as_real(tensor), where, tensors)]
    name = where.partition("[")[2].replace("][", ".").replace("'", "").replace("]", "") or "value"
    while name in tensors or name == "__metadata__":
        name += "_"
    tensors[name] = tensor.clone(memory_format=torch.contiguous_format)
    return ["tensor", name]


def _decode(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        return {key: _decode(part, tensors) for key, part in tree.items()}
    if not isinstance(tree, list):
        return tree
    match tree:
        case ["tensor", name]:
            return tensors[name]
        case ["array", part]:
            return _decode(part, tensors).numpy()
        case ["complex tensor", part]:
            return torch.view_as_complex(_decode(part, tensors))
        case ["sparse", indices, values, shape, coalesced]:
            parts = _decode(indices, tensors), _decode(values, tensors)
            return torch.sparse_coo_tensor(*parts, shape, is_coalesced=coalesced, check_invariants=True)
        case ["bytes", text]:
            return base64.b64decode(text, validate=True)
        case ["complex", real, imag]:
            return complex(real, imag)
        case ["defaultdict", factory, pairs]:
            return defaultdict(FACTORIES[factory], {key: _decode(part, tensors) for key, part in pairs})
        case [kind, pairs] if kind in _MAPPINGS:
            return _MAPPINGS[kind]({key: _decode(part, tensors) for key, part in pairs})
        case [kind, parts] if kind in _SEQUENCES:
            return _SEQUENCES[kind](_decode(part, tensors) for part in parts)
    raise DamagedFileError(f"it holds a {tree[0] if tree else tree!r}, which this version does not know")
