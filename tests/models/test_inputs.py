import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import (
    BasicNCAModel,
    build_model,
    intepret_range_parameter,
    interpret_range_parameter,
    make_seed,
    pad_input,
    tiled_predict,
    unwrap,
    zero_seed,
)


@pytest.fixture
def model():
    return BasicNCAModel(num_image_channels=3, num_hidden_channels=40, num_output_channels=2)


def test_hidden_channels_start_as_noise_of_the_generator_and_output_channels_as_zero(model, noise):
    image = noise(4, 3, 32, 32)
    state = pad_input(image, model)
    assert state.shape == (4, 45, 32, 32)
    assert torch.equal(state[:, :3], image)
    assert (state[:, 43:] == 0).all()
    hidden = state[:, 3:43].double()
    count = hidden.numel()
    assert abs(hidden.mean() - 0.5) < 4 * 0.225 / count**0.5
    assert abs(hidden.std() - 0.225) < 4 * 0.225 / (2 * count) ** 0.5
    other = pad_input(image, model, mean=-2.0, std=0.0)
    assert (other[:, 3:43] == -2.0).all()
    image = noise(1, 3, 8, 8)
    before = torch.get_rng_state()
    first, second = (pad_input(image, model, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, pad_input(image, model, generator=torch.Generator().manual_seed(6)))
    assert torch.equal(torch.get_rng_state(), before)
    state = pad_input(noise(1, 3, 8), model, noise=False)
    assert state.shape == (1, 45, 8)
    assert (state[:, 3:] == 0).all()


def test_a_whole_state_is_left_alone_and_the_type_of_an_image_stays(model, noise):
    state = noise(2, 45, 8, 8)
    assert pad_input(state, model) is state
    assert pad_input(noise(1, 3, 8, 8).double(), model).dtype == torch.float64


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 46, 8, 8), (3, 8)])
def test_other_numbers_of_channels_are_refused(model, shape):
    with pytest.raises(ShapeError, match=r"\(B, 3, \*spatial\) image or \(B, 45, \*spatial\) state"):
        pad_input(torch.zeros(shape), model)


def test_a_range_is_drawn_uniformly_below_its_upper_end_and_goes_on_from_the_state_of_its_generator():
    rng = np.random.default_rng(7)
    drawn = [interpret_range_parameter((64, 96), rng) for _ in range(10_000)]
    assert (min(drawn), max(drawn)) == (64, 95)
    counts = np.bincount(drawn, minlength=96)[64:]
    expected = 10_000 / 32
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 61.1  # 31 degrees of freedom, exceeded once in a thousand
    again = np.random.default_rng(7)
    assert drawn == [interpret_range_parameter((64, 96), again) for _ in range(10_000)]
    rng = np.random.default_rng(1)
    [interpret_range_parameter((0, 1000), rng) for _ in range(5)]
    state = rng.bit_generator.state
    rest = [interpret_range_parameter((0, 1000), rng) for _ in range(5)]
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    assert [interpret_range_parameter((0, 1000), rng) for _ in range(5)] == rest


def test_numbers_are_themselves_and_global_generators_stay():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    assert interpret_range_parameter(64) == 64
    assert type(interpret_range_parameter(np.int64(5))) is int
    assert interpret_range_parameter([3, 4]) == 3
    assert interpret_range_parameter((0, 5)) in range(5)
    assert (np.random.get_state()[1] == before).all()
    assert intepret_range_parameter is interpret_range_parameter


@pytest.mark.parametrize("steps", [-1, (5, 5), (96, 64), (-3, 4)])
def test_numbers_and_ranges_that_cannot_be_are_refused(steps, refuses):
    refuses(ConfigError, "steps (is|must be)", interpret_range_parameter, steps)


@pytest.mark.parametrize("steps", ["64", 6.5, (1, 2, 3), (1.0, 2.0), None, True])
def test_what_is_no_number_of_steps_is_a_type_error(steps, refuses):
    refuses(TypeError, "whole number or a pair", interpret_range_parameter, steps)


@pytest.mark.parametrize(("shape", "middle"), [((7,), (3,)), ((8, 9), (4, 4)), ((4, 5, 6), (2, 2, 3))])
def test_a_seed_is_one_living_cell_in_the_middle(shape, middle):
    seed = make_seed(6, shape)
    assert seed.shape == (6, *shape)
    assert seed.sum() == 3
    assert (seed[(slice(3, None), *middle)] == 1).all()
    assert make_seed(6, shape, first_channel=0).sum() == 6


@pytest.mark.parametrize("first_channel", [-1, 6])
def test_a_seed_has_a_channel_to_live_in(first_channel, refuses):
    refuses(ConfigError, f"cannot start at channel {first_channel}", make_seed, 6, (5, 5), first_channel=first_channel)


def test_unwrap_gives_back_what_is_there(refuses):
    for value in (0, "", False, []):
        assert unwrap(value) is value
    refuses(RuntimeError, "given None", unwrap, None)


@pytest.mark.parametrize("predict", [lambda m, x: m.predict(x), lambda m, x: tiled_predict(m, x, 8)])
def test_an_array_is_told_how_it_becomes_a_tensor(predict, refuses):
    model = BasicNCAModel(num_image_channels=1, num_output_channels=1, inference_timesteps=1)
    image = np.zeros((1, 1, 8, 8), np.float32)
    refuses(ConfigError, r"an image is a torch\.Tensor, not ndarray: torch\.as_tensor\(\)", predict, model, image)
    refuses(ConfigError, "not ndarray", build_model("med_nca").predict, image)
    assert predict(model, torch.as_tensor(image)) is not None


def test_the_seed_of_a_texture_is_zero_and_has_the_shape_of_other_seeds():
    seed = zero_seed(np.int64(12), [5, 6])
    assert seed.shape == make_seed(12, [5, 6]).shape
    assert not seed.any()
