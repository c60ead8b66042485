"""Batches per second, side by side: ``python -m benchmarks.data``.

Every loader runs the same transforms of batchgenerators on the same images, and delivers whole batches. The loaders
take turns, round after round, so that all see the same machine; the table shows medians.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform
from torch.utils.data import DataLoader, Dataset

from delira_nca.data_loading import DataManager, RandomSampler

BATCH_SIZE, NUM_IMAGES = 16, 64
FORK = "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def make_images() -> np.ndarray:
    return np.random.default_rng(0).random((NUM_IMAGES, 3, 256, 256), dtype=np.float32)


def augmentation() -> Compose:
    angle = (-np.pi / 6, np.pi / 6)
    spatial = SpatialTransform(
        (64, 64),
        patch_center_dist_from_border=50,
        do_elastic_deform=False,
        order_data=1,
        angle_x=angle,
        scale=(0.8, 1.25),
    )
    return Compose([spatial, MirrorTransform(axes=(0, 1)), GaussianNoiseTransform()])


def no_change(**batch: Any) -> dict[str, Any]:
    return batch


class Batches(Dataset):
    """Whole batches for torch's loader: the index is the seed."""

    def __init__(self, images: np.ndarray, transform: Any, length: int) -> None:
        self.images, self.transform, self.length = images, transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        np.random.seed(index)
        chosen = np.random.randint(0, len(self.images), BATCH_SIZE)
        return {key: torch.from_numpy(value) for key, value in self.transform(data=self.images[chosen]).items()}


class Slim(SlimDataLoaderBase):
    """Batches for the augmenters."""

    def generate_train_batch(self) -> dict[str, Any]:
        """Draw one batch."""
        return {"data": self._data[np.random.randint(0, len(self._data), BATCH_SIZE)]}


def manager_batches(images: np.ndarray, transform: Any, workers: int, length: int) -> Iterator[Any]:
    manager = DataManager(
        {"data": images}, BATCH_SIZE, workers, transform, RandomSampler, start_method=FORK if workers else None,
        num_samples=length * BATCH_SIZE, replacement=True,
    )  # fmt: skip
    with manager:
        yield from manager.get_batchgen()


def torch_batches(images: np.ndarray, transform: Any, workers: int, length: int) -> Iterator[Any]:
    transform = transform or no_change
    more = {"persistent_workers": True, "multiprocessing_context": FORK} if workers else {}
    loader = DataLoader(Batches(images, transform, length), batch_size=None, num_workers=workers, **more)
    yield from loader
    if workers:
        loader._iterator._shutdown_workers()


def augmenter_batches(kind: Callable[..., Any], images: np.ndarray, transform: Any, length: int) -> Iterator[Any]:
    augmenter = kind(Slim(images, BATCH_SIZE), transform)
    for _ in range(length):
        yield next(augmenter)
    if hasattr(augmenter, "_finish"):
        augmenter._finish()


def two_processes(images: np.ndarray, transform: Any, length: int) -> Iterator[Any]:
    kind = lambda loader, transform: MultiThreadedAugmenter(loader, transform, 2, seeds=[1, 2])  # noqa: E731
    yield from augmenter_batches(kind, images, transform, length)


def two_processes_in_any_order(images: np.ndarray, transform: Any, length: int) -> Iterator[Any]:
    kind = lambda loader, transform: NonDetMultiThreadedAugmenter(loader, transform, 2, 4, seeds=[1, 2])  # noqa: E731
    yield from augmenter_batches(kind, images, transform, length)


def bare_loop(images: np.ndarray, transform: Any, length: int) -> Iterator[Any]:
    for index in range(length):
        np.random.seed(index)
        batch = {"data": images[np.random.randint(0, len(images), BATCH_SIZE)]}
        yield transform(**batch) if transform is not None else batch


def loaders(images: np.ndarray, transform: Any) -> dict[str, Callable[[int], Iterator[Any]]]:
    made: dict[str, Callable[[int], Iterator[Any]]] = {"bare loop": lambda n: bare_loop(images, transform, n)}
    for workers in (0, 1, 2):
        made[f"DataManager, {workers}"] = lambda n, w=workers: manager_batches(images, transform, w, n)
        made[f"torch DataLoader, {workers}"] = lambda n, w=workers: torch_batches(images, transform, w, n)
    made["MultiThreadedAugmenter, 2"] = lambda n: two_processes(images, transform, n)
    made["NonDetMultiThreadedAugmenter, 2"] = lambda n: two_processes_in_any_order(images, transform, n)
    return made


def measure(batches: Iterator[Any], length: int) -> dict[str, float]:
    """Seconds until the first batch, batches per second after some, seconds from the last batch to the end."""
    start = time.perf_counter()
    next(batches)
    first = time.perf_counter() - start
    warm = max(1, length // 10)
    for _ in range(warm):
        next(batches)
    start = time.perf_counter()
    counted = length - 1 - warm
    for _ in range(counted):
        next(batches)
    rate = counted / (time.perf_counter() - start)
    start = time.perf_counter()
    for _ in batches:
        raise AssertionError("too many batches")
    return {"batches per s": rate, "first ms": 1e3 * first, "stop ms": 1e3 * (time.perf_counter() - start)}


def side_by_side(kinds: dict[str, Callable[[int], Iterator[Any]]], length: int, rounds: int) -> dict[str, Any]:
    results: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for turn in range(rounds):
        names = list(kinds)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            results[name].append(measure(kinds[name](length), length))
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        | {"slowest": min(run["batches per s"] for run in runs), "fastest": max(run["batches per s"] for run in runs)}
        for name, runs in results.items()
    }


