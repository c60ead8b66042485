"""Commented configs of runs, from which a user starts."""

from __future__ import annotations

import os
from pathlib import Path

from delira_nca.errors import ConfigError, require_choice
from delira_nca.io.files import replaced, writable
from delira_nca.io.paths import absolute

__all__ = ["TEMPLATES", "write_template"]

TEMPLATES = ("growing", "classification", "segmentation", "texture")
"""Kinds of runs."""


def write_template(kind: str, out: str | os.PathLike[str] | None = None) -> Path:
    """Write a commented config of a run, for ``delira-nca train``.

    Parameters
    ----------
    kind : str
        One of :data:`TEMPLATES`.
    out : str or path, optional
        YAML file to write; ``<kind>.yaml`` in the working directory by default.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    UnknownNameError
        If the kind is unknown. The message contains the most similar name.
    ConfigError
        If the file exists, or is not called ``.yaml`` or ``.yml``.
    UnwritableError
        If the file cannot be written.

    Examples
    --------
    >>> from delira_nca.experiment import RunConfig
    >>> file = write_template("texture", getfixture("tmp_path") / "mine.yaml")
    >>> RunConfig.from_file(file).name
    'texture'
    >>> write_template("clasification")
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: unknown kind 'clasification'. Known: ... Did you mean 'classification'?
    """
    require_choice("kind", kind, TEMPLATES)
    path = absolute(f"{kind}.yaml" if out is None else out)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"a config is written as .yaml or .yml, not as {path.name!r}")
    if os.path.lexists(path):
        raise ConfigError(f"{os.fspath(path)!r} exists and is not replaced: remove it, or give another file (--out)")
    text = (Path(__file__).with_name("templates") / f"{kind}.yaml").read_text(encoding="utf-8")
    with writable(path), replaced(path) as temporary:
        temporary.write_text(text.replace(f"delira-nca train {kind}.yaml", f"delira-nca train {path.name}"), "utf-8")
    return path
