import math

import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.visualization import save_overlay

LINES = {"a": ([1, 2, 3], [1.0, 0.5, 0.25]), "b": ([1, 2], [1.0, math.nan])}
AXES = {"xlabel": "epoch", "ylabel": "mse"}


def has_colour(path, colour):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (np.abs(pixels - colour).max(-1) < 12).sum()


def test_every_line_is_drawn_in_a_colour_of_its_own(tmp_path):
    save_overlay(LINES, tmp_path / "a.png", **AXES)
    blue, orange, green = (0x2A, 0x6F, 0xBB), (0xD1, 0x66, 0x2A), (0x2F, 0x8F, 0x5B)
    assert has_colour(tmp_path / "a.png", blue) > has_colour(tmp_path / "a.png", orange) > 50
    assert has_colour(tmp_path / "a.png", green) == 0


def test_a_wide_spread_of_positive_numbers_is_drawn_by_its_logarithm(tmp_path):
    save_overlay({"a": ([1, 2], [1.0, 0.001])}, tmp_path / "log.svg", **AXES)
    save_overlay({"a": ([1, 2], [1.0, -0.001])}, tmp_path / "plain.svg", **AXES)
    assert "10^{-2}" in (tmp_path / "log.svg").read_text().replace("\\mathdefault", "").replace("{10", "10")
    assert "10^{-2}" not in (tmp_path / "plain.svg").read_text().replace("\\mathdefault", "").replace("{10", "10")


@pytest.mark.parametrize("lines", [{}, {"a": ([], [])}, {"a": ([1], [math.nan])}])
def test_nothing_to_draw_is_an_error_and_leaves_no_file(lines, tmp_path):
    with pytest.raises(ConfigError, match="nothing to draw"):
        save_overlay(lines, tmp_path / "a.png", **AXES)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_of_picture_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Did you mean '\.png'"):
        save_overlay(LINES, tmp_path / "a.pgn", **AXES)
