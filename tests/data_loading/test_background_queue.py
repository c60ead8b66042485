"""A queue of processes, each with one result."""

import gc
import logging
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest

from delira_nca.data_loading.background import BackgroundProc, EmptyQueueError, SharedMem, SharedQ, WorkerDiedError
from delira_nca.data_loading.background import TimeoutError as BackgroundTimeoutError
from delira_nca.data_loading.show import debug_mode
from delira_nca.errors import ConfigError, ShapeError

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("leaves_no_process"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="targets of these tests are not importable in spawned workers"),
]


def make(**arguments):
    return SharedQ(**{"start_method": "fork", **arguments})


def late(value, seconds):
    time.sleep(seconds)
    return np.full(2, value, np.float32)


def test_results_come_in_the_order_of_the_starts():
    with make(n_proc=2) as queue:
        for value, seconds in ((0, 0.3), (1, 0.1), (2, 0.0)):
            queue.startproc(np.float32, (2,), late, (value,), {"seconds": seconds})
        assert len(queue) == 3
        assert [queue.get().tolist() for _ in range(3)] == [[0, 0], [1, 1], [2, 2]]
        assert len(queue) == 0


def draw():
    return np.random.rand(2)


def test_randomness_is_of_the_number_alone():
    drawn = []
    for spec in ((np.float64, (2,)), (None, None)):
        with make() as queue:
            for _ in range(3):
                queue.startproc(*spec, draw)
            drawn.append([queue.get().tolist() for _ in range(3)])
    with debug_mode(), make() as queue:
        for _ in range(3):
            queue.startproc(np.float64, (2,), draw)
        assert not multiprocessing.active_children()
        drawn.append([queue.get().tolist() for _ in range(3)])
    assert drawn[0] == drawn[1] == drawn[2]
    assert len({str(row) for row in drawn[0]}) == 3


def test_every_result_may_have_another_form():
    with make() as queue:
        queue.startproc(["f8", "i4"], [(2,), ()], lambda: (np.ones(2), np.int32(3)))
        queue.startproc({"a": "f8"}, {"a": (2,)}, lambda: {"a": np.zeros(2)})
        first, second = queue.get(), queue.get()
    assert isinstance(first, tuple)
    assert [array.tolist() for array in first] == [[1.0, 1.0], 3]
    assert second["a"].tolist() == [0.0, 0.0]


def write(arrays, shapes, value):
    arrays[0][...] = value
    arrays[1][...] = len(shapes)


def test_a_target_can_write_into_the_memory_as_on_the_api_page():
    with make() as queue:
        queue.startproc([np.float32, np.int16], [(2,), (1,)], write, (5,), fill=True)
        assert [array.tolist() for array in queue.get()] == [[5.0, 5.0], [2]]


def fail():
    raise LookupError("nothing is there")


def test_a_failed_process_never_yields_memory_that_nobody_wrote():
    with make() as queue:
        queue.startproc(np.float32, (2,), fail)
        queue.startproc(np.float32, (2,), os._exit, (7,))
        queue.startproc(np.float32, (2,), os.kill, (0, 0))
        queue.startproc(np.float32, (2,), lambda: os.kill(os.getpid(), signal.SIGKILL))
        queue.startproc(np.float32, (3,), late, (1, 0))
        queue.startproc(np.float32, (2,), late, (1, 0))
        with pytest.raises(LookupError, match="nothing is there") as caught:
            queue.get()
        assert "in fail" in str(caught.value.__cause__)
        with pytest.raises(WorkerDiedError, match="exited with code 7"):
            queue.get()
        with pytest.raises(ConfigError, match="is a NoneType, which is not an array"):
            queue.get()
        with pytest.raises(WorkerDiedError, match="SIGKILL at call 3: probably out of memory"):
            queue.get()
        with pytest.raises(ShapeError, match=r"call 4 returned float32 \(2,\), expected float32 \(3,\)"):
            queue.get()
        assert queue.get().tolist() == [1.0, 1.0]


def test_timeout_keeps_the_place_in_the_queue():
    gate = multiprocessing.get_context("fork").Event()

    def wait_at_the_gate():
        gate.wait(60)
        return np.ones(1)

    with make() as queue:
        queue.startproc(np.float64, (1,), wait_at_the_gate)
        with pytest.raises(BackgroundTimeoutError, match="call 0 was not ready within 0.2 seconds"):
            queue.get(timeout=0.2)
        gate.set()
        assert queue.get().tolist() == [1.0]


