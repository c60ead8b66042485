"""The history: which epoch is best, what the file holds, and that it can be read again."""

import json

import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError, ScoreModeError
from delira_nca.ncalab import TrainingHistory, TrainingStatus


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


def test_the_first_epoch_is_the_best_also_at_an_accuracy_of_zero(segmenter):
    history = TrainingHistory(None, {}, 0, nca := segmenter())
    history.update(1, nca, 0.0)
    assert (history.best_epoch, history.best_model is not None) == (1, True)
    history.update(2, nca, float("nan"))
    assert history.best_epoch == 1


def test_the_lowest_is_the_best_where_it_is_said(segmenter):
    history = TrainingHistory(None, {}, 0, nca := segmenter(), mode="lowest")
    for epoch, value in enumerate([0.5, 0.6, 0.2], start=1):
        history.update(epoch, nca, value)
    assert history.best_epoch == 3
    with pytest.raises(ScoreModeError):
        TrainingHistory(None, {}, 0, nca, mode="best")


def test_it_can_be_told_which_is_the_best(filled):
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


def test_what_is_saved_can_be_loaded(filled, segmenter, assert_same):
    filled.finalize()
    filled.save()
    loaded = TrainingHistory.load(filled.path, segmenter())
    assert loaded.to_dict() == filled.to_dict()
    assert loaded.status is TrainingStatus.STATUS_DONE
    for name in ("current_model", "best_model"):
        assert_same(dict(getattr(loaded, name).state_dict()), dict(getattr(filled, name).state_dict()))


def test_a_dict_makes_a_history_again(filled):
    again = TrainingHistory.from_dict(filled.to_dict(), filled.current_model, filled.best_model)
    assert again.to_dict() == filled.to_dict()


def test_a_dict_of_ncalab_makes_one_too(segmenter):
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


def test_a_history_with_a_byte_order_mark_is_loaded(filled, segmenter):
    filled.save()
    file = filled.path / "history.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert TrainingHistory.load(filled.path, segmenter()).loss == filled.loss
