"""Search for the files of a source in package files, folders and installed packages, with verification by sha256."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from delira_nca.data_loading.sources.archive import is_archive, read_members
from delira_nca.data_loading.sources.source import Source
from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError

__all__ = ["FoundFile", "find_folder", "find_module", "is_here", "read_files"]


@dataclass(frozen=True)
class FoundFile:
    """Verified file of a source.

    Parameters
    ----------
    path : str
        Path inside the package.
    origin : Path
        The file, or the package file that contains it.
    content : bytes
        Content of the file.
    sha256 : str
        Checksum of the content.
    """

    path: str
    origin: Path
    content: bytes
    sha256: str


def find_module(name: str) -> Path | None:
    """Return the folder of an installed Python package without importing it."""
    spec = importlib.util.find_spec(name)
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(folders))).parent if folders else None


def find_folder(*parts: str) -> Path | None:
    """Return the folder of an installed package if it exists."""
    folder = Path(*parts)
    return folder if folder.is_dir() else None


def is_here(source: Source, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether the files of a source, or their package file, exist; they are not read or verified."""
    try:
        _find(source, root)
    except (ConfigError, MissingDependencyError, OSError):
        return False
    return True


def read_files(source: Source, root: str | os.PathLike[str] | None = None) -> list[FoundFile]:
    """Read and verify the files of a source, without downloading or unpacking to disk.

    Parameters
    ----------
    source : Source
        Entry of the catalogue.
    root : str, path-like or None
        Package file, folder that contains it, folder with its unpacked or installed content, or the file itself if the
        source has only one. By default the installed package is used.

    Returns
    -------
    One entry per file in the order of ``source.files``.

    Raises
    ------
    MissingDependencyError
        If ``root`` is ``None`` and the package is not installed; the message describes how to get it.
    MissingFileError
        If ``root`` does not exist, is damaged, or lacks a file.
    ConfigError
        If the sha256 of a file differs from the expected one.
    """
    found = []
    for file, (origin, content) in zip(source.files, _read(source, _find(source, root)), strict=True):
        sha256 = hashlib.sha256(content).hexdigest()
        if file.is_fixed and sha256 != file.sha256:
            raise ConfigError(
                f"{file.path} in {str(origin)!r} is not the file that {source.name!r} was checked with: its sha256 is "
                f"{sha256}, expected {file.sha256}, as in {source.package}"
            )
        found.append(FoundFile(file.path, origin, content, sha256))
    return found


def _find(source: Source, root: str | os.PathLike[str] | None) -> Path | list[Path]:
    """Return the package file that contains the files, or the files themselves."""
    package, paths = source.package, [file.path for file in source.files]
    if package is None:
        if root is not None:
            raise ConfigError(f"{source.how_to_get()}; leave out root={os.fspath(root)!r}")
        return []
    place = package.find() if root is None else Path(root).expanduser()
    if place is None:
        raise MissingDependencyError(
            f"{source.name!r} is in {package}, which was not found on this system. {source.how_to_get()}"
        )
    if not place.exists():
        raise MissingFileError(f"there is no {str(place)!r}. {source.how_to_get()}")
    if place.is_file():
        if len(paths) == 1 and (place.name == PurePosixPath(paths[0]).name or not is_archive(place)):
            return [place]
        if not is_archive(place):
            raise MissingFileError(f"{str(place)!r} is neither a package file nor a folder. {source.how_to_get()}")
        return place
    files = [_in_folder(place, path) for path in paths]
    missing = [path for path, file in zip(paths, files, strict=True) if file is None]
    package_files = sorted(place.glob(package.archive))
    if missing and package_files:
        return package_files[-1]
    if missing:
        error = MissingDependencyError if root is None else MissingFileError
        raise error(
            f"{str(place)!r} holds neither {package.archive} nor {', '.join(missing)}, which {source.name!r} needs. "
            f"{source.how_to_get()}"
        )
    return [file for file in files if file is not None]


def _in_folder(folder: Path, path: str) -> Path | None:
    """Return a file in a folder that corresponds to the package, or to one of the folders inside it."""
    parts = PurePosixPath(path).parts
    candidates = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((file for file in candidates if file.is_file()), None)


def _read(source: Source, place: Path | list[Path]) -> list[tuple[Path, bytes]]:
    if isinstance(place, list):
        try:
            return [(file, file.read_bytes()) for file in place]
        except OSError as error:
            raise MissingFileError(f"cannot read {source.name!r}: {error}") from error
    paths = [file.path for file in source.files]
    found = read_members(place, paths)
    missing = [path for path in paths if path not in found]
    if missing:
        raise MissingFileError(
            f"the package file {str(place)!r} has no {', '.join(missing)}; {source.name!r} is in {source.package}. "
            f"{source.how_to_get()}"
        )
    return [(place, found[path]) for path in paths]
