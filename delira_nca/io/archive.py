"""What a checkpoint declares, looked at before anything is made of it: nothing is executed, nothing large is allocated.

torch.load(weights_only=True) executes nothing either, but it lets a file call functions that allocate what they are
told to, and does not promise to compare the sizes that a file declares with what it holds. Here every entry of the
archive, every storage and every tensor has to fit.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import torch

from delira_nca.io.seal import Damage

__all__ = ["check_archive"]

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_PART = re.compile(r"[\w.\-]+", re.ASCII)
_OPCODES = """
    APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD EMPTY_DICT EMPTY_LIST
    EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS STOP TUPLE
    TUPLE1 TUPLE2 TUPLE3
"""
"""Of the language of pickles, what torch writes and reads again. Some of the rest allocates what it is told to."""
_PLAIN = {
    "collections.OrderedDict",
    "_codecs.encode",
    "__builtin__.complex",
    "builtins.complex",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_sparse_tensor",
}
_STORAGES = {
    "torch.storage.UntypedStorage": 1,
    **{f"torch.{kind}Storage": 1 for kind in ("Bool", "Byte", "Char")},
    **{f"torch.{kind}Storage": 2 for kind in ("BFloat16", "Half", "Short")},
    **{f"torch.{kind}Storage": 4 for kind in ("Float", "Int")},
    **{f"torch.{kind}Storage": 8 for kind in ("ComplexFloat", "Double", "Long")},
    "torch.ComplexDoubleStorage": 16,
}
"""Bytes of a number."""
_TENSORS = {"torch._utils._rebuild_tensor_v2": False, "torch._utils._rebuild_tensor_v3": True}


def check_archive(file: IO[bytes], size: int) -> None:
    """Refuse an archive that is not what a checkpoint is, or declares more than it holds.

    Parameters
    ----------
    file : open for reading, in binary.
    size : bytes of the archive, without its comment.

    Raises
    ------
    Damage
        With the entry, the function or the tensor that does not fit.

    Examples
    --------
    >>> content = io.BytesIO()
    >>> torch.save({"weights": torch.ones(3)}, content)
    >>> check_archive(content, len(content.getvalue()))
    """
    _check_directory(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            _check_entries(archive.infolist(), size)
            root = archive.infolist()[0].filename.partition("/")[0]
            pickled = f"{root}/data.pkl"
            if pickled not in entries:
                raise Damage("it is an archive of something else: it has no data.pkl")
        content = _content(file, entries[pickled], size)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise Damage(f"its archive is damaged: {error}") from error
    records = {name.removeprefix(f"{root}/data/"): info.file_size for name, info in entries.items()}
    try:
        _Declared(content, records).load()
    except Damage:
        raise
    except Exception as error:  # any kind, from bytes that are no pickle
        raise Damage(f"its pickle is damaged: {type(error).__name__}: {error}") from error


def _check_directory(file: IO[bytes], size: int) -> None:
    """Refuse an archive with a directory that two readers could look for in two places: they would see two archives."""

    def read(record: struct.Struct, place: int) -> tuple[Any, ...]:
        if place < 0:
            raise Damage("its archive is damaged: it is too short to be one")
        file.seek(place)
        content = file.read(record.size)
        if len(content) < record.size:
            raise Damage("its archive is damaged: its end is missing")
        return record.unpack(content)

    place = size - _END.size
    mark, *_, length, offset, _ = read(_END, place)
    if mark != b"PK\x05\x06":
        raise Damage("its archive is damaged: it does not end where it should")
    if place >= _LOCATOR.size + _END64.size:
        mark, _, where, _ = read(_LOCATOR, place - _LOCATOR.size)
        if mark == b"PK\x06\x07":
            place -= _LOCATOR.size + _END64.size
            mark, *_, length, offset = read(_END64, place)
            if where != place or mark != b"PK\x06\x06":
                raise Damage("its archive is damaged: its parts do not point to one another")
    if offset + length != place:
        raise Damage("its archive is damaged: its directory does not lie where it should")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    roots, names = set(), set()
    for info in entries:
        root, *parts = info.orig_filename.split("/")
        odd = root in ("", ".", "..") or "\\" in root or "\0" in root or not parts
        if odd or any(part in (".", "..") or _PART.fullmatch(part) is None for part in parts):
            raise Damage(f"its entry {info.orig_filename!r} has a name that torch never writes")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise Damage(
                f"its entry {info.filename!r} holds {info.file_size} bytes in {info.compress_size}: it is compressed, "
                f"which torch never does"
            )
        roots.add(root)
        names.add(info.filename.casefold())
    if len(names) != len(entries) or len(roots) != 1:
        raise Damage("its archive has entries of the same name, none, or in several folders")
    if (total := sum(info.file_size for info in entries)) > size:
        raise Damage(f"its entries declare {total} bytes, the file holds {size}")


def _content(file: IO[bytes], entry: zipfile.ZipInfo, size: int) -> bytes:
    """Bytes of an entry; zipfile would ask for a CRC, which torch can be told to leave out."""
    file.seek(entry.header_offset)
    mark, *_, name, extra = struct.unpack("<4s22xHH", file.read(30))
    begin = entry.header_offset + 30 + name + extra
    if mark != b"PK\x03\x04" or begin + entry.file_size > size:
        raise Damage(f"its entry {entry.filename!r} does not lie where its archive says")
    file.seek(begin)
    return file.read(entry.file_size)


class _Name:
    """Of a function or class that a pickle asks for: called in its place, it makes nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        if self.name in _TENSORS:
            _check_tensor(*arguments, typed=_TENSORS[self.name])
        elif self.name not in _PLAIN:
            raise Damage(f"it calls {self.name}")
        return _Ordered() if self.name == "collections.OrderedDict" else _Made()


