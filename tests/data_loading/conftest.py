"""What tests with processes share."""

import gc
import multiprocessing

import pytest


@pytest.fixture
def leaves_no_process():
    """No process lives after a test that did not before."""
    gc.collect()
    before = set(multiprocessing.active_children())
    yield
    gc.collect()
    assert set(multiprocessing.active_children()) <= before
