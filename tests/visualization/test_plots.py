"""Curves of trainings, lines over each other, and points."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import delira_nca
from delira_nca.errors import ConfigError, MissingDependencyError, ShapeError, UnknownNameError
from delira_nca.visualization import plots, save_curves, save_overlay, save_scatter


def count_pixels(path, colour, tolerance):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (np.abs(pixels - colour).max(-1) < tolerance).sum()


# Curves ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def history():
    records = [{"epoch": epoch, "loss": 10.0**-epoch, "change": epoch - 3.0, "note": "text"} for epoch in range(1, 7)]
    records[1]["val_loss"] = 0.1
    records[3]["val_loss"] = 0.001
    records[4]["val_loss"] = None
    records[2]["loss"] = math.nan
    return records


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were drawn, in order."""
    figures, draw = [], plots._draw

    def keep(*args):
        figures.append(draw(*args))
        return figures[-1]

    monkeypatch.setattr(plots, "_draw", keep)
    return figures


def test_panels_lines_and_labels(history, drawn, tmp_path):
    save_curves(history, tmp_path / "curves.png", title="a_$b$")
    loss, change = drawn[0].axes
    train, val = loss.lines
    assert train.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(train.get_ydata(), [-1, -2, math.nan, -4, -5, -6])
    assert val.get_xdata().tolist() == [2, 4]  # an epoch without validation is passed over
    np.testing.assert_allclose(val.get_ydata(), [-1, -3])
    assert train.get_color() == val.get_color() != change.lines[0].get_color()
    assert (train.get_linestyle(), val.get_linestyle()) == ("-", "--")
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "val"]
    assert loss.get_ylabel() == "log10(loss)"
    assert change.get_ylabel() == "change"  # it is negative at times
    assert change.lines[0].get_ydata().tolist() == [-2, -1, 0, 1, 2, 3]
    assert loss.get_xlim() == change.get_xlim()
    assert change.get_xlabel() == "epoch"


def test_the_file_is_a_picture_with_ink(history, tmp_path):
    save_curves(history, tmp_path / "out" / "curves.png")
    assert count_pixels(tmp_path / "out" / "curves.png", (0x2A, 0x6F, 0xBB), 0.5) > 100
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["curves.png"]
    for suffix, magic in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        save_curves(history, tmp_path / f"curves{suffix}")
        assert (tmp_path / f"curves{suffix}").read_bytes().startswith(magic)


def test_keys_and_logarithms_can_be_chosen(history, drawn, tmp_path):
    save_curves(history, tmp_path / "a.png", keys=["change", "val_loss"], log10=False)
    save_curves(history, tmp_path / "b.png", log10=["loss"])
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["change", "loss"]
    assert [axes.get_ylabel() for axes in drawn[1].axes] == ["log10(loss)", "change"]


