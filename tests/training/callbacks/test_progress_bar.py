"""How far a training is, and when a job is due."""

import io
import re
from contextlib import nullcontext
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


def _train(trainer_cls, *args, num_epochs=3, metrics=METRICS, stream=None, **options):
    """Trainer and what its bar has written."""
    out = io.StringIO() if stream is None else stream
    trainer = trainer_cls(metrics, callbacks=[ProgressBar(*args, stream=out, **options)])
    trainer.train(num_epochs, DATA, val_score_key="loss", val_score_mode="lowest")
    return trainer, out


def _many(trainer_cls, *args, num_epochs=1001):
    """Lines of a long training."""
    out = _train(trainer_cls, *args, num_epochs=num_epochs, metrics=METRICS[:1] * num_epochs)[1]
    return out.getvalue().splitlines()


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
    text = _train(plain_trainer)[1].getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    assert [re.sub(r"\d+:\d\d", "T", line) for line in text.splitlines()] == [
        "epoch 1/3  33%  loss 0.123  dice 2  best  T left",
        "epoch 2/3  66%  loss 0.1  dice 3  best  T left",
        "epoch 3/3  100%  loss 0.2  dice 4  took T",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.001, [1, *range(11, 1001, 11), 1001]), (40, [1, 3, 5, 7])], ids=["quick", "slow"]
)
def test_a_long_training_has_a_hundred_lines_or_one_each_minute(plain_trainer, clock, seconds, expected):
    clock(*(seconds * k for k in range(2000)))
    epochs = [int(re.match(r"epoch (\d+)", line)[1]) for line in _many(plain_trainer)]
    assert epochs[: len(expected)] == expected
    assert len(epochs) == len(expected) or seconds == 40


@pytest.mark.parametrize(
    ("keys", "log10", "shown"),
    [(("dice", "unknown"), False, "dice 2"), ({"loss": "log10 error"}, True, "log10 error -0.91")],
)
def test_only_the_metrics_that_are_asked_for_are_shown_by_their_labels(plain_trainer, keys, log10, shown):
    text = _train(plain_trainer, keys, log10=log10, num_epochs=1)[1].getvalue()
    assert text.startswith(f"epoch 1/1  100%  {shown}  best")


def test_the_time_that_is_left_counts_from_the_resumption(plain_trainer, clock):
    clock(100.0, 160.0, 1000.0, 1030.0)
    trainer, out = _train(plain_trainer, ("loss",), num_epochs=1)
    trainer.stop("enough")
    trainer.train(2, DATA, val_score_key="loss", val_score_mode="lowest")
    assert [line.split("  ")[-1] for line in out.getvalue().splitlines()] == ["took 1:00", "took 0:30"]


def test_the_time_that_is_left_is_that_of_the_last_epochs_for_roll_outs_may_lengthen(plain_trainer, clock):
    clock(0.0, *range(1, 7), 106.0, 206.0, 306.0, 406.0)
    left = [line.split("  ")[-1] for line in _many(plain_trainer, ("loss",), num_epochs=10)]
    assert left[5] == "0:04 left"
    assert left[6] == f"{int(3 * 104 / 5) // 60}:{int(3 * 104 / 5) % 60:02d} left"
    assert left[-1] == "took 6:46"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("look_at", [None, "runs/lizard/live.html", "/a/very/long/path/" * 10 + "live.html"])
def test_no_line_is_longer_than_80_columns_and_it_says_where_to_look(stream, look_at, plain_trainer):
    metrics = [{"loss": 0.1, **{f"a_long_name_{k}": 1.0 for k in range(20)}}] * 3
    lines = _lines(_train(plain_trainer, stream=stream(), look_at=look_at, metrics=metrics)[1])
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("epoch 3/3  100%")
    if look_at:
        assert all(line.endswith("/live.html") for line in lines)
    if look_at is None or len(look_at) < 40:
        assert "loss 0.1" in lines[-1]


def test_on_a_terminal_there_is_a_line_that_is_left_standing_at_the_end(plain_trainer):
    trainer, out = _train(plain_trainer, stream=Terminal(), num_epochs=2)
    assert _lines(out)[-1].startswith("epoch 2/2  100%  loss 0.1  dice 3  took")
    assert out.getvalue().endswith("\n")
    assert trainer.callbacks[0]._bar is None
    trainer.train(3, DATA, val_score_key="loss", val_score_mode="lowest")
    assert _lines(out)[-1].startswith("epoch 3/3  100%  loss 0.2")


def test_standard_error_is_asked_for_when_it_is_written_to(plain_trainer, capsys):
    plain_trainer(METRICS, callbacks=[ProgressBar()]).train(1, DATA)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("epoch 1/1")


def test_on_a_terminal_it_shows_how_far_an_epoch_is(clock):
    out, trainer = Terminal(), SimpleNamespace(start_epoch=1)
    bar = ProgressBar(stream=out)
    clock(*range(0, 100, 10))
    bar.at_training_begin(trainer, num_epochs=4)
    for iteration in range(4):
        bar.at_iter_end(trainer, iter_num=iteration, curr_epoch=1, train=True)
    bar.at_epoch_end(trainer, val_metrics={"loss": 0.5}, curr_epoch=1, is_best=True)
    bar.at_iter_end(trainer, iter_num=1, curr_epoch=2, train=True)
    bar.at_training_end(trainer)
    assert _lines(out)[1] == "epoch 1/4  0%  0:10 so far"
    assert _lines(out)[-1] == "epoch 2/4  37%  loss 0.5  2:05 left"


def test_expected_seconds_give_the_time_left_from_the_start_and_are_scaled_by_the_pace(clock):
    out, trainer = io.StringIO(), SimpleNamespace(start_epoch=1)
    clock(100.0, 120.0, 160.0, 175.0, 195.0)
    bar = ProgressBar([], look_at="live.html", expected_seconds=[10.0, 20.0, 30.0, 40.0], stream=out)
    bar.at_training_begin(trainer, num_epochs=4)
    for epoch in range(1, 5):
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


def test_a_training_goes_on_without_a_stream_that_can_be_written_and_one_that_only_writes_is_enough(monkeypatch):
    closed, stream = io.StringIO(), OnlyWrites()
    closed.close()
    for broken in (closed, Full()):
        show(ProgressBar(stream=broken))
    monkeypatch.setattr("sys.stderr", None)
    show(ProgressBar(expected_seconds=np.array([2.0])))
    show(ProgressBar(stream=stream))
    assert stream.text.startswith("epoch 1/1  100%  größe 0.5")


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


@pytest.mark.parametrize("expected", [nullcontext(), pytest.raises(KeyError)], ids=["done", "failed"])
@pytest.mark.parametrize(("took", "due"), [(0.0, 5.0), (0.05, 5.0), (0.2, 10.0)])
def test_a_job_is_due_after_a_while_that_its_own_time_lengthens_even_if_it_fails(took, due, expected):
    def work():
        clock.now += took
        if not isinstance(expected, nullcontext):
            raise KeyError

    clock = Clock()
    pace = Pace(5.0, share=0.02, clock=clock)
    assert pace.is_due()
    with expected, pace.job():
        work()
    clock.now = 100.0 + due - 0.01
    assert not pace.is_due()
    clock.now = 100.0 + due + 0.01
    assert pace.is_due()
