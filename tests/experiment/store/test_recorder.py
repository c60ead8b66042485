"""What a training leaves in the store, also where it is killed, resumed, or fails."""

import copy
import logging
import math
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from delira_nca.errors import CallbackError, ConfigError, ScoreKeyError
from delira_nca.experiment.recorder import StatsRecorder, _floats
from delira_nca.experiment.stats import Criterion, TrainingIterationStats
from delira_nca.experiment.store import RunStore
from delira_nca.io import load_checkpoint, load_network
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import Checkpoint, LambdaCallback, WeightAverage

ITERATIONS = 3  # in an epoch


def overlap(pred, label):
    return (pred * label).sum()


def batches(seed=0, count=ITERATIONS):
    source = np.random.default_rng(seed)
    data = source.random((count, 2, 16, 6, 6), dtype=np.float32)
    return [{"data": states, "label": states[:, :4] * 0.5} for states in data]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def make_trainer(randomise):
    def make(run, *, callbacks=(), before=(), metrics=None, without=False, **options):
        network = BasicNCAModel(**presets.growing(training_timesteps=2, inference_timesteps=2, rule=MLPRule(4)))
        recorder = [] if without else [StatsRecorder(run, **options)]
        return PyTorchNetworkTrainer(
            randomise(network),
            run.checkpoints,
            {"mse": mse},
            torch.optim.Adam,
            {"lr": 2e-3},
            metrics,
            callbacks=[*before, *recorder, *callbacks],
        )

    return make


@pytest.fixture
def train(store, make_trainer):
    def run(name, num_epochs, *, resume="auto", key="mse", mode="lowest", valid=True, **options):
        stored = store.create(name, exist="resume")
        trainer = make_trainer(stored, **options)
        trainer.train(num_epochs, batches(), batches(1, 1) if valid else None, key, mode, resume=resume)
        return trainer, stored

    return run


def losses(run):
    return [stats.loss for stats in run.training_stats().iteration_stats]


def scores(run):
    return [(entry.iteration, entry.scores) for entry in run.validation_scores().scores]


def test_every_iteration_and_every_validation_is_recorded(train):
    seen = []
    look = LambdaCallback(at_iter_end=lambda trainer, train, metrics: seen.append((train, dict(metrics))))
    trainer, run = train("a", 2, callbacks=[look])
    records = run.training_stats().iteration_stats
    assert [stats.iteration for stats in records] == list(range(2 * ITERATIONS))
    assert [stats.loss for stats in records] == [float(m["loss"]) for is_train, m in seen if is_train]
    assert [stats.values for stats in records] == [{"mse": float(m["mse"])} for is_train, m in seen if is_train]
    assert all(0 < stats.time < 60 for stats in records)
    recorded = run.validation_scores()
    assert (recorded.datasets, recorded.criteria, recorded.parameters) == (["validation"], ["mse", "loss"], [{}])
    expected = [[[[entry["val_mse"], entry["val_loss"]]]] for entry in trainer.history]
    assert [entry.scores for entry in recorded.scores] == expected
    assert [entry.iteration for entry in recorded.scores] == [ITERATIONS - 1, 2 * ITERATIONS - 1]
    assert not recorded.evaluation_scores.higher_is_better("mse")


def test_a_training_without_validation_that_begins_anew_deletes_all_and_records_its_iterations(train):
    train("a", 3)
    _, run = train("a", 2, valid=False, key=None, resume="never")
    assert len(losses(run)) == 2 * ITERATIONS
    assert scores(run) == []
    _, fresh = train("b", 1, valid=False, key=None)
    assert fresh.validation_scores() is None
    assert not fresh.best_weights.exists()


def test_a_run_that_was_resumed_has_the_numbers_of_one_that_was_not(train):
    _, straight = train("straight", 4)
    train("resumed", 2)
    _, resumed = train("resumed", 4)
    assert losses(resumed) == losses(straight)
    assert scores(resumed) == scores(straight)
    assert resumed.best("mse").iteration == straight.best("mse").iteration


