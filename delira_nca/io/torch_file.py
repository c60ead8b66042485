"""Safe reader for files of ``torch.save``, such as the checkpoints of version 0.1.

Like ``torch.load(weights_only=True)``, the reader executes no code of the file. Unlike it, the reader builds only
tensors and plain Python values, and checks each declared size against the content of the file before it allocates
memory.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import zipfile
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import torch
from torch import Tensor

__all__ = ["FACTORIES", "DamagedFileError", "read_torch_file"]

_SEAL = re.compile(rb"delira_nca checkpoint 1: (\d{14}) bytes before this, sha256 ([0-9a-f]{64})\n")
"""Comment with the checksum, at the end of archives of version 0.1."""
_OPCODES = """
    APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD EMPTY_DICT EMPTY_LIST
    EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS STOP TUPLE
    TUPLE1 TUPLE2 TUPLE3
"""
"""Pickle opcodes that torch writes. Some of the others allocate as many bytes as the file requests."""
_STORAGES = {
    "torch.storage.UntypedStorage": torch.uint8,
    **{
        f"torch.{kind}Storage": getattr(torch, kind.lower()) for kind in ("Bool", "BFloat16", "Half", "Float", "Double")
    },
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}
FACTORIES = {"None": None, **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)}}


class DamagedFileError(Exception):
    """A file cannot be used. The message is a clause that follows the file's name."""


def read_torch_file(content: bytes) -> Any:
    """Read the value in a file of ``torch.save``.

    Parameters
    ----------
    content : bytes
        Content of the file.

    Returns
    -------
    Any
        Nested dicts, lists and tuples of CPU tensors, numbers, strings, booleans and None.

    Raises
    ------
    DamagedFileError
        If the file is not from ``torch.save``, is damaged, declares more bytes than it has, or holds other values.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> torch.save({"weights": torch.ones(3)}, file)
    >>> read_torch_file(file.getvalue())
    {'weights': tensor([1., 1., 1.])}
    """
    seal = _SEAL.search(content, max(0, len(content) - 200))
    if seal is not None and hashlib.sha256(content[: seal.start()]).hexdigest().encode() != seal[2]:
        raise DamagedFileError("its checksum differs: some of its bytes are not those that were written")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if any(entry.compress_size != entry.file_size for entry in entries):
                raise DamagedFileError("an entry of its archive is compressed, which torch never does")
            if sum(entry.file_size for entry in entries) > len(content):
                raise DamagedFileError(f"its entries declare more bytes than the {len(content)} of the file")
            root = entries[0].filename.partition("/")[0] if entries else ""
            data = {e.filename.removeprefix(f"{root}/"): archive.read(e) for e in entries}
        if data.get("byteorder", b"little") != b"little":
            raise DamagedFileError("its numbers are big-endian")
        return _restored(_Reader(data).load(), {})
    except DamagedFileError:
        raise
    except KeyError as error:
        raise DamagedFileError(f"it is not a file of torch.save: it has no {error}") from error
    except Exception as error:  # damaged bytes of a pickle can raise any exception
        raise DamagedFileError(f"it is cut short or damaged: {type(error).__name__}: {error}") from error


def _restored(value: Any, known: dict[int, Any]) -> Any:
    """Restore the types that version 0.1 stored as dicts with a special key.

    Nested references to one object could make the work exponential, so each object is restored once.
    """
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in known:
        known[id(value)] = _restored_container(value, known)
    return known[id(value)]


def _restored_container(value: Any, known: dict[int, Any]) -> Any:
    if not isinstance(value, dict):
        return type(value)(_restored(part, known) for part in value)
    entries = value if "__delira_nca_type__" not in value else value["entries"]
    restored = {key: _restored(part, known) for key, part in entries.items()}
    match value.get("__delira_nca_type__"):
        case "Counter":
            return Counter(restored)
        case "defaultdict":
            return defaultdict(FACTORIES[value["factory"]], restored)
        case None:
            return OrderedDict(restored) if isinstance(value, OrderedDict) else restored
        case kind:
            raise DamagedFileError(f"it holds a {kind!r}, which this version does not know")


class _Reader(pickle._Unpickler):
    """Unpickler in Python that builds only tensors and plain values. The C unpickler allocates what a file requests."""

    def __init__(self, data: dict[str, bytes]) -> None:
        super().__init__(io.BytesIO(data["data.pkl"]), encoding="utf-8")
        self._data = data
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the builder, storage dtype or dtype for a global name of the pickle."""
        full = f"{module}.{name}"
        if (build := _BUILDERS.get(full)) is not None:
            return build
        found = vars(torch).get(name) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        if full not in _STORAGES:
            raise DamagedFileError(f"it holds a {full}: a checkpoint holds tensors and plain Python only")
        return _STORAGES[full]

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the content of a storage as a flat tensor."""
        kind, dtype, key, _, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
            raise DamagedFileError(f"it holds a reference {kind!r} that torch never writes")
        if key not in self._storages:
            held, needed = len(self._data[f"data/{key}"]), numel * dtype.itemsize
            if needed > held:
                raise DamagedFileError(f"a tensor declares {needed} bytes, the file holds {held} for it")
            numbers = bytearray(self._data[f"data/{key}"][:needed])
            self._storages[key] = torch.frombuffer(numbers, dtype=dtype) if numel else torch.empty(0, dtype=dtype)
        return self._storages[key]


def _build(reader: Any) -> None:
    """Discard attributes from the stack. The OrderedDict of a state dict has some, which are not needed."""
    reader.stack.pop()
    if not isinstance(reader.stack[-1], OrderedDict):
        raise DamagedFileError("it sets attributes, which a checkpoint has none of")


_Reader.dispatch = {
    code: _build if name == "BUILD" else pickle._Unpickler.dispatch[code]
    for name in _OPCODES.split()
    for code in getattr(pickle, name)
}


def _tensor(
    numbers: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any = None, *rest: Any
) -> Any:
    sizes = (offset, *shape, *stride)
    if not isinstance(numbers, Tensor) or len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in sizes):
        raise DamagedFileError("it holds a tensor that torch never writes")
    numbers = numbers if dtype is None else numbers.view(dtype)
    numel = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1 if numel else 0
    if max(numel, last) > numbers.numel():
        raise DamagedFileError(
            f"a tensor of shape {tuple(shape)} declares {max(numel, last) * numbers.itemsize} bytes, the file holds "
            f"{numbers.nbytes} for it"
        )
    return numbers.as_strided(shape, stride, offset)


def _sparse(layout: Any, parts: Any) -> Tensor:
    if layout != torch.sparse_coo:
        raise DamagedFileError(f"it holds a sparse tensor of layout {layout}, not {torch.sparse_coo}")
    indices, values, shape, *coalesced = parts
    return torch.sparse_coo_tensor(
        indices, values, shape, is_coalesced=coalesced[0] if coalesced else None, check_invariants=True
    )


_BUILDERS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": lambda text, encoding: text.encode(encoding),
    "__builtin__.complex": complex,
    "builtins.complex": complex,
    "torch.Size": tuple,
    "torch.device": torch.device,
    "torch.serialization._get_layout": lambda name: torch.sparse_coo if name == "torch.sparse_coo" else name,
    "torch._utils._rebuild_parameter": lambda tensor, *options: tensor,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": lambda *arguments: _tensor(*arguments),
}
