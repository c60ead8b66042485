"""Batches in groups of another size, and what is predicted for them."""

import numpy as np
import pytest

from delira_nca.errors import ConfigError
from delira_nca.training.set_values import batch_length, predict_batches, regroup

BATCHES = [
    {"data": np.arange(3), "label": np.arange(3) * 10},
    {"data": np.arange(3, 4), "label": np.arange(3, 4) * 10},
    {"data": np.arange(4, 11), "label": np.arange(4, 11) * 10},
]


@pytest.mark.parametrize("size", range(1, 13))
def test_regrouping_loses_and_reorders_nothing(size):
    groups = list(regroup(BATCHES, size))
    assert np.concatenate([g["data"] for g in groups]).tolist() == list(range(11))
    assert np.concatenate([g["label"] for g in groups]).tolist() == [10 * n for n in range(11)]
    assert [len(g["data"]) for g in groups[:-1]] == [size] * (len(groups) - 1)
    assert 1 <= len(groups[-1]["data"]) <= size


def test_regrouping_nothing_gives_nothing():
    assert list(regroup([], 3)) == []


@pytest.mark.parametrize(
    ("batch", "length"), [({"data": np.zeros((5, 2))}, 5), ({"n": 3, "x": [1, 2]}, 2), ({"n": 3}, 1), ({}, 1)]
)
def test_the_length_of_a_batch(batch, length):
    assert batch_length(batch) == length


def _evaluate(batch, number):
    return {"mean": batch["data"].mean(), "number": number}, batch["data"][:, None] * 2.0


@pytest.mark.parametrize("batch_size", [None, 1, 2, 4, 100])
def test_means_are_over_samples_however_they_are_grouped(batch_size):
    predictions, labels, means = predict_batches(_evaluate, BATCHES, batch_size)
    assert predictions.tolist() == [[2.0 * n] for n in range(11)]
    assert np.concatenate(labels).tolist() == [10 * n for n in range(11)]
    assert means["mean"] == pytest.approx(5.0, rel=1e-12)


def test_labels_stay_in_their_batches():
    assert [len(label) for label in predict_batches(_evaluate, BATCHES)[1]] == [3, 1, 7]
    assert [len(label) for label in predict_batches(_evaluate, BATCHES, 4)[1]] == [4, 4, 3]


def test_predictions_of_several_shapes_are_a_list():
    predictions, labels, _ = predict_batches(
        lambda batch, number: ({}, batch["data"]), [{"data": np.zeros((2, 3))}, {"data": np.zeros((1, 4))}]
    )
    assert [p.shape for p in predictions] == [(2, 3), (1, 4)]
    assert labels == []


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(batch_size):
    with pytest.raises(ConfigError, match="batch_size"):
        predict_batches(_evaluate, BATCHES, batch_size)
