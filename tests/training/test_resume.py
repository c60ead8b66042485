"""A run that was ended anywhere and goes on elsewhere is, bit for bit, the run that was never ended."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError
from delira_nca.io import load_checkpoint, save_checkpoint
from delira_nca.logging import read_jsonl
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import LambdaCallback, PoolUpdate

SCRIPT = Path(__file__).with_name("resume_run.py")
SCHEDULES = ("epoch", "iteration", "one_cycle", "plateau")


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def straight(script, tmp_path_factory):
    """Folder and last state of six epochs without a break, for each schedule, made when first asked for."""
    runs = {}

    def run(schedule):
        if schedule not in runs:
            folder = tmp_path_factory.mktemp(schedule)
            trainer = script["build"](schedule, folder)
            script["train"](trainer, 6)
            trainer.save_state(folder / "state.pt")
            runs[schedule] = folder, load_checkpoint(folder / "state.pt")
        return runs[schedule]

    return run


def test_the_run_that_is_resumed_is_one_worth_resuming(straight):
    folder, state = straight("epoch")
    assert state["epoch"] == 6
    assert state["global_iter_num"] == 12
    pool = state["callbacks"]["PoolUpdate"]
    assert pool["num_draws"] == 12
    assert torch.isfinite(pool["losses"]).all()
    assert len(state["callbacks"]) == 8
    assert state["callbacks"]["EarlyStopping#2"]["epochs_waited"] == 5
    assert len(state["callbacks"]["Checkpoint"]["scores"]) == 6
    assert state["best"]["epoch"] in range(1, 7)
    assert sorted(state["history"][0]) == ["epoch", "loss", "mse", "val_loss", "val_mse"]
    assert load_checkpoint(folder / "state.pt")["epoch"] == 6


def test_a_new_process_goes_on_exactly(straight, tmp_path, assert_same):
    former = [straight(schedule)[0] / "checkpoint_epoch_3.safetensors" for schedule in SCHEDULES]
    command = [sys.executable, SCRIPT, ",".join(SCHEDULES), tmp_path, 6, *former]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for schedule, file in zip(SCHEDULES, former, strict=True):
        assert load_checkpoint(file)["epoch"] == 3
        assert_same(straight(schedule)[1], load_checkpoint(tmp_path / schedule / "state.pt"), schedule)


SOME = {("epoch", 2), ("iteration", 1), ("iteration", 4), ("one_cycle", 5), ("plateau", 3)}


@pytest.mark.parametrize(
    ("schedule", "epoch"),
    [
        pytest.param(schedule, epoch, marks=() if (schedule, epoch) in SOME else pytest.mark.slow)
        for schedule in SCHEDULES
        for epoch in range(1, 6)
    ],
)
def test_it_goes_on_exactly_after_every_epoch(script, straight, tmp_path, assert_same, schedule, epoch):
    folder, expected = straight(schedule)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    trainer = script["build"](schedule, tmp_path).update_state(folder / f"checkpoint_epoch_{epoch}.safetensors")
    assert trainer.start_epoch == epoch + 1
    script["train"](trainer, 6)
    trainer.save_state(tmp_path / "state.pt")
    assert_same(expected, load_checkpoint(tmp_path / "state.pt"))
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    records = [record for record in read_jsonl(folder / "metrics.jsonl") if record["step"] > 2 * epoch]
    assert read_jsonl(tmp_path / "metrics.jsonl") == records


@pytest.mark.parametrize("iteration", [0, 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_it_goes_on_exactly_from_the_last_checkpoint_after_an_error(
    script, straight, tmp_path, assert_same, iteration, error
):
    def fail(trainer, curr_epoch, iter_num):
        if (curr_epoch, iter_num) == (3, iteration):
            raise error("in the middle")

    _, expected = straight("epoch")
    broken = script["build"]("epoch", tmp_path)
    broken.register_callback(LambdaCallback(at_iter_end=fail))
    with pytest.raises((KeyboardInterrupt, RuntimeError), match="in the middle"):
        script["train"](broken, 6)
    assert sorted(path.name for path in tmp_path.glob("checkpoint_epoch_*")) == [
        "checkpoint_epoch_1.safetensors",
        "checkpoint_epoch_2.safetensors",
    ]
    trainer = script["build"]("epoch", tmp_path).update_state(tmp_path / "checkpoint_epoch_2.safetensors")
    script["train"](trainer, 6)
    trainer.save_state(tmp_path / "state.pt")
    assert_same(expected, load_checkpoint(tmp_path / "state.pt"))
    folder, _ = straight("epoch")
    assert (tmp_path / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


def test_the_same_trainer_goes_on_exactly(script, straight, tmp_path, assert_same):
    trainer = script["build"]("one_cycle", tmp_path)
    for num_epochs in (2, 3, 6):
        script["train"](trainer, num_epochs)
    trainer.save_state(tmp_path / "state.pt")
    assert_same(straight("one_cycle")[1], load_checkpoint(tmp_path / "state.pt"))


def test_workers_make_no_difference_to_a_run_or_its_resumption(script, straight, tmp_path, assert_same):
    folder, _ = straight("epoch")
    trainer = script["build"]("epoch", tmp_path)
    script["train"](trainer, 2, num_workers=2)
    trainer.save_state(tmp_path / "state.pt")
    assert_same(load_checkpoint(folder / "checkpoint_epoch_2.safetensors"), load_checkpoint(tmp_path / "state.pt"))
    resumed = script["build"]("epoch", tmp_path).update_state(tmp_path / "state.pt")
    script["train"](resumed, 3, num_workers=2)
    resumed.save_state(tmp_path / "state.pt")
    assert_same(load_checkpoint(folder / "checkpoint_epoch_3.safetensors"), load_checkpoint(tmp_path / "state.pt"))


def test_the_best_of_a_resumed_run_may_lie_before_the_resumption(make_trainer, batches, tmp_path, assert_same):
    scores = iter([0.9, 0.5, 0.4, 0.3])

    def make():
        return make_trainer(metrics={"score": lambda pred, label: torch.tensor(next(scores))})

    first = make()
    best = first.train(2, batches(2), val_score_key="score")
    first.save_state(tmp_path / "state.pt")
    resumed = make().update_state(tmp_path / "state.pt")
    assert_same(dict(resumed.train(4, batches(2), val_score_key="score").state_dict()), dict(best.state_dict()))
    assert (resumed.best.epoch, resumed.best.score) == (1, pytest.approx(0.9))


def test_a_state_is_not_shared_by_those_who_take_it_up(make_trainer, batches, assert_same):
    first = make_trainer()
    first.train(1, batches(2), val_score_key="loss", val_score_mode="lowest")
    second = make_trainer()._update_state(first.state_dict())
    first.train(3, batches(2, seed=9), val_score_key="loss", val_score_mode="lowest")
    third = make_trainer()
    third.train(1, batches(2), val_score_key="loss", val_score_mode="lowest")
    assert_same(second.state_dict(), third.state_dict())


def one_for_each_layer(network, cls, **params):
    parts = {"hidden": network.rule.hidden.parameters(), "last": network.rule.last.parameters()}
    return {name: cls(part, **params) for name, part in parts.items()}


def a_group_for_each_layer(network, cls, **params):
    parts = [network.rule.hidden.parameters(), network.rule.last.parameters()]
    return cls([{"params": part} for part in parts], **params)


def pool_of(capacity):
    return [PoolUpdate(SamplePool(torch.ones(8, 6, 6), capacity))]


OF_HIDDEN = r"rule\.hidden\.0\.weight \(saved \(8, 27, 1, 1\), here \(8, 24, 1, 1\)\)"
OF_LAST = r"rule\.last\.weight \(saved \(9, 8, 1, 1\), here \(8, 8, 1, 1\)\)"


@pytest.mark.parametrize(
    ("other", "own", "text"),
    [
        (lambda nca: {"network": nca(num_hidden_channels=5)}, dict, f"(?s){OF_HIDDEN}.*{OF_LAST}"),
        (lambda nca: {"optim_fn": one_for_each_layer}, dict, "optimizer"),
        (lambda nca: {"optim_fn": a_group_for_each_layer}, dict, "optimizer"),
        (lambda nca: {"callbacks": pool_of(9)}, lambda: {"callbacks": pool_of(7)}, "pool"),
    ],
    ids=["network", "names of optimizers", "groups of optimizers", "pool"],
)
def test_the_checkpoint_of_another_training_is_refused_and_changes_nothing(
    make_trainer, nca, batches, tmp_path, assert_same, other, own, text
):
    first, trainer = make_trainer(**other(nca)), make_trainer(**own())
    if "network" not in other(nca):
        first.train(1, batches(2))
    first.save_state(tmp_path / "state.pt")
    trainer.train(1, batches(2))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(CheckpointError, match=text):
        trainer.update_state(tmp_path / "state.pt")
    assert_same(dict(trainer.network.state_dict()), before)
    assert (trainer.start_epoch, len(trainer.history)) == (2, 1)


def test_a_newer_format_and_a_file_of_something_else_are_refused(make_trainer, tmp_path):
    trainer, path = make_trainer(), tmp_path / "state.pt"
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        trainer.update_state(path)
    newer = {**trainer.state_dict(), "format_version": 99, "circumstances": {"delira_nca": "9.9.9"}}
    texts = [r"format 99, this version reads up to 1.*delira_nca 9\.9\.9", "no state of a run"]
    for state, text in zip((newer, {"weights": torch.ones(2)}), texts, strict=True):
        save_checkpoint(state, path)
        with pytest.raises(CheckpointError, match=text):
            trainer.update_state(path)


def test_a_state_holds_more_if_asked_to_and_not_under_a_name_that_is_taken(make_trainer, tmp_path):
    trainer, path = make_trainer(), tmp_path / "state.pt"
    trainer.save_state(path, 5, note="mine", values=torch.ones(2))
    state = trainer.load_state(path)
    assert (state["epoch"], state["note"], state["values"].tolist()) == (5, "mine", [1.0, 1.0])
    assert make_trainer().update_state(path).start_epoch == 6
    with pytest.raises(ConfigError, match=r"\['history'\]"):
        trainer.save_state(path, history=[])


OFTEN = {"epoch": range(1, 13), "iteration": (2, 3, 7, 8, 10), "one_cycle": (1, 6, 11), "plateau": (2, 3, 4, 9)}


@pytest.mark.parametrize(
    ("schedule", "number"),
    [
        pytest.param(schedule, number, marks=() if number in OFTEN[schedule] else pytest.mark.slow)
        for schedule in SCHEDULES
        for number in range(1, 13)
    ],
)
def test_it_goes_on_exactly_after_every_iteration(
    script, straight, tmp_path, assert_same, stop_after, schedule, number
):
    folder, expected = straight(schedule)
    stopped = script["build"](schedule, tmp_path / "first")
    stopped.register_callback(stop_after(number))
    script["train"](stopped, 6)
    assert stopped.stop_reason == "enough"
    assert stopped.global_iter_num == number
    trainer = script["build"](schedule, tmp_path / "first")
    script["train"](trainer, 6, resume="auto")
    trainer.save_state(tmp_path / "state.pt")
    assert_same(expected, load_checkpoint(tmp_path / "state.pt"))
    assert (tmp_path / "first" / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("number", "state"), [(3, (2, 1, 1)), (4, (3, 0, 2))], ids=["within", "at its end"])
def test_a_stop_within_an_epoch_leaves_that_epoch_undone_and_one_at_its_end_finishes_it(
    script, tmp_path, stop_after, number, state
):
    trainer = script["build"]("epoch", tmp_path)
    trainer.register_callback(stop_after(number))
    script["train"](trainer, 6)
    assert (trainer.start_epoch, trainer.iteration, len(trainer.history)) == state
    files = [load_checkpoint(path)["means"]["counts"] for path in tmp_path.glob("*_iter_*.safetensors")]
    assert files == [{"mse": 3, "loss": 3}] * (number == 3)
    assert number == 4 or (tmp_path / "checkpoint_epoch_2_iter_1.safetensors").exists()
