"""Parallel runs of two targets and four seeds with every installed launcher, with equal results.

Each run grows a small picture in its own folder, and resumes from its checkpoints if its process dies. One function
defines a run; the launcher only determines where it is executed.

Run ``python examples/cluster.py``; ``--quick`` takes about a minute. ``--launchers serial pool`` uses only these
launchers. ``ray`` and ``submitit`` need ``pip install 'delira_nca[ray,slurm]'``.
"""

import argparse
import itertools
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from delira_nca.errors import MissingDependencyError
from delira_nca.experiment import GrowConfig, grow, resume_growing
from delira_nca.experiment.launchers import LAUNCHERS, launcher_by_name, values


def grow_one(target: str, seed: int, folder: str, size: int, epochs: int) -> dict[str, float]:
    """Start or resume one run."""
    out = Path(folder)
    if (out / "target.npy").is_file():
        result = resume_growing(out, progress=False)
    else:
        shutil.rmtree(out, ignore_errors=True)
        config = GrowConfig(
            target=target,
            size=size,
            padding=size // 2,
            steps=(size, 2 * size),
            epochs=epochs,
            iterations=2 if size < 16 else 20,
            pool_size=32,
            out=str(out),
            seed=seed,
            device="cpu",
        )
        result = grow(config, progress=False)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return {"mse": last["mse"], "log10_error": result.log10_errors[2 * size]}


def draw_disc(path: Path) -> None:
    """Write a custom target: an orange disc with a horizontal blue bar on a transparent background."""
    down, right = np.mgrid[-1:1:64j, -1:1:64j]
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[np.hypot(down, right) < 0.95] = (240, 130, 20, 255)
    pixels[(np.hypot(down, right) < 0.95) & (abs(down) < 0.25)] = (30, 60, 200, 255)
    Image.fromarray(pixels).save(path)


def make_launcher(name: str, folder: Path) -> Any:
    options: dict[str, Any] = {"folder": folder / "jobs", "cluster": "local"} if name == "submitit" else {}
    return launcher_by_name(name, threads=1, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use tiny runs")
    parser.add_argument("--launchers", nargs="+", choices=LAUNCHERS, default=list(LAUNCHERS), metavar="NAME")
    arguments = parser.parse_args()
    size, epochs = (8, 2) if arguments.quick else (16, 8)
    logging.basicConfig(format="%(message)s")

    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_disc(folder / "disc.png")
        for launcher in arguments.launchers:
            try:
                runs = make_launcher(launcher, folder)
            except MissingDependencyError as error:
                print(f"{launcher:9} left out: {error}")
                continue
            tasks = [
                {
                    "target": target,
                    "seed": seed,
                    "folder": str(folder / launcher / f"{number}"),
                    "size": size,
                    "epochs": epochs,
                }
                for number, (target, seed) in enumerate(
                    itertools.product(["lizard", str(folder / "disc.png")], range(4))
                )
            ]
            begun = time.perf_counter()
            results = values(runs.run(grow_one, tasks))
            seconds = time.perf_counter() - begun
            losses[launcher] = [result["mse"] for result in results]
            print(f"{launcher:9} {seconds:6.1f} s  mse " + " ".join(f"{loss:.6f}" for loss in losses[launcher]))

    first, *others = losses
    for other in others:
        if [f"{loss:.6f}" for loss in losses[other]] != [f"{loss:.6f}" for loss in losses[first]]:
            raise SystemExit(f"{other} and {first} differ")
    same = all(losses[other] == losses[first] for other in others)
    print(f"{', '.join(losses)}: the same losses {'to the last bit' if same else 'to six decimals'}")


if __name__ == "__main__":
    main()
