import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def pytest_itemcollected(item):
    """All of this folder depends on the processor."""
    item.add_marker(pytest.mark.processor)


class PeakMemory(TorchDispatchMode):
    """Largest number of bytes that tensors made inside of the block hold at one time, backward passes included."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.live:
                    self.live[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.forget, storage._cdata)
        self.peak = max(self.peak, self.now)
        return result

    def forget(self, storage):
        self.now -= self.live.pop(storage, 0)


@pytest.fixture
def peak():
    """Largest number of bytes that a function and the backward pass from the sum of its result hold at one time."""

    def measure(run):
        gc.collect()
        with PeakMemory() as memory:
            run().sum().backward()
        return memory.peak

    return measure
