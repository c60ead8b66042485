"""NCALab's counter, with a first accuracy that counts even where it is not above 0."""

import pytest

from delira_nca.errors import ConfigError
from delira_nca.ncalab import EarlyStopping


def counters(stopping, *accuracies):
    seen = []
    for accuracy in accuracies:
        stopping.step(accuracy)
        seen.append(stopping.counter)
    return seen


def test_attributes_of_the_page_are_there():
    stopping = EarlyStopping(3)
    assert (stopping.patience, stopping.min_delta, stopping.best_accuracy, stopping.counter) == (3, 1e-6, 0.0, 0)
    assert stopping.done() is False


def test_a_better_accuracy_resets_the_counter():
    assert counters(EarlyStopping(3, min_delta=0.1), 0.5, 0.55, 0.6, 0.65, 0.75) == [0, 1, 0, 1, 0]


def test_the_first_accuracy_is_the_best_also_where_it_is_negative():
    stopping = EarlyStopping(2)
    assert counters(stopping, -3.0, -4.0, -2.0) == [0, 1, 0]
    assert stopping.best_accuracy == -2.0


def test_an_equal_or_unknown_accuracy_is_not_better():
    stopping = EarlyStopping(2, min_delta=0.0)
    assert counters(stopping, float("nan"), 0.5, 0.5, float("nan")) == [1, 0, 1, 2]
    assert stopping.done()


def test_its_state_can_be_taken_up():
    one, two = EarlyStopping(2), EarlyStopping(2)
    counters(one, 0.5, 0.4)
    two.load_state_dict(one.state_dict())
    assert counters(two, 0.45) == [2]
    assert two.best_accuracy == 0.5


@pytest.mark.parametrize(("patience", "delta"), [(0, 0.0), (1.5, 0.0), (True, 0.0), (1, -1.0), (1, float("nan"))])
def test_numbers_out_of_range_are_refused(patience, delta):
    with pytest.raises(ConfigError, match="at least"):
        EarlyStopping(patience, delta)
