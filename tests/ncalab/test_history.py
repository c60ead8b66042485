"""The history: which epoch is best, what the file holds, and that it can be read again."""

import json

import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError, ScoreModeError
from delira_nca.ncalab import EarlyStopping, TrainingHistory, TrainingStatus


@pytest.fixture
def filled(segmenter, tmp_path):
    nca = segmenter()
    history = TrainingHistory(tmp_path / "run", {"dice": 0.5}, 0, nca)
    history.loss = [0.9, 0.7]
    history.epochs = [{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.7}]
    history.update(1, nca, 0.5)
    with torch.no_grad():
        nca.rule.last.weight.add_(1.0)
    history.update(2, nca, 0.4)
    return history


def test_the_best_epoch_keeps_its_weights(filled):
    assert (filled.current_epoch, filled.best_epoch, filled.best_accuracy, filled.best_loss) == (2, 1, 0.5, 0.9)
    best, now = filled.best_model.rule.last.weight, filled.current_model.rule.last.weight
    assert torch.allclose(best + 1, now)
    assert filled.status is TrainingStatus.STATUS_RUNNING


def test_which_epoch_is_the_best(segmenter, filled):
    for mode, values, best in (("highest", (0.0, float("nan")), 1), ("lowest", (0.5, 0.6, 0.2), 3)):
        history = TrainingHistory(None, {}, 0, nca := segmenter(), mode=mode)
        for epoch, value in enumerate(values, start=1):
            history.update(epoch, nca, value)
        assert (history.best_epoch, history.best_model is not None) == (best, True), mode
    with pytest.raises(ScoreModeError):
        TrainingHistory(None, {}, 0, nca, mode="best")
    filled.update(3, filled.current_model, 0.1, overwrite=True)
    assert (filled.best_epoch, filled.best_accuracy) == (3, 0.1)


def test_the_file_has_the_entries_of_ncalab_and_those_it_lacks(filled):
    filled.save()
    state = json.loads((filled.path / "history.json").read_text())
    assert state.keys() >= {
        *("path", "metrics", "dice", "current_epoch", "best_acc", "best_epoch", "best_loss", "created_timestamp"),
        *("modified_timestamp", "current_model", "best_model", "loss", "epochs", "test_metrics", "status"),
    }
    assert (state["dice"], state["best_acc"], state["loss"]) == (0.5, 0.5, [0.9, 0.7])
    assert state["current_model"]["num_hidden_channels"] == 3


def test_what_is_saved_can_be_loaded_also_with_a_byte_order_mark(filled, segmenter, assert_same):
    filled.finalize()
    filled.save()
    file = filled.path / "history.json"
    for mark in (b"", b"\xef\xbb\xbf"):
        file.write_bytes(mark + file.read_bytes())
        loaded = TrainingHistory.load(filled.path, segmenter())
        assert loaded.to_dict() == filled.to_dict()
        assert loaded.status is TrainingStatus.STATUS_DONE
        for name in ("current_model", "best_model"):
            assert_same(dict(getattr(loaded, name).state_dict()), dict(getattr(filled, name).state_dict()))


def test_a_dict_makes_a_history_again_also_one_of_ncalab(filled, segmenter):
    again = TrainingHistory.from_dict(filled.to_dict(), filled.current_model, filled.best_model)
    assert again.to_dict() == filled.to_dict()
    state = {"path": None, "metrics": {}, "current_epoch": 4, "best_acc": 0.8, "best_epoch": 2, "best_loss": 0.1}
    history = TrainingHistory.from_dict(state, segmenter())
    assert (history.current_epoch, history.best_accuracy, history.loss, history.best_loss) == (4, 0.8, [], None)


def test_files_that_do_not_fit_are_refused(filled, segmenter, tmp_path):
    with pytest.raises(ConfigError, match="no path"):
        TrainingHistory(None, {}, 0, segmenter()).save()
    with pytest.raises(MissingFileError, match=r"no history\.json"):
        TrainingHistory.load(tmp_path / "none", segmenter())
    with pytest.raises(CheckpointError, match="KeyError"):
        TrainingHistory.from_dict({"path": None}, segmenter())
    filled.save()
    with pytest.raises(CheckpointError, match=r"last_model\.pth does not fit"):
        TrainingHistory.load(filled.path, segmenter(hidden_size=9))
    (filled.path / "last_model.pth").unlink()
    with pytest.raises(MissingFileError, match="weights are missing"):
        TrainingHistory.load(filled.path, segmenter())
    (filled.path / "history.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        TrainingHistory.load(filled.path, segmenter())


# Early stopping: NCALab's counter, with a first accuracy that counts even where it is not above 0 --------------------


def counters(stopping, *accuracies):
    seen = []
    for accuracy in accuracies:
        stopping.step(accuracy)
        seen.append(stopping.counter)
    return seen


def test_attributes_of_the_page_are_there():
    stopping = EarlyStopping(3)
    assert (stopping.patience, stopping.min_delta, stopping.best_accuracy, stopping.counter) == (3, 1e-6, 0.0, 0)
    assert stopping.done() is False


@pytest.mark.parametrize(
    ("options", "accuracies", "expected"),
    [
        ({"min_delta": 0.1}, (0.5, 0.55, 0.6, 0.65, 0.75), [0, 1, 0, 1, 0]),
        ({}, (-3.0, -4.0, -2.0), [0, 1, 0]),
        ({"min_delta": 0.0}, (float("nan"), 0.5, 0.5, float("nan")), [1, 0, 1, 2]),
    ],
    ids=["better by less than the least difference", "first is negative", "equal or unknown is not better"],
)
def test_a_better_accuracy_resets_the_counter(options, accuracies, expected):
    stopping = EarlyStopping(2, **options)
    assert counters(stopping, *accuracies) == expected
    assert stopping.best_accuracy == max(accuracies, key=lambda value: (value == value, value))
    assert stopping.done() == (expected[-1] >= 2)


def test_its_state_can_be_taken_up():
    one, two = EarlyStopping(2), EarlyStopping(2)
    counters(one, 0.5, 0.4)
    two.load_state_dict(one.state_dict())
    assert counters(two, 0.45) == [2]
    assert two.best_accuracy == 0.5


@pytest.mark.parametrize(("patience", "delta"), [(0, 0.0), (1.5, 0.0), (True, 0.0), (1, -1.0), (1, float("nan"))])
def test_numbers_out_of_range_are_refused(patience, delta):
    with pytest.raises(ConfigError, match="at least"):
        EarlyStopping(patience, delta)
