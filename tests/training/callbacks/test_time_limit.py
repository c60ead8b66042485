"""A training that ends before its time is over, by a clock that only work moves."""

from datetime import timedelta

import pytest

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks import LambdaCallback, TimeLimit
from delira_nca.training.callbacks.stopping import in_words, to_seconds


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(plain_trainer, clock):
    """Trains so many epochs of three iterations; an iteration takes 2 s, a validation 3 s, a file 1 s."""

    def make(limit, num_epochs=20, iteration=2.0, validation=3.0, file=1.0, **kwargs):
        takes = iteration if callable(iteration) else lambda epoch: iteration

        def work(trainer, train, curr_epoch):
            clock.now += takes(curr_epoch) if train else validation

        def save(trainer):
            clock.now += file

        worker = LambdaCallback(at_iter_begin=work, at_checkpoint=save)
        limit = limit if isinstance(limit, TimeLimit) else TimeLimit(limit, clock=clock, **kwargs)
        trainer = plain_trainer(callbacks=[limit, worker])
        trainer.train(num_epochs, [{"data": [n]} for n in range(3)], [{"data": [0]}])
        return trainer, limit

    return make


def test_a_duration_is_read_and_what_is_none_is_refused():
    durations = {90: 90.0, 1.5: 1.5, "2h30m": 9000.0, "2H 30M": 9000.0, "45s": 45.0, "1d": 86400.0, "1.5h": 5400.0}
    durations |= {".5m": 30.0, "120": 120.0, "0": 0.0, timedelta(hours=1, seconds=1): 3601.0}
    assert {given: to_seconds(given) for given in durations} == durations
    wrong = ["", "2x", "h", "2h30", "m30", "-5", -5, float("nan"), float("inf"), True, None, timedelta(-1), "1e3"]
    for given in wrong:
        with pytest.raises(ConfigError, match="2h30m"):
            to_seconds(given)


def test_a_duration_is_written():
    texts = {0: "0s", 9.96: "10s", 0.0123: "0.012s", 1.5: "1.5s", 60: "1m", 3599.7: "1h", 3605: "1h"}
    texts |= {90061: "1d1h", 86400: "1d"}
    assert {seconds: in_words(seconds) for seconds in texts} == texts


@pytest.mark.parametrize(
    ("limit", "margin", "epochs"),
    [
        (1000, 0, 20),
        (200, 0, 20),  # 20 epochs of 10 s
        (199, 0, 19),
        (100, 0, 10),
        (99, 0, 9),
        (30, 0, 3),
        (29, 0, 2),
        (17, 0, 1),  # the first has taken 9 s when it is time to decide, its file not counted
        (10, 0, 1),
        (100, "25s", 7),
    ],
)
def test_no_epoch_begins_that_would_not_be_done(run, limit, margin, epochs):
    trainer, limit = run(limit, margin=margin)
    assert len(trainer.epochs_done) == epochs
    assert trainer.stop_training == (epochs < 20)
    assert limit.elapsed == 10.0 * epochs


def test_the_reason_says_how_much_is_left_and_how_much_more_it_takes(run):
    trainer, _ = run("65s")
    assert trainer.epochs_done == [1, 2, 3, 4, 5, 6]
    assert trainer.stop_reason == "TIME_LIMIT: 1m of 1m5s are spent, and another epoch takes about 10s"


def test_an_epoch_that_took_longer_than_the_mean_is_expected_again(run):
    trainer, limit = run(100, iteration=lambda epoch: 2.0 * epoch)  # epochs of 10, 16, 22, 28, 34, ... s
    assert trainer.epochs_done == [1, 2, 3, 4]
    assert limit.elapsed == 76.0


@pytest.fixture
def begun(plain_trainer, clock):
    """Limit and trainer at the beginning of an epoch, and what the limit returns from a number of iterations."""

    def begin(seconds, num_epochs=3, first_iter=0, **options):
        limit, trainer = TimeLimit(seconds, clock=clock, **options), plain_trainer()
        limit.at_training_begin(trainer, num_epochs=num_epochs)
        limit.at_epoch_begin(trainer, first_iter=first_iter)

        def iterate(number, seconds):
            for _ in range(number):
                clock.now += seconds
                yield limit.at_iter_end(trainer, train=True)

        return limit, trainer, iterate

    return begin


