"""The table of a family of faults, for the documentation."""

from __future__ import annotations

import platform
import statistics
from dataclasses import dataclass, field

from benchmarks.faults.case import Case
from benchmarks.faults.runner import Outcome

__all__ = ["Row", "as_rst"]


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


def as_rst(title: str, introduction: str, command: str, rows: list[Row], column: str = "Workers") -> str:
    """Page with the table.

    Parameters
    ----------
    title, introduction : what the family is about.
    command : what makes the page.
    column : what the settings are.
    """
    lines = [title, "=" * len(title), "", *introduction.strip().splitlines(), ""]
    lines += [f"Made by ``{command}`` (Python {platform.python_version()}, {platform.system()})."]
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :widths: 40 14 9 11 13 13", ""]
    header = ("Fault", column, "Trials", "Survived", "Median, s", "Longest, s")
    for cells in (header, *(row.cells for row in rows)):
        lines += [f"   {'*' if place == 0 else ' '} - {cell}" for place, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"
