"""What tests with processes share."""

import gc
import multiprocessing
import random

import numpy as np
import pytest
import torch


@pytest.fixture
def leaves_no_process():
    """No process lives after a test that did not before."""
    before = set(multiprocessing.active_children())
    yield
    if not set(multiprocessing.active_children()) <= before:
        gc.collect()
    assert set(multiprocessing.active_children()) <= before


def _all_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert (a[key].dtype, a[key].strides) == (b[key].dtype, b[key].strides), key
            assert a[key].flags.writeable, key
            assert np.array_equal(a[key], b[key]), key


@pytest.fixture
def assert_same_batches():
    """Compares two lists of batches bit by bit."""
    return _all_same


@pytest.fixture
def generators_stay_untouched():
    """Compares the states of the global generators with those at the start, in the test and after it."""
    random.seed(1)
    np.random.seed(3)
    np.random.normal()  # the second number of the pair is kept for the next call
    torch.manual_seed(1)

    def state():
        numpy_state = np.random.get_state()
        return random.getstate(), numpy_state[1].tolist(), numpy_state[2:], torch.get_rng_state().tolist()

    def check():
        assert state() == before

    before = state()
    yield check
    check()
