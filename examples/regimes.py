"""Regimes: the same automaton, trained to grow a flower, to keep it, or to regenerate it.

The regimes are those of Mordvintsev et al. (2020): without a pool, with a pool, and with a pool of damaged states. Each
automaton then runs for 2 000 steps, and regenerates from eight kinds of damage, each for the number of steps of growth.
``python examples/regimes.py`` takes about eleven minutes, ``--quick`` a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.evaluation import robustness_report
from delira_nca.experiment import GrowConfig, grow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use a tiny flower and few epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/regimes"), help="folder of the runs")
    options = parser.parse_args()
    size, padding, steps, epochs, iterations = (8, 3, (6, 9), 1, 3) if options.quick else (24, 12, (40, 56), 64, 50)
    long = 4 * steps[1] if options.quick else 2000
    print(f"{'regime':>12}  seconds  error at {steps[1]}  after {long}  healed of 1  error after holes / before")
    for regime in ("growing", "persistent", "regenerating"):
        config = GrowConfig(
            target="dahlia",
            size=size,
            padding=padding,
            steps=steps,
            regime=regime,
            epochs=epochs,
            iterations=iterations,
            batch_size=4,
            precision="float32",
            out=str(options.out / regime),
        )
        begin = time.perf_counter()
        result = grow(config, progress=False)
        seconds = time.perf_counter() - begin
        target = torch.from_numpy(np.load(result.folder / "target.npy"))
        multiples = -(-long // steps[1])
        report = robustness_report(result.network, target, steps[1], multiples=multiples)
        first, last = report.persistence[0].error, report.persistence[-1].error
        score = report.regeneration_score
        healed = "-" if score is None else f"{score:.3f}"
        print(f"{regime:>12}  {seconds:7.0f}  {first:11.5f}  {last:10.4g}  {healed:>11}  {report.recovery_ratio:.4g}")


if __name__ == "__main__":
    main()
