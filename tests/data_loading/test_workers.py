import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from delira_nca.data_loading import DataManager
from delira_nca.data_loading.show import debug_mode
from delira_nca.errors import ConfigError, DeliraNCAError
from delira_nca.workers import WorkerError


def make_manager(transforms=None, *, length=12, width=4, n_process=2, **arguments):
    data = {"x": np.repeat(np.arange(length), width).reshape(length, width)}
    return DataManager(data, 2, n_process, transforms, **arguments)


def firsts(batches):
    return [batch["x"][:, 0].tolist() for batch in batches]


EXPECTED = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def add_pid(batch):
    return {**batch, "pid": np.full(len(batch["x"]), os.getpid())}


class AtFour:
    """Does something in the batch with sample 4."""

    def __init__(self, action, *arguments):
        self.action, self.arguments = action, arguments

    def __call__(self, batch):
        if 4 in batch["x"]:
            self.action(*self.arguments)
        return batch


def report_settings(batch):
    import torch
    from threadpoolctl import threadpool_info

    threads = max([1, torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())])
    ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return {"threads": np.full(2, threads), "ignores": np.full(2, ignores)}


def grow(batch):
    size = 1000 * int(batch["x"][0, 0]) + 1
    return {
        "numbers": np.arange(size, dtype=np.int16),
        "empty": np.zeros((0, 3), np.float32),
        "words": np.array(["a", "bc"] * size),
        "objects": np.array([None, "b", 3], dtype=object),
        "record": np.zeros(size, [("a", "i4"), ("b", "f8")]),
        "dates": np.full(size, np.datetime64("2026-01-01")),
        "scalar": np.array(size),
        "truth": np.ones((size, 3), bool)[:, ::2],
        "column": np.asfortranarray(np.arange(2.0 * size).reshape(2, size)),
    }


pytestmark = pytest.mark.usefixtures("leaves_no_process")
needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


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


def test_iterations_at_once_after_an_update_and_after_a_close_do_not_disturb_each_other():
    with make_manager(n_process=1) as manager:
        pairs = list(zip(manager.get_batchgen(), manager.get_batchgen(), strict=True))
        assert firsts(a for a, _ in pairs) == firsts(b for _, b in pairs) == EXPECTED
        batches = iter(manager.get_batchgen())
        next(batches)
        manager.close()
        assert not multiprocessing.active_children()
        with pytest.raises(DeliraNCAError, match="was closed"):
            next(batches)
        batches = iter(manager.get_batchgen())
        first = next(batches)
        manager.update_state_from_dict({"batch_size": 12, "n_process_augmentation": 0})
        assert firsts([first, *batches]) == EXPECTED
        assert firsts(manager.get_batchgen()) == [list(range(12))]


def test_workers_live_from_epoch_to_epoch_and_no_longer_than_their_manager():
    manager = make_manager(add_pid)
    pids = [{int(batch["pid"][0]) for batch in manager.get_batchgen(epoch=epoch)} for epoch in (1, 2)]
    assert len(pids[0]) == 2
    assert pids[0] == pids[1]
    assert os.getpid() not in pids[0]
    assert multiprocessing.active_children()
    del manager
    gc.collect()
    assert not multiprocessing.active_children()


@needs_sigkill
@pytest.mark.parametrize("n_process", [1, 2])
def test_killed_worker_is_a_clear_error_at_once(n_process):
    with make_manager(AtFour(signal.raise_signal, signal.SIGKILL), n_process=n_process, timeout=30.0) as manager:
        start = time.perf_counter()
        with pytest.raises(WorkerError, match=r"was killed by SIGKILL at batch 2 of epoch 1") as info:
            list(manager.get_batchgen())
        assert time.perf_counter() - start < 2
        assert "(samples 4, 5): probably out of memory" in str(info.value)
        manager.update_state_from_dict({"transforms": None})
        assert firsts(manager.get_batchgen()) == EXPECTED


@needs_sigkill
def test_worker_that_is_killed_between_epochs_is_an_error_of_the_next_epoch():
    with make_manager(n_process=2) as manager:
        list(manager.get_batchgen())
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="was killed by SIGKILL"):
            list(manager.get_batchgen())
        assert firsts(manager.get_batchgen()) == EXPECTED


@pytest.mark.parametrize("forks", [False, pytest.param(True, marks=needs_fork)])
def test_worker_that_exits_is_an_error_with_its_code_even_if_a_process_of_a_transform_holds_the_connection(forks):
    def exit_at_four(batch):
        if 4 in batch["x"]:
            if forks and os.fork() == 0:
                time.sleep(3.0)
            os._exit(3)
        return batch

    with (
        make_manager(exit_at_four, n_process=1, start_method="fork") as manager,
        pytest.raises(WorkerError, match=r"exited with code 3 at batch 2 .*\(samples 4, 5\)"),
    ):
        list(manager.get_batchgen())


def test_batch_that_takes_too_long_is_an_error_that_says_where_it_is():
    with make_manager(AtFour(time.sleep, 60.0), n_process=1, timeout=0.3) as manager:
        start = time.perf_counter()
        with pytest.raises(RuntimeError, match=r"batch 2 .*\(samples 4, 5\) was not ready within 0\.3 seconds") as info:
            list(manager.get_batchgen())
        assert 0.3 <= time.perf_counter() - start < 2
    assert isinstance(info.value, TimeoutError)
    assert "is at batch 2 of epoch 1" in str(info.value)
    assert "in __call__\n    self.action(*self.arguments)" in str(info.value)
    assert "child.py" not in str(info.value)


