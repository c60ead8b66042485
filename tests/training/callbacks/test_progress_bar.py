"""How far a training is, and when a job is due."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest

from delira_nca.training.callbacks import ProgressBar
from delira_nca.training.callbacks.reporting import Pace

DATA = [{"data": [0]}]
METRICS = [{"loss": 0.12345, "dice": 2.0}, {"loss": 0.1, "dice": 3.0}, {"loss": 0.2, "dice": 4.0}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _train(trainer_cls, bar, num_epochs=3, metrics=METRICS):
    trainer = trainer_cls(metrics, callbacks=[bar])
    trainer.train(num_epochs, DATA, val_score_key="loss", val_score_mode="lowest")
    return trainer


def _lines(out):
    """What stands on the line one after the other, without the spaces that wipe a longer one out."""
    return [line.rstrip() for line in re.split(r"[\r\n]", out.getvalue()) if line.strip()]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the bar reads one after the other."""

    def set_(*seconds):
        times = iter(seconds)
        monkeypatch.setattr("time.monotonic", lambda: next(times))

    return set_


def test_without_a_terminal_there_is_one_plain_line_per_epoch(plain_trainer):
    out = io.StringIO()
    _train(plain_trainer, ProgressBar(stream=out))
    text = out.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    assert [re.sub(r"\d+:\d\d", "T", line) for line in text.splitlines()] == [
        "epoch 1/3  33%  loss 0.123  dice 2  best  T left",
        "epoch 2/3  66%  loss 0.1  dice 3  best  T left",
        "epoch 3/3  100%  loss 0.2  dice 4  took T",
    ]


def test_a_long_training_has_a_hundred_lines_and_the_first_and_the_last(plain_trainer, clock):
    out = io.StringIO()
    clock(*(0.001 * k for k in range(2000)))
    _train(plain_trainer, ProgressBar(stream=out), 1001, METRICS[:1] * 1001)
    epochs = [int(re.match(r"epoch (\d+)", line)[1]) for line in out.getvalue().splitlines()]
    assert epochs == [1, *range(11, 1001, 11), 1001]


def test_slow_epochs_have_a_line_each_minute(plain_trainer, clock):
    out = io.StringIO()
    clock(*range(0, 40 * 2000, 40))
    _train(plain_trainer, ProgressBar(stream=out), 1001, METRICS[:1] * 1001)
    epochs = [int(re.match(r"epoch (\d+)", line)[1]) for line in out.getvalue().splitlines()]
    assert epochs[:4] == [1, 3, 5, 7]


def test_only_the_metrics_that_are_asked_for_are_shown(plain_trainer):
    out = io.StringIO()
    _train(plain_trainer, ProgressBar(("dice", "unknown"), stream=out), 1)
    assert out.getvalue().startswith("epoch 1/1  100%  dice 2  best")


def test_metrics_are_shown_by_their_labels_and_as_logarithms(plain_trainer):
    out = io.StringIO()
    _train(plain_trainer, ProgressBar({"loss": "log10 error"}, log10=True, stream=out), 1)
    assert out.getvalue().startswith("epoch 1/1  100%  log10 error -0.91  best")


def test_the_time_that_is_left_counts_from_the_resumption(plain_trainer, clock):
    clock(100.0, 160.0, 1000.0, 1030.0)
    out = io.StringIO()
    trainer = _train(plain_trainer, ProgressBar(("loss",), stream=out), 1)
    trainer.stop("enough")
    trainer.train(2, DATA, val_score_key="loss", val_score_mode="lowest")
    assert [line.split("  ")[-1] for line in out.getvalue().splitlines()] == ["took 1:00", "took 0:30"]


def test_the_time_that_is_left_is_that_of_the_last_epochs(plain_trainer, clock):
    """Roll-outs that lengthen make epochs longer."""
    clock(0.0, *range(1, 7), 106.0, 206.0, 306.0, 406.0)
    out = io.StringIO()
    _train(plain_trainer, ProgressBar(("loss",), stream=out), 10, METRICS[:1] * 10)
    left = [line.split("  ")[-1] for line in out.getvalue().splitlines()]
    assert left[5] == "0:04 left"
    assert left[6] == f"{int(3 * 104 / 5) // 60}:{int(3 * 104 / 5) % 60:02d} left"
    assert left[-1] == "took 6:46"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("look_at", [None, "runs/lizard/live.html", "/a/very/long/path/" * 10 + "live.html"])
def test_no_line_is_longer_than_80_columns_and_it_says_where_to_look(stream, look_at, plain_trainer):
    out = stream()
    metrics = [{"loss": 0.1, **{f"a_long_name_{k}": 1.0 for k in range(20)}}] * 3
    _train(plain_trainer, ProgressBar(stream=out, look_at=look_at), 3, metrics)
    lines = _lines(out)
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("epoch 3/3  100%")
    if look_at:
        assert all(line.endswith("/live.html") for line in lines)
    if look_at is None or len(look_at) < 40:
        assert "loss 0.1" in lines[-1]


