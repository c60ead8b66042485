"""Arrays in memory that forked processes share."""

import multiprocessing
import os

import numpy as np
import pytest

from delira_nca.data_loading.background import BackgroundProc, SharedMem, SharedQ
from delira_nca.errors import ConfigError, ShapeError


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


def test_it_is_the_base_of_the_background_classes():
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