def test_what_is_done_again_from_an_earlier_iteration_is_deleted_first(train, caplog):
    _, run = train("a", 4)
    before, scored = losses(run), scores(run)
    for epoch in (3, 4):
        (run.checkpoints / f"checkpoint_epoch_{epoch}.safetensors").unlink()
    (run.checkpoints / "checkpoint_best.safetensors").unlink()
    trainer, _ = train("b", 1)
    (trainer.save_path / "checkpoint_epoch_1.safetensors").rename(run.checkpoints / "checkpoint_epoch_1.safetensors")
    (run.checkpoints / "manifest.json").unlink()
    with caplog.at_level(logging.INFO, "delira_nca"):
        train("a", 2)
    assert "a: 9 iterations and 3 validations will be done again" in caplog.text
    assert losses(run) == before[: 2 * ITERATIONS]
    assert scores(run) == scored[:2]


def test_a_training_that_is_stopped_within_an_epoch_goes_on_there(train):
    stop = LambdaCallback(at_iter_done=lambda trainer, global_iter_num: _stop_at(trainer, global_iter_num, 4))
    _, straight = train("straight", 2)
    trainer, run = train("a", 2, callbacks=[stop])
    assert (trainer.iteration, len(losses(run))) == (2, 5)
    _, run = train("a", 2)
    assert losses(run) == losses(straight)
    assert scores(run) == scores(straight)


def _stop_at(trainer, done, number):
    if done == number:
        trainer.stop("enough", now=True)


def test_a_validation_is_recorded_anew_where_a_kill_lost_its_checkpoint(train, monkeypatch):
    _, straight = train("straight", 1)
    _, run = train("a", 1, callbacks=[Checkpoint(every=1, every_iterations=1)])
    for path in run.checkpoints.glob("checkpoint*.safetensors"):
        path.unlink()
    within = [Checkpoint(every=1, every_iterations=3), LambdaCallback(at_epoch_end=_kill)]
    with pytest.raises(CallbackError, match="killed"):
        train("a", 1, callbacks=within)  # after the iterations, before the checkpoint of the epoch
    assert [p.name for p in run.checkpoints.glob("checkpoint*.safetensors")] == [
        "checkpoint_epoch_1_iter_3.safetensors"
    ]
    assert len(scores(run)) == 1
    _, run = train("a", 1)
    assert scores(run) == scores(straight)
    assert losses(run) == losses(straight)


def _kill(trainer):
    raise RuntimeError("killed")


def _fail_at_4(trainer, global_iter_num):
    if global_iter_num == 4:
        raise RuntimeError("at iteration 4")


@pytest.mark.parametrize("event", ["at_iter_begin", "at_iter_end"])
def test_what_was_done_before_an_error_is_recorded_and_the_iteration_that_failed_is_not(train, store, event):
    with pytest.raises(CallbackError, match="at iteration 4"):
        train("a", 2, callbacks=[LambdaCallback(**{event: _fail_at_4})], seconds=1e9)
    run = store.open("a")
    assert [stats.iteration for stats in run.training_stats().iteration_stats] == [0, 1, 2, 3]
    assert sorted(path.name for path in run.folder.glob("stats.sqlite*")) == ["stats.sqlite"]


