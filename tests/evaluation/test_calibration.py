import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.evaluation import alarm_threshold, failure_auroc, fit_temperature

FINITE = st.integers(0, 6).map(float)


@given(st.lists(FINITE, min_size=1, max_size=30), st.lists(FINITE, max_size=10), st.integers(0, 20))
def test_threshold_is_the_lowest_score_that_keeps_the_rate(good, bad, twentieths):
    rate = twentieths / 20
    found = alarm_threshold(good + bad, [0] * len(good) + [1] * len(bad), rate)
    assert np.mean(np.array(good) > found.threshold) == found.false_alarm_rate <= rate + 1e-12
    lower = [score for score in good if score < found.threshold] + [-math.inf]
    if math.isfinite(found.threshold):
        assert np.mean(np.array(good) > max(lower)) > rate
    if bad:
        assert found.sensitivity == np.mean(np.array(bad) > found.threshold)
    else:
        assert math.isnan(found.sensitivity)


def test_a_rate_that_is_a_whole_number_of_cases_is_used_up_and_alarms_are_above_the_threshold():
    found = alarm_threshold(np.arange(100.0), np.zeros(100), 0.29)  # 0.29 * 100 is below 29 in floats
    assert (found.threshold, found.false_alarm_rate) == (70.0, 0.29)
    found = alarm_threshold([1.0, 2.0, 3.0], [0, 0, 1], 0.0)
    assert found.alarms([1.0, 2.0, 2.5, math.nan]).tolist() == [False, False, True, True]
    assert found.to_dict()["num_failed"] == 1


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (alarm_threshold, ([1.0], [0], 1.5), ConfigError, "must be a number from 0 to 1, not 1.5"),
        (alarm_threshold, ([1.0], [1], 0.1), ConfigError, "good cases, and there is none"),
        (alarm_threshold, ([math.nan], [0], 0.1), ConfigError, "NaN"),
        (fit_temperature, (torch.full((3, 1), 2.0), torch.ones(3, 1)), ConfigError, "no temperature is best"),
        (fit_temperature, (torch.full((3, 1), 2.0), torch.zeros(3, 1)), ConfigError, "no temperature is best"),
        (fit_temperature, (torch.zeros(3, 2, 4), torch.zeros(3, 5)), ShapeError, r"are \(3, 4\), not \(3, 5\)"),
        (fit_temperature, (torch.zeros(3, 2), torch.tensor([0, 2, 1])), ConfigError, "classes from 0 to 1"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)


def test_failure_detection_is_measured_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    failed = rng.integers(0, 2, 200)
    scores = np.round(rng.normal(failed, 1.0), 1)
    assert failure_auroc(scores, failed) == pytest.approx(roc_auc_score(failed, scores), abs=1e-12)
    assert math.isnan(failure_auroc([1.0], [0]))


def test_temperature_of_a_model_of_one_confidence_is_known():
    logits = torch.full((10, 1, 2), 3.0)
    labels = torch.ones(10, 1, 2, dtype=torch.long)
    labels[:2] = 0
    assert fit_temperature(logits, labels) == pytest.approx(3 / math.log(0.8 / 0.2), rel=1e-9)
    labels[0] = -1  # 16 right and 2 wrong are left
    assert fit_temperature(logits, labels) == pytest.approx(3 / math.log(16 / 2), rel=1e-9)


def test_temperature_of_several_classes_is_the_best_one_around(noise):
    logits = 4 * noise(200, 3, 2)
    labels = torch.multinomial((logits / 2.5).softmax(1).movedim(1, -1).reshape(-1, 3), 1).view(200, 2)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(2.5, rel=0.25)
    losses = [float(F.cross_entropy(logits / (found * by), labels)) for by in (0.97, 1.0, 1.03)]
    assert losses[1] == min(losses)
