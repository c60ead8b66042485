"""The figures as tables: for the terminal, and for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.rollouts.measure import MODES, nanoseconds
from benchmarks.rollouts.workloads import Workload

__all__ = ["HEADER", "as_rst", "as_text", "machine_lines", "rows"]

RIVALS = ("plain eager", "NCALab")
HEADER = (
    "Variant", "T", "Train, ns", "(min .. max)", "x plain", "x NCALab", "Forward, ns", "(min .. max)", "x plain",
    "x NCALab", "Iteration, s", "Peak, MiB", "Forward, MiB",
)  # fmt: skip
NOTHING = "-"

Figures = Mapping[str, Any]


def figure(variant: Figures, workload: Workload, threads: str, mode: str) -> tuple[float, float, float] | None:
    """Median, least and most nanoseconds of a cell and a step: of the processor for one thread, else on the clock."""
    runs = variant["threads"].get(threads, {}).get(mode, [])
    clock = "cpu" if threads == "1" else "wall"
    spent = [nanoseconds(run[clock], workload, variant["steps"]) for run in runs]
    return (statistics.median(spent), min(spent), max(spent)) if spent else None


def significant(value: float) -> str:
    """Three figures.

    Examples
    --------
    >>> [significant(value) for value in (0.0412, 1.239, 38.71, 20712.3)]
    ['0.0412', '1.24', '38.7', '20712']
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def rows(figures: Figures, workload: Workload, threads: str) -> Iterator[tuple[str, ...]]:
    """One row per variant, as long as the header.

    Parameters
    ----------
    figures : of one workload, from the JSON file.
    workload : that was done, as it was done.
    threads : ``"1"``, ``"2"``: a key of the figures.
    """
    variants = figures["variants"]
    for name, variant in variants.items():
        cells = [name, str(variant["steps"])]
        for mode in MODES:
            own = figure(variant, workload, threads, mode)
            cells += (
                [NOTHING] * 2
                if own is None
                else [significant(own[0]), f"{significant(own[1])} .. {significant(own[2])}"]
            )
            for rival in RIVALS:
                other = figure(variants[rival], workload, threads, mode) if rival in variants else None
                cells.append(significant(other[0] / own[0]) if own and other else NOTHING)
        train = figure(variant, workload, threads, "train")
        cells.append(significant(train[0] * workload.num_cells * workload.steps * 1e-9) if train else NOTHING)
        memory = variant.get("memory") or {}
        for mode in MODES:
            grown = memory.get(mode)
            cells.append(("about " if grown["estimated"] else "") + significant(grown["mib"]) if grown else NOTHING)
        yield tuple(cells)


def machine_lines(machine: Figures) -> list[str]:
    """What one has to know of the machine, as sentences."""
    load = ["{:.1f} {:.1f} {:.1f}".format(*machine[when]) for when in ("load before", "load after")]
    set_as = {name: machine[name] for name in ("THP_MEM_ALLOC_ENABLE", "OMP_WAIT_POLICY")}
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"{machine['processor']}, {machine['cores']} cores; {versions}.",
        *(f"{name} was {'not set' if value is None else value}." for name, value in set_as.items()),
        f"Load average {load[0]} before and {load[1]} after; rounds: {machine['rounds']}.",
    ]


def as_text(figures: Figures, workload: Workload) -> str:
    """Tables of one workload for the terminal."""
    lines = [f"\n{workload.name}: {workload.text}"]
    for threads in figures["threads"]:
        lines.append(_caption(threads))
        table = [HEADER, *rows(figures, workload, threads)]
        widths = [max(len(row[place]) for row in table) for place in range(len(HEADER))]
        for row in table:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {row[0].ljust(len(first))}  {'  '.join(others)}")
    lines += [f"  {name}: {reason}" for name, reason in figures["missing"].items()]
    return "\n".join(lines)


def _caption(threads: str) -> str:
    return "1 thread, time of the processor" if threads == "1" else f"{threads} threads, time on the clock"


def as_rst(results: Figures, workloads: Mapping[str, Workload], command: str) -> str:
    """Page for the documentation.

    Parameters
    ----------
    results : content of the JSON file.
    workloads : by name, as they were done.
    command : what makes the page.
    """
    title = "How long a roll-out takes"
    lines = [title, "=" * len(title), "", *INTRODUCTION.strip().splitlines(), ""]
    lines += [f"Made by ``{command}``.", *machine_lines(results["machine"])]
    for name, figures in results["workloads"].items():
        lines += ["", name, "-" * len(name), "", f"{workloads[name].text[0].upper()}{workloads[name].text[1:]}."]
        for threads in figures["threads"]:
            lines += ["", f".. list-table:: {_caption(threads)}", "   :header-rows: 1", ""]
            for cells in (HEADER, *rows(figures, workloads[name], threads)):
                lines += [f"   {'*' if place == 0 else ' '} - {cell}" for place, cell in enumerate(cells)]
        missing = [f"{who} ({why})" for who, why in figures["missing"].items()]
        lines += ["", f"Not there: {'; '.join(missing)}."] if missing else []
    return "\n".join(lines) + "\n"


INTRODUCTION = """
Nanoseconds for one cell and one step, of a whole training step (forward, backward, gradients divided by their norms,
Adam) and of a roll-out without gradients. For one thread it is the time of the processor, which other programs on the
machine disturb least; for several, the time on the clock. Medians of rounds in which everybody takes turns in one
process. Ratios above 1 say how many times faster a variant is than plain eager PyTorch and than NCALab. T is the number
of steps that was timed: slow variants do fewer, and an iteration in seconds is for all steps of the workload. Peaks are
the growth of a new process in its first call with all steps; "about" marks those that were extended from fewer steps,
since all would not have fitted. Before anything is timed, each variant is checked against the reference back end. JAX
chooses its threads itself.
"""
