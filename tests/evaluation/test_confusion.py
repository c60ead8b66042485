import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.evaluation import Counts, confusion_table, performance_measure


@pytest.fixture
def decided():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, (3, 40)), rng.integers(0, 2, (3, 40))


def test_counts_are_those_of_scikit_learn(decided):
    labels, predictions = decided
    tn, fp, fn, tp = reference.confusion_matrix(labels.ravel(), predictions.ravel()).ravel().tolist()
    assert confusion_table(labels, predictions) == (tp, tn, fp, fn)


def test_what_is_ignored_counts_neither_as_background_nor_as_error(decided):
    labels, predictions = decided
    ignored = np.where(np.arange(40) < 10, -1, labels)
    assert confusion_table(ignored, predictions) == confusion_table(labels[:, 10:], predictions[:, 10:])
    assert sum(confusion_table(ignored, predictions)) == 90


def test_lists_may_hold_arrays_of_different_shapes_and_tensors():
    labels = [np.array([[1, 0]]), torch.tensor([1, 1, -1])]
    predictions = [np.array([[True, True]]), torch.tensor([0, 1, 1])]
    assert confusion_table(labels, predictions) == Counts(tp=2, tn=0, fp=1, fn=1)


def test_counts_of_two_batches_are_those_of_both(decided):
    labels, predictions = decided
    parts = [confusion_table(labels[i], predictions[i]) for i in range(3)]
    assert parts[0].merge(parts[1]).merge(parts[2]) == confusion_table(labels, predictions)


def test_rates_are_those_of_scikit_learn(decided):
    labels, predictions = (x.ravel() for x in decided)
    rates = performance_measure(*confusion_table(labels, predictions))
    assert rates.recall == rates.tpr == pytest.approx(reference.recall_score(labels, predictions))
    assert rates.precision == pytest.approx(reference.precision_score(labels, predictions))
    assert rates.f1 == pytest.approx(reference.f1_score(labels, predictions))
    assert rates.accuracy == pytest.approx(reference.accuracy_score(labels, predictions))
    assert rates.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predictions))
    assert rates.fpr == pytest.approx(1 - reference.recall_score(1 - labels, 1 - predictions))


def test_rates_without_a_denominator_are_what_the_caller_calls_undefined():
    assert all(math.isnan(rate) for rate in performance_measure(0, 0, 0, 0))
    assert performance_measure(0, 0, 0, 0, undefined=0.0) == (0.0,) * 7
    only_negatives = performance_measure(0, 8, 2, 0)
    assert (only_negatives.fpr, only_negatives.precision, only_negatives.accuracy) == (0.2, 0.0, 0.8)
    assert math.isnan(only_negatives.tpr)
    assert math.isnan(only_negatives.balanced_accuracy)


@pytest.mark.parametrize(
    ("labels", "predictions", "error", "message"),
    [
        ([1, 0], [0.3, 0.0], ConfigError, "a prediction is 0 or 1, not 0.3: compare it with a threshold first"),
        ([1, 2], [1, 0], ConfigError, "a label is 1, 0, or -1 for what is ignored, not 2"),
        ([1, 0], [1], ShapeError, "one shape"),
        (np.zeros((2, 1)), np.zeros((1, 2)), ShapeError, "one shape"),
    ],
)
def test_what_is_no_decision_is_refused(labels, predictions, error, message):
    with pytest.raises(error, match=message):
        confusion_table(labels, predictions)


def test_negative_counts_are_refused():
    with pytest.raises(ConfigError, match="at least 0"):
        performance_measure(1, -1, 0, 0)