def test_the_timeout_does_not_include_the_start_of_the_processes():
    with make_manager(n_process=1, start_method="spawn", timeout=0.3) as manager:
        start = time.perf_counter()
        assert firsts(manager.get_batchgen()) == EXPECTED
        assert time.perf_counter() - start > 0.3


@needs_sigkill
def test_stopped_worker_is_not_waited_for():
    with (
        make_manager(AtFour(signal.raise_signal, signal.SIGSTOP), n_process=1, timeout=0.3) as manager,
        pytest.raises(TimeoutError, match="is stopped, or in native code"),
    ):
        list(manager.get_batchgen())


def test_workers_use_one_thread_and_leave_signals_to_the_parent_which_keeps_its_handlers():
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGCHLD] if hasattr(signal, "SIGCHLD") else [])]
    before = [signal.getsignal(number) for number in numbers]
    with make_manager(report_settings, n_process=1) as manager:
        batch, *_ = manager.get_batchgen()
        assert [signal.getsignal(number) for number in numbers] == before
    assert batch["threads"].tolist() == [1, 1]
    assert batch["ignores"].tolist() == [True, True]


@needs_fork
def test_ctrl_c_while_a_worker_is_forked_is_left_to_the_parent(tmp_path):
    in_test = True

    def press_ctrl_c():
        try:
            if in_test:
                os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            (tmp_path / "interrupted").touch()

    os.register_at_fork(after_in_child=press_ctrl_c)
    assert firsts(make_manager(n_process=2, start_method="fork").get_batchgen()) == EXPECTED
    in_test = False
    assert not list(tmp_path.iterdir())
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_cannot_be_sent_to_a_worker_is_refused_before_one_starts():
    with pytest.raises(ConfigError, match="sends transforms to other processes, but <lambda> cannot be pickled"):
        make_manager(lambda batch: batch, start_method="spawn")
    assert firsts(make_manager(lambda batch: batch, n_process=0, start_method="spawn").get_batchgen()) == EXPECTED
    manager = DataManager([{"x": 1, "f": lambda: None}], 1, 1, start_method="spawn")
    with pytest.raises(ConfigError, match="sends data to other processes.*cannot be pickled"):
        list(manager.get_batchgen())
    assert not multiprocessing.active_children()


@needs_fork
def test_manager_in_a_process_that_may_have_no_children_builds_there():
    def work(connection):
        connection.send(firsts(make_manager(n_process=2).get_batchgen()))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(20)
    assert ours.recv() == EXPECTED
    process.join(5)


def test_tasks_larger_than_a_pipe_are_no_reason_to_wait():
    data = {"x": np.arange(300_000)}
    with DataManager(data, 100_000, 1, prefetch=3) as manager:
        assert [batch["x"][0] for batch in manager.get_batchgen()] == [0, 100_000, 200_000]


def test_batches_of_growing_size_and_of_every_type_arrive_whole():
    with make_manager(grow, n_process=2, length=24) as manager, debug_mode():
        expected = list(manager.get_batchgen())
    with make_manager(grow, n_process=2, length=24) as manager:
        batches = list(manager.get_batchgen())
    for batch, other in zip(batches, expected, strict=True):
        assert list(batch) == list(other)
        for key in batch:
            assert (batch[key].dtype, batch[key].shape) == (other[key].dtype, other[key].shape)
            assert batch[key].tolist() == other[key].tolist()
            assert batch[key].flags.writeable
            assert batch[key].flags.c_contiguous


@needs_proc
def test_kept_batches_hold_no_file_descriptors():
    with make_manager(length=60, width=20_000, n_process=1) as manager:
        batches = iter(manager.get_batchgen())
        kept = [next(batches)]
        before = len(os.listdir("/proc/self/fd"))
        kept += batches
        assert len(kept) == 30
        assert len(os.listdir("/proc/self/fd")) < before + 10


IN_A_CONSOLE = """
from delira_nca.data_loading import DataManager
def shift(batch):
    return batch
try:
    DataManager([{"data": [0.0]}], 1, 1, shift, start_method="spawn")
except ValueError as error:
    print(type(error).__name__, error)
"""


def test_functions_of_python_c_are_refused_before_a_process_is_spawned():
    command = [sys.executable, "-c", IN_A_CONSOLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("ConfigError transforms cannot be sent to other processes: 'shift' is defined in")


def noise(batch):
    return {"x": batch["x"] + np.random.normal(size=batch["x"].shape)}


def pages(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def usage(manager):
    gc.collect()
    workers = sorted(process.pid for process in multiprocessing.active_children())
    files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in ("self", *workers)]
    return files, workers, [pages(pid) for pid in ("self", *workers)]


@needs_proc
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


@needs_proc
def test_closed_manager_leaves_no_file_and_no_process_and_shared_memory_has_no_name():
    def run():
        with DataManager({"x": np.zeros((8, 100_000))}, 2, 2, noise) as manager:
            for _ in manager.get_batchgen():
                mapped = Path("/proc/self/maps").read_text()
                assert "memfd:delira_nca" in mapped
                assert not [line for line in mapped.splitlines() if "/dev/shm/" in line and "delira" in line]

    run()
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), multiprocessing.active_children()
    for _ in range(5):
        run()
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), multiprocessing.active_children()) == before
