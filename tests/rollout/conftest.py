import pytest


def pytest_itemcollected(item):
    """All of this folder depends on the processor."""
    item.add_marker(pytest.mark.processor)
