import math

import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.visualization import save_scatter

GROUPS = {"clean": ([0.1, 0.2], [0.9, 0.8]), "noise": ([0.5, math.nan, 0.7], [0.4, 0.5, math.nan])}
AXES = {"xlabel": "NQM", "ylabel": "Dice"}


def markers(path, colour):
    return path.read_text().count(f"fill: {colour}; fill-opacity: 0.75")


def test_every_group_has_a_colour_and_points_that_are_not_finite_are_left_out(tmp_path):
    save_scatter(GROUPS, tmp_path / "a.svg", **AXES)
    drawn = {colour: markers(tmp_path / "a.svg", colour) for colour in ("#2a6fbb", "#d1662a", "#2f8f5b")}
    in_legend = 1
    assert drawn == {"#2a6fbb": 2 + in_legend, "#d1662a": 1 + in_legend, "#2f8f5b": 0}


def test_a_picture_of_points_has_their_colours(tmp_path):
    save_scatter(GROUPS, tmp_path / "a.png", **AXES, title="Cases")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    blended = 0.75 * np.array([0x2A, 0x6F, 0xBB]) + 0.25 * 255
    assert (np.abs(pixels - blended).max(-1) < 6).sum() > 50


def test_the_first_group_is_drawn_over_the_others(tmp_path):
    same = ([0.5], [0.5])
    save_scatter({"a": same, "b": same}, tmp_path / "a.svg", **AXES)
    text = (tmp_path / "a.svg").read_text()
    points = text[: text.index("legend")]
    assert 0 < points.rindex("fill: #d1662a") < points.rindex("fill: #2a6fbb")


def test_arrays_are_taken(tmp_path):
    save_scatter({"a": (np.arange(3), np.ones((3, 1)))}, tmp_path / "a.svg", **AXES)
    assert markers(tmp_path / "a.svg", "#2a6fbb") == 4


@pytest.mark.parametrize("groups", [{}, {"a": ([], [])}, {"a": ([1], [math.nan])}])
def test_nothing_to_draw_is_an_error_and_leaves_no_file(groups, tmp_path):
    with pytest.raises(ConfigError, match="nothing to draw"):
        save_scatter(groups, tmp_path / "a.png", **AXES)
    assert not list(tmp_path.iterdir())


def test_bad_input_is_refused_with_its_numbers(tmp_path):
    with pytest.raises(ShapeError, match="group 'a' has 2 numbers along the x axis and 1 along the y axis"):
        save_scatter({"a": ([1, 2], [1])}, tmp_path / "a.png", **AXES)
    with pytest.raises(UnknownNameError, match=r"Did you mean '\.png'"):
        save_scatter(GROUPS, tmp_path / "a.pgn", **AXES)
