"""Twenty epochs leave a process as one epoch did."""

import gc
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from delira_nca.data_loading import DataManager

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")


def noise(batch):
    return {"x": batch["x"] + np.random.normal(size=batch["x"].shape)}


def pages(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def usage(manager):
    gc.collect()
    workers = sorted(process.pid for process in multiprocessing.active_children())
    files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in ("self", *workers)]
    return files, workers, [pages(pid) for pid in ("self", *workers)]


@pytest.mark.slow
@pytest.mark.parametrize("is_left_early", [False, True], ids=["whole epochs", "epochs that are left"])
def test_twenty_epochs_use_no_more_files_processes_and_memory_than_one(is_left_early):
    others = set(multiprocessing.active_children())
    with DataManager({"x": np.zeros((64, 100_000))}, 4, 2, noise) as manager:
        for epoch in range(1, 21):
            for number, _ in enumerate(manager.get_batchgen(epoch=epoch)):
                if is_left_early and number == 7:
                    break
            if epoch == 1:
                list(manager.get_batchgen(epoch=1))  # every slot of every worker has been used
                first = usage(manager)
        last = usage(manager)
        assert len(first[1]) == 2 + len(others)
    assert last[:2] == first[:2]
    for before, after in zip(first[2], last[2], strict=True):
        assert after <= 1.05 * before
    assert set(multiprocessing.active_children()) <= others


def test_closed_manager_leaves_no_file_and_no_process():
    def run():
        with DataManager({"x": np.zeros((8, 100_000))}, 2, 2, noise) as manager:
            list(manager.get_batchgen())

    run()
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), multiprocessing.active_children()
    for _ in range(5):
        run()
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), multiprocessing.active_children()) == before


def test_shared_memory_has_no_name():
    folder = Path("/dev/shm")
    with DataManager({"x": np.zeros((8, 100_000))}, 2, 2, noise) as manager:
        for _ in manager.get_batchgen():
            mapped = Path("/proc/self/maps").read_text()
            named = [line for line in mapped.splitlines() if f"{folder}/" in line and "delira" in line]
            assert "memfd:delira_nca" in mapped
            assert not named
