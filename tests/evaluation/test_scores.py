import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from delira_nca.errors import ConfigError
from delira_nca.evaluation import binary_nll, find_nearest, rescale_fudge


def test_nearest_element_is_the_first_of_several():
    assert find_nearest(torch.tensor([3.0, 1.0, 2.0]), 1.5) == 1.0
    with pytest.raises(ConfigError, match="empty"):
        find_nearest([], 1.0)


def test_rescaling_leaves_what_it_is_given():
    given_scores = np.array([0.0, 0.15, 0.5, 0.85, 1.0])
    kept = given_scores.copy()
    assert np.allclose(rescale_fudge(given_scores), [0, 0, 0.5, 1, 1])
    assert np.array_equal(given_scores, kept)
    with pytest.raises(ConfigError, match="below 0.5"):
        rescale_fudge(given_scores, 0.5)


def test_likelihood_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 50), rng.random(50)
    assert binary_nll(scores, labels) == pytest.approx(reference.log_loss(labels, scores))
    assert binary_nll(np.append(scores, 0.5), np.append(labels, -1)) == binary_nll(scores, labels)


def test_likelihood_of_certainty():
    assert binary_nll([1.0, 0.0], [1, 0]) == 0.0
    assert math.copysign(1.0, binary_nll([1.0, 0.0], [1, 0])) == 1.0
    assert binary_nll([1.0, 0.0], [0, 0]) == math.inf
    with pytest.raises(ConfigError, match="between 0 and 1"):
        binary_nll([1.5], [1])
    with pytest.raises(ConfigError, match="no label counts"):
        binary_nll([0.5], [-1])