class _Ordered(dict[Any, Any]):
    """In the place of an OrderedDict."""


class _Made:
    """In the place of anything else that a function of a pickle would have given."""


class _Storage:
    """Numbers that a pickle declares."""

    def __init__(self, numel: int, item_bytes: int) -> None:
        self.numel, self.item_bytes = numel, item_bytes


class _Declared(pickle._Unpickler):
    """A reader of pickles that checks what they declare, and makes only lists, dicts, tuples, strings and numbers."""

    def __init__(self, content: bytes, records: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _TENSORS or full in _PLAIN or _item_bytes(full) is not None:
            return _Name(full)
        raise Damage(f"it holds a {full}: a checkpoint holds tensors and plain Python only")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, numel = pid
        item_bytes = _item_bytes(storage.name)
        if kind != "storage" or type(key) is not str or not _is_count(numel) or item_bytes is None:
            raise Damage(f"it holds a reference {kind!r} that torch never writes")
        held = self._records.get(key)
        if held is None:
            raise Damage(f"the numbers of a tensor are missing: it has no entry data/{key}")
        if numel * item_bytes > held:
            raise Damage(f"a tensor declares {numel * item_bytes} bytes, the file holds {held} for it")
        return _Storage(numel, item_bytes)


def _build(reader: Any) -> None:
    """Take attributes off the stack. A state_dict has them, as an OrderedDict; they change nothing here."""
    reader.stack.pop()
    if not isinstance(reader.stack[-1], _Ordered):
        raise Damage("it sets attributes, which a checkpoint has none of")


_Declared.dispatch = {
    code: _build if name == "BUILD" else pickle._Unpickler.dispatch[code]
    for name in _OPCODES.split()
    for code in getattr(pickle, name)
}


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _item_bytes(name: str) -> int | None:
    """Bytes of a number in a storage of that class or dtype of torch; None if it is neither."""
    if name in _STORAGES:
        return _STORAGES[name]
    dtype = vars(torch).get(name.removeprefix("torch."))  # not getattr, for which torch imports what it is asked for
    return dtype.itemsize if isinstance(dtype, torch.dtype) else None


def _check_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *more: Any, typed: bool) -> None:
    item_bytes = _item_bytes(more[2].name) if typed else storage.item_bytes
    fits = isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)
    if not (fits and item_bytes and len(shape) == len(stride) and all(map(_is_count, (offset, *shape, *stride)))):
        raise Damage("it holds a tensor that torch never writes")
    numel = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1 if numel else 0
    if max(numel, last) * item_bytes > storage.numel * storage.item_bytes:
        raise Damage(
            f"a tensor of shape {shape} declares {max(numel, last) * item_bytes} bytes, the file holds "
            f"{storage.numel * storage.item_bytes} for it"
        )
