"""Batch size, learning rate and end of a training follow its score."""

import math

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DataManager
from delira_nca.errors import ScoreKeyError
from delira_nca.training.callbacks import (
    LambdaCallback,
    MetricTracker,
    PatienceController,
    RaiseBatchSizeOnPlateau,
    ValidationSets,
)


def make_data(length=16, seed=0):
    images = np.random.default_rng(seed).random((length, 1, 4, 4), dtype=np.float32)
    return {"data": images, "label": images[:, :1] * 0 + 0.5}


@pytest.fixture
def make_trainer(image_trainer):
    def make(path, callbacks, lr=0.0):
        options = {"optimizer_cls": torch.optim.SGD, "optimizer_params": {"lr": lr}}
        return image_trainer(path, callbacks=callbacks, **options)

    return make


def scores(values):
    """Replace the validation loss of each epoch before the other callbacks see it."""

    def at_epoch_end(trainer, val_metrics, curr_epoch):
        val_metrics["val_loss"] = values[curr_epoch - 1]

    return LambdaCallback(at_epoch_end=at_epoch_end)


def watch(seen, data):
    def at_epoch_begin(trainer, curr_epoch):
        seen.append((data.batch_size, trainer.optimizers["default"].param_groups[0]["lr"]))

    return LambdaCallback(at_epoch_begin=at_epoch_begin)


VALUES = [1.0, 0.9, 0.9, 0.9, 0.95, math.nan, 0.9, 0.9]


def test_the_batch_size_grows_then_the_learning_rate_falls(make_trainer, tmp_path):
    data, seen = DataManager(make_data(), 4), []
    controller = RaiseBatchSizeOnPlateau(data, 8, patience=1)
    trainer = make_trainer(None, [scores(VALUES), controller, watch(seen, data)], lr=0.5)
    trainer.train(8, data, DataManager(make_data(4), 4))
    assert seen == [(4, 0.5)] * 4 + [(8, 0.5)] * 2 + [(8, 0.25)] * 2


def test_a_small_batch_grows_by_a_sample_at_least(make_trainer):
    data, seen = DataManager(make_data(), 1), []
    controller = RaiseBatchSizeOnPlateau(data, 3, patience=0, factor=0.8)
    make_trainer(None, [scores([1.0] * 4), controller, watch(seen, data)]).train(4, data, DataManager(make_data(4), 4))
    assert [size for size, _ in seen] == [1, 1, 2, 3]


def test_a_resumed_training_has_the_batch_size_of_its_checkpoint(make_trainer, tmp_path):
    def run(folder, epochs, resume="never"):
        data, seen = DataManager(make_data(), 4), []
        callbacks = [scores(VALUES), PatienceController(data, 8, patience=1), watch(seen, data)]
        trainer = make_trainer(folder, callbacks, lr=0.5)
        trainer.train(epochs, data, DataManager(make_data(4), 4), resume=resume)
        return trainer, seen

    straight, seen = run(tmp_path / "a", 8)
    run(tmp_path / "b", 5)
    resumed, rest = run(tmp_path / "b", 8, "auto")
    assert rest == seen[5:]
    for ours, theirs in zip(resumed.network.parameters(), straight.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_patience_ends_the_training(make_trainer):
    data = DataManager(make_data(), 4)
    controller = PatienceController(data, 8, patience=0, termination_patience=2)
    trainer = make_trainer(None, [scores(VALUES), controller])
    trainer.train(8, data, DataManager(make_data(4), 4))
    assert len(trainer.history) == 5
    assert trainer.stop_reason == "val_loss has not improved for 3 epochs"


def test_the_best_of_each_score_is_kept_in_both_directions():
    tracker = MetricTracker({"val_dice": "highest"})
    rows = [{"val_dice": 0.5, "loss": 1.0}, {"val_dice": 0.7, "loss": math.nan}, {"val_dice": 0.6, "loss": 0.5}]
    improved = [tracker.register(row, epoch) for epoch, row in enumerate(rows, start=1)]
    assert improved == [["val_dice", "loss"], ["val_dice"], ["loss"]]
    again = MetricTracker({"val_dice": "highest"})
    again.load_state_dict(tracker.state_dict())
    assert again.best == {"val_dice": (0.7, 2), "loss": (0.5, 3)}


def test_further_validation_sets_have_their_own_scores(make_trainer):
    small, large = make_data(4, seed=1), make_data(8, seed=2)
    sets = {"small": DataManager({**small, "label": small["data"]}, 2), "large": DataManager(large, 4)}
    trainer = make_trainer(None, [ValidationSets(sets, every=2)])
    trainer.train(2, DataManager(make_data(), 4))
    assert "val_small_mse" not in trainer.history[0]
    expected = {f"val_{name}_mse": trainer.predict(data.get_batchgen())[2]["mse"] for name, data in sets.items()}
    assert {name: trainer.history[1][name] for name in expected} == pytest.approx(expected)
    assert len(set(expected.values())) == 2


def test_an_unknown_score_is_an_error_at_the_start(make_trainer):
    data = DataManager(make_data(), 4)
    trainer = make_trainer(None, [RaiseBatchSizeOnPlateau(data, 8, monitor_key="val_dice")])
    with pytest.raises(ScoreKeyError):
        trainer.train(1, data, data)
    assert trainer.global_iter_num == 0
