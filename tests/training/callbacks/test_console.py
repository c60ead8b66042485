"""A training is steered while it runs, and a resumed one repeats the changes at the same steps."""

import json
import logging
import os
import signal
import sys

import pytest
import torch

from delira_nca.errors import CallbackError, ConfigError, UnknownNameError
from delira_nca.training.callbacks import Checkpoint, Console, LambdaCallback
from delira_nca.training.callbacks.console import CONTROL_FILE, REPLIES, send_command
from delira_nca.training.callbacks.schedule import find_path


@pytest.fixture
def make_trainer(image_trainer):
    def make(folder, *callbacks, console=None):
        callbacks = [*callbacks, console or Console("file", every=0), Checkpoint(every_iterations=2)]
        return image_trainer(folder, callbacks=callbacks)

    return make


def say(folder, commands):
    """Send commands after steps."""

    def at_iter_done(trainer, global_iter_num):
        for command in commands.get(global_iter_num + 1, ()):
            send_command(folder, command)

    return LambdaCallback(at_iter_done=at_iter_done)


COMMANDS = {2: ["lr 0.002"], 3: ["set model.fire_rate 1.0"], 5: ["set model.training_timesteps (4, 6)", "status"]}


def say_and_fail(folder, commands, step):
    """Callbacks that send commands after steps, and fail in a later one."""

    def at_iter_begin(trainer, global_iter_num, train):
        if train and global_iter_num == step:
            raise RuntimeError("killed")

    return say(folder, commands), LambdaCallback(at_iter_begin=at_iter_begin)


def console_of(trainer):
    return next(callback for callback in trainer.callbacks if isinstance(callback, Console))


