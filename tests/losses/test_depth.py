import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import abs_rel, direction, rmse, within_ratio


def test_scores_of_depth_are_their_formulas(noise):
    pred, label = noise(3, 1, 5, 6).exp(), noise(3, 1, 5, 6, seed=1).exp()
    p, g = pred.double().numpy(), label.double().numpy()
    assert abs_rel(pred, label).item() == pytest.approx(np.mean(np.abs(p - g) / g))
    assert rmse(pred, label).item() == pytest.approx(np.sqrt(np.mean((p - g) ** 2)))
    for ratio in (1.25, 1.25**2, 1.25**3):
        expected = np.mean(np.maximum(p / g, g / p) < ratio)
        assert within_ratio(pred, label, ratio=ratio).item() == pytest.approx(expected)
    assert within_ratio(pred, label) < within_ratio(pred, label, ratio=3.0)


def test_a_perfect_depth_has_perfect_scores_and_each_says_which_way_is_better(noise):
    label = noise(2, 1, 4, 4).exp()
    assert (abs_rel(label, label), rmse(label, label), within_ratio(label, label)) == (0, 0, 1)
    assert within_ratio(-label, label) == 0
    assert within_ratio(torch.zeros_like(label), label) == 0
    assert [direction(score) for score in (abs_rel, rmse, within_ratio)] == ["lowest", "lowest", "highest"]


def test_bad_arguments_are_refused(refuses):
    ones = torch.ones(2, 1, 3, 3)
    for score in (abs_rel, rmse, within_ratio):
        refuses(ShapeError, "differ in shape", score, ones, ones[:, 0])
    for score in (abs_rel, within_ratio):
        refuses(ConfigError, "a label to divide by is above 0, and this one goes down to 0.0", score, ones, ones * 0)
    refuses(ConfigError, "ratio must be a number above 1, not 1", within_ratio, ones, ones, ratio=1)
