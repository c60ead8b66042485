"""Numbers to where they are kept."""

import json

import pytest
import torch

from delira_nca.logging import CSVSink, JSONLSink, read_csv, read_jsonl
from delira_nca.training.callbacks import LRSchedulerCallback, MetricLogger


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "metrics.jsonl"


@pytest.mark.parametrize("is_first", [True, False])
def test_epochs_are_written_at_their_last_iteration_with_the_rate_of_the_epoch(make_trainer, batches, path, is_first):
    for _ in range(2):  # a new run begins a new log
        schedule = LRSchedulerCallback(torch.optim.lr_scheduler.ExponentialLR, {"gamma": 0.5})
        callbacks = [MetricLogger(JSONLSink(path)), schedule]
        trainer = make_trainer(callbacks=callbacks if is_first else callbacks[::-1])
        trainer.train(2, batches(1, 1, 1), batches(1))
        expected = [{"step": 3 * row["epoch"], **row, "lr": 1e-2 / row["epoch"]} for row in trainer.history]
        assert read_jsonl(path) == [pytest.approx(record) for record in expected]


def test_iterations_are_written_under_names_of_their_own(make_trainer, batches, path):
    trainer = make_trainer(callbacks=[MetricLogger(JSONLSink(path), every=2)])
    trainer.train(2, batches(1, 1, 1), batches(1, 1))
    records = read_jsonl(path)
    iterations = [record for record in records if "epoch" not in record]
    assert [record["step"] for record in records] == [2, 3, 4, 6, 6]
    assert all(record.keys() == {"step", "iter_mse", "iter_loss"} for record in iterations)
    assert [record["step"] for record in iterations] == [2, 4, 6]


def test_every_optimizer_has_its_rate(make_trainer, batches, path):
    def two(network, cls, lr):
        return {
            "default": cls(network.rule.hidden.parameters(), lr=lr),
            "last": cls(network.rule.last.parameters(), lr=1.0),
        }

    make_trainer(optim_fn=two, callbacks=[MetricLogger(JSONLSink(path))]).train(1, batches(1))
    (record,) = read_jsonl(path)
    assert (record["lr"], record["lr_last"]) == (0.01, 1.0)


def test_a_resumed_run_forgets_what_it_does_again(make_trainer, batches, path, tmp_path):
    def make():
        return make_trainer(callbacks=[MetricLogger(JSONLSink(path), every=1)])

    trainer = make()
    trainer.train(2, batches(1, 1))
    trainer.save_state(tmp_path / "state.pt")
    trainer.train(4, batches(1, 1))
    whole = path.read_text()
    resumed = make().update_state(tmp_path / "state.pt")
    resumed.train(3, batches(1, 1))
    assert path.read_text() == "".join(whole.splitlines(keepends=True)[:9])
    resumed.train(4, batches(1, 1))
    assert path.read_text() == whole


def test_several_sinks_are_given_the_same_and_the_config(make_trainer, batches, path, tmp_path):
    table = tmp_path / "metrics.csv"
    logger = MetricLogger(JSONLSink(path), CSVSink(table), config={"lr": 0.5, "name": "x"})
    make_trainer(callbacks=[logger]).train(2, batches(1))
    assert read_csv(table) == read_jsonl(path)
    assert json.loads((path.parent / "metrics.config.json").read_text()) == {"lr": 0.5, "name": "x"}
    assert repr(logger) == "MetricLogger(JSONLSink, CSVSink, every=0)"


def test_files_are_closed_after_an_error(make_trainer, batches, path):
    def broken(data):
        yield from data
        raise ValueError("broken")

    sink = JSONLSink(path)
    trainer = make_trainer(callbacks=[MetricLogger(sink, every=1)])
    with pytest.raises(ValueError, match="broken"):
        trainer.train(1, broken(batches(1)))
    assert sink._handle is None
    assert len(read_jsonl(path)) == 1