def test_on_a_terminal_there_is_a_line_that_is_left_standing_at_the_end(plain_trainer):
    out = Terminal()
    bar = ProgressBar(stream=out)
    trainer = _train(plain_trainer, bar, 2)
    assert _lines(out)[-1].startswith("epoch 2/2  100%  loss 0.1  dice 3  took")
    assert out.getvalue().endswith("\n")
    assert bar._bar is None
    trainer.train(3, DATA, val_score_key="loss", val_score_mode="lowest")
    assert _lines(out)[-1].startswith("epoch 3/3  100%  loss 0.2")


def test_standard_error_is_asked_for_when_it_is_written_to(plain_trainer, capsys):
    _train(plain_trainer, ProgressBar(), 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("epoch 1/1")


def test_on_a_terminal_it_shows_how_far_an_epoch_is(clock):
    class Trainer:
        start_epoch = 1

    out = Terminal()
    bar = ProgressBar(stream=out)
    clock(*range(0, 100, 10))
    bar.at_training_begin(Trainer(), num_epochs=4)
    for iteration in range(4):
        bar.at_iter_end(Trainer(), iter_num=iteration, curr_epoch=1, train=True)
    bar.at_epoch_end(Trainer(), val_metrics={"loss": 0.5}, curr_epoch=1, is_best=True)
    bar.at_iter_end(Trainer(), iter_num=1, curr_epoch=2, train=True)
    bar.at_training_end(Trainer())
    assert _lines(out)[1] == "epoch 1/4  0%  0:10 so far"
    assert _lines(out)[-1] == "epoch 2/4  37%  loss 0.5  2:05 left"


def test_expected_seconds_give_the_time_left_from_the_start_and_are_scaled_by_the_pace(monkeypatch):
    out = io.StringIO()
    now = [100.0]
    monkeypatch.setattr("delira_nca.training.callbacks.reporting.time.monotonic", lambda: now[0])
    bar = ProgressBar([], look_at="live.html", expected_seconds=[10.0, 20.0, 30.0, 40.0], stream=out)
    trainer = SimpleNamespace(start_epoch=1)
    bar.at_training_begin(trainer, num_epochs=4)
    for epoch, seconds in enumerate((20.0, 40.0, 15.0, 20.0), start=1):
        now[0] += seconds
        bar.at_epoch_end(trainer, val_metrics={}, curr_epoch=epoch, is_best=False)
    assert out.getvalue().splitlines() == [
        "training takes about 1:40; watch live.html",
        "epoch 1/4  25%  3:00 left  live.html",  # twice as slow as expected
        "epoch 2/4  50%  2:20 left  live.html",
        "epoch 3/4  75%  0:50 left  live.html",  # 75 seconds for 60 expected ones
        "epoch 4/4  100%  took 1:35  live.html",
    ]


class OnlyWrites:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def show(bar):
    trainer = SimpleNamespace(start_epoch=1)
    bar.at_training_begin(trainer, num_epochs=1)
    bar.at_iter_end(trainer, iter_num=0, curr_epoch=1, train=True)
    bar.at_epoch_end(trainer, val_metrics={"größe": 0.5}, curr_epoch=1, is_best=False)
    bar.at_training_end(trainer)


def test_a_stream_that_only_writes_is_enough():
    stream = OnlyWrites()
    show(ProgressBar(stream=stream))
    assert stream.text.startswith("epoch 1/1  100%  größe 0.5")


def test_a_training_goes_on_without_a_stream_that_can_be_written(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, Full()):
        show(ProgressBar(stream=stream))
    monkeypatch.setattr("sys.stderr", None)
    show(ProgressBar(expected_seconds=np.array([2.0])))


@pytest.mark.parametrize("terminal", [True, False])
def test_characters_that_the_encoding_lacks_are_replaced(terminal):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    stream.isatty = lambda: terminal
    show(ProgressBar(stream=stream))
    assert b"gr??e 0.5" in raw.getvalue()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("took", "due"), [(0.0, 5.0), (0.05, 5.0), (0.2, 10.0)])
def test_a_job_is_due_after_a_while_that_its_own_time_lengthens(took, due):
    clock = Clock()
    pace = Pace(5.0, share=0.02, clock=clock)
    assert pace.is_due()
    with pace.job():
        clock.now += took
    clock.now = 100.0 + due - 0.01
    assert not pace.is_due()
    clock.now = 100.0 + due + 0.01
    assert pace.is_due()


def test_a_job_that_fails_is_not_due_at_once():
    clock = Clock()
    pace = Pace(5.0, clock=clock)
    with pytest.raises(KeyError), pace.job():
        raise KeyError
    assert not pace.is_due()
