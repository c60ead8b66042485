import math

import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.evaluation import deviation, entropy, mutual_information, nqm, pairwise_dice
from delira_nca.evaluation.spread import disagreement


def runs(*cells):
    """(N, 1, 1, cells) predictions."""
    return torch.tensor(cells).view(len(cells), 1, 1, -1)


def test_quality_metric_is_the_sum_of_deviations_over_the_sum_of_means(noise):
    predictions = runs([0.2, 0.9], [0.6, 0.9])  # deviations 0.2 and 0, means 0.4 and 0.9
    assert nqm(predictions).item() == pytest.approx(0.2 / 1.3)
    assert nqm(torch.zeros(3, 1, 1, 4)).item() == 0.0
    without_cells = torch.tensor([[0.2, 0.8], [0.6, 0.4]]).view(2, 1, 2)
    assert nqm(without_cells).tolist() == [[pytest.approx(0.5), pytest.approx(1 / 3)]]
    with pytest.raises(ConfigError, match="a prediction is below 0"):
        nqm(runs([-1.0], [1.0]))
    logits, drawn = 3 * noise(1, 2, 1, 12, 12), noise(10, 2, 1, 12, 12, seed=1)
    scores = torch.stack([nqm((logits + std * drawn).sigmoid()) for std in (0.0, 0.1, 0.3, 1.0, 3.0)])
    assert (scores.diff(dim=0) > 0).all(), "it rises with noise"


def test_equal_runs_have_no_spread_at_all(noise):
    one = noise(1, 2, 3, 5, 5).sigmoid()
    predictions = one.expand(7, -1, -1, -1, -1)
    assert torch.equal(nqm(predictions), torch.zeros(2, 3))
    assert torch.equal(deviation(predictions), torch.zeros(2, 3, 5, 5))
    assert torch.equal(pairwise_dice(predictions), torch.ones(2, 3))
    assert mutual_information(predictions).max() < 1e-6


def test_image_scores_do_not_depend_on_the_other_images(noise):
    predictions = noise(4, 3, 2, 6, 6).sigmoid()
    for function in (nqm, pairwise_dice):
        assert torch.allclose(function(predictions)[1:2], function(predictions[:, 1:2]))


def test_entropy_of_several_classes_is_that_of_their_mean():
    predictions = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]).view(2, 1, 3, 1)
    mean = [0.25, 0.5, 0.25]
    expected = -sum(p * math.log(p) for p in mean)
    assert entropy(predictions, exclusive=True).item() == pytest.approx(expected)
    assert mutual_information(predictions, exclusive=True).item() == pytest.approx(expected - math.log(2))


def test_two_exclusive_classes_hold_the_doubt_of_one_probability(noise):
    p = noise(5, 2, 1, 4).sigmoid()
    both = torch.cat([1 - p, p], 2)
    for function in (entropy, mutual_information):
        assert torch.allclose(function(both, exclusive=True), function(p), atol=1e-6)


def test_what_is_certain_but_unequal_is_all_information():
    predictions = runs([0.0], [1.0], [1.0])
    assert mutual_information(predictions).item() == pytest.approx(entropy(predictions).item())
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        entropy(runs([0.5], [1.5]))


def test_dice_and_disagreement_are_averaged_over_all_pairs():
    predictions = runs([0.9, 0.9, 0.1], [0.9, 0.1, 0.1], [0.1, 0.1, 0.1])
    assert pairwise_dice(predictions).item() == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert pairwise_dice(runs([0.1, 0.2], [0.3, 0.4])).item() == 1.0
    without_cells = torch.tensor([[0.2, 0.8], [0.6, 0.4]]).view(2, 1, 2)
    assert pairwise_dice(without_cells, exclusive=True).tolist() == [[0.0, 0.0]]
    predictions = runs([0.9, 0.9], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1])
    assert disagreement(predictions).flatten().tolist() == [0.0, 0.5]  # 3 of 6 pairs


def test_dice_of_classes_is_that_of_the_likeliest():
    predictions = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]).view(2, 1, 3, 1)
    assert pairwise_dice(predictions, exclusive=True).tolist() == [[1.0, 1.0, 1.0]]
    assert pairwise_dice(predictions, exclusive=False).tolist() == [[1.0, 1.0, 1.0]]
    flipped = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2]]).view(2, 1, 3, 1)
    assert pairwise_dice(flipped, exclusive=True).tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("function", [nqm, deviation, pairwise_dice, disagreement])
def test_one_run_has_no_spread(function):
    with pytest.raises(ConfigError, match="at least 2 predictions, not of 1"):
        function(torch.zeros(1, 1, 1, 4))
    with pytest.raises(ShapeError, match="predictions are"):
        function(torch.zeros(2, 4))


def test_a_prediction_that_is_no_number_is_never_certain(noise):
    predictions = noise(4, 3, 2, 5, 5).sigmoid()
    whole = {f: f(predictions) for f in (nqm, pairwise_dice, disagreement)}
    predictions[2, 1, 0, 3, 4] = torch.nan
    for function in (nqm, pairwise_dice):
        found = function(predictions)
        assert found[1, 0].isnan()
        found[1, 0] = whole[function][1, 0]
        assert torch.equal(found, whole[function])  # of other images and channels nothing changes
    assert disagreement(predictions).isnan().nonzero().tolist() == [[1, 0, 3, 4]]
    assert pairwise_dice(predictions, exclusive=True).isnan().nonzero().tolist() == [[1, 0], [1, 1]]
    nothing = torch.full((3, 1, 1, 2), torch.nan)
    assert all(function(nothing).isnan().all() for function in whole)
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        entropy(predictions)
