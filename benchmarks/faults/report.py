"""The page of all faults, for the documentation."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.faults.case import Case
from benchmarks.faults.runner import Outcome

__all__ = ["Row", "Section", "as_markdown"]


@dataclass
class Row:
    """A case and how its trials went."""

    case: Case
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def num_survived(self) -> int:
        """Trials in which nothing was wrong."""
        return sum(not outcome.wrong for outcome in self.outcomes)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        seconds = [outcome.seconds for outcome in self.outcomes]
        times = (f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
        return self.case.name, self.case.setting, str(len(seconds)), str(self.num_survived), *times


class Section(NamedTuple):
    """Of the page: its title, what it is about, and what the settings of its cases are."""

    title: str
    introduction: str
    column: str


Cells = tuple[str, ...]


def as_markdown(tables: Mapping[Section, list[Cells]]) -> str:
    """Page with a table for each section, and how many trials there were in all."""
    trials, survived = (sum(int(cells[place]) for of in tables.values() for cells in of) for place in (2, 3))
    lines = ["# Faults, injected and survived", ""]
    lines += [f"{survived} of {trials} trials survived. This page is made by `make faults` (Python"]
    lines += [f"{platform.python_version()}, {platform.system()}, {os.cpu_count()} cores)."]
    for section, of in tables.items():
        lines += ["", f"## {section.title}", "", *section.introduction.strip().splitlines(), ""]
        header = ("Fault", section.column, "Trials", "Survived", "Median, s", "Longest, s")
        lines += [_line(header), _line(["---", "---", "---:", "---:", "---:", "---:"])]
        lines += [_line(cells) for cells in of]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
