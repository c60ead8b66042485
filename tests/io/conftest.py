"""What tests of files share."""

import subprocess
import sys

import pytest

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, verify_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


@pytest.fixture
def refused(path):
    """Asserts that a file with some content is refused by name."""

    def check(content, reason, *functions):
        path.write_bytes(content)
        for function in functions or (load_checkpoint, verify_checkpoint):
            with pytest.raises(CheckpointError, match=reason) as raised:
                function(path)
            assert str(raised.value).startswith(f"{path} is not a readable checkpoint: ")

    return check


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid
