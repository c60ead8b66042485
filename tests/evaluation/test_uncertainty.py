import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.evaluation import MCMC, NQM, Disagreement, Entropy, MutualInformation, nqm, pairwise_dice
from delira_nca.models import BasicNCAModel
from delira_nca.models.pyramid import PyramidNCA

OF_RUNS = [NQM, Entropy, MutualInformation, Disagreement]


def automaton(randomise, **changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    return randomise(BasicNCAModel(**{**arguments, "inference_timesteps": 4, **changes}), 0.5)


@pytest.mark.parametrize("estimator", OF_RUNS)
@pytest.mark.parametrize("classes", [1, 3])
def test_estimates_have_a_cell_and_an_image_each(randomise, noise, estimator, classes):
    model = automaton(randomise, num_output_channels=classes)
    heatmap, predictions, score = estimator(model, 4).estimate(noise(2, 1, 8, 8))
    shown = 1 if estimator in (Entropy, MutualInformation) else classes
    assert heatmap.shape == (2, shown, 8, 8)
    assert predictions.shape == (4, 2, classes, 8, 8)
    assert score.shape == (2, shown)
    assert score.min() > 0


def test_doubt_rises_with_the_noise_of_the_updates_and_a_deterministic_model_is_in_no_doubt(randomise, noise):
    models = [automaton(randomise, fire_rate=1.0, update_noise=std) for std in (0.0, 0.05, 0.2, 0.8)]
    scores = torch.stack([NQM(model, 6).estimate(noise(2, 1, 8, 8)).score for model in models])
    assert (scores.diff(dim=0) > 0).all()
    assert torch.equal(scores[0], torch.zeros(2, 1))
    for estimator in (NQM, MutualInformation, Disagreement):
        heatmap, _, score = estimator(models[0], 4)(noise(2, 1, 8, 8))
        assert max(heatmap.abs().max(), score.abs().max()) < 1e-6, estimator


def test_scores_are_the_metrics_of_the_predictions(randomise, noise):
    model = automaton(randomise)
    found = NQM(model, 5, seed=3).estimate(noise(2, 1, 8, 8))
    assert torch.equal(found.score, nqm(found.predictions))
    assert torch.allclose(found.heatmap, found.predictions.std(0, correction=0), atol=1e-6)
    agreed = Disagreement(model, 5, seed=3).estimate(noise(2, 1, 8, 8))
    assert torch.equal(agreed.score, 1 - pairwise_dice(agreed.predictions))


@pytest.mark.parametrize("estimator", [*OF_RUNS, MCMC])
def test_reductions_reduce_the_heatmap_and_never_the_image(randomise, noise, estimator):
    made, image = estimator(automaton(randomise), 4), noise(2, 1, 8, 8)
    kept = image.clone()
    low, mean, high = (made.estimate(image, reduce) for reduce in ("min", "mean", "max"))
    assert torch.equal(image, kept)
    assert torch.equal(low.heatmap, mean.heatmap)
    assert torch.equal(low.predictions, high.predictions)
    assert (low.score < high.score).all()
    divisor = mean.predictions.mean(0).flatten(2).mean(2) if estimator is NQM else 1.0
    assert torch.allclose(high.score * divisor, mean.heatmap.flatten(2).amax(2))
    assert torch.allclose(low.score * divisor, mean.heatmap.flatten(2).amin(2))
    if estimator is not Disagreement:
        assert torch.allclose(mean.score * divisor, mean.heatmap.flatten(2).mean(2))
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        made.estimate(image, "men")


def test_normalizing_is_for_the_heatmap_only(randomise, noise):
    model, image = automaton(randomise), noise(2, 1, 8, 8)
    plain, shown = NQM(model, 4).estimate(image), NQM(model, 4, normalize=True).estimate(image)
    assert torch.equal(shown.heatmap.flatten(1).amax(1), torch.ones(2))
    assert torch.equal(shown.score, plain.score)
    still = NQM(automaton(randomise, fire_rate=1.0), 4, normalize=True).estimate(image)
    assert torch.equal(still.heatmap, torch.zeros(2, 1, 8, 8))


def test_last_steps_are_those_of_one_roll_out(randomise, noise):
    model, image = automaton(randomise), noise(2, 1, 8, 8)
    found = MCMC(model, 3, steps=6, seed=2).estimate(image)
    recorded = [p.pred.sigmoid() for p in model.record(image, 6, seed=2)][-3:]
    assert torch.equal(found.predictions, torch.stack(recorded))
    assert torch.allclose(found.heatmap, found.predictions.std(0, correction=0), atol=1e-6)


def test_last_steps_of_a_pyramid_are_on_its_finest_grid(randomise, noise):
    pyramid = PyramidNCA(automaton(randomise), scales=(2, 1), steps=(4, 3))
    image = noise(2, 1, 8, 8)
    found = MCMC(pyramid, 3).estimate(image)
    assert torch.equal(found.predictions[-1], pyramid.predict(image).pred.sigmoid())
    for estimator, message in (
        (MCMC(pyramid, 4), "3 steps on the finest grid are fewer than 4"),
        (MCMC(pyramid, 3, steps=5), "one number for each level, not 5"),
        (MCMC(automaton(randomise)), "4 steps on the finest grid are fewer than 10"),
    ):
        with pytest.raises(ConfigError, match=message):
            estimator.estimate(image)


def test_one_prediction_has_no_spread_and_a_model_that_records_nothing_no_last_steps(randomise):
    for estimator, name in ((NQM, "N"), (MCMC, "N_last")):
        with pytest.raises(ConfigError, match=f"{name} must be a whole number of at least 2, not 1"):
            estimator(automaton(randomise), 1)
    with pytest.raises(ConfigError, match=r"Linear has no record"):
        MCMC(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("estimator", [NQM, MCMC])
@pytest.mark.parametrize("normalize", [False, True])
def test_an_automaton_that_gives_no_numbers_is_not_sure_of_itself(randomise, noise, estimator, normalize):
    model = automaton(randomise)
    with torch.no_grad():
        model.rule.last.weight.fill_(torch.nan)
    found = estimator(model, 3, normalize=normalize).estimate(noise(2, 1, 8, 8))
    assert found.score.isnan().all()
    assert found.heatmap.isnan().any()
