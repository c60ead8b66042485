import itertools
import json

import pytest

from delira_nca.errors import ConfigError
from delira_nca.export.live_page import Snapshots


def filled(num_epochs, most=20, **more):
    snapshots = Snapshots(most)
    for epoch in range(1, num_epochs + 1):
        snapshots.add({"epoch": epoch, **more})
    return [kept["epoch"] for kept in snapshots.kept]


@pytest.mark.parametrize("num_epochs", [1, 19, 20, 21, 80, 115, 1000])
def test_first_and_last_epoch_are_kept_and_those_between_are_spread(num_epochs):
    epochs = filled(num_epochs)
    assert len(epochs) == min(num_epochs, 20)
    assert (epochs[0], epochs[-1]) == (1, num_epochs)
    assert epochs == sorted(set(epochs))
    gaps = [b - a for a, b in itertools.pairwise(epochs)]
    assert max(gaps, default=1) <= max(1, num_epochs / 5)


def test_snapshots_of_a_large_network_are_fewer_and_bounded():
    snapshots = Snapshots(20)
    for epoch in range(1, 50):
        snapshots.add({"epoch": epoch, "cell": "x" * 100_000})
    assert 2 <= len(snapshots.kept) < 8
    assert len(json.dumps(snapshots.kept)) < 800_000
    snapshots.add({"epoch": 50, "cell": "x" * 500_000})
    assert snapshots.kept == []


def test_epochs_that_are_done_again_replace_those_that_were_lost():
    snapshots = Snapshots(5)
    for epoch, name in ((1, "a"), (2, "a"), (3, "a"), (2, "b")):
        snapshots.add({"epoch": epoch, "name": name})
    assert snapshots.kept == [{"epoch": 1, "name": "a"}, {"epoch": 2, "name": "b"}]


def test_they_are_the_same_after_a_stop_anywhere():
    for stop in range(1, 40):
        first, second = Snapshots(7), Snapshots(7)
        for epoch in range(1, stop + 1):
            first.add({"epoch": epoch})
        second.load_state_dict(first.state_dict())
        for epoch in range(stop + 1, 41):
            second.add({"epoch": epoch})
        assert [kept["epoch"] for kept in second.kept] == filled(40, 7)


def test_less_than_two_are_no_choice_early_epochs_are_denser_and_a_number_is_asked_for():
    assert filled(5, 0) == filled(5, 1) == []
    assert sum(epoch <= 250 for epoch in filled(1000)) > 20 / 4
    for most in (-1, 2.5, True, "20"):
        with pytest.raises(ConfigError, match="snapshots must be a whole number"):
            Snapshots(most)
