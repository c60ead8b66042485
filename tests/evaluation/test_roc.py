import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.evaluation import (
    error_hist,
    eval_thresh,
    evaluate,
    roc_area,
    roc_auc,
    roc_points,
)


@pytest.fixture
def squeezed():
    """Probabilities near 0, as of a small lesion: equidistant thresholds see nothing of them."""
    rng = np.random.default_rng(1)
    labels = (rng.random(4000) < 0.1).astype(int)
    return labels, 1e-4 * rng.random(4000) * (1 + labels)


def test_points_are_those_of_scikit_learn(squeezed):
    labels, scores = squeezed
    points = roc_points(labels, scores)
    fpr, tpr, thresholds = reference.roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(points.fpr, fpr, atol=1e-15)
    assert np.allclose(points.tpr, tpr, atol=1e-15)
    assert np.array_equal(points.thresholds, thresholds)


def test_area_of_squeezed_scores_is_exact(squeezed):
    labels, scores = squeezed
    expected = reference.roc_auc_score(labels, scores)
    points = roc_points(labels, scores)
    assert roc_auc(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert roc_area(points.tpr, points.fpr) == pytest.approx(expected, abs=1e-12)
    assert evaluate(labels, scores).roc_area == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_area_is_the_share_of_pairs_in_order_with_ties_as_half(pairs):
    labels, scores = [int(label) for label, _ in pairs], [score for _, score in pairs]
    positive = [score for label, score in pairs if label]
    negative = [score for label, score in pairs if not label]
    won = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    found = roc_auc(labels, scores)
    assert found == pytest.approx(sum(won) / len(won)) if won else math.isnan(found)


def test_ignored_labels_change_nothing(squeezed):
    labels, scores = squeezed
    more = np.append(labels, [-1, -1]), np.append(scores, [0.0, np.nan])
    assert roc_auc(*more) == roc_auc(labels, scores)


def test_area_sorts_its_points_and_adds_the_corners():
    assert roc_area([0.5, 1.0, 0.0], [0.5, 0.5, 0.0]) == 0.625
    assert roc_area([], []) == 0.5


@pytest.mark.parametrize(
    ("tpr", "fpr", "error", "message"),
    [
        ([0.5], [0.5, 1.0], ShapeError, "one tpr for each fpr, not 1 and 2"),
        ([math.nan], [0.5], ConfigError, "rates are between 0 and 1"),
        ([0.5], [1.5], ConfigError, "rates are between 0 and 1"),
    ],
)
def test_what_is_no_curve_is_refused(tpr, fpr, error, message):
    with pytest.raises(error, match=message):
        roc_area(tpr, fpr)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ConfigError, match="1 of 2 scores are NaN"):
        roc_auc([1, 0], [0.5, math.nan])


def test_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'exact'"):
        roc_auc([1, 0], [0.5, 0.1], method="exat")


def test_rates_at_a_threshold_include_the_score_that_equals_it():
    labels, scores = [1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2]
    rates = eval_thresh((0.5, labels, scores))
    assert (rates.tpr, rates.fpr, rates.precision) == (1.0, 0.5, 2 / 3)


def test_evaluation_finds_the_best_threshold_of_all(squeezed):
    labels, scores = squeezed
    perf, _, thresh = evaluate(labels, scores)
    every = [reference.f1_score(labels, scores >= t) for t in np.unique(scores)[::40]]
    assert perf.f1 == pytest.approx(reference.f1_score(labels, scores >= thresh))
    assert perf.f1 >= max(every)
    assert 0 < thresh < 2e-4


def test_a_threshold_of_zero_is_taken_for_what_it_is():
    perf, _, thresh = evaluate([1, 0, 0], [0.9, 0.2, 0.0], thresh=0.0, n_proc=1)
    assert (thresh, perf.fpr) == (0.0, 1.0)


def test_best_by_another_measure():
    labels, scores = [1, 0, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    assert evaluate(labels, scores, select_by="precision").thresh == 0.9
    assert evaluate(labels, scores, select_by="balanced_accuracy").thresh == 0.6
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        evaluate(labels, scores, select_by="acuracy")


def test_evaluation_of_one_class_needs_a_threshold():
    with pytest.raises(ConfigError, match="balanced_accuracy is not defined for labels of one class: give thresh"):
        evaluate([0, 0], [0.1, 0.2], select_by="balanced_accuracy")
    perf, area, _ = evaluate([0, 0], [0.1, 0.2], thresh=0.15)
    assert perf.fpr == 0.5
    assert math.isnan(area)
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        evaluate([-1], [0.1])


def test_figures_are_written(tmp_path, squeezed):
    pytest.importorskip("matplotlib")
    evaluate(*squeezed, save_name=str(tmp_path / "curves.png"))
    error_hist(*squeezed, save_name=str(tmp_path / "scores.png"))
    for name in ("curves.png", "scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_error_histogram_counts_each_class_once():
    histogram = error_hist([1, 1, 0, -1], [0.995, 1.0, 0.0, 0.5])
    assert histogram.positive[99] == 2
    assert histogram.negative[0] == 1
    assert histogram.positive.sum() + histogram.negative.sum() == 3
