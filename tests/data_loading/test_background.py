"""Background processes: what results are, in which order, and which errors arrive."""

import gc
import logging
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from delira_nca.data_loading.background import BackgroundProc, WorkerDiedError, WorkerError
from delira_nca.data_loading.background import TimeoutError as BackgroundTimeoutError
from delira_nca.data_loading.show import debug_mode
from delira_nca.errors import ConfigError, DeliraNCAError, ShapeError, UnknownNameError
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


def draw():
    time.sleep(random.random() * 0.01)  # workers overtake each other
    return {"numpy": np.random.rand(3), "python": np.array(random.random()), "torch": torch.rand(2, 2).numpy()}


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


def raise_zero_division():
    raise ZeroDivisionError("no slice of call three")


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def flatten(batches):
    return [{key: value.tolist() for key, value in batch.items()} for batch in batches]


def test_any_number_of_processes_delivers_the_same_sequence_and_another_seed_another_one():
    expected = None
    for n_proc in (0, 1, 2, 4):
        with make(draw, n_proc=n_proc, seed=5) as background:
            batches = flatten(background.get() for _ in range(12))
        expected = expected or batches
        assert batches == expected
    assert len({batch["python"] for batch in expected}) == 12
    assert len({str(batch["numpy"]) for batch in expected}) == 12
    assert len({str(batch["torch"]) for batch in expected}) == 12
    drawn = []
    for seed in (0, 1):
        with make(first_random_number, n_proc=2, seed=seed) as background:
            drawn.append([int(background.get()) for _ in range(4)])
        assert drawn[-1] == numbers(4, seed)
    assert not set(drawn[0]) & set(drawn[1])


@pytest.mark.parametrize("n_proc", [0, 2])
def test_given_types_and_shapes_change_nothing(n_proc):
    with make(draw, n_proc=n_proc) as inferred:
        shapes = {"python": (), "torch": (2, 2), "numpy": (3,)}
        dtypes = {"torch": "f4", "numpy": np.float64, "python": float}
        with make(draw, dtypes=dtypes, shapes=shapes, n_proc=n_proc) as given:
            assert flatten([given.get(), given.get()]) == flatten([inferred.get(), inferred.get()])


def count_with_a_file(path):
    with open(path, "a") as file:
        file.write("x")
    return np.ones(2)


def test_the_call_that_infers_is_not_made_twice(tmp_path):
    with make(count_with_a_file, target_args=(tmp_path / "calls",), read_ahead=1) as background:
        for _ in range(3):
            background.get()
        deadline = time.monotonic() + 20
        while (tmp_path / "calls").read_text() != "xxxx" and time.monotonic() < deadline:
            time.sleep(0.02)
    assert (tmp_path / "calls").read_text() == "xxxx"  # three results, and one read ahead


def test_the_users_generators_are_left_alone(generators_stay_untouched):
    for n_proc in (0, 1):
        with make(draw, n_proc=n_proc) as background:
            background.get()


RESULTS = {
    "array": np.arange(6, dtype=np.int16).reshape(2, 3),
    "in the order of Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "number": 3.5,
    "empty": np.zeros((0, 3), np.float32),
    "tuple": (np.float16([1, 2]), np.array([True, False])),
    "list": [np.arange(3), np.array(["a", "bc"])],
    "dict": {"data": np.ones((2, 1)), 7: np.zeros(2, ">i4"), "c": np.array([1 + 2j])},
    "dates": np.array(["2020-01-01"], "M8[D]"),
}


def give(value):
    return value


def leaves(result):
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, (tuple, list)) else [result]


@pytest.mark.parametrize("n_proc", [0, 1])
@pytest.mark.parametrize("name", RESULTS)
def test_results_of_any_form_arrive_as_they_were(name, n_proc):
    with make(give, target_args=(RESULTS[name],), n_proc=n_proc) as background:
        for _ in range(3):  # the first one comes another way
            result = background.get()
            expected = RESULTS[name]
            assert type(result) is (np.ndarray if name == "number" else type(expected))
            assert not isinstance(result, dict) or list(result) == list(expected)
            for array, right in zip(leaves(result), leaves(expected), strict=True):
                assert array.dtype == np.asarray(right).dtype
                assert array.flags.c_contiguous
                assert array.flags.writeable
                np.testing.assert_array_equal(array, right)


def test_results_belong_to_the_caller():
    with make(first_random_number, n_proc=2, read_ahead=1) as background:
        kept = [background.get() for _ in range(12)]
    assert [int(array) for array in kept] == numbers(12)


def test_reading_far_ahead_does_not_block():
    with make(first_random_number, n_proc=1, read_ahead=1500) as background:
        assert [int(background.get()) for _ in range(5)] == numbers(5)
        time.sleep(0.3)  # the worker has finished what it may
        assert [int(background.get()) for _ in range(200)] == numbers(205)[5:]


def test_views_hold_until_the_next_get_and_their_memory_as_long_as_they():
    expected = numbers(8)
    background = make(first_random_number, n_proc=2, read_ahead=1, copy=False)
    for number in expected[:-1]:
        view = background.get()
        assert int(view) == number
        time.sleep(0.01)  # nobody writes there meanwhile
        assert int(view) == number
    view = background.get()
    background.shutdown()
    assert int(view) == expected[-1]
    del view
    gc.collect()


def test_lists_of_types_and_shapes_as_on_the_api_page_and_no_wrong_type_is_cast():
    arrays = np.ones((2, 3), np.float32), np.array([1, 2], np.int16)
    with make(give, dtypes=[np.float32, np.int16], shapes=[(2, 3), (2,)], target_args=(arrays,)) as background:
        data, label = background.get()
    assert data.tolist() == [[1.0] * 3] * 2
    assert label.tolist() == [1, 2]
    with make(give, dtypes=[np.float64], shapes=[(2,)], target_args=(np.ones(2),)) as background:
        assert background.get().tolist() == [1.0, 1.0]
    background = make(give, dtypes="f4", shapes=(2,), target_args=(np.zeros(2),))
    with background, pytest.raises(ShapeError, match=r"call 0 returned float64 \(2,\), expected float32 \(2,\)"):
        background.get()


def fill_in_place(arrays, shapes, value):
    assert [array.shape for array in arrays] == shapes
    arrays[0][...] = value
    arrays[1][...] = np.random.rand(*shapes[1])


def test_a_target_can_write_into_the_slot_itself():
    drawn = []
    for n_proc in (0, 2):
        with make(
            fill_in_place, dtypes=["f4", "f8"], shapes=[(2, 2), (3,)], n_proc=n_proc, target_args=(4,), fill=True
        ) as background:
            batches = [background.get() for _ in range(6)]
        assert all(isinstance(batch, list) and batch[0].tolist() == [[4.0, 4.0]] * 2 for batch in batches)
        drawn.append([batch[1].tolist() for batch in batches])
    assert drawn[0] == drawn[1]
    assert len({str(row) for row in drawn[0]}) == 6


@pytest.mark.parametrize("n_proc", [0, 1, 2])
def test_an_exception_arrives_at_its_call_with_type_text_and_traceback(n_proc):
    with make(FailAt(3, raise_zero_division), n_proc=n_proc) as background:
        good = [int(background.get()[0]) for _ in range(3)]
        with pytest.raises(ZeroDivisionError, match="^no slice of call three$") as caught:
            background.get()
        if n_proc:
            assert "in background worker" in str(caught.value.__cause__)
            assert "call 3" in str(caught.value.__cause__)
            assert "in raise_zero_division" in str(caught.value.__cause__)
        good += [int(background.get()[0]) for _ in range(2)]  # the others are not harmed
    expected = numbers(6)
    assert good == expected[:3] + expected[4:]


@pytest.mark.parametrize("n_proc", [0, 2])
def test_a_sequence_begins_anywhere_and_reset_goes_on_with_the_next_call(n_proc):
    with make(first_random_number, n_proc=n_proc, first_call=4) as background:
        assert background.call == 4
        assert [int(background.get()) for _ in range(3)] == numbers(7)[4:]
    with make(FailAt(2, raise_zero_division), n_proc=n_proc) as background:
        background.get(), background.get()
        with pytest.raises(ZeroDivisionError):
            background.get()
        background.reset()
        assert background.call == 3
        assert [int(background.get()[0]) for _ in range(2)] == numbers(5)[3:]
        background.reset(call=1)
        assert int(background.get()[0]) == numbers(2)[1]


def test_an_exception_that_cannot_travel_is_named():
    class LocalError(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def fail():
        raise LocalError("salt", "pepper")

    with pytest.raises(WorkerError, match="LocalError: salt and pepper") as caught:
        make(fail)
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration("the end"), KeyboardInterrupt()], ids=repr)
def test_what_would_end_a_loop_or_the_program_is_a_worker_error(error):
    def fail():
        raise error

    with pytest.raises(WorkerError, match=type(error).__name__):
        make(fail)


@pytest.mark.parametrize("n_proc", [0, 1, 2])
@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (np.zeros(3, np.int64), r"int64 \(3,\)"),
        (np.zeros(2, np.float32), r"float32 \(2,\)"),
        ((np.zeros(2), np.zeros(2)), r"\[float64 \(2,\), float64 \(2,\)\]"),
        ({"a": np.zeros(2)}, r"\{'a': float64 \(2,\)\}"),
    ],
    ids=["shape", "type", "tuple", "dict"],
)
def test_a_result_of_another_form_is_an_error_with_both(other, shown, n_proc):
    with make(FailAt(2, lambda: other), n_proc=n_proc) as background:
        background.get(), background.get()
        with pytest.raises(ShapeError, match=rf"^call 2 returned {shown}, expected int64 \(2,\)"):
            background.get()
        assert int(background.get()[0]) == numbers(4)[3]


@pytest.mark.parametrize("value", [None, object(), {"a": None}, np.ma.masked_array([1, 2], [True, False])], ids=type)
@pytest.mark.parametrize("n_proc", [0, 1])
def test_what_is_no_array_is_refused(value, n_proc):
    with pytest.raises(ConfigError, match="call 0: .* which is not an array"):
        make(give, target_args=(value,), n_proc=n_proc)


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


def test_the_constructor_neither_waits_for_ever_nor_for_a_worker_that_exits():
    with pytest.raises(BackgroundTimeoutError, match="call 0"):
        make(hang, timeout=0.3)
    with pytest.raises(WorkerDiedError, match="exited with code 3 at call 0"):
        make(os._exit, target_args=(3,))


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


def test_shutdown_can_be_repeated_does_not_wait_and_reset_begins_anew():
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
    background = make(hang, dtypes="f8", shapes=(1,), n_proc=2)
    start = time.monotonic()
    background.shutdown()
    assert time.monotonic() - start < 10


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


def test_too_little_memory_and_a_wrong_timeout_of_get_are_errors():
    with pytest.raises(ConfigError, match=r"4 results of .* MiB need .* MiB of memory, but only .* are available"):
        make(give, dtypes="f8", shapes=(2**40,), n_proc=2)
    background = make(first_random_number, n_proc=0)
    with background, pytest.raises(ConfigError, match="timeout must be a number"):
        background.get(timeout="soon")


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
