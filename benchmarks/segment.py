"""Accuracy of ``delira-nca segment`` beside two U-Nets of MONAI: ``python -m benchmarks.segment --root FOLDER``.

For every task, half of an image is trained on and the other half is predicted once (:mod:`benchmarks.segment_data`).
``delira-nca segment`` plans and trains with its defaults, on one thread. The U-Nets then get the same preprocessing,
patches, augmentation, loss and split, and as much CPU time as it has taken. Each method has a process of its own, whose
largest memory is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.segment_data import TASKS, write_task
from delira_nca.data_loading import DataManager
from delira_nca.data_loading.readers import read_label
from delira_nca.experiment.run import Run
from delira_nca.machine import cpu_name
from delira_nca.segmentation import Segmenter, case_scores, open_cases, predict_folder, segment
from delira_nca.segmentation.orientation import oriented

METHODS = ("delira_nca", "small U-Net", "full U-Net")
_WIDTHS = {"small U-Net": (8, 8, 16, 32, 64, 8), "full U-Net": (32, 32, 64, 128, 256, 32)}


def main() -> None:
    """Run all methods on all tasks, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with the package files of the data")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--task", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--only-ours", action="store_true", help="leave the U-Nets out")
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "METHOD", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_one(Path(given.one[0]), given.one[1], float(given.one[2]))))
        return
    print(f"{given.minutes:g} min on one thread of {cpu_name()}")
    for task in given.task:
        with tempfile.TemporaryDirectory() as name:
            write_task(task, given.root, Path(name))
            seconds = 60 * given.minutes
            for method in METHODS[:1] if given.only_ours else METHODS:
                found = _in_own_process(Path(name), method, seconds)
                seconds = found["cpu"] if method == METHODS[0] else seconds
                print(task, method, json.dumps(found), flush=True)


def _in_own_process(folder: Path, method: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.segment", "--root", ".", "--one", str(folder), method, str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _one(folder: Path, method: str, seconds: float) -> dict[str, Any]:
    """Train one method, predict the new image, and return the figures."""
    torch.set_num_threads(1)
    masks = folder / "masks"
    before, run = time.process_time(), folder / "run"
    if method == METHODS[0]:
        with_masks = masks if any(masks.iterdir()) else None
        network = segment(folder / "images", with_masks, run, minutes=seconds / 60, progress=False).network
    else:
        network = _train_unet(run, _WIDTHS[method], seconds)
    found = {"cpu": time.process_time() - before, "weights": sum(part.numel() for part in network.parameters())}
    found["training_gb"] = _peak()
    begin = time.process_time()
    if method == METHODS[0]:
        [case] = predict_folder(run, folder / "new", folder / "masks of new", num_runs=2)
        mask = read_label(case.mask)
    else:
        mask = _predict_unet(network, Segmenter.open(run), folder / "new")
    found["seconds_per_case"] = time.process_time() - begin
    reference = read_label(next((folder / "reference").iterdir()))
    if Segmenter.open(run).preprocessing.instances:
        reference = reference > 0
    values = [int(value) for value in np.unique(reference) if value]
    spacing = open_cases(folder / "new").info(0).get("spacing")
    found["scores"] = case_scores(mask.astype(int), reference.astype(int), values=values, spacing=spacing)
    return found


def _train_unet(run: Path, widths: tuple[int, ...], seconds: float) -> torch.nn.Module:
    """Train a U-Net of MONAI on the patches of a run for a number of seconds of CPU time.

    The sides of patches are rounded up to what its four halvings need.
    """
    from monai.networks.nets import BasicUNet

    parts = Run.open(run).config.build()
    classes = parts.model.num_output_channels
    torch.manual_seed(0)
    network = BasicUNet(parts.model.dims, parts.model.num_image_channels, classes, widths)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    [criterion] = parts.task.criterions.values()
    patches: Any = parts.data.train
    patches.size = tuple(-(-n // 16) * 16 for n in patches.size)
    begin = time.process_time()
    with DataManager(parts.data.train, parts.data.batch_size, transforms=parts.data.transforms) as manager:
        for batch in _forever(manager):
            share = (time.process_time() - begin) / seconds
            if share >= 1:
                return network.eval()
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * max(0.02, (1 + np.cos(np.pi * share)) / 2)
            data = torch.as_tensor(batch["data"])
            predicted = _padded(network, data)
            loss = criterion(predicted, torch.as_tensor(batch["label"]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    raise AssertionError("the batches never end")


def _forever(manager: DataManager) -> Iterator[Any]:
    epoch = 0
    while True:
        epoch += 1
        yield from manager.get_batchgen(epoch=epoch)


def _padded(network: torch.nn.Module, data: torch.Tensor) -> torch.Tensor:
    """Apply a U-Net, which halves the image four times, to an image of any size."""
    missing = [(-n) % 16 for n in data.shape[2:]]
    pads = [n for length in reversed(missing) for n in (0, length)]
    found = network(torch.nn.functional.pad(data, pads, mode="replicate"))
    inside = (..., *(slice(0, n) for n in data.shape[2:]))
    return found[inside]


def _predict_unet(network: torch.nn.Module, segmenter: Segmenter, folder: Path) -> Any:
    """Predict the image of a folder with the preprocessing of a run."""
    cases = open_cases(folder)
    image = oriented(cases[0], cases.info(0))
    data, frame = segmenter.preprocessing.image(image.data, image.spacing)
    with torch.no_grad():
        found = _padded(network, torch.from_numpy(data)[None])[0]
    found = torch.sigmoid(found) if len(found) == 1 else torch.softmax(found, 0)
    whole = frame.restore(found.numpy())
    classes = (whole[0] > 0.5).astype(int) if len(whole) == 1 else whole.argmax(0)
    return image.back(segmenter.preprocessing.mask(classes))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
