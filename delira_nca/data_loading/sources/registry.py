"""Open a source by its name: verified files in, plain arrays out. Nothing is ever downloaded."""

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
    """What was read from a source.

    Parameters
    ----------
    source : Source
        Its entry.
    files : tuple of FoundFile
        The files, verified, with their sha256.
    arrays : Arrays
        What is in them.
    """

    source: Source
    files: tuple[FoundFile, ...]
    arrays: Arrays


def available() -> tuple[str, ...]:
    """Names of all sources, whether their files are here or not.

    Examples
    --------
    >>> "digits" in available()
    True
    """
    return tuple(SOURCES)


def describe(name: str) -> Source:
    """Entry of a source: package, files with sha256, licence, citation, shapes, options.

    Raises
    ------
    UnknownNameError
        With the nearest name.

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
    """Whether the files of a source, or the package file they are in, are found; nothing is read or verified.

    Examples
    --------
    >>> is_here("digits"), is_here("nuclei_2d", root="nowhere")
    (True, False)
    """
    return package_files.is_here(describe(name), root)


def open_source(name: str, root: Root = None, **options: Any) -> Arrays:
    """Arrays of a source. Also called ``sources.open``.

    Parameters
    ----------
    name : str
        One of :func:`available`.
    root : str, path-like or None
        Where the files are: a package file (wheel, tarball, ``.deb``), a folder with it in it, or a folder with its
        unpacked or installed content. ``None`` looks for the installed package, or for a font of the system.
    options : of this source, see ``describe(name).options``: ``picture`` and ``size`` of a drawing, ``size`` of a
        dahlia, ``character`` and ``size`` of an emoji, ``num_samples``, ``shape``, ``seed`` and ``noise`` of what is
        computed.

    Returns
    -------
    dict of arrays
        ``describe(name).arrays`` says which, of what shape and type. Pictures have their channels first.

    Raises
    ------
    UnknownNameError
        If nothing has this name.
    UnknownKeywordError
        If the source has no such option.
    MissingDependencyError
        If the package, or a library to read its files with, is missing; with the command that brings it.
    MissingFileError
        If ``root`` does not exist, is damaged, or lacks a file.
    ConfigError
        If a file is another one than was checked (the sha256 found and the one expected are named).

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
    """Do what :func:`open_source` does, and tell which files were read.

    Parameters
    ----------
    name, root, options : as of :func:`open_source`, whose errors it raises.

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
