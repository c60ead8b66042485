"""The growing script of NCALab in both packages: ``python -m benchmarks.ncalab --checkout FOLDER --python PYTHON``.

Runs one script in turns with ``from ncalab import ...`` and with ``from delira_nca.ncalab import ...``: the settings of
NCALab's README task (8 samples, each twice, 40 x 40 cells, 16 channels, 128 neurons, 100 steps, alive mask, pool with
damage), with one thread on one core. As in that script, states begin with a single cell; ``--grown`` begins with a disc
of living cells as large as the picture, like states that a trained model has grown, which take longer here. Prints the
seconds per iteration of each round, and the ratio of the medians.

NCALab's packages on PyPI lack most modules. The benchmark needs a checkout of its repository, and a Python with torch,
torchmetrics, opencv-python-headless, pytorch-msssim, pandas, scipy, matplotlib, safetensors, click, tqdm and
tensorboard.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from delira_nca.machine import cpu_name

SCRIPT = """
import json, sys, time
import numpy as np, torch
from torch.utils.data import DataLoader
from {package} import BasicNCATrainer, GrowingNCADataset, GrowingNCAModel, Pool, fix_random_seed

torch.set_num_threads(1)
fix_random_seed()
iterations = int(sys.argv[1])
axis = np.arange(40) - 19.5
image = np.zeros((40, 40, 4), np.uint8)
inside = np.hypot(*np.meshgrid(axis, axis)) < 12
image[inside] = (220, 60, 40, 255)
nca = GrowingNCAModel(torch.device("cpu"), num_hidden_channels=12, use_alive_mask=True, lambda_hidden=1e-2)
dataset = GrowingNCADataset(image, nca.num_channels, batch_size=8)
if sys.argv[2] == "grown":
    dataset.seed[3:, inside] = 1.0
loader = DataLoader(dataset, batch_size=8, shuffle=False)
times = []


class Clock:
    def __iter__(self):
        times.append(time.perf_counter())
        return iter(loader)

    def __len__(self):
        return len(loader)


trainer = BasicNCATrainer(nca, None, max_epochs=iterations + 3, pool=Pool(6, damage=True))
history = trainer.train(Clock())
times = times[-iterations - 1 :]
print(json.dumps([(times[-1] - times[0]) / iterations, history.loss[-1]]))
"""


def measure(package: str, python: str, path: str | None, iterations: int, states: str) -> float:
    """Seconds per iteration of a package in a new process on one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if path is not None:
        environment["PYTHONPATH"] = path
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", SCRIPT.format(package=package), str(iterations), states],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    seconds, _ = json.loads(done.stdout.splitlines()[-1])
    return float(seconds)


def main() -> None:
    """Measure both packages in turns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkout", type=Path, required=True, help="checkout of NCALab's repository")
    parser.add_argument("--python", default=sys.executable, help="Python with the packages that NCALab needs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3, help="iterations of NCALab; 10 times as many here")
    parser.add_argument("--grown", action="store_true", help="states that begin with many living cells")
    given = parser.parse_args()
    states = "grown" if given.grown else "single cell"
    found: dict[str, list[float]] = {"ncalab": [], "delira_nca.ncalab": []}
    for number in range(given.rounds):
        found["ncalab"].append(measure("ncalab", given.python, str(given.checkout.resolve()), given.iterations, states))
        found["delira_nca.ncalab"].append(
            measure("delira_nca.ncalab", sys.executable, os.environ.get("PYTHONPATH"), 10 * given.iterations, states)
        )
        theirs, ours = (values[-1] for values in found.values())
        print(f"round {number + 1}: NCALab {theirs:.3f} s, here {ours:.3f} s an iteration, ratio {theirs / ours:.1f}")
    theirs, ours = (statistics.median(values) for values in found.values())
    print(f"medians: NCALab {theirs:.3f} s, here {ours:.3f} s, ratio {theirs / ours:.1f}, on {cpu_name()}")


if __name__ == "__main__":
    main()
