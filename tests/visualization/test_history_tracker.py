"""Tables of a training by hand: what they hold, and their files."""

import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, MissingFileError, ShapeError
from delira_nca.visualization.history_tracker import HistoryTracker, loadhistorytracker


def filled():
    tracker = HistoryTracker()
    for step in range(5):
        tracker.update_timeline([0.5 * step, 2.0 / (step + 1)])
    tracker.update_history({"steps": 100, "train_loss": 0.5, "dice": 0.7})
    tracker.update_history([200, 3.0, 0.25, 0.3])
    tracker.update_regression([1.0, 2.0], [1.5, 2.5])
    tracker.update_regression(np.zeros((2, 2)), np.ones((2, 2)))
    tracker.register_debug_output_names(["a", "b"])
    tracker.update_debug_outputs([1, 2])
    tracker.update_debug_outputs({"b": 3})
    return tracker


def assert_same(ours, theirs):
    for table in ("timeline", "history", "debug_outputs"):
        first, second = getattr(ours, table), getattr(theirs, table)
        assert list(first) == list(second)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
    for one, other in zip(ours.regression, theirs.regression, strict=True):
        np.testing.assert_array_equal(one, other)


def test_values_that_are_not_given_are_nan():
    tracker = filled()
    assert tracker.timeline["loss"].tolist() == [2.0, 1.0, 2 / 3, 0.5, 0.4]
    np.testing.assert_array_equal(tracker.history["dice"], [0.7, np.nan])
    np.testing.assert_array_equal(tracker.history["valid_loss"], [np.nan, 0.3])
    np.testing.assert_array_equal(tracker.debug_outputs["a"], [1.0, np.nan])
    assert tracker.regression[0].tolist() == [1.0, 2.0, 0, 0, 0, 0]


def test_a_file_gives_the_same_tables_without_pickle(tmp_path):
    tracker = filled()
    path = tracker.save(tmp_path / "run")
    assert path == tmp_path / "run.npz"
    assert_same(loadhistorytracker(tmp_path / "run"), tracker)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    again = loadhistorytracker(path)
    again.update_debug_outputs([5, 6])
    assert again.debug_outputs["a"][-1] == 5


def test_a_broken_file_changes_nothing(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    tracker = filled()
    for name in ("broken.npz", "missing"):
        with pytest.raises(MissingFileError, match="is not a file of HistoryTracker.save"):
            tracker.load(tmp_path / name)
    assert_same(tracker, filled())


@pytest.mark.slow
def test_every_table_with_data_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    files = filled().plot(tmp_path / "run")
    names = [f"run_{table}.png" for table in ("timeline", "history", "debug_outputs", "regression")]
    assert [file.name for file in files] == names
    assert all(np.asarray(Image.open(file).convert("L")).std() > 1 for file in files)
    with pytest.raises(ConfigError, match="nothing to draw"):
        HistoryTracker().plot(tmp_path / "empty")


def test_what_is_no_row_is_refused():
    tracker = filled()
    for update, text in (
        (lambda: tracker.update_timeline([1, 2, 3, 4]), "a row of the timeline has 3 values, time, loss, batch_char"),
        (lambda: tracker.update_history({"lr": "fast"}), "numbers by name, not 'lr': 'fast'"),
        (lambda: tracker.update_debug_outputs({"c": 1}), "'c' is not registered"),
        (lambda: tracker.register_debug_output_names(["x"]), "recorded as"),
    ):
        with pytest.raises(ConfigError, match=text):
            update()
    with pytest.raises(ShapeError, match="have one shape"):
        tracker.update_regression([1.0], [[1.0]])
    assert_same(tracker, filled())