@pytest.mark.parametrize("every", ["epoch", "iteration"])
def test_within_an_epoch_it_stops_where_another_iteration_would_not_be_done(begun, every):
    returned = list(begun(12, every=every)[2](6, 2.25))
    assert returned[:4] == [None] * 4
    reason = "TIME_LIMIT: 11s of 12s are spent, and another iteration takes about 2.2s"
    assert returned[4] == {"stop_training": True, "stop_now": True, "stop_reason": reason}


def test_it_may_use_the_time_up_within_an_epoch(begun):
    for every, stops in (("iteration", False), ("epoch", True)):
        limit, trainer, iterate = begun(30, every=every)
        assert list(iterate(8, 2.0)) == [None] * 8
        assert limit.at_iter_end(trainer, train=False) is None
        assert bool(limit.at_epoch_end(trainer, curr_epoch=1)) == stops


def test_it_does_not_speak_when_another_has_stopped_the_training(begun):
    _, trainer, iterate = begun(3)
    trainer.stop("by hand")
    assert list(iterate(3, 2.0)) == [None] * 3


def test_what_is_spent_counts_over_resumes_and_trainings_but_not_in_another_run(run, clock):
    trainer, limit = run(100, num_epochs=3)
    clock.now += 5000.0
    trainer.train(4, [{"data": [n]} for n in range(3)], [{"data": [0]}])
    assert limit.state_dict() == {"spent": 40.0}
    clock.now += 5000.0  # a night between two jobs
    again = TimeLimit(100, clock=clock)
    again.load_state_dict(limit.state_dict())
    assert again.elapsed == 40.0
    trainer, again = run(again)
    assert len(trainer.epochs_done) == 6
    assert again.elapsed == 100.0
    trainer, _ = run(limit)
    assert len(trainer.epochs_done) == 10


def test_an_epoch_that_is_resumed_in_its_middle_is_no_measure(begun, clock):
    limit, trainer, _ = begun(100, num_epochs=9, first_iter=5)
    clock.now += 60.0
    assert limit.at_epoch_end(trainer, curr_epoch=1) is None
    limit.at_epoch_begin(trainer)
    clock.now += 15.0
    assert limit.at_epoch_end(trainer, curr_epoch=2) is None
    limit.at_epoch_begin(trainer)
    clock.now += 15.0
    assert limit.at_epoch_end(trainer, curr_epoch=3)["stop_reason"].startswith("TIME_LIMIT: 1m30s of 1m40s")


def test_a_state_in_the_middle_of_a_training_has_what_is_spent_by_then(run, clock):
    limit, seen = TimeLimit(1000, clock=clock), []
    watch = LambdaCallback(at_checkpoint=lambda trainer: seen.append(limit.state_dict()["spent"]))
    trainer = run(limit, num_epochs=1)[0]
    trainer.register_callback(watch)
    trainer.train(20, [{"data": [0]}], [{"data": [0]}])
    assert seen[:2] == [16.0, 22.0]
    assert len(seen) == 19


def test_a_run_that_it_has_ended_within_an_epoch_goes_on_exactly(make_trainer, batches, clock, assert_same, tmp_path):
    def build(limit):
        work = LambdaCallback(at_iter_begin=lambda trainer: setattr(clock, "now", clock.now + 1.0))
        return make_trainer(callbacks=[TimeLimit(limit, every="iteration", clock=clock), work])

    data = batches(2, 2, 2, 2)
    straight = build(100)
    straight.train(3, data)
    first = build(6.5)
    first.train(3, data)
    assert (first.global_iter_num, first.stop_reason) == (
        6,
        "TIME_LIMIT: 6s of 6.5s are spent, and another iteration takes about 1s",
    )
    first.save_state(tmp_path / "state.pt")
    resumed = build(100).update_state(tmp_path / "state.pt")
    resumed.train(3, data)
    assert_same(resumed.state_dict(), straight.state_dict())
    assert resumed.state_dict()["callbacks"]["TimeLimit"] == {"spent": 12.0}