def test_records_without_a_counter_are_counted_and_one_record_or_only_nan_can_be_drawn(drawn, tmp_path):
    save_curves([{"loss": 1.0}, {}, {"loss": math.inf}, {"loss": 2}], tmp_path / "a.png", log10=False)
    (line,) = drawn[0].axes[0].lines
    assert line.get_xdata().tolist() == [1, 3, 4]
    np.testing.assert_array_equal(line.get_ydata(), [1, math.nan, 2])
    save_curves([{"epoch": 1, "loss": 1.0}], tmp_path / "b.png")
    save_curves([{"epoch": 1, "loss": math.nan}, {"epoch": 2, "loss": math.nan}], tmp_path / "c.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_many_panels_leave_no_empty_axes(drawn, tmp_path):
    save_curves([{f"q{index}": 1.0 + index for index in range(7)}] * 2, tmp_path / "a.png")
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == [f"q{index}" for index in range(7)]


def test_without_matplotlib_the_error_says_what_to_install_and_with_it_nothing_global_changes(
    history, monkeypatch, tmp_path
):
    import matplotlib

    before, had_pyplot = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    save_curves(history, tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'delira_nca\[viz\]'"):
        save_curves(history, tmp_path / "a.png")


# Lines and points -----------------------------------------------------------------------------------------------------

LINES = {"a": ([1, 2, 3], [1.0, 0.5, 0.25]), "b": ([1, 2], [1.0, math.nan])}
GROUPS = {"clean": ([0.1, 0.2], [0.9, 0.8]), "noise": ([0.5, math.nan, 0.7], [0.4, 0.5, math.nan])}
AXES = {"xlabel": "NQM", "ylabel": "Dice"}


def test_every_line_is_drawn_in_a_colour_of_its_own(tmp_path):
    save_overlay(LINES, tmp_path / "a.png", **AXES)
    blue, orange, green = (0x2A, 0x6F, 0xBB), (0xD1, 0x66, 0x2A), (0x2F, 0x8F, 0x5B)
    assert count_pixels(tmp_path / "a.png", blue, 12) > count_pixels(tmp_path / "a.png", orange, 12) > 50
    assert count_pixels(tmp_path / "a.png", green, 12) == 0


def test_a_wide_spread_of_positive_numbers_is_drawn_by_its_logarithm(tmp_path):
    for last, is_logarithmic in ((0.001, True), (-0.001, False)):
        save_overlay({"a": ([1, 2], [1.0, last])}, tmp_path / "a.svg", **AXES)
        text = (tmp_path / "a.svg").read_text().replace("\\mathdefault", "").replace("{10", "10")
        assert ("10^{-2}" in text) == is_logarithmic


def markers(path, colour):
    return path.read_text().count(f"fill: {colour}; fill-opacity: 0.75")


def test_every_group_has_a_colour_and_points_that_are_not_finite_are_left_out(tmp_path):
    path, in_legend = tmp_path / "a.svg", 1
    save_scatter(GROUPS, path, **AXES)
    drawn = {colour: markers(path, colour) for colour in ("#2a6fbb", "#d1662a", "#2f8f5b")}
    assert drawn == {"#2a6fbb": 2 + in_legend, "#d1662a": 1 + in_legend, "#2f8f5b": 0}
    save_scatter({"a": (np.arange(3), np.ones((3, 1)))}, path, **AXES)
    assert markers(path, "#2a6fbb") == 3 + in_legend
    save_scatter(GROUPS, tmp_path / "a.png", **AXES, title="Cases")
    assert count_pixels(tmp_path / "a.png", 0.75 * np.array([0x2A, 0x6F, 0xBB]) + 0.25 * 255, 6) > 50


def test_the_first_group_is_drawn_over_the_others(tmp_path):
    same = ([0.5], [0.5])
    save_scatter({"a": same, "b": same}, tmp_path / "a.svg", **AXES)
    text = (tmp_path / "a.svg").read_text()
    points = text[: text.index("legend")]
    assert 0 < points.rindex("fill: #d1662a") < points.rindex("fill: #2a6fbb")


# What is refused ------------------------------------------------------------------------------------------------------

RECORDS = [{"epoch": 1, "loss": 0.5, "val_loss": 0.1}]
UNEQUAL = {"a": ([1, 2], [1])}


@pytest.mark.parametrize(
    ("save", "given", "name", "options", "error", "message"),
    [
        *(
            (save, lines, "a.png", AXES, ConfigError, "nothing to draw")
            for save in (save_overlay, save_scatter)
            for lines in ({}, {"a": ([], [])}, {"a": ([1], [math.nan])})
        ),
        (save_overlay, LINES, "a.pgn", AXES, UnknownNameError, r"Did you mean '\.png'"),
        (save_scatter, GROUPS, "a.pgn", AXES, UnknownNameError, r"Did you mean '\.png'"),
        (save_scatter, UNEQUAL, "a.png", AXES, ShapeError, "'a' has 2 numbers along the x axis and 1 along the y axis"),
        (save_curves, RECORDS, "a.png", {"keys": ["loss", "val_los"]}, UnknownNameError, "Did you mean 'val_loss'"),
        (save_curves, RECORDS, "a.png", {"log10": ["los"]}, UnknownNameError, "Did you mean 'loss'"),
        (save_curves, RECORDS, "a.jpg", {}, UnknownNameError, r"'\.pdf', '\.png', '\.svg'"),
        (save_curves, [], "a.png", {}, ConfigError, "no curves of an empty history"),
        (save_curves, [{"epoch": 1}], "a.png", {}, ConfigError, "nothing to draw"),
        (save_curves, [{"loss": 1.0}], "a.png", {"keys": []}, ConfigError, "nothing to draw"),
        (save_curves, [{"loss": 0.0}], "a.png", {"log10": ["loss"]}, ConfigError, "not all positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_file(save, given, name, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save(given, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys
import delira_nca
before = set(sys.modules)
import delira_nca.logging, delira_nca.visualization
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_importing_the_packages_imports_nothing_heavy():
    root = Path(delira_nca.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    for name in ("torch", "matplotlib", "tensorboardX", "PIL"):
        assert f"'{name}'" not in done.stdout