def show(title: str, table: dict[str, Any]) -> None:
    print(f"\n{title}\n{'':34}{'batches/s':>10}{'(slowest .. fastest)':>24}{'first ms':>10}{'stop ms':>9}")
    for name, row in table.items():
        span = f"({row['slowest']:.1f} .. {row['fastest']:.1f})"
        print(f"{name:34}{row['batches per s']:10.1f}{span:>24}{row['first ms']:10.1f}{row['stop ms']:9.1f}")
    rivals = {name: row["batches per s"] for name, row in table.items() if name.endswith(", 2")}
    ours = rivals.pop("DataManager, 2")
    best = max(rivals, key=lambda name: rivals[name])
    print(f"DataManager with 2 workers: {ours / rivals[best]:.2f} times the best rival with 2, {best}")


def overhead(rounds: int) -> dict[str, float]:
    """Microseconds that a data manager adds to a batch of small arrays in memory, without workers."""
    data = {"data": np.zeros((6400, 8), np.float32), "label": np.zeros(6400, np.int64)}
    same: Callable[..., Any] = lambda batch: batch  # noqa: E731
    manager, changing = DataManager(data, BATCH_SIZE), DataManager(data, BATCH_SIZE, transforms=same)
    order = np.arange(6400)

    def bare() -> None:
        for start in range(0, 6400, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            {key: array[rows] for key, array in data.items()}

    def run(iterable: Any) -> Callable[[], None]:
        def loop() -> None:
            for _ in iterable.get_batchgen():
                pass

        return loop

    loops = {"bare loop": bare, "DataManager": run(manager), "DataManager with a transform": run(changing)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop()
            times[name].append((time.perf_counter() - start) / (6400 / BATCH_SIZE) * 1e6)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {f"{name}, over a bare loop": value - medians["bare loop"] for name, value in list(medians.items())[1:]}


def make_volume() -> np.ndarray:
    return np.ones((16, 16, 128, 128), np.float32)


def _fill(queue: Any, count: int) -> None:
    volume = make_volume()
    for _ in range(count):
        queue.put(volume)


class Volume:
    """Function that returns the same array again and again."""

    def __init__(self) -> None:
        self.volume = make_volume()

    def __call__(self) -> np.ndarray:
        """Give the array."""
        return self.volume


def background(count: int, rounds: int) -> dict[str, float]:
    """Arrays of (16, 16, 128, 128) float32 per second from one process."""
    from delira_nca.data_loading.background import BackgroundProc

    rates: dict[str, list[float]] = {"multiprocessing.Queue": [], "BackgroundProc": []}
    for _ in range(rounds):
        queue: Any = multiprocessing.Queue(4)
        process = multiprocessing.Process(target=_fill, args=(queue, count + 2), daemon=True)
        process.start()
        rates["multiprocessing.Queue"].append(_rate(lambda queue=queue: queue.get(timeout=60), count))
        process.join()
        with BackgroundProc(Volume(), dtypes="float32", shapes=(16, 16, 128, 128)) as ours:
            rates["BackgroundProc"].append(_rate(lambda ours=ours: ours.get(timeout=60), count))
    return {name: statistics.median(values) for name, values in rates.items()}


def _rate(get: Callable[[], Any], count: int) -> float:
    get()
    get()
    start = time.perf_counter()
    for _ in range(count):
        get()
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=200, help="augmented batches in a round")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--only", choices=("augmented", "transport", "overhead", "background"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"load before": os.getloadavg(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(f"{os.cpu_count()} cores, load average {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    results: dict[str, Any] = {"machine": machine}
    images = make_images()
    if given.only in (None, "augmented"):
        results["augmented"] = side_by_side(loaders(images, augmentation()), given.batches, given.rounds)
        show("16 augmented crops of 3 x 64 x 64", results["augmented"])
    if given.only in (None, "transport"):
        small = images[..., :64, :64].copy()
        results["transport"] = side_by_side(loaders(small, None), 5 * given.batches, given.rounds)
        show("16 images of 3 x 64 x 64, not transformed: transport only", results["transport"])
    if given.only in (None, "overhead"):
        results["overhead"] = overhead(3 * given.rounds)
        print("\nMicroseconds a batch, 0 workers, small arrays in memory")
        for name, value in results["overhead"].items():
            print(f"{name:50}{value:8.1f}")
    if given.only in (None, "background"):
        results["background"] = background(40, given.rounds)
        print("\nArrays of (16, 16, 128, 128) float32 per second, one process")
        for name, value in results["background"].items():
            print(f"{name:50}{value:8.1f}")
        ratio = results["background"]["BackgroundProc"] / results["background"]["multiprocessing.Queue"]
        print(f"BackgroundProc: {ratio:.1f} times the queue")
    machine["load after"] = os.getloadavg()
    print(f"\nload average {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
