import math
import sys

import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, MissingDependencyError, UnknownNameError
from delira_nca.visualization import plots, save_curves


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
    with Image.open(tmp_path / "out" / "curves.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (0x2A, 0x6F, 0xBB)).all(axis=1).sum() > 100
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["curves.png"]


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_vector_formats(history, tmp_path, suffix, magic):
    save_curves(history, tmp_path / f"curves{suffix}")
    assert (tmp_path / f"curves{suffix}").read_bytes().startswith(magic)


def test_keys_and_logarithms_can_be_chosen(history, drawn, tmp_path):
    save_curves(history, tmp_path / "a.png", keys=["change", "val_loss"], log10=False)
    save_curves(history, tmp_path / "b.png", log10=["loss"])
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["change", "loss"]
    assert [axes.get_ylabel() for axes in drawn[1].axes] == ["log10(loss)", "change"]


def test_records_without_a_counter_are_counted(drawn, tmp_path):
    save_curves([{"loss": 1.0}, {}, {"loss": math.inf}, {"loss": 2}], tmp_path / "a.png", log10=False)
    (line,) = drawn[0].axes[0].lines
    assert line.get_xdata().tolist() == [1, 3, 4]
    np.testing.assert_array_equal(line.get_ydata(), [1, math.nan, 2])


def test_one_record_and_only_nan_can_be_drawn(tmp_path):
    save_curves([{"epoch": 1, "loss": 1.0}], tmp_path / "a.png")
    save_curves([{"epoch": 1, "loss": math.nan}, {"epoch": 2, "loss": math.nan}], tmp_path / "b.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_many_panels_leave_no_empty_axes(drawn, tmp_path):
    save_curves([{f"q{index}": 1.0 + index for index in range(7)}] * 2, tmp_path / "a.png")
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == [f"q{index}" for index in range(7)]


def test_an_unknown_key_gets_the_nearest_name(history, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'val_loss'"):
        save_curves(history, tmp_path / "a.png", keys=["loss", "val_los"])
    with pytest.raises(UnknownNameError, match="Did you mean 'loss'"):
        save_curves(history, tmp_path / "a.png", log10=["los"])
    with pytest.raises(UnknownNameError, match=r"'\.pdf', '\.png', '\.svg'"):
        save_curves(history, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("records", "options"),
    [([], {}), ([{"epoch": 1}], {}), ([{"loss": 1.0}], {"keys": []}), ([{"loss": 0.0}], {"log10": ["loss"]})],
)
def test_nothing_to_draw_is_an_error(records, options, tmp_path):
    with pytest.raises(ConfigError):
        save_curves(records, tmp_path / "a.png", **options)


def test_without_matplotlib_the_error_says_what_to_install(history, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'delira_nca\[viz\]'"):
        save_curves(history, tmp_path / "a.png")


def test_no_pyplot_and_no_change_of_global_settings(history, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    had_pyplot = "matplotlib.pyplot" in sys.modules
    save_curves(history, tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
