"""Access to sources by name, with verified files and without downloads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from delira_nca.data_loading.sources import package_files
from delira_nca.data_loading.sources.catalogue import SOURCES
from delira_nca.data_loading.sources.package_files import FoundFile
from delira_nca.data_loading.sources.source import Arrays, Source
from delira_nca.errors import refuse_unknown_keywords, require_choice

__all__ = ["Opened", "available", "check", "describe", "is_here", "open_source"]

Root = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Opened:
    """Result of reading a source.

    Parameters
    ----------
    source : Source
        Entry of the source.
    files : tuple of FoundFile
        Verified files with their sha256.
    arrays : Arrays
        Arrays of the source.
    """

    source: Source
    files: tuple[FoundFile, ...]
    arrays: Arrays


def available() -> tuple[str, ...]:
    """Return the names of all sources, including those without files on this machine.

    Examples
    --------
    >>> "digits" in available()
    True
    """
    return tuple(SOURCES)


def describe(name: str) -> Source:
    """Return the entry of a source: package, files with sha256, licence, citation, shapes, options.

    Examples
    --------
    >>> describe("digits").arrays[0].shape
    (1797, 1, 8, 8)
    >>> describe("grvel")
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: unknown source 'grvel'. Known: ... Did you mean 'gravel'?
    """
    require_choice("source", name, SOURCES)
    return SOURCES[name]


def is_here(name: str, root: Root = None) -> bool:
    """Whether the files of a source, or their package file, exist; they are not read or verified.

    Examples
    --------
    >>> is_here("digits"), is_here("nuclei_2d", root="nowhere")
    (True, False)
    """
    return package_files.is_here(describe(name), root)


def open_source(name: str, root: Root = None, **options: Any) -> Arrays:
    """Return the arrays of a source. This function is also available as ``sources.open``.

    Parameters
    ----------
    name : str
        Name of the source, one of :func:`available`.
    root : str, path-like or None
        Package file (wheel, tarball, ``.deb``), folder that contains it, or folder with its unpacked or installed
        content. By default the installed package, or a font of the system, is used.
    **options : object
        Options of the source, see ``describe(name).options``: ``picture`` and ``size`` of a drawing, ``size``
        of a dahlia, ``character`` and ``size`` of an emoji, ``num_samples``, ``shape``, ``seed`` and ``noise``
        of computed data.

    Returns
    -------
    dict of arrays
        ``describe(name).arrays`` lists their names, shapes and dtypes. Images have their channels first.

    Raises
    ------
    UnknownNameError
        If the name is unknown.
    UnknownKeywordError
        If the source has no such option.
    MissingDependencyError
        If the package, or a library to read its files, is missing. The message contains the command to install it.
    MissingFileError
        If ``root`` does not exist, is damaged, or lacks a file.
    ConfigError
        If the sha256 of a file differs from the expected one. The message contains both.

    Examples
    --------
    >>> digits = open_source("digits")
    >>> digits["data"].shape, digits["label"][:5].tolist()
    ((1797, 1, 8, 8), [0, 1, 2, 3, 4])
    >>> open_source("discs", num_samples=2, shape=(16, 16, 16))["label"].shape
    (2, 1, 16, 16, 16)
    """
    return check(name, root, **options).arrays


def check(name: str, root: Root = None, **options: Any) -> Opened:
    """Read a source as :func:`open_source` does, and return the files that were read, too.

    Parameters
    ----------
    name, root, **options
        See :func:`open_source`. The same errors are raised.

    Examples
    --------
    >>> check("digits").files[0].path
    'sklearn/datasets/data/digits.csv.gz'
    """
    source = describe(name)
    refuse_unknown_keywords(f"open({name!r})", options.keys() - source.options.keys(), source.options)
    files = package_files.read_files(source, root)
    arrays = source.decode(*(file.content for file in files), **options)
    source.require_arrays(arrays, {**source.options, **options})
    return Opened(source, tuple(files), arrays)
