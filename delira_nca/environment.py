"""Report of the environment: versions, processor, memory, and which back ends can run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delira_nca._version import __version__
from delira_nca.machine import available_memory, cpu_name, total_memory, usable_cores
from delira_nca.models import BasicNCAModel, presets
from delira_nca.rollout import BACKENDS, Job, current_backend, native_library
from delira_nca.rollout.cost import format_bytes

__all__ = ["Environment", "info"]

_FOR_DEVELOPERS = {"dev", "docs", "test", "tests"}


@dataclass(frozen=True)
class Environment:
    """Result of :func:`info`. Its string is a short report.

    Attributes
    ----------
    versions : mapping of str to str
        Versions of the package, Python, torch and NumPy.
    system, cpu : str
        Operating system and processor.
    cores, threads : int
        Number of cores that this process may use, and number of torch's threads.
    gpus : tuple of str
        Names of the GPUs that torch finds.
    memory_available, memory_total : int or None
        Memory in bytes; None if it cannot be read.
    backend : str
        Last argument of :func:`delira_nca.set_backend`.
    backends : mapping of str to str or None
        Reason why each back end cannot run here, or None if it can. ``auto`` tries them in this order.
    auto : str or None
        Back end that ``auto`` chooses for a growing model on the CPU.
    passed_over : mapping of str to str
        Reason why ``auto`` skips each of the back ends before the chosen one for that model.
    instruction_sets_built, instruction_sets_usable : tuple of str
        Instruction sets of the native back end: those that were built, and those that this CPU supports, the fastest
        last.
    instruction_set : str or None
        Instruction set that the native back end uses; None if it cannot run.
    huge_pages : bool
        Whether ``THP_MEM_ALLOC_ENABLE`` was set, so that torch allocates huge pages.
    extras : mapping of str to str or None
        Versions of the optional packages; None for a package that is not installed.
    """

    versions: Mapping[str, str]
    system: str
    cpu: str
    cores: int
    threads: int
    gpus: tuple[str, ...]
    memory_available: int | None
    memory_total: int | None
    backend: str
    backends: Mapping[str, str | None]
    auto: str | None
    passed_over: Mapping[str, str]
    instruction_sets_built: tuple[str, ...]
    instruction_sets_usable: tuple[str, ...]
    instruction_set: str | None
    huge_pages: bool
    extras: Mapping[str, str | None]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            ("versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
            ("system", self.system),
            ("cpu", f"{self.cpu}; {self.cores} cores, {self.threads} threads of torch"),
            *(("gpu", name) for name in self.gpus),
            ("memory", self._memory()),
            *((f"back end {name}", self._state_of(name)) for name in self.backends),
            ("native for", self._instruction_sets()),
            ("huge pages", self._huge_pages()),
            ("extras", ", ".join(f"{name} {version or 'not installed'}" for name, version in self.extras.items())),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {text}" for name, text in rows if text)

    def _memory(self) -> str:
        if self.memory_available is None or self.memory_total is None:
            return "cannot be read here: no training is refused for its size"
        return f"{format_bytes(self.memory_available)} of {format_bytes(self.memory_total)} available"

    def _state_of(self, name: str) -> str:
        if (reason := self.backends[name]) is not None:
            return f"does not run: {reason}"
        notes = ["runs"]
        if name in self.passed_over:
            notes.append(f"not for a growing model: {self.passed_over[name]}")
        if name == self.auto:
            notes.append("'auto' takes it for a growing model")
        if name == self.backend:
            notes.append("set_backend() insists on it")
        return "; ".join(notes)

    def _instruction_sets(self) -> str:
        if not self.instruction_sets_built:
            return "no instruction set: it was not built"
        unused = [name for name in self.instruction_sets_built if name not in self.instruction_sets_usable]
        lacks = f"; this CPU lacks {', '.join(unused)}" if unused else ""
        return f"{', '.join(self.instruction_sets_built)}{lacks}; in use: {self.instruction_set or 'none'}"

    def _huge_pages(self) -> str:
        if not self.system.startswith("Linux"):
            return ""
        if self.huge_pages:
            return "THP_MEM_ALLOC_ENABLE is set"
        return "off: THP_MEM_ALLOC_ENABLE=1 before Python starts halves the time of the reference on large grids"


def info() -> Environment:
    """Report the environment of this package. Include the printed text in a bug report.

    Returns
    -------
    Environment
        Report with named fields; print it for a text.

    Examples
    --------
    >>> found = info()
    >>> found.backends["reference"] is None
    True
    >>> print(found)
    versions  ...
    """
    reasons = _reasons()
    backends = {name: backend.unavailable() for name, backend in BACKENDS.items()}
    auto = next((name for name, reason in reasons.items() if reason is None), None)
    before = list(reasons)[: list(reasons).index(auto)] if auto is not None else list(reasons)
    native_runs = native_library.why_not() is None
    return Environment(
        versions={
            "delira_nca": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpu=cpu_name(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())),
        memory_available=available_memory(),
        memory_total=total_memory(),
        backend=current_backend(),
        backends=backends,
        auto=auto,
        passed_over={name: reasons[name] or "" for name in before if backends[name] is None},
        instruction_sets_built=_built(),
        instruction_sets_usable=native_library.available() if native_runs else (),
        instruction_set=native_library.load().name if native_runs else None,
        huge_pages=os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
        extras=_extras(),
    )


def _reasons() -> dict[str, str | None]:
    """Reason why each back end cannot train a growing model on the CPU, or None; in the order of ``auto``."""
    with torch.random.fork_rng([]):
        model = BasicNCAModel(**presets.growing())
    job = Job(torch.zeros(1, model.num_channels, 8, 8), model, 1, (1,))
    return {name: backend.unavailable() or backend.refusal(job) for name, backend in BACKENDS.items()}


def _built() -> tuple[str, ...]:
    folder = Path(native_library.__file__).parent
    return tuple(name for name in native_library.INSTRUCTION_SETS if list(folder.glob(f"_native_{name}.*")))


def _extras() -> dict[str, str | None]:
    """Optional packages that the installed package declares, without those for its developers."""
    try:
        declared = importlib.metadata.requires("delira_nca") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, str | None] = {}
    for line in declared:
        requirement, _, condition = line.partition(";")
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", condition)
        name = re.match(r"[\w.-]+", requirement.strip())
        if extra is None or name is None or extra[1] in _FOR_DEVELOPERS or name[0].replace("-", "_") == "delira_nca":
            continue
        try:
            found[name[0]] = importlib.metadata.version(name[0])
        except importlib.metadata.PackageNotFoundError:
            found[name[0]] = None
    return dict(sorted(found.items()))
