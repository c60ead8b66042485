import os
import signal
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from delira_nca.errors import ConfigError
from delira_nca.models.precision import Precision
from delira_nca.rollout import native_library

OF_PYTORCH = {
    "portable": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
"""What limits PyTorch's own kernels to an instruction set; it is read when the first of them runs."""


def pytest_addoption(parser):
    parser.addoption(
        "--instruction-set",
        choices=[*native_library.INSTRUCTION_SETS, "none"],
        help="Run as a processor with no more than this instruction set would; none: without the native library.",
    )


def pytest_configure(config):
    """Set the environment, which the workers of xdist and all processes that a test starts inherit."""
    if (name := config.getoption("instruction_set")) is None:
        return
    os.environ.update({native_library.ENVIRONMENT_VARIABLE: name, **OF_PYTORCH.get(name, {})})
    try:
        native_library.available()
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(items):
    """Put the tests of faults next to each other: one process then runs them all, and none waits for another's."""
    items.sort(key=lambda item: "no_other_faults" not in getattr(item, "fixturenames", ()))


def pytest_terminal_summary(terminalreporter):
    """Count what was skipped, by reason."""
    skipped = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])]
    if skipped:
        terminalreporter.section(f"{len(skipped)} skipped", sep="-")
        for reason, number in Counter(skipped).most_common():
            terminalreporter.line(f"{number:5}  {reason}")


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
def logged(caplog):
    """Records of the log without those on back ends, which depend on the processor."""
    return lambda: [record for record in caplog.records if record.module != "backends"]


@pytest.fixture
def any_processor(monkeypatch):
    """Let mixed precision be emulated, which is slow but right, on processors that have no instructions for it."""
    monkeypatch.setattr(Precision, "check", lambda self, backends=(): None)


@pytest.fixture
def refuses() -> Callable[..., None]:
    """Check the class and the message of the error of a call: refuses(error, message, function, *its_arguments)."""

    def check(error: type[Exception], message: str, function: Callable, /, *args, **kwargs) -> None:
        with pytest.raises(error, match=message):
            function(*args, **kwargs)

    return check


def _assert_same(ours, theirs, where="state"):
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
        assert ours.dtype == theirs.dtype, where
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours.keys() - {"run_id"}:
            _assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            _assert_same(a, b, f"{where}[{number}]")
    else:
        assert ours == theirs or (ours != ours and theirs != theirs), where


@pytest.fixture
def assert_same():
    """Compares two states of plain values and tensors."""
    return _assert_same


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
