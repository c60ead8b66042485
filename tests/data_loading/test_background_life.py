"""Background processes: how they wait, die, end and start again."""

import gc
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest

from delira_nca.data_loading.background import BackgroundProc, WorkerDiedError
from delira_nca.data_loading.background import TimeoutError as BackgroundTimeoutError
from delira_nca.data_loading.show import debug_mode
from delira_nca.errors import ConfigError, DeliraNCAError, UnknownNameError
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.workers import WorkerGroup

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("leaves_no_process"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="targets of these tests are not importable in spawned workers"),
]


def make(target, **arguments):
    return BackgroundProc(target, **{"start_method": "fork", "timeout": 60.0, **arguments})


def first_random_number():
    """A number that the seed of the call decides."""
    return np.random.randint(0, 2**31)


def numbers(count, seed=0):
    """What `first_random_number` gives in the calls 0, 1, ..."""
    drawn = []
    for call in range(count):
        with isolated_rng(derive_seed(seed, "background", call)):
            drawn.append(first_random_number())
    return drawn


class FailAt:
    """Does something at the call whose random number it was told, and returns two numbers in all others."""

    def __init__(self, call, action):
        self.trigger, self.action = numbers(call + 1)[-1], action

    def __call__(self):
        number = first_random_number()
        return self.action() if number == self.trigger else np.array([number, 1])


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def give(value):
    return value


def test_timeout_says_where_the_worker_is_and_can_be_waited_for_again():
    gate = multiprocessing.get_context("fork").Event()

    def wait_at_the_gate():
        gate.wait(60)
        return np.ones(1)

    with make(wait_at_the_gate, dtypes="f8", shapes=(1,)) as background:
        start = time.monotonic()
        with pytest.raises(BackgroundTimeoutError, match="call 0 was not ready within 0.3 seconds") as caught:
            background.get(timeout=0.3)
        assert 0.3 <= time.monotonic() - start < 15
        assert "in wait_at_the_gate" in str(caught.value)
        for kind in (RuntimeError, TimeoutError, DeliraNCAError):
            assert isinstance(caught.value, kind)
        gate.set()
        assert background.get().tolist() == [1.0]
        assert background.call == 1


def test_reset_after_a_timeout_skips_what_hangs():
    with make(FailAt(1, hang), dtypes=int, shapes=(2,), timeout=1.0) as background:
        assert int(background.get(timeout=60)[0]) == numbers(1)[0]
        with pytest.raises(BackgroundTimeoutError):
            background.get()
        background.reset()
        assert int(background.get(timeout=60)[0]) == numbers(3)[2]


def test_the_constructor_does_not_wait_for_ever():
    with pytest.raises(BackgroundTimeoutError, match="call 0"):
        make(hang, timeout=0.3)


@pytest.mark.parametrize("n_proc", [1, 2])
def test_a_killed_worker_is_an_error_that_says_so(n_proc):
    with make(FailAt(2, kill_itself), n_proc=n_proc, timeout=0.0) as background:
        message = r"was killed by SIGKILL at call 2: probably out of memory"
        with pytest.raises(WorkerDiedError, match=message):
            [background.get() for _ in range(3)]
        with pytest.raises(DeliraNCAError, match="call reset"):
            background.get()
        failed = background.call - 1
        assert failed <= 2
        background.reset()
        if failed == 2:  # else the other worker was slower, and call 2 comes again
            assert int(background.get()[0]) == numbers(4)[3]


def test_a_worker_that_is_killed_while_all_wait_is_noticed_soon():
    with make(hang, dtypes="f8", shapes=(1,), n_proc=2) as background:
        worker = multiprocessing.active_children()[0]
        killer = threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL))
        killer.start()
        start = time.monotonic()
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            background.get(timeout=60)
        assert time.monotonic() - start < 10
        killer.join()


def test_a_worker_that_exits_is_an_error():
    with pytest.raises(WorkerDiedError, match="exited with code 3 at call 0"):
        make(os._exit, target_args=(3,))


def test_ctrl_c_interrupts_and_reset_makes_the_same_call(monkeypatch):
    with make(first_random_number, n_proc=2) as background:
        assert int(background.get()) == numbers(1)[0]

        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(WorkerGroup, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt):
            background.get()
        monkeypatch.undo()
        with pytest.raises(DeliraNCAError, match="call reset"):
            background.get()
        background.reset()
        assert [int(background.get()) for _ in range(2)] == numbers(3)[1:]


def test_shutdown_can_be_repeated_and_reset_begins_anew():
    background = make(first_random_number, n_proc=2)
    workers = multiprocessing.active_children()
    assert len(workers) >= 2
    background.get()
    background.shutdown()
    background.shutdown()
    assert not multiprocessing.active_children()
    with pytest.raises(DeliraNCAError, match="were shut down; call reset"):
        background.get()
    background.reset()
    assert int(background.get()) == numbers(2)[1]
    background.shutdown()


