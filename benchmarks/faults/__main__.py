"""Run families of faults: ``python -m benchmarks.faults data training --trials 20 --page docs/faults.md``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.report import Cells, Row, Section, as_markdown
from benchmarks.faults.runner import HARD_LIMIT, run_trial


class Family(NamedTuple):
    """Modules of cases, each with a list ``CASES``, and the section of the page that shows them."""

    modules: tuple[str, ...]
    section: Section


FAMILIES = {
    "data": Family(
        ("benchmarks.faults.data_cases", "benchmarks.faults.background_cases"),
        Section(
            "When loading fails",
            f"""
What happens to a data manager, or to a function in the background, when something goes wrong. Each trial is a process
of its own with a hard limit of {HARD_LIMIT:g} seconds. It survives if the right exception with the original text and
the right place arrives in time (or the process ends with the right code), and if afterwards no process and no shared
memory is left. Seconds count from the fault to the exception, or, where none is raised, to the end of all processes.
""",
            "Workers",
        ),
    ),
    "training": Family(
        tuple(
            f"benchmarks.faults.{name}_cases"
            for name in ("training", "kill", "signal", "file", "error", "nan", "tensorflow")
        ),
        Section(
            "When a training is interrupted",
            """
What becomes of a training, and of its checkpoints, when something goes wrong. Each trial is a process of its own, often
with more processes that train, are killed and begin again, and has to end in time. *Exact* means that the run goes on
to its end, and is then bit for bit the run that nothing happened to: weights, optimizer, pool, averaged weights,
generators, history, best epoch, and every scalar that was logged. Afterwards no process and no temporary file may be
left. Seconds count from the fault to the end of the trial, which is where the run has gone on to its end, been compared
with the other run, and been looked at.
""",
            "Setting",
        ),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Run families of faults and count how many trials end well.")
    parser.add_argument("families", nargs="+", choices=FAMILIES)
    parser.add_argument("--trials", type=int, default=20, help="so many of each case; some have more, or fewer")
    parser.add_argument("--jobs", type=int, default=1, help="so many trials at the same time")
    parser.add_argument("--setting", help="only cases in this setting, for example '2, fork'")
    parser.add_argument("--match", default="", help="only cases with this in their name")
    parser.add_argument("--page", type=Path, help="where to write the tables, as Markdown")
    parser.add_argument("--json", type=Path, help="counts: those of cases that are not run now are kept")
    given = parser.parse_args()
    known: dict[str, list[list[str]]] = {}
    if given.json and given.json.exists():
        known = json.loads(given.json.read_text())
    tables = {name: run_family(FAMILIES[name], given) for name in given.families}
    counts = {name: merged(known.get(name, []), [row.cells for row in rows]) for name, rows in tables.items()}
    if given.page:
        given.page.write_text(as_markdown({FAMILIES[name].section: rows for name, rows in counts.items()}))
    if given.json:
        given.json.write_text(json.dumps(counts, indent=1))
    everything = [row for rows in tables.values() for row in rows]
    print("load average at the end:", *(f"{load:.1f}" for load in os.getloadavg()))
    return int(any(row.num_survived < len(row.outcomes) for row in everything))


def merged(known: Sequence[Sequence[str]], new: Sequence[Cells]) -> list[Cells]:
    """Rows of a table, of which some were counted anew, in the order that they had."""
    rows = {tuple(cells[:2]): tuple(cells) for cells in known}
    return list({**rows, **{cells[:2]: cells for cells in new}}.values())


def run_family(family: Family, given: argparse.Namespace) -> list[Row]:
    """Run the chosen cases of a family, and say how each went."""
    chosen = [
        (module, number, case)
        for module in family.modules
        for number, case in enumerate(importlib.import_module(module).CASES)
        if given.setting in (None, case.setting) and given.match in case.name
    ]
    rows = []
    with ThreadPoolExecutor(given.jobs) as pool:
        numbers = [range(case.num_trials(given.trials)) for _, _, case in chosen]
        started = [[pool.submit(run_trial, *of, n) for n in some] for of, some in zip(chosen, numbers, strict=True)]
        for (_, _, case), trials in zip(chosen, started, strict=True):
            row = Row(case, [trial.result() for trial in trials])
            rows.append(row)
            print("{:45} {:10} {:>3} trials, {:>3} survived, median {} s, longest {} s".format(*row.cells), flush=True)
            for outcome in [outcome for outcome in row.outcomes if outcome.wrong][:1]:
                print("   ", "; ".join(outcome.wrong), outcome.output[-3000:], sep="\n    ", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
