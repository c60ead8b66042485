import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.evaluation import ARTEFACTS, add_artefact

SHAPES = [(40,), (24, 32), (10, 12, 14)]


def images(*shape, seed=0):
    return torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_an_artefact_grows_with_its_strength_from_nothing(artefact, shape):
    image = images(*shape)
    before = image.clone()
    assert torch.equal(add_artefact(image, artefact, 0.0), image)
    found = [add_artefact(image, artefact, strength, seed=3) for strength in (0.2, 0.6, 1.0)]
    changes = [float((one - image).square().mean()) for one in found]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert {one.shape for one in found} == {image.shape}
    assert {one.dtype for one in found} == {torch.float32}
    assert torch.equal(image, before)


@pytest.mark.parametrize("artefact", ["noise", "bias", "ghosts", "spike"])
def test_draws_are_of_the_seed_and_of_the_sample(artefact):
    image = images(24, 32)[:1].expand(12, 2, 24, 32)
    once, again, other = (add_artefact(image, artefact, 0.5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert any(not torch.equal(once[0], sample) for sample in once[1:])
    assert torch.equal(add_artefact(image[:3], artefact, 0.5, seed=1), once[:3])


def test_noise_has_the_deviation_of_its_strength_and_a_spike_is_one_frequency():
    noise = add_artefact(torch.zeros(1, 1, 200, 200), "noise", 0.5)
    assert abs(float(noise.std()) - 0.2) < 0.005
    assert abs(float(noise.mean())) < 0.005
    wave = add_artefact(torch.zeros(1, 1, 512), "spike", 1.0)[0, 0]
    assert abs(float(wave.abs().max()) - 0.5) < 0.01
    assert 5 <= int(torch.fft.rfft(wave).abs().argmax()) <= 13


def test_blur_is_that_of_scipy():
    image = images(24, 32)
    found = add_artefact(image, "blur", 0.5)
    for sample, blurred in zip(image.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = ndimage.gaussian_filter(sample.double().numpy(), 0.04 * 24, mode="nearest")
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_a_bias_field_is_a_factor_along_a_direction():
    field = add_artefact(torch.ones(1, 1, 21, 21), "bias", 1.0)[0, 0].log()
    slopes = [float((field[-1, 0] - field[0, 0]) / 2), float((field[0, -1] - field[0, 0]) / 2)]
    assert math.isclose(math.hypot(*slopes), 2.0, rel_tol=1e-4)
    assert abs(float(field[10, 10])) < 1e-6


def test_ghosts_are_the_image_a_third_further():
    image = torch.zeros(1, 1, 30)
    image[..., 4] = 1.0
    ghost = add_artefact(image, "ghosts", 1.0)[0, 0]
    assert ghost.nonzero().flatten().tolist() == [4, 14]
    torch.testing.assert_close(ghost[[4, 14]], torch.full((2,), 1 / 1.5))


def test_bad_input_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown artefact 'nosie'.*Did you mean 'noise'"):
        add_artefact(images(8, 8), "nosie", 1.0)
    for strength in (-0.1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="a strength must be a number of at least 0"):
            add_artefact(images(8, 8), "noise", strength)
    with pytest.raises(ShapeError, match=r"with one to three axes, not \(4, 4\)"):
        add_artefact(torch.zeros(4, 4), "noise", 1.0)