def test_workers_outlive_the_thread_that_started_them():
    made = []
    thread = threading.Thread(target=lambda: made.append(make(first_random_number, n_proc=2)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    with made.pop() as background:
        assert [int(background.get()) for _ in range(8)] == numbers(8)


def test_handlers_of_signals_stay_in_the_parent():
    former = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with make(lambda: np.array([str(signal.getsignal(signal.SIGTERM)), str(signal.getsignal(signal.SIGINT))])) as b:
            assert b.get().tolist() == [str(signal.SIG_DFL), str(signal.SIG_IGN)]
    finally:
        signal.signal(signal.SIGTERM, former)


def test_shutdown_does_not_wait_for_a_hanging_worker():
    background = make(hang, dtypes="f8", shapes=(1,), n_proc=2)
    start = time.monotonic()
    background.shutdown()
    assert time.monotonic() - start < 10


def shared_segments():
    """Lines of the memory map with shared memory of workers, which has no name in a folder."""
    with open("/proc/self/maps") as maps:
        return [line for line in maps if "memfd:delira_nca" in line]


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads /proc")
def test_processes_and_memory_end_with_the_object():
    background = make(give, target_args=(np.zeros(100_000),), n_proc=2)
    background.get()
    assert shared_segments()
    del background
    gc.collect()
    assert not multiprocessing.active_children()
    assert not shared_segments()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
def test_no_file_stays_open():
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with make(first_random_number, n_proc=2) as background:
        background.get()
    before = count()
    for _ in range(3):
        with make(first_random_number, n_proc=2, copy=False) as background:
            view = background.get()
            background.reset()
        assert view is not None
        del view
    make(first_random_number, n_proc=1).shutdown()
    assert count() <= before


def test_too_little_memory_is_an_error_before_the_start():
    with pytest.raises(ConfigError, match=r"4 results of .* MiB need .* MiB of memory, but only .* are available"):
        make(give, dtypes="f8", shapes=(2**40,), n_proc=2)


def test_debug_mode_starts_no_process_and_changes_no_result():
    def with_pid():
        return np.array([os.getpid(), first_random_number()])

    with make(with_pid, n_proc=2) as background:
        outside = [background.get() for _ in range(3)]
    with debug_mode():
        background = make(with_pid, n_proc=2)
        assert not multiprocessing.active_children()
        inside = [background.get() for _ in range(3)]
    assert {int(pid) for pid, _ in inside} == {os.getpid()}
    assert os.getpid() not in {int(pid) for pid, _ in outside}
    assert [int(number) for _, number in inside] == [int(number) for _, number in outside] == numbers(3)


def test_times_are_logged_on_request(caplog):
    with caplog.at_level(logging.INFO, logger="delira_nca"):
        with make(first_random_number) as background:
            background.get()
        assert not caplog.records
        with make(first_random_number, profile=True) as background:
            background.get(), background.get()
    assert [record.args[0] for record in caplog.records] == [0, 1]
    assert re.search(r"background worker 0 \(pid \d+\) made it in", caplog.records[0].getMessage())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"target": lambda: 1}, "target"),
        ({"target": give, "target_args": (threading.Lock(),)}, "target_args"),
        ({"target": give, "target_kwargs": {"value": lambda: 1}}, "target_kwargs"),
    ],
    ids=["target", "args", "kwargs"],
)
def test_what_cannot_be_pickled_is_refused_before_a_worker_starts(arguments, what, method):
    with pytest.raises(
        ConfigError, match=rf"start_method='{method}' sends {what} to other processes.*cannot be pickled"
    ):
        BackgroundProc(**arguments, start_method=method)
    assert not multiprocessing.active_children()


def test_a_worker_of_somebody_else_is_told_to_do_it_itself():
    def nested():
        with pytest.raises(ConfigError, match="may start no processes"):
            make(first_random_number)
        with make(first_random_number, n_proc=0) as inner:
            return inner.get()

    with make(nested) as background:
        assert int(background.get()) == numbers(1)[0]


def test_a_forked_copy_is_refused():
    with make(first_random_number) as background:

        def use_the_copy():
            try:
                background.get()
            except DeliraNCAError as error:
                return np.array(str(error))

        with make(use_the_copy) as other:
            assert "not to a fork of it" in str(other.get())
        assert int(background.get()) == numbers(1)[0]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"target": [np.float32]}, ConfigError, "target must be a function, not a list"),
        ({"n_proc": -1}, ConfigError, "n_proc"),
        ({"n_proc": 1.5}, ConfigError, "n_proc"),
        ({"read_ahead": 0}, ConfigError, "read_ahead"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"first_call": -1}, ConfigError, "first_call"),
        ({"timeout": -1}, ConfigError, "timeout"),
        ({"timeout": True}, ConfigError, "timeout"),
        ({"target_args": 3}, ConfigError, r"write \(3,\)"),
        ({"target_kwargs": 3}, ConfigError, "target_kwargs must be a dict"),
        ({"start_method": "frok"}, UnknownNameError, "Did you mean 'fork'"),
        ({"fill": True}, ConfigError, "fill=True needs dtypes and shapes"),
        ({"dtypes": "f4"}, ConfigError, "both dtypes and shapes"),
        ({"dtypes": "f4", "shapes": "abc"}, ConfigError, "shapes holds tuples"),
        ({"dtypes": "f4", "shapes": (2, -1)}, ConfigError, "shapes holds tuples"),
        ({"dtypes": "float33", "shapes": (2,)}, ConfigError, "dtypes holds types of numbers"),
        ({"dtypes": object, "shapes": (2,)}, ConfigError, "dtypes holds types of numbers"),
        ({"dtypes": ["f4"], "shapes": [(2,), (3,)]}, ConfigError, "dtypes has 1 entries"),
        ({"dtypes": {"a": "f4"}, "shapes": {"b": (2,)}}, ConfigError, r"dtypes has the keys \['a'\]"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_the_work_starts(arguments, error, text):
    with pytest.raises(error, match=text):
        make(**{"target": first_random_number, **arguments})
    assert not multiprocessing.active_children()


def test_a_wrong_timeout_of_get_is_refused():
    background = make(first_random_number, n_proc=0)
    with background, pytest.raises(ConfigError, match="timeout must be a number"):
        background.get(timeout="soon")
