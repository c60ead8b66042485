"""Peak memory of one first call, in a process that has done nothing else.

``python -m benchmarks.rollouts.memory '{"workload": "G", "name": "reference", "mode": "train", "steps": 80}'``
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.rollouts.contenders import Contender, Weights
from benchmarks.rollouts.measure import peak_growth
from benchmarks.rollouts.peers import PEERS, contenders
from benchmarks.rollouts.workloads import WORKLOADS, Workload


def find(workload: Workload, task: dict[str, Any]) -> Contender:
    name = task["name"]
    own, peers = ([], [name]) if name in PEERS else ([name.removesuffix(" bf16")], [])
    checkouts: dict[str, Path | None] = {peer: Path(path) for peer, path in task.get("checkouts", {}).items()}
    found = dict(contenders(workload, Weights(), checkouts, own, peers))[name]
    if isinstance(found, str):
        sys.exit(found)
    return found


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    workload = WORKLOADS[task["workload"]]
    if task.get("quick"):
        workload = workload.quick()
    tiny = replace(workload, batch=1, shape=(8,) * len(workload.shape))
    first = find(tiny, task)  # so that libraries are loaded and compiled before
    first.prepare(1)
    first.train(1)
    first.forward(1)
    contender = find(workload, task)
    contender.prepare(task["steps"])
    growth = peak_growth(lambda: getattr(contender, task["mode"])(task["steps"]))
    if growth is None:
        sys.exit("the system does not say how much memory a process had")
    print(growth)


if __name__ == "__main__":
    main()
