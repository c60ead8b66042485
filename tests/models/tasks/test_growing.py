import numpy as np
import pytest
import torch

from delira_nca.errors import ShapeError
from delira_nca.models import GrowingNCAModel
from delira_nca.training import PyTorchNetworkTrainer


def test_the_seed_is_one_living_cell():
    seed = GrowingNCAModel(num_hidden_channels=12).make_seed(10, 13)
    assert seed.shape == (1, 16, 10, 13)
    assert seed.sum().item() == 13
    assert seed[0, 3:, 5, 6].tolist() == [1.0] * 13


def test_it_grows_pictures_that_are_those_of_the_prediction(randomise):
    model = randomise(GrowingNCAModel(num_hidden_channels=4), scale=0.3)
    seed = model.make_seed(9, 11)
    frames = model.grow(seed, steps=4, rng_seed=2)
    last = model.predict(seed, 4, seed=2).image_channels[0].clip(0, 1).permute(1, 2, 0)
    assert len(frames) == 4
    assert np.array_equal(frames[-1], last.numpy())
    assert np.array_equal(model.grow(seed[0], steps=4, rng_seed=2)[-1], frames[-1])
    assert min(f.min() for f in frames) >= 0
    assert max(f.max() for f in frames) <= 1


def test_a_label_without_alpha_is_refused():
    model = GrowingNCAModel(num_hidden_channels=4)
    with pytest.raises(ShapeError, match=r"prediction \(1, 4, 8, 8\) and label \(1, 3, 8, 8\) differ in shape"):
        model.loss(model.predict(model.make_seed(8, 8), 1), torch.zeros(1, 3, 8, 8))


def target(size):
    """A disc of four colours with a bite taken out of it, premultiplied, with a soft edge."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(x, y)
    alpha = np.clip(size * 0.4 - radius, 0, 1) * np.clip(np.hypot(x - size * 0.4, y) - size * 0.2, 0, 1)
    red, green = np.where(x > 0, 0.9, 0.2), np.where(y > 0, 0.7, 0.1)
    return np.stack([red * alpha, green * alpha, 0.3 * alpha, alpha]).astype(np.float32)


@pytest.mark.processor
def test_a_picture_grows_in_80_iterations():
    torch.manual_seed(0)
    model = GrowingNCAModel(num_hidden_channels=12, use_alive_mask=True, training_timesteps=(10, 16))
    batch = {"data": model.make_seed(12, 12).repeat(4, 1, 1, 1).numpy(), "label": np.stack([target(12)] * 4)}
    trainer = PyTorchNetworkTrainer(model, None, optimizer_params={"lr": 4e-3})
    trainer.train(80, [batch])
    losses = [entry["growing"] for entry in trainer.history]
    assert losses[0] > 0.12
    assert np.mean(losses[-10:]) < 0.07
