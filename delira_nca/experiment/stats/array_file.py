"""A labelled data set in a file: netCDF or zarr, there whole, or as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError
from delira_nca.experiment.stats.libraries import import_for_stats
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.io.process import is_alive

if TYPE_CHECKING:
    import xarray

__all__ = ["read_dataset", "write_dataset"]

NETCDF, ZARR = ".nc", ".zarr"
_TRIES = 20


def write_dataset(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a data set; a kill at any moment leaves the former one or the new one. One process may write at a time.

    Parameters
    ----------
    dataset : of numbers, truth values and texts (as objects).
    path : ending in ``.nc`` for one netCDF-4 file, or ``.zarr`` for a folder.

    Raises
    ------
    UnknownNameError
        For another ending.
    MissingDependencyError
        If the library for the format is not installed.
    """
    path = _checked(path)
    if path.suffix == NETCDF:
        with replaced(path) as temporary:
            dataset.to_netcdf(temporary, engine="h5netcdf")
    else:
        with _replaced_folder(path) as temporary:
            # a chunk of zeros, which -0.0 is to some versions, would be left out and read as 0.0
            dataset.to_zarr(temporary, mode="w", consolidated=False, write_empty_chunks=True)


def read_dataset(path: str | os.PathLike[str]) -> xarray.Dataset:
    """Read a data set into memory.

    Raises
    ------
    UnknownNameError
        For an ending that is neither ``.nc`` nor ``.zarr``.
    MissingFileError
        If nothing is there.
    ConfigError
        If it cannot be read.
    MissingDependencyError
        If the library for the format is not installed.
    """
    path = _checked(path)
    for _ in range(_TRIES):
        place = _aside(path) if path.suffix == ZARR and not path.exists() else path
        before = _identity(place)
        if before is None:
            continue
        try:
            found = _read(place)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            if _identity(place) == before:
                raise ConfigError(f"{path} cannot be read: {error}") from error
        else:
            if _identity(place) == before:  # and was not replaced meanwhile
                return found
    if path.exists():
        raise ConfigError(f"{path} was replaced each time that it was read")
    raise MissingFileError(f"there is no {path}")


def _read(place: Path) -> xarray.Dataset:
    how: dict[str, Any] = (
        {"engine": "h5netcdf"} if place.suffix == NETCDF else {"engine": "zarr", "consolidated": False}
    )
    found: xarray.Dataset = import_for_stats("xarray").load_dataset(place, **how)
    return found


def _identity(place: Path) -> tuple[int, int] | None:
    """What tells a file or folder from the one that replaces it."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _checked(path: str | os.PathLike[str]) -> Path:
    path = absolute(path)
    if path.suffix not in (NETCDF, ZARR):
        raise UnknownNameError(f"a file of arrays ends in {NETCDF!r} (netCDF) or {ZARR!r}, not {path.name!r}")
    import_for_stats("xarray")
    for library in ("h5py", "h5netcdf") if path.suffix == NETCDF else ("zarr",):
        import_for_stats(library)
    return path


@contextlib.contextmanager
def _replaced_folder(path: Path) -> Iterator[Path]:
    """Path of a temporary folder that replaces ``path`` if the block ends well, and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path)
    temporary, aside = path.with_name(f".{path.name}.{os.getpid()}.tmp"), _aside(path)
    try:
        yield temporary
        if path.exists():
            os.rename(path, aside)  # a folder cannot replace one that is not empty; readers look here
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _tidy(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.former")


def _tidy(path: Path) -> None:
    """Finish what a killed process has begun: the former folder goes back or away, temporary ones away."""
    aside = _aside(path)
    if aside.exists() and not path.exists():
        os.rename(aside, path)
    shutil.rmtree(aside, ignore_errors=True)
    for folder in path.parent.glob(f".{path.name}.*.tmp"):
        pid = folder.name.removesuffix(".tmp").rpartition(".")[2]
        if pid.isdigit() and int(pid) != os.getpid() and not is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
