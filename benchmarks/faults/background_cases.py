"""What can happen to a function that works in the background."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.faults.case import Case, happens_now

__all__ = ["CASES"]

CHANGES_AT = 3


class Changing:
    """Function that returns arrays which are not like the former ones from some call on."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype, self.calls = shape, dtype, 0

    def __call__(self) -> Any:
        self.calls += 1
        if self.calls <= CHANGES_AT:
            return np.zeros((4, 5), "float32")
        happens_now()
        return np.zeros(self.shape, self.dtype)


def get_until_it_fails(shape: tuple[int, ...], dtype: str) -> None:
    from delira_nca.data_loading.background import BackgroundProc

    with BackgroundProc(Changing(shape, dtype), dtypes="float32", shapes=(4, 5)) as background:
        for _ in range(CHANGES_AT + 1):
            background.get(timeout=10.0)


def change_the_shape() -> None:
    get_until_it_fails((4, 6), "float32")


def change_the_dtype() -> None:
    get_until_it_fails((4, 5), "float64")


CASES = [
    Case("background result changes its shape", "1", change_the_shape, "ShapeError", ("(4, 6)", "(4, 5)"), 1),
    Case("background result changes its type", "1", change_the_dtype, "ConfigError", ("float64", "float32"), 1),
]