KILLED = """
import os, signal, sys
import numpy as np, torch
from delira_nca.experiment.recorder import StatsRecorder
from delira_nca.experiment.store import StoredRun
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import Checkpoint, LambdaCallback

run = StoredRun(sys.argv[1])
kill_at = int(sys.argv[2])
network = BasicNCAModel(**presets.growing(training_timesteps=1, inference_timesteps=1, rule=MLPRule(2)))
data = np.random.default_rng(0).random((10, 1, 16, 4, 4), dtype=np.float32)

def kill(trainer, global_iter_num):
    if global_iter_num == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks = [StatsRecorder(run, seconds=1e9), LambdaCallback(at_iter_done=kill), Checkpoint(every_iterations=1)]
trainer = PyTorchNetworkTrainer(network, run.checkpoints, {"mse": mse}, callbacks=callbacks)
trainer.train(2, [{"data": d, "label": d[:, :4]} for d in data], resume="auto")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="has no kill that cannot be caught")
def test_no_checkpoint_is_ahead_of_the_records_when_the_process_is_killed(store):
    run = store.create("a")
    command = [sys.executable, "-c", KILLED, str(run.folder), "3"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_checkpoint(run.latest_checkpoint())["global_iter_num"] == 3
    assert [stats.iteration for stats in run.training_stats().iteration_stats] == [0, 1, 2]


def test_records_that_are_missing_are_told(train, caplog):
    _, run = train("a", 2)
    run.delete_after(4)
    with caplog.at_level(logging.WARNING, "delira_nca"):
        train("a", 3)
    assert "a: iterations 4 to 5 have no records" in caplog.text
    assert [s.iteration for s in run.training_stats().iteration_stats] == [0, 1, 2, 3, 6, 7, 8]


def test_records_are_written_together_and_at_most_so_often(train, monkeypatch):
    sizes = {}
    for seconds in (0.0, 1e9):
        written = []
        train(f"every-{seconds}", 1, callbacks=[LambdaCallback(at_iter_done=_sees(written))], seconds=seconds)
        sizes[seconds] = written
    assert sizes[0.0] == [1, 2, 3]
    assert sizes[1e9] == [0, 0, 0]


def _sees(written):
    def look(trainer):
        recorder = next(c for c in trainer.callbacks if isinstance(c, StatsRecorder))
        written.append(recorder.run.training_stats().trained_until())

    return look


# Directions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"metrics": {"overlap": overlap}},
            ConfigError,
            r"which way is the metric 'overlap' better\? .*Criterion\('",
        ),
        *(
            ({"metrics": {name: overlap}, "criteria": [Criterion(name, True)]}, ConfigError, f"'{name}' has a place of")
            for name in ("time", "iterations")
        ),
        ({"criteria": [Criterion("msee", False)]}, ScoreKeyError, "no validation computes 'msee'.*Did you mean 'mse'"),
    ],
)
def test_a_training_whose_scores_cannot_be_recorded_is_refused_before_it_begins(train, store, options, error, message):
    with pytest.raises(error, match=message):
        train("a", 1, **options)
    assert store.open("a").training_stats().iteration_stats == []


def test_another_direction_than_before_and_a_loss_that_nobody_computes_are_refused(train):
    train("a", 1)
    with pytest.raises(ConfigError, match="another criterion 'mse'"):
        train("a", 2, criteria=[Criterion("mse", True)])
    with pytest.raises(ScoreKeyError, match="no iteration has the value 'total'. Known: 'loss', 'mse'"):
        train("b", 1, loss="total")


class Rated:
    higher_is_better = True

    def __call__(self, pred, label):
        return overlap(pred, label)


@pytest.mark.parametrize(
    ("options", "higher"),
    [
        ({"criteria": [Criterion("overlap", False)], "mode": "highest"}, False),
        ({"mode": "highest"}, True),
        ({"mode": "lowest"}, False),
        ({"key": "overlap", "mode_of_training": "highest"}, True),
        ({"metrics": {"overlap": Rated()}}, True),
    ],
)
def test_the_direction_of_a_metric_is_found(store, make_trainer, options, higher):
    run, key = store.create("a"), options.pop("key", "mse")
    mode = options.pop("mode_of_training", "lowest")
    trainer = make_trainer(run, metrics=options.pop("metrics", {"overlap": overlap}), **options)
    trainer.train(1, batches(), batches(1, 1), key, mode)
    assert run.validation_scores().evaluation_scores.higher_is_better("overlap") is higher


def test_a_metric_may_join_when_a_run_is_resumed(train):
    train("a", 1)
    _, run = train("a", 2, metrics={"overlap": Rated()})
    recorded = run.validation_scores()
    assert recorded.criteria == ["mse", "loss", "overlap"]
    assert math.isnan(recorded.scores[0].scores[0][0][2])
    assert recorded.scores[1].scores[0][0][2] > 0


def test_arguments_that_cannot_work_are_refused(store, tmp_path):
    run = store.create("a")
    for given, options, message in (
        (run, {"seconds": -1}, "at least 0"),
        (run, {"criteria": ["dice"]}, "Criterion"),
        (tmp_path, {}, "run must be of type StoredRun"),
    ):
        with pytest.raises(ConfigError, match=message):
            StatsRecorder(given, **options)


# Weights --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before", "callbacks"])
def test_the_weights_that_were_validated_are_kept_for_the_best_of_each_criterion(train, where):
    """An average is validated, wherever among the callbacks it is."""
    trainer, run = train("a", 3, **{where: [WeightAverage(0.5)]}, metrics={"overlap": Rated()})
    best = run.best("mse")
    assert best.value == min(entry["val_mse"] for entry in trainer.history)
    kept = load_checkpoint(best.checkpoint)
    assert all(torch.equal(kept["network"][name], value) for name, value in trainer._best_weights.items())
    assert kept["best_by"]["mse"] == best.value
    network = load_network(best.checkpoint)
    assert torch.equal(network.rule.last.weight, trainer._best_weights["rule.last.weight"])


def test_the_files_of_the_two_newest_records_stay_and_the_best_goes_back_with_the_records(train):
    trainer, run = train("a", 5)
    values = [entry["val_mse"] for entry in trainer.history]
    assert values == sorted(values, reverse=True)  # each epoch is better than the one before
    names = ["weights_11.safetensors", "weights_14.safetensors"]
    assert sorted(path.name for path in run.best_weights.iterdir()) == names
    assert run.best("mse").checkpoint.name == "weights_14.safetensors"
    run.delete_after(4 * ITERATIONS)
    best = run.best("mse")
    assert (best.iteration, best.checkpoint.name) == (4 * ITERATIONS - 1, "weights_11.safetensors")


def test_a_resumed_run_keeps_no_weights_that_are_worse_than_before(train):
    criteria = [Criterion("mse", True), Criterion("loss", True)]
    first = train("a", 2, criteria=criteria)[1].best("mse")
    assert train("a", 4, criteria=criteria)[1].best("mse") == first
    assert first.iteration == ITERATIONS - 1


@pytest.mark.parametrize(
    "options", [{"keep_best": False}, {"criteria": [Criterion(n, False, store_best=False) for n in ("mse", "loss")]}]
)
def test_no_weights_are_kept_where_that_is_not_wanted(train, options):
    _, run = train("a", 2, **options)
    assert run.best("mse").checkpoint is None
    assert not run.best_weights.exists()


# The callback ---------------------------------------------------------------------------------------------------------


def test_a_recorder_changes_nothing_of_the_training(train):
    trainer, _ = train("a", 2)
    bare, _ = train("bare", 2, without=True)
    assert bare.callbacks[0].__class__ is Checkpoint
    assert trainer.state_dict()["callbacks"].keys() == {"Checkpoint"}
    weights = bare.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in trainer.network.state_dict().items())


def test_a_recorder_can_be_copied_while_it_records(train):
    copies = []
    look = LambdaCallback(at_iter_done=lambda trainer: copies.append(copy.deepcopy(trainer.callbacks[0])))
    _, run = train("a", 1, callbacks=[look])
    assert pickle.loads(pickle.dumps(copies[0])).run.folder == run.folder


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="has no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_values_are_numbers_wherever_they_are(device):
    rows = [
        {"loss": torch.tensor(0.1, device=device), "mse": torch.tensor([0.5], device=device, dtype=torch.bfloat16)},
        {"loss": torch.tensor(math.nan, device=device), "mse": 0.25},
        {"loss": torch.tensor(math.inf, device=device, dtype=torch.float64)},
    ]
    found = [TrainingIterationStats(0, row.pop("loss"), values=row) for row in _floats(rows)]
    assert [stats.loss for stats in found[::2]] == [float(np.float32(0.1)), math.inf]
    assert math.isnan(found[1].loss)
    assert [stats.values for stats in found] == [{"mse": 0.5}, {"mse": 0.25}, {}]
    assert len(rows[0]) == 2  # what was handed in is as it was


def test_a_training_step_without_a_loss_is_recorded_with_the_sum_of_its_criterions(store, make_trainer):
    run = store.create("own")
    trainer = make_trainer(run, metrics={"overlap": overlap})
    own = trainer._closure

    def closure(data_dict, iter_num, *, train):
        values, prediction = own(data_dict, iter_num, train=train)
        return {name: value for name, value in values.items() if name != "loss"}, prediction

    trainer._closure = closure
    trainer.train(1, batches())
    stats = run.training_stats().iteration_stats
    assert len(stats) == ITERATIONS
    assert [row.loss for row in stats] == [pytest.approx(row.values["mse"]) for row in stats]