def test_commands_change_the_training_and_are_answered(make_trainer, image_batches, tmp_path, caplog):
    seen = []
    look = LambdaCallback(
        at_iter_begin=lambda trainer, train: (
            train and seen.append((trainer.optimizers["default"].param_groups[0]["lr"], trainer.network.fire_rate))
        )
    )
    with caplog.at_level(logging.INFO, "delira_nca"):
        make_trainer(tmp_path, say(tmp_path, COMMANDS), look).train(1, image_batches(6))
    assert seen == [(0.01, 0.5)] * 2 + [(0.002, 0.5)] + [(0.002, 1.0)] * 3
    assert "lr 0.002: optimizer.lr = 0.002 (was 0.01) from step 2 on" in caplog.text
    assert "status: epoch 1, step 5: mse" in caplog.text
    assert not (tmp_path / CONTROL_FILE).exists()
    journal = [json.loads(line) for line in (tmp_path / "console.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry["path"]) for entry in journal] == [
        (2, "optimizer.lr"),
        (3, "model.fire_rate"),
        (5, "model.training_timesteps"),
    ]


@pytest.mark.parametrize("step", [3, 5, 6, 9])
def test_a_steered_training_that_is_killed_goes_on_bit_for_bit(make_trainer, image_batches, step, tmp_path):
    first, second, data = tmp_path / "a", tmp_path / "b", image_batches(6)
    straight = make_trainer(first, say(first, COMMANDS))
    straight.train(2, data)
    with pytest.raises(CallbackError, match="killed"):
        make_trainer(second, *say_and_fail(second, COMMANDS, step)).train(2, data)
    later = {at: lines for at, lines in COMMANDS.items() if at > step}
    resumed = make_trainer(second, say(second, later))
    resumed.train(2, data, resume="auto")
    assert resumed.history == straight.history
    for ours, theirs in zip(resumed.network.parameters(), straight.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert resumed.network.training_timesteps == (4, 6)


def test_a_change_after_a_line_that_was_cut_is_repeated_but_not_in_a_new_run(make_trainer, image_batches, tmp_path):
    data = image_batches(6)
    with pytest.raises(CallbackError, match="killed"):
        make_trainer(tmp_path, *say_and_fail(tmp_path, {2: ["lr 0.002"]}, 3)).train(1, data)
    with (tmp_path / "console.jsonl").open("a") as file:
        file.write('{"run": "')
    second = make_trainer(tmp_path, *say_and_fail(tmp_path, {4: ["set model.fire_rate 1.0"]}, 5))
    with pytest.raises(CallbackError, match="killed"):
        second.train(1, data, resume="auto")
    for resume, rate, fire_rate in (("auto", 0.002, 1.0), ("never", 0.01, 0.5)):
        trainer = make_trainer(tmp_path)
        trainer.train(1, data, resume=resume)
        assert trainer.optimizers["default"].param_groups[0]["lr"] == rate
        assert trainer.network.fire_rate == fire_rate


def test_stop_saves_the_state_between_batches(make_trainer, image_batches, tmp_path):
    trainer = make_trainer(tmp_path, say(tmp_path, {3: ["stop"]}))
    trainer.train(2, image_batches(6))
    assert (trainer.global_iter_num, trainer.stop_reason) == (3, "stopped by the console")
    resumed = make_trainer(tmp_path)
    resumed.train(2, image_batches(6), resume="auto")
    assert resumed.global_iter_num == 12


def test_wrong_commands_are_logged_and_change_nothing(make_trainer, image_batches, tmp_path, caplog):
    lines = "sett x 1\nset model.fire_rat 1\nlr fast\nset model.fire_rate\n\nsave\n"
    write = LambdaCallback(at_epoch_begin=lambda trainer: (tmp_path / CONTROL_FILE).write_text(lines) and None)
    trainer = make_trainer(tmp_path, write)
    trainer.train(1, image_batches(2))
    replies = (tmp_path / REPLIES).read_text()
    for text in ("Did you mean 'set'", "Did you mean 'fire_rate'", "not 'fast'", "set takes 2 arguments"):
        assert text in replies
    assert not (tmp_path / "console.jsonl").exists()
    assert trainer.global_iter_num == 2


def test_every_command_has_a_reply(make_trainer, image_batches, tmp_path):
    console = Console("file", every=0, commands={"preview": lambda trainer: f"drawn at {trainer.step}"})
    trainer = make_trainer(tmp_path, console=console)
    trainer.train(1, image_batches(2))
    assert console.execute(trainer, "get model.fire_rate") == "model.fire_rate = 0.5"
    assert console.execute(trainer, "preview") == "drawn at 2"
    assert "rule.last.weight" in console.execute(trainer, "stats")
    assert "preview   command of this training" in console.execute(trainer, "help")
    assert console.execute(trainer, "save", 1) == "saved after step 2"
    with pytest.raises(UnknownNameError, match="Did you mean 'preview'"):
        console.execute(trainer, "previw")


def press_ctrl_c(trainer, global_iter_num, train):
    if train and global_iter_num == 2:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_opens_a_menu_and_the_training_goes_on(make_trainer, image_batches, tmp_path, capsys):
    lines = iter(["status", "nonsense", "lr 0.5", "", "continue"])
    before = signal.getsignal(signal.SIGINT)
    press = LambdaCallback(at_iter_end=press_ctrl_c)
    trainer = make_trainer(tmp_path, press, console=Console("terminal", ask=lambda: next(lines)))
    trainer.train(1, image_batches(6))
    printed = capsys.readouterr().out
    for text in ("paused at step 3", "epoch 1, step 3: mse", "unknown command 'nonsense'", "optimizer.lr = 0.5"):
        assert text in printed
    assert trainer.global_iter_num == 6
    assert trainer.optimizers["default"].param_groups[0]["lr"] == 0.5
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_in_the_menu_stops_the_training(make_trainer, image_batches, tmp_path):
    def ask():
        raise KeyboardInterrupt

    press = LambdaCallback(at_iter_end=press_ctrl_c)
    trainer = make_trainer(tmp_path, press, console=Console("terminal", ask=ask))
    trainer.train(1, image_batches(6))
    assert trainer.global_iter_num == 3


def test_commands_that_nobody_can_carry_out_are_refused(make_trainer, image_batches, tmp_path):
    with pytest.raises(ConfigError, match="Console has no folder"):
        make_trainer(None, console=Console("file")).train(1, image_batches(1))
    with pytest.raises(UnknownNameError, match="Did you mean 'stop'"):
        send_command(tmp_path, "stopp")
    with pytest.raises(ConfigError, match="there is no folder"):
        send_command(tmp_path / "nothing", "stop")
    for command in ("lr 1 2", "lr", "set optimizer.lr (1,2) 3", "lr 1e400"):
        with pytest.raises(ConfigError):
            send_command(tmp_path, command)
        assert not (tmp_path / CONTROL_FILE).exists(), command


def test_commands_that_fail_do_not_end_the_training(make_trainer, image_batches, tmp_path):
    class Duck:
        """A callback without a base class, as in delira."""

        def at_epoch_begin(self, trainer, **event):
            (tmp_path / CONTROL_FILE).write_text("broken\nstatus\n")

        def at_epoch_end(self, trainer, **event):
            pass

    console = Console("file", every=0, commands={"broken": lambda trainer: 1 / 0})
    trainer = make_trainer(tmp_path, Duck(), console=console)
    trainer.train(1, image_batches(2))
    replies = (tmp_path / REPLIES).read_text().splitlines()
    assert replies[0] == "step 1, broken: error: division by zero"
    assert replies[1].startswith("step 1, status: epoch 1, step 1: ")
    assert trainer.global_iter_num == 2


def test_values_of_a_similar_kind_are_accepted(make_trainer, image_batches, tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train(1, image_batches(2))
    for path, value in (("optimizer.weight_decay", 0.01), ("model.training_timesteps", (4, 6)), ("optimizer.lr", 1)):
        line = f"lr {value}" if path == "optimizer.lr" else f"set {path} {value}"
        console_of(trainer).execute(trainer, line)
        assert find_path(trainer, path).get() == value, line


def test_settings_of_networks_with_rules_of_ones_own_are_checked(image_network, image_trainer, image_batches, tmp_path):
    network, console = image_network(rule=torch.nn.Conv2d(15, 4, 1)), Console("file", folder=tmp_path)
    trainer = image_trainer(None, network, callbacks=[console])
    trainer.train(1, image_batches(1))
    console.execute(trainer, "set model.fire_rate 0.75")
    assert network.fire_rate == 0.75
    with pytest.raises(ConfigError, match=r"model\.fire_rate cannot be 7"):
        console.execute(trainer, "set model.fire_rate 7")
