import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from delira_nca.errors import ConfigError
from delira_nca.evaluation import ScoreHistogram, roc_auc


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 5000)
    return labels, np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)


def test_area_is_exact_but_for_ties_in_a_bin(scored):
    labels, scores = scored
    exact = roc_auc_score(labels, scores)
    for bins in (8, 64, 4096):
        histogram = ScoreHistogram(bins).update(labels, scores)
        assert abs(histogram.auc() - exact) <= histogram.auc_error()
    assert histogram.auc_error() < 1e-3
    assert roc_auc(labels, scores, method="histogram") == histogram.auc()


def test_area_is_exact_for_scores_of_the_bins():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 300), rng.integers(0, 8, 300) / 8
    assert ScoreHistogram(8).update(labels, scores).auc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_batches_and_processes_add_up(scored):
    labels, scores = scored
    whole = ScoreHistogram().update(labels, scores)
    first = ScoreHistogram().update(labels[:1000], scores[:1000]).update(labels[1000:3000], scores[1000:3000])
    merged = first.merge(ScoreHistogram().update(labels[3000:], scores[3000:]))
    assert np.array_equal(merged.positive, whole.positive)
    assert merged.auc() == whole.auc()


def test_other_ranges_hold_logits(scored):
    labels, scores = scored
    logits = 6 * scores - 3
    assert ScoreHistogram(64, -3, 3).update(labels, logits).auc() == pytest.approx(
        ScoreHistogram(64).update(labels, scores).auc(), abs=1e-3
    )


def test_one_class_has_no_area():
    histogram = ScoreHistogram(4).update([1, 1], [0.5, 0.1])
    assert math.isnan(histogram.auc())
    assert math.isnan(histogram.auc_error())


def test_scores_outside_of_the_bins_are_refused():
    with pytest.raises(ConfigError, match="a score is between 0 and 1, not 1.5"):
        ScoreHistogram().update([1], [1.5])


def test_histograms_of_other_bins_are_not_merged():
    with pytest.raises(ConfigError, match="cannot be merged"):
        ScoreHistogram(4).merge(ScoreHistogram(8))


@pytest.mark.parametrize(("arguments", "message"), [((0,), "bins"), ((4, 1.0, 1.0), "low < high")])
def test_bins_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ScoreHistogram(*arguments)
