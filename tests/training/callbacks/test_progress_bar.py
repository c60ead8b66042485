"""How far a training is."""

import io
import re

from delira_nca.training.callbacks import ProgressBar

DATA = [{"data": [0]}]
METRICS = [{"loss": 0.12345, "dice": 2.0}, {"loss": 0.1, "dice": 3.0}, {"loss": 0.2, "dice": 4.0}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _train(trainer_cls, bar, num_epochs=3):
    trainer = trainer_cls(METRICS, callbacks=[bar])
    trainer.train(num_epochs, DATA, val_score_key="loss", val_score_mode="lowest")
    return trainer


def test_without_a_terminal_there_is_one_plain_line_per_epoch(plain_trainer):
    out = io.StringIO()
    _train(plain_trainer, ProgressBar(stream=out))
    text = out.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    assert [re.sub(r"\d+:\d\d", "T", line) for line in text.splitlines()] == [
        "epoch 1/3  loss 0.123  dice 2  best  [T, T left]",
        "epoch 2/3  loss 0.1  dice 3  best  [T, T left]",
        "epoch 3/3  loss 0.2  dice 4  [T, T left]",
    ]


def test_only_the_metrics_that_are_asked_for_are_shown(plain_trainer):
    out = io.StringIO()
    _train(plain_trainer, ProgressBar(("dice", "unknown"), stream=out), 1)
    assert out.getvalue().startswith("epoch 1/3  dice 2  best".replace("/3", "/1"))


def test_the_time_that_is_left_counts_from_the_resumption(plain_trainer, monkeypatch):
    times = iter([100.0, 160.0, 1000.0, 1030.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    out = io.StringIO()
    trainer = _train(plain_trainer, ProgressBar(stream=out), 1)
    trainer.stop("enough")
    trainer.train(2, DATA, val_score_key="loss", val_score_mode="lowest")
    assert [line.split("[")[1] for line in out.getvalue().splitlines()] == ["1:00, 0:00 left]", "0:30, 0:00 left]"]


def test_it_says_how_long_it_will_take(plain_trainer, monkeypatch):
    times = iter([0.0, 60.0, 120.0, 180.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    out = io.StringIO()
    _train(plain_trainer, ProgressBar(stream=out))
    assert [line.split("[")[1] for line in out.getvalue().splitlines()] == [
        "1:00, 2:00 left]",
        "2:00, 1:00 left]",
        "3:00, 0:00 left]",
    ]


def test_on_a_terminal_there_is_a_bar_that_is_closed_at_the_end(plain_trainer):
    out = Terminal()
    bar = ProgressBar(stream=out)
    trainer = _train(plain_trainer, bar, 2)
    assert "2/2" in out.getvalue()
    assert "loss 0.1" in out.getvalue()
    assert bar._bar is None
    trainer.train(3, DATA, val_score_key="loss", val_score_mode="lowest")
    assert "3/3" in out.getvalue()


def test_standard_error_is_asked_for_when_it_is_written_to(plain_trainer, capsys):
    _train(plain_trainer, ProgressBar(), 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("epoch 1/1")


def test_on_a_terminal_it_shows_the_iteration_between_epochs(plain_trainer):
    out = Terminal()
    _train(plain_trainer, ProgressBar(stream=out), 1)
    assert "epoch 1, iteration 1" in out.getvalue()
