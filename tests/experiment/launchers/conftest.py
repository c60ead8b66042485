import importlib
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent / "importable")


@pytest.fixture(scope="session")
def tasks():
    """Functions to run: in a folder that is on the path, so that other processes can import them too."""
    sys.path.append(HERE)
    yield importlib.import_module("launcher_tasks")
    sys.path.remove(HERE)