def test_an_empty_queue_is_an_error_and_a_lambda_is_refused_where_it_cannot_travel():
    with SharedQ(start_method="spawn") as queue:
        with pytest.raises(EmptyQueueError, match="startproc"):
            queue.get()
        with pytest.raises(ConfigError, match="cannot be pickled"):
            queue.startproc(np.float32, (2,), lambda: 1)
        assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.get()


def test_too_few_processes_are_logged(caplog):
    with make(n_proc=2, profile=True) as queue, caplog.at_level(logging.INFO, logger="delira_nca"):
        for _ in range(3):
            queue.startproc(np.float32, (2,), late, (0, 0))
        queue.get()
        assert [record.levelname for record in caplog.records] == ["INFO"]
        queue.get()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert "1 processes are running, fewer than n_proc=2" in caplog.records[-1].getMessage()


def test_reset_ends_the_processes_and_the_numbers_go_on():
    def get_third(is_reset):
        with make() as queue:
            for _ in range(2):
                queue.startproc(np.float64, (2,), draw)
                if not is_reset:
                    queue.get()
            if is_reset:
                queue.reset()
            assert len(queue) == 0
            assert not multiprocessing.active_children()
            queue.startproc(np.float64, (2,), draw)
            return queue.get().tolist()

    assert get_third(True) == get_third(False)


def test_shutdown_can_be_repeated_and_does_not_wait_and_processes_end_with_the_object():
    queue = make()
    queue.startproc(np.float32, (2,), late, (0, 600))
    start = time.monotonic()
    queue.shutdown()
    queue.shutdown()
    assert time.monotonic() - start < 10
    queue = make()
    queue.startproc(np.float32, (2,), late, (0, 600))
    del queue
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "?", "u1", "i8", "u8", ">i4", "c8", "M8[D]"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_every_type_and_shape_comes_back(dtype, shape):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    memory = SharedMem.puthandle(dtype, shape, values) if shape else SharedMem.puthandle(dtype, 1, values.reshape(1))
    found = SharedMem.shm2ndarray(memory, shape or 1, dtype)
    np.testing.assert_array_equal(found, values.reshape(shape or 1))
    assert found.dtype == np.dtype(dtype)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_process_writes_into_the_memory_of_its_parent():
    memory = SharedMem.puthandle("f8", (2, 2))

    def write():
        SharedMem.shm2ndarray(memory, (2, 2), "f8")[1] = 5.0

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert SharedMem.shm2ndarray(memory, (2, 2), "f8").tolist() == [[0.0, 0.0], [5.0, 5.0]]


def test_arrays_of_multiprocessing_have_their_type():
    for memory in (multiprocessing.RawArray("i", [1, 2, 3]), multiprocessing.Array("i", [1, 2, 3])):
        assert SharedMem.shm2ndarray(memory, 3).tolist() == [1, 2, 3]
    typed = multiprocessing.RawArray("f", 2)
    SharedMem.ndarray2shm(np.array([0.5, 1.5], np.float32), typed)
    assert list(typed) == [0.5, 1.5]
    assert issubclass(BackgroundProc, SharedMem)
    assert SharedQ.shm2ndarray is SharedMem.shm2ndarray


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: SharedMem.puthandle(object, 3), ConfigError, "a type of numbers"),
        (lambda: SharedMem.puthandle("float33", 3), ConfigError, "not 'float33'"),
        (lambda: SharedMem.puthandle("f4", (2, -1)), ConfigError, "shape must be a whole number"),
        (
            lambda: SharedMem.puthandle("f4", 2, np.ones(3, "f4")),
            ShapeError,
            r"\(3,\) do not fit memory of shape \(2,\)",
        ),
        (lambda: SharedMem.puthandle("i4", 2, np.ones(2)), ConfigError, "float64 values cannot be stored as int32"),
        (lambda: SharedMem.shm2ndarray(SharedMem.puthandle("f4", 2), 3, "f4"), ShapeError, "needs 12 bytes"),
        (lambda: SharedMem.shm2ndarray(SharedMem.puthandle("f4", 2), 2), ConfigError, "give dtype"),
        (lambda: SharedMem.shm2ndarray(b"abc", 3, "u1"), ConfigError, "not a bytes"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()
