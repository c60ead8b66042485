"""Registry of the back ends of roll-outs, and the choice of one for a job."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from delira_nca.errors import ConfigError, require_choice
from delira_nca.rollout.eager import Reference
from delira_nca.rollout.job import Job
from delira_nca.rollout.native import Native
from delira_nca.rollout.reference import Cell
from delira_nca.rollout.sparse import Sparse

__all__ = [
    "BACKENDS",
    "Backend",
    "backend_for",
    "begin_run",
    "choose",
    "current_backend",
    "register_backend",
    "set_backend",
    "using_backend",
]

_log = logging.getLogger("delira_nca")


class Backend(Protocol):
    """Interface of back ends. The values and gradients of each are tested against the reference."""

    @property
    def name(self) -> str:
        """Name for :func:`set_backend`."""
        ...

    def unavailable(self) -> str | None:
        """Return why the back end cannot run on this machine, or None."""
        ...

    def refusal(self, job: Job) -> str | None:
        """Return why the back end does not support a job, or None. Called only if it is available."""
        ...

    def states(self, job: Job) -> dict[int, Tensor]:
        """Return the state after each of the job's stops, of which there is at least one."""
        ...


BACKENDS: dict[str, Backend] = {}
"""Back ends by name, in the order in which ``auto`` tries them."""

_chosen = "auto"
_told: set[tuple[str, int]] = set()
_run_id, _is_quiet = "", False
_FAST = (
    "Fast on a CPU: float32, a Perception, an MLPRule with one hidden layer of relu or leaky_relu, an AliveMask; "
    "delira_nca.info() tells what runs here"
)


def register_backend(backend: Backend, *, first: bool = False) -> None:
    """Add a back end under its name. It replaces one of the same name, at the same position.

    Parameters
    ----------
    backend : Backend
        Back end to add.
    first : bool
        Whether ``auto`` tries it before all others; otherwise it is tried just before the reference.
    """
    if backend.name in BACKENDS:
        BACKENDS[backend.name] = backend
        return
    others = dict(BACKENDS)
    BACKENDS.clear()
    last = {"reference": others.pop("reference")} if "reference" in others else {}
    BACKENDS.update({backend.name: backend, **others} if first else {**others, backend.name: backend})
    BACKENDS.update(last)


def set_backend(name: str) -> None:
    """Set the back end of all roll-outs of this process.

    Parameters
    ----------
    name : str
        Name of a back end, or ``"auto"`` for the first of native, sparse and reference that supports a job.

    Raises
    ------
    UnknownNameError
        If no back end of this name is registered.
    ConfigError
        If the back end cannot run on this machine. The message gives the reason.

    Examples
    --------
    >>> set_backend("reference")
    >>> current_backend()
    'reference'
    >>> set_backend("auto")
    """
    global _chosen
    require_choice("back end", name, ["auto", *BACKENDS])
    if name != "auto" and (reason := BACKENDS[name].unavailable()) is not None:
        raise ConfigError(f"back end {name!r} cannot run here: {reason}")
    _chosen = name


def current_backend() -> str:
    """Return the name set by :func:`set_backend`; ``"auto"`` by default."""
    return _chosen


@contextmanager
def using_backend(name: str) -> Iterator[None]:
    """Set the back end within a ``with`` block."""
    before = current_backend()
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def choose(job: Job) -> Backend:
    """Return the back end for a job: the one that was set, or the first that supports the job.

    On a CPU, the use of another back end than the first is logged with the reasons, once per run of a trainer: as a
    warning for roll-outs with gradients, else as information.

    Raises
    ------
    ConfigError
        If the back end that was set does not support the job.
    """
    backend, reasons = _decide(job)
    if reasons and job.x.device.type == "cpu" and job.x.numel():
        _tell(type(job.cell).__name__, backend.name, reasons)
    return backend


def _decide(job: Job) -> tuple[Backend, dict[str, str]]:
    """Return the back end for a job, and the reason why each back end before it does not support the job."""
    if _chosen != "auto":
        backend = BACKENDS[_chosen]
        if (reason := backend.refusal(job)) is not None:
            raise ConfigError(
                f"back end {_chosen!r} cannot do this roll-out: {reason}. set_backend('auto') takes one that can"
            )
        return backend, {}
    reasons: dict[str, str] = {}
    for name, backend in BACKENDS.items():
        reason = backend.unavailable() or backend.refusal(job)
        if reason is None:
            return backend, reasons
        reasons[name] = reason
    raise ConfigError(f"no back end can do this roll-out: {reasons}")


def backend_for(cell: Cell, num_channels: int, dims: int, *, like: Tensor) -> str | None:
    """Return the name of the back end that would compute training roll-outs.

    Parameters
    ----------
    cell : Cell
        Automaton.
    num_channels, dims : int
        Number of channels and of spatial dimensions of the states.
    like : tensor
        Any tensor with the dtype and the device of the states.

    Returns
    -------
    str or None
        None if the back end that was set does not support it.

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel, presets
    >>> with using_backend("sparse"):
    ...     backend_for(BasicNCAModel(**presets.growing()), 16, 2, like=torch.empty(0))
    'sparse'
    """
    job = Job(like.new_zeros(1, num_channels, *(8,) * dims), cell, 1, (1,))
    with torch.enable_grad():
        try:
            return _decide(job.gated())[0].name
        except ConfigError:
            return None


def begin_run(run_id: str, *, quiet: bool = False) -> None:
    """Start a new run, in which slower back ends are logged again.

    Parameters
    ----------
    run_id : str
        Name of the run. A call with the name of the last call has no effect.
    quiet : bool, default False
        Whether to log nothing, because another process of the training does.
    """
    global _run_id, _is_quiet
    _is_quiet = quiet
    if run_id != _run_id:
        _run_id = run_id
        _told.clear()


def _tell(cell: str, backend: str, reasons: Mapping[str, str]) -> None:
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    text = "; ".join(f"{' and '.join(group)}: {reason}" for reason, group in names.items())
    message = (
        f"roll-outs of {cell} run on the back end {backend!r}, which is slower than {next(iter(reasons))!r} ({text})"
    )
    level = logging.WARNING if torch.is_grad_enabled() else logging.INFO
    if (message, level) not in _told and not _is_quiet:
        _told.add((message, level))
        _log.log(level, "%s. %s", message, _FAST)


for _backend in (Native(), Sparse(), Reference()):
    register_backend(_backend)
