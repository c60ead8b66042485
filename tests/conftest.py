import signal
from collections.abc import Callable

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Grids of a test are so small that a second thread only waits, and other tests run beside it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works():
    """A shell may have Ctrl+C ignored in the background, and every process that a test starts would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_other_faults(tmp_path_factory):
    """Faults are timed: those of two test processes never happen at once."""
    shared = tmp_path_factory.getbasetemp().parent
    with FileLock(shared / "faults.lock"):
        yield


@pytest.fixture
def randomise() -> Callable[..., nn.Module]:
    """Fill every weight, the zero-initialised ones too, so that an automaton does something."""

    def fill(module: nn.Module, scale: float = 0.2, seed: int = 0) -> nn.Module:
        source = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=source))
        return module

    return fill


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Standard normal numbers of a seed."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return draw
