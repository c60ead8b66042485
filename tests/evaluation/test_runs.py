import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.evaluation import stochastic_runs
from delira_nca.models import (
    AbstractPyTorchNetwork,
    BasicNCAModel,
    ClassificationNCAModel,
    DepthNCAModel,
    GoalEmbedding,
    Model,
)
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.rollout.job import BatchPart, at_part


def automaton(randomise, **changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    return randomise(BasicNCAModel(**{**arguments, "inference_timesteps": 4, **changes}))


@pytest.mark.parametrize("pad_noise", [False, True])
def test_neither_memory_nor_parts_of_a_batch_change_a_run(randomise, noise, pad_noise):
    model, image = automaton(randomise, pad_noise=pad_noise), noise(4, 1, 8, 8)
    whole = stochastic_runs(model, image, 4).predictions
    for budget in (1, 200_000):
        found = stochastic_runs(model, image, 4, memory_budget=budget).predictions
        assert torch.allclose(found, whole, atol=1e-6), budget
    with at_part(BatchPart(first=1, size=2, total=4)):
        part = stochastic_runs(model, image[1:3], 4).predictions
    assert torch.allclose(part, whole[:, 1:3], atol=1e-6)


def test_runs_are_predictions_of_their_own_sample_numbers_and_leave_everything_as_it_was(randomise, noise):
    model, image = automaton(randomise), noise(2, 1, 8, 8)
    expected = model.predict(image.repeat_interleave(3, 0), seed=1).pred.sigmoid()
    model.train()
    kept, state = image.clone(), torch.get_rng_state()
    (first, exclusive), again, other = (stochastic_runs(model, image, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[2, 1], expected[5])
    assert not exclusive
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, again.predictions)
    assert not torch.equal(first, other.predictions)
    assert torch.equal(image, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not first.requires_grad


def test_several_classes_exclude_each_other(randomise, noise):
    model = automaton(randomise, num_output_channels=3)
    found, exclusive = stochastic_runs(model, noise(2, 1, 8, 8), 2)
    assert exclusive
    assert torch.allclose(found.sum(2), torch.ones(2, 2, 8, 8))
    single = stochastic_runs(model, noise(2, 1, 8, 8), 2, activation="sigmoid")
    assert not single.exclusive
    assert torch.equal(single.predictions.flatten() > 0, torch.ones(2 * 2 * 3 * 64, dtype=torch.bool))


def test_pictures_and_depths_are_no_logits_and_a_classification_has_no_cells(randomise, noise):
    model = automaton(randomise, num_output_channels=0, immutable_image_channels=False)
    shown = stochastic_runs(model, noise(1, 1, 6, 6), 2, activation="none").predictions
    assert shown.min() < 0
    squared = stochastic_runs(model, noise(1, 1, 6, 6), 2, activation=torch.square).predictions
    assert torch.equal(squared, shown.square())
    model = DepthNCAModel(num_image_channels=1, inference_timesteps=2)
    assert stochastic_runs(model, noise(1, 1, 8, 8), 2, activation="none").predictions.shape == (2, 1, 1, 8, 8)
    model = ClassificationNCAModel(num_image_channels=1, num_hidden_channels=4, num_classes=3, inference_timesteps=2)
    found, exclusive = stochastic_runs(model, noise(2, 1, 8, 8), 3)
    assert exclusive
    assert found.shape == (3, 2, 3)


def test_a_goal_goes_along_with_its_image(randomise, noise):
    model = automaton(randomise, conditioning=GoalEmbedding(2))
    batch = {"data": noise(1, 1, 8, 8).expand(2, -1, -1, -1), "goal": torch.tensor([0, 1])}
    found = stochastic_runs(model, batch, 3, steps=5).predictions
    expected = model.predict(batch["data"].repeat_interleave(3, 0), 5, goal=torch.tensor([0, 0, 0, 1, 1, 1]))
    assert torch.allclose(found[1, 1], expected.pred.sigmoid()[4], atol=1e-6)


def test_a_pyramid_is_run_like_any_automaton(randomise, noise):
    pyramid = PyramidNCA(automaton(randomise), scales=(2, 1), steps=(2, 3))
    image = noise(2, 1, 8, 8)
    found = stochastic_runs(pyramid, image, 3).predictions
    expected = pyramid.predict(image.repeat_interleave(3, 0)).pred.sigmoid()
    assert torch.equal(found[1, 1], expected[4])
    assert torch.allclose(stochastic_runs(pyramid, image, 3, memory_budget=1).predictions, found, atol=1e-6)
    assert not torch.equal(stochastic_runs(pyramid, image, 3, steps=(1, 1)).predictions, found)


def test_a_head_is_asked_for_its_logits(randomise, noise):
    model = Model(automaton(randomise), randomise(nn.Conv2d(5, 2, 1)), eval_activation=nn.Softmax(1))
    found, exclusive = stochastic_runs(model, noise(1, 1, 8, 8), 2)
    assert exclusive
    model.eval()
    expected, _ = model.forward_batch({"data": noise(1, 1, 8, 8).repeat_interleave(2, 0)}, seed=0)
    assert torch.allclose(found[1], expected.head_prediction[1:], atol=1e-6)


class Guess(AbstractPyTorchNetwork):
    """Draws from the global generator, and knows nothing of sample numbers."""

    def forward(self, x):
        return x + torch.randn(())


def test_a_network_without_cells_is_run_with_a_seed_for_each_run(noise):
    image, state = noise(2, 1, 4), torch.get_rng_state()
    found = stochastic_runs(Guess(), image, 3, seed=1, activation="none").predictions - image
    assert found.std(0).min() > 0
    assert torch.allclose(found[:, 0, 0, 0], found[:, 1, 0, 3], atol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(stochastic_runs(Guess(), image, 3, seed=1, activation="none").predictions - image, found)


def test_what_cannot_be_run_is_refused(randomise, noise):
    model, image = automaton(randomise), noise(1, 1, 8, 8)
    picture = automaton(randomise, num_output_channels=0, immutable_image_channels=False)
    depth = DepthNCAModel(num_image_channels=1, inference_timesteps=2)
    for network, data, runs, options, error, message in (
        (model, image, 0, {}, ConfigError, "runs must be a whole number of at least 1, not 0"),
        (model, image, 2, {"activation": "sofmax"}, UnknownNameError, "Did you mean 'softmax'"),
        (model, {"image": image}, 2, {}, ConfigError, "'data'"),
        (picture, image, 2, {}, ConfigError, "activation='none'"),
        (depth, image, 2, {}, ConfigError, "this DepthNCAModel predicts a picture or a depth"),
        (Guess(), image, 2, {"steps": 3}, ConfigError, "decides itself how many steps"),
        (nn.Conv2d(1, 1, 1), image, 2, {}, ConfigError, "neither predict"),
    ):
        with pytest.raises(error, match=message):
            stochastic_runs(network, data, runs, **options)
