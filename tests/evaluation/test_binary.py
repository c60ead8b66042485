"""Binary classification: counts, rates, curves, areas, thresholds, against scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.evaluation import (
    Counts,
    ScoreHistogram,
    binary_nll,
    confusion_table,
    error_hist,
    eval_thresh,
    evaluate,
    evaluate_model_binary,
    find_nearest,
    performance_measure,
    rescale_fudge,
    roc_area,
    roc_auc,
    roc_points,
)

# Counts and rates -----------------------------------------------------------------------------------------------------


@pytest.fixture
def decided():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, (3, 40)), rng.integers(0, 2, (3, 40))


def test_counts_are_those_of_scikit_learn_also_of_several_batches(decided):
    labels, predictions = decided
    tn, fp, fn, tp = reference.confusion_matrix(labels.ravel(), predictions.ravel()).ravel().tolist()
    assert confusion_table(labels, predictions) == (tp, tn, fp, fn)
    parts = [confusion_table(labels[i], predictions[i]) for i in range(3)]
    assert parts[0].merge(parts[1]).merge(parts[2]) == (tp, tn, fp, fn)


def test_what_is_ignored_counts_neither_as_background_nor_as_error(decided):
    labels, predictions = decided
    ignored = np.where(np.arange(40) < 10, -1, labels)
    assert confusion_table(ignored, predictions) == confusion_table(labels[:, 10:], predictions[:, 10:])
    assert sum(confusion_table(ignored, predictions)) == 90


def test_lists_may_hold_arrays_of_different_shapes_and_tensors():
    labels = [np.array([[1, 0]]), torch.tensor([1, 1, -1])]
    predictions = [np.array([[True, True]]), torch.tensor([0, 1, 1])]
    assert confusion_table(labels, predictions) == Counts(tp=2, tn=0, fp=1, fn=1)


def test_rates_are_those_of_scikit_learn(decided):
    labels, predictions = (x.ravel() for x in decided)
    rates = performance_measure(*confusion_table(labels, predictions))
    assert rates.recall == rates.tpr == pytest.approx(reference.recall_score(labels, predictions))
    assert rates.fpr == pytest.approx(1 - reference.recall_score(1 - labels, 1 - predictions))
    for name in ("precision", "f1", "accuracy", "balanced_accuracy"):
        expected = getattr(reference, f"{name}_score")(labels, predictions)
        assert getattr(rates, name) == pytest.approx(expected), name


def test_rates_without_a_denominator_are_what_the_caller_calls_undefined():
    assert all(math.isnan(rate) for rate in performance_measure(0, 0, 0, 0))
    assert performance_measure(0, 0, 0, 0, undefined=0.0) == (0.0,) * 7
    only_negatives = performance_measure(0, 8, 2, 0)
    assert (only_negatives.fpr, only_negatives.precision, only_negatives.accuracy) == (0.2, 0.0, 0.8)
    assert math.isnan(only_negatives.tpr)
    assert math.isnan(only_negatives.balanced_accuracy)


# Scores ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def squeezed():
    """Probabilities near 0, as of a small lesion: equidistant thresholds see nothing of them."""
    rng = np.random.default_rng(1)
    labels = (rng.random(4000) < 0.1).astype(int)
    return labels, 1e-4 * rng.random(4000) * (1 + labels)


def test_points_are_those_of_scikit_learn(squeezed):
    points = roc_points(*squeezed)
    fpr, tpr, thresholds = reference.roc_curve(*squeezed, drop_intermediate=False)
    assert np.allclose(points.fpr, fpr, atol=1e-15)
    assert np.allclose(points.tpr, tpr, atol=1e-15)
    assert np.array_equal(points.thresholds, thresholds)


def test_area_of_squeezed_scores_is_exact_and_ignored_labels_change_nothing(squeezed):
    labels, scores = squeezed
    expected, points = reference.roc_auc_score(labels, scores), roc_points(labels, scores)
    for area in (roc_auc(labels, scores), roc_area(points.tpr, points.fpr), evaluate(labels, scores).roc_area):
        assert area == pytest.approx(expected, abs=1e-12)
    assert roc_auc(np.append(labels, [-1, -1]), np.append(scores, [0.0, np.nan])) == roc_auc(labels, scores)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_area_is_the_share_of_pairs_in_order_with_ties_as_half(pairs):
    labels, scores = [int(label) for label, _ in pairs], [score for _, score in pairs]
    positive = [score for label, score in pairs if label]
    negative = [score for label, score in pairs if not label]
    won = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    found = roc_auc(labels, scores)
    assert found == pytest.approx(sum(won) / len(won)) if won else math.isnan(found)


def test_area_sorts_its_points_and_adds_the_corners():
    assert roc_area([0.5, 1.0, 0.0], [0.5, 0.5, 0.0]) == 0.625
    assert roc_area([], []) == 0.5


def test_rates_at_a_threshold_include_the_score_that_equals_it():
    rates = eval_thresh((0.5, [1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2]))
    assert (rates.tpr, rates.fpr, rates.precision) == (1.0, 0.5, 2 / 3)
    perf, _, thresh = evaluate([1, 0, 0], [0.9, 0.2, 0.0], thresh=0.0, n_proc=1)
    assert (thresh, perf.fpr) == (0.0, 1.0), "a threshold of zero is taken for what it is"


def test_evaluation_finds_the_best_threshold_of_all(squeezed):
    labels, scores = squeezed
    perf, _, thresh = evaluate(labels, scores)
    every = [reference.f1_score(labels, scores >= t) for t in np.unique(scores)[::40]]
    assert perf.f1 == pytest.approx(reference.f1_score(labels, scores >= thresh))
    assert perf.f1 >= max(every)
    assert 0 < thresh < 2e-4
    labels, scores = [1, 0, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    assert evaluate(labels, scores, select_by="precision").thresh == 0.9
    assert evaluate(labels, scores, select_by="balanced_accuracy").thresh == 0.6


def test_evaluation_of_one_class_needs_a_threshold():
    with pytest.raises(ConfigError, match="balanced_accuracy is not defined for labels of one class: give thresh"):
        evaluate([0, 0], [0.1, 0.2], select_by="balanced_accuracy")
    perf, area, _ = evaluate([0, 0], [0.1, 0.2], thresh=0.15)
    assert perf.fpr == 0.5
    assert math.isnan(area)


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


def test_nearest_element_is_the_first_of_several_and_rescaling_leaves_what_it_is_given():
    assert find_nearest(torch.tensor([3.0, 1.0, 2.0]), 1.5) == 1.0
    scores = np.array([0.0, 0.15, 0.5, 0.85, 1.0])
    kept = scores.copy()
    assert np.allclose(rescale_fudge(scores), [0, 0, 0.5, 1, 1])
    assert np.array_equal(scores, kept)


def test_likelihood_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 50), rng.random(50)
    assert binary_nll(scores, labels) == pytest.approx(reference.log_loss(labels, scores))
    assert binary_nll(np.append(scores, 0.5), np.append(labels, -1)) == binary_nll(scores, labels)
    assert binary_nll([1.0, 0.0], [1, 0]) == 0.0
    assert math.copysign(1.0, binary_nll([1.0, 0.0], [1, 0])) == 1.0
    assert binary_nll([1.0, 0.0], [0, 0]) == math.inf


# Histograms of scores -------------------------------------------------------------------------------------------------


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 5000)
    return labels, np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)


def test_area_of_a_histogram_is_exact_but_for_ties_in_a_bin(scored):
    labels, scores = scored
    exact = reference.roc_auc_score(labels, scores)
    for bins in (8, 64, 4096):
        histogram = ScoreHistogram(bins).update(labels, scores)
        assert abs(histogram.auc() - exact) <= histogram.auc_error()
    assert histogram.auc_error() < 1e-3
    assert roc_auc(labels, scores, method="histogram") == histogram.auc()
    scores = np.minimum(np.floor(8 * scores), 7) / 8  # those of the bins
    exact = reference.roc_auc_score(labels, scores)
    assert ScoreHistogram(8).update(labels, scores).auc() == pytest.approx(exact, abs=1e-12)


def test_batches_and_processes_add_up(scored):
    labels, scores = scored
    whole = ScoreHistogram().update(labels, scores)
    first = ScoreHistogram().update(labels[:1000], scores[:1000]).update(labels[1000:3000], scores[1000:3000])
    merged = first.merge(ScoreHistogram().update(labels[3000:], scores[3000:]))
    assert np.array_equal(merged.positive, whole.positive)
    assert merged.auc() == whole.auc()


def test_other_ranges_hold_logits_and_one_class_has_no_area(scored):
    labels, scores = scored
    expected = ScoreHistogram(64).update(labels, scores).auc()
    assert ScoreHistogram(64, -3, 3).update(labels, 6 * scores - 3).auc() == pytest.approx(expected, abs=1e-3)
    histogram = ScoreHistogram(4).update([1, 1], [0.5, 0.1])
    assert math.isnan(histogram.auc())
    assert math.isnan(histogram.auc_error())


# Models: the threshold is the one that the validation data choose -----------------------------------------------------

RNG = np.random.default_rng(0)
TRUTH = {part: (RNG.random((4, 8)) < 0.4).astype(int) for part in ("valid", "train")}
SCORES = {part: np.clip(labels * 0.3 + RNG.random((4, 8)) * 0.7, 0, 1) for part, labels in TRUTH.items()}
VALID = {"valid_d": SCORES["valid"], "valid_l": TRUTH["valid"]}


def identity(x):
    return x


def test_the_threshold_of_validation_is_that_of_training():
    found = evaluate_model_binary(identity, "", None, *VALID.values(), SCORES["train"], TRUTH["train"])
    assert found["valid"] == evaluate(TRUTH["valid"], SCORES["valid"])
    assert found["train"].thresh == found["valid"].thresh
    labels, scores = TRUTH["train"].ravel(), SCORES["train"].ravel()
    assert found["train"].roc_area == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    expected = reference.f1_score(labels, scores >= found["train"].thresh)
    assert found["train"].perf.f1 == pytest.approx(expected, abs=1e-12)


def test_ignored_labels_stay_ignored_data_may_be_attributes_and_figures_are_drawn(tmp_path):
    labels = TRUTH["valid"].copy()
    labels[0] = -1
    found = evaluate_model_binary(identity, "", valid_d=SCORES["valid"], valid_l=labels)
    assert found["valid"] == evaluate(TRUTH["valid"][1:], SCORES["valid"][1:])
    pytest.importorskip("matplotlib")
    assert list(evaluate_model_binary(identity, str(tmp_path / "run"), SimpleNamespace(**VALID))) == ["valid"]
    assert [path.name for path in tmp_path.iterdir()] == ["run_valid.png"]


def test_parameters_of_beta_distributions_give_their_means():
    scores = SCORES["valid"]
    pair = np.stack([3 * scores + 0.3, 3 * (1 - scores) + 0.3])
    found = evaluate_model_binary(lambda x: pair, "", **VALID, betaloss=True)
    expected = evaluate(TRUTH["valid"], (3 * scores + 0.3) / 3.6)
    assert found["valid"].roc_area == pytest.approx(expected.roc_area)
    soft = evaluate_model_binary(identity, "", **VALID, fudgeysoft=True)
    assert 0 <= soft["valid"].thresh <= 1


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (confusion_table, ([1, 0], [0.3, 0.0]), ConfigError, "0 or 1, not 0.3: compare it with a threshold first"),
        (confusion_table, ([1, 2], [1, 0]), ConfigError, "a label is 1, 0, or -1 for what is ignored, not 2"),
        (confusion_table, ([1, 0], [1]), ShapeError, "one shape"),
        (confusion_table, (np.zeros((2, 1)), np.zeros((1, 2))), ShapeError, "one shape"),
        (performance_measure, (1, -1, 0, 0), ConfigError, "at least 0"),
        (roc_area, ([0.5], [0.5, 1.0]), ShapeError, "one tpr for each fpr, not 1 and 2"),
        (roc_area, ([math.nan], [0.5]), ConfigError, "rates are between 0 and 1"),
        (roc_area, ([0.5], [1.5]), ConfigError, "rates are between 0 and 1"),
        (roc_auc, ([1, 0], [0.5, math.nan]), ConfigError, "1 of 2 scores are NaN"),
        (roc_auc, ([1, 0], [0.5, 0.1], {"method": "exat"}), UnknownNameError, "Did you mean 'exact'"),
        (evaluate, ([1, 0], [0.5, 0.1], {"select_by": "acuracy"}), UnknownNameError, "Did you mean 'accuracy'"),
        (evaluate, ([-1], [0.1]), ConfigError, "nothing to evaluate"),
        (find_nearest, ([], 1.0), ConfigError, "empty"),
        (rescale_fudge, (np.zeros(2), 0.5), ConfigError, "below 0.5"),
        (binary_nll, ([1.5], [1]), ConfigError, "between 0 and 1"),
        (binary_nll, ([0.5], [-1]), ConfigError, "no label counts"),
        (ScoreHistogram().update, ([1], [1.5]), ConfigError, "a score is between 0 and 1, not 1.5"),
        (ScoreHistogram(4).merge, (ScoreHistogram(8),), ConfigError, "cannot be merged"),
        (ScoreHistogram, (0,), ConfigError, "bins"),
        (ScoreHistogram, (4, 1.0, 1.0), ConfigError, "low < high"),
        (evaluate_model_binary, (identity, ""), ConfigError, "nothing to evaluate"),
        (evaluate_model_binary, (3, ""), ConfigError, "not a int"),
        (evaluate_model_binary, (identity, "", {"valid_d": [1]}), ConfigError, "valid_d and valid_l are given toge"),
        (evaluate_model_binary, (identity, "", {**VALID, "betaloss": True}), ConfigError, "two positive arrays"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(function, arguments, error, message):
    options = arguments[-1] if isinstance(arguments[-1], dict) else {}
    with pytest.raises(error, match=message):
        function(*arguments[: len(arguments) - bool(options)], **options)
