import gc
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from delira_nca.data_loading import DataManager
from delira_nca.errors import DeliraNCAError


def make_manager(transforms=None, *, length=12, width=4, n_process=2, **arguments):
    data = {"x": np.repeat(np.arange(length), width).reshape(length, width)}
    return DataManager(data, 2, n_process, transforms, **arguments)


def firsts(batches):
    return [batch["x"][:, 0].tolist() for batch in batches]


EXPECTED = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def add_pid(batch):
    return {**batch, "pid": np.full(len(batch["x"]), os.getpid())}


def fail_at_four(batch):
    if 4 in batch["x"]:
        raise ArithmeticError("sample four cannot be divided")
    return batch


def kill_at_four(batch):
    if 4 in batch["x"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def sleep_at_four(batch):
    if 4 in batch["x"]:
        time.sleep(1.0)
    return batch


@pytest.fixture(autouse=True)
def _leaves_no_process():
    gc.collect()
    before = set(multiprocessing.active_children())
    yield
    gc.collect()
    assert set(multiprocessing.active_children()) <= before


def test_workers_live_from_epoch_to_epoch():
    with make_manager(add_pid) as manager:
        pids = [{int(batch["pid"][0]) for batch in manager.get_batchgen(epoch=epoch)} for epoch in (1, 2)]
    assert len(pids[0]) == 2
    assert pids[0] == pids[1]
    assert os.getpid() not in pids[0]


@pytest.mark.parametrize("n_process", [0, 1])
def test_exception_in_a_transform_keeps_type_and_text(n_process):
    with make_manager(fail_at_four, n_process=n_process) as manager:
        batches = iter(manager.get_batchgen())
        assert firsts([next(batches), next(batches)]) == EXPECTED[:2]
        with pytest.raises(ArithmeticError, match="sample four cannot be divided"):
            next(batches)


@pytest.mark.parametrize("width", [4, 200_000], ids=["small", "larger than a pipe"])
def test_leaving_early_neither_hangs_nor_mixes_epochs(width):
    with make_manager(add_pid, width=width) as manager:
        pids = set()
        for _ in range(3):
            for batch in manager.get_batchgen():
                pids.add(int(batch["pid"][0]))
                assert batch["x"][:, 0].tolist() == EXPECTED[0]
                break
        assert firsts(manager.get_batchgen()) == EXPECTED
        assert len(pids) <= 2
        start = time.perf_counter()
    assert time.perf_counter() - start < 4


def test_two_iterations_at_once_do_not_disturb_each_other():
    with make_manager(n_process=1) as manager:
        pairs = list(zip(manager.get_batchgen(), manager.get_batchgen(), strict=True))
        assert firsts(a for a, _ in pairs) == firsts(b for _, b in pairs) == EXPECTED


def test_iteration_goes_on_with_the_old_settings_after_an_update():
    with make_manager(n_process=1) as manager:
        batches = iter(manager.get_batchgen())
        first = next(batches)
        manager.update_state_from_dict({"batch_size": 12, "n_process_augmentation": 0})
        assert firsts([first, *batches]) == EXPECTED
        assert firsts(manager.get_batchgen()) == [list(range(12))]


def test_close_ends_a_running_iteration_and_a_later_one_starts_anew():
    with make_manager(n_process=1) as manager:
        batches = iter(manager.get_batchgen())
        next(batches)
        manager.close()
        assert not multiprocessing.active_children()
        with pytest.raises(DeliraNCAError, match="was closed"):
            next(batches)
        assert firsts(manager.get_batchgen()) == EXPECTED


def test_manager_that_is_forgotten_leaves_no_process():
    manager = make_manager(n_process=1)
    assert firsts(manager.get_batchgen()) == EXPECTED
    assert multiprocessing.active_children()
    del manager
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_worker_is_an_error_and_not_a_wait():
    with make_manager(kill_at_four, n_process=1, timeout=30.0) as manager:
        with pytest.raises(RuntimeError, match=r"killed by signal|exited unexpectedly"):
            list(manager.get_batchgen())
        manager.update_state_from_dict({"transforms": None})
        assert firsts(manager.get_batchgen()) == EXPECTED


def test_batch_that_takes_too_long_is_an_error():
    with (
        make_manager(sleep_at_four, n_process=1, timeout=0.3) as manager,
        pytest.raises(RuntimeError, match=r"timed out after 0\.3 seconds"),
    ):
        list(manager.get_batchgen())


def test_kept_batches_hold_no_file_descriptors():
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        pytest.skip("this system does not list open files in /proc")
    with make_manager(length=60, width=20_000, n_process=1) as manager:
        batches = iter(manager.get_batchgen())
        kept = [next(batches)]
        before = len(os.listdir(folder))
        kept += batches
        assert len(kept) == 30
        assert len(os.listdir(folder)) < before + 10
