"""Roll-outs side by side: ``python -m benchmarks.rollout --json figures.json --table docs/rollout_data.rst``.

Every back end that is registered, plain eager PyTorch, and, where they are installed or a checkout is given, NCALab,
JAX and CAX. Nobody is timed before its result was checked against the reference back end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.rollouts.check import Expected, check_weights, what_is_wrong
from benchmarks.rollouts.contenders import Contender, Weights
from benchmarks.rollouts.measure import measure_memory, time_in_turns
from benchmarks.rollouts.peers import PEERS, Checkouts, contenders
from benchmarks.rollouts.table import as_rst, as_text, machine_lines
from benchmarks.rollouts.workloads import WORKLOADS, Workload
from delira_nca.rollout import BACKENDS

CHECKOUTS = {"NCALab": "ncalab", "CAX": "cax"}
WRONG = "NOT TIMED, its result is wrong: "


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", type=names, default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--backends", type=names, default=list(BACKENDS), help=f"of {', '.join(BACKENDS)}")
    parser.add_argument("--peers", type=names, default=list(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--threads", type=names, help="1 and as many as there are cores by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all-steps", action="store_true", help="let the slow ones do all steps, too")
    parser.add_argument("--quick", action="store_true", help="small grids, few steps, one round and thread, no memory")
    parser.add_argument("--no-memory", action="store_true", help="measure no memory")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--table", type=Path, help="where to write the tables, as reStructuredText")
    for peer, option in CHECKOUTS.items():
        parser.add_argument(f"--{option}", type=Path, help=f"folder of a checkout of {peer}")
    parsed = parser.parse_args(given)
    for what, known in (("workloads", WORKLOADS), ("backends", BACKENDS), ("peers", PEERS)):
        if unknown := [name for name in getattr(parsed, what) if name not in known]:
            parser.error(f"unknown {what} {unknown}: choose from {', '.join(known)}")
    if parsed.threads is None:
        parsed.threads = ["1"] if parsed.quick else list(dict.fromkeys(["1", str(os.cpu_count() or 1)]))
    if not all(number.isdigit() and int(number) for number in parsed.threads):
        parser.error(f"threads are whole numbers of at least 1, not {parsed.threads}")
    if parsed.quick:
        parsed.rounds, parsed.no_memory = 1, True
    return parsed


def about_the_machine(rounds: int) -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = models[0] if models else processor
    versions = {"Python": platform.python_version(), "torch": str(torch.__version__)}
    for package in ("jax", "flax"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "versions": versions,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE"),
        "rounds": rounds,
        "load before": os.getloadavg(),
    }


def checked(workload: Workload, given: argparse.Namespace, checkouts: Checkouts) -> dict[str, str]:
    """Who cannot take part or computes something else, and why."""
    missing: dict[str, str] = {}
    expected = Expected(workload)
    for draws_own_masks in (False, True):
        weights = check_weights(draws_own_masks)
        for name, contender in contenders(workload, weights, checkouts, given.backends, given.peers):
            if isinstance(contender, str):
                missing[name] = contender
            elif contender.draws_own_masks == draws_own_masks and (wrong := what_is_wrong(contender, expected)):
                missing[name] = WRONG + wrong
    return missing


def measure(workload: Workload, given: argparse.Namespace, checkouts: Checkouts) -> dict[str, Any]:
    """All figures of a workload."""
    missing = checked(workload, given, checkouts)
    everybody: dict[str, tuple[Contender, int]] = {}
    for name, contender in contenders(workload, Weights(), checkouts, given.backends, given.peers):
        if name not in missing and not isinstance(contender, str):
            does_all = contender.is_fast or given.all_steps
            everybody[name] = (contender, workload.steps if does_all else workload.short_steps)
    variants: dict[str, Any] = {name: {"steps": steps, "threads": {}} for name, (_, steps) in everybody.items()}
    for threads in given.threads:
        for name, runs in time_in_turns(everybody, given.rounds, int(threads)).items():
            variants[name]["threads"][threads] = {mode: [asdict(run) for run in taken] for mode, taken in runs.items()}
    everybody.clear()
    for name in [] if given.no_memory else variants:
        grown = measure_memory(workload, name, checkouts, quick=given.quick)
        if isinstance(grown, str):
            missing[f"memory of {name}"] = grown
        else:
            variants[name]["memory"] = {mode: asdict(memory) for mode, memory in grown.items()}
    return {"text": workload.text, "threads": given.threads, "variants": variants, "missing": missing}


def main(given_arguments: Sequence[str] | None = None) -> int:
    given = arguments(given_arguments)
    checkouts: Checkouts = {peer: getattr(given, option) for peer, option in CHECKOUTS.items()}
    machine = about_the_machine(given.rounds)
    results: dict[str, Any] = {"machine": machine, "workloads": {}}
    workloads = {name: WORKLOADS[name].quick() if given.quick else WORKLOADS[name] for name in given.workloads}
    torch.manual_seed(0)
    for name, workload in workloads.items():
        results["workloads"][name] = measure(workload, given, checkouts)
        print(as_text(results["workloads"][name], workload), flush=True)
        machine["load after"] = os.getloadavg()
        if given.json:
            given.json.write_text(json.dumps(results, indent=1))
    print("", *machine_lines(machine), sep="\n")
    if given.table:
        given.table.write_text(as_rst(results, workloads, "make benchmark-rollout"))
    wrong = [m for figures in results["workloads"].values() for m in figures["missing"].values() if m.startswith(WRONG)]
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
