import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.io import load_network, save_network
from delira_nca.losses import mse
from delira_nca.models import (
    AttentionRule,
    BasicNCAModel,
    GroupedPerception,
    IsotropicPerception,
    LearnedFilters,
    Model,
    Perception,
    PyramidNCA,
    SteerablePerception,
)
from delira_nca.rollout import rollout, using_backend
from delira_nca.training import PyTorchNetworkTrainer

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def automaton(randomise, **changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    model = BasicNCAModel(**{**arguments, "training_timesteps": 3, "inference_timesteps": 3, **changes})
    return randomise(model)


def pyramid(randomise):
    return PyramidNCA(automaton(randomise), [2, 1], [2, 2])


def with_head(randomise):
    return Model(automaton(randomise), randomise(nn.Conv2d(5, 2, 1))).eval()


def pred_of(network, image):
    if isinstance(network, Model):
        return network(image, steps=3, seed=0)
    return network.predict(image).pred


@pytest.mark.parametrize("make", [automaton, pyramid, with_head])
@pytest.mark.parametrize("weights", DTYPES, ids=str)
@pytest.mark.parametrize("given", DTYPES, ids=str)
def test_narrower_images_are_computed_in_the_dtype_of_the_weights_and_others_refused(
    make, weights, given, randomise, refuses
):
    image = torch.rand(2, 1, 6, 6).to(given)
    network = make(randomise).to(weights)
    if torch.promote_types(given, weights) != weights:
        refuses(ConfigError, f"{given} does not go with weights of {weights}: convert", pred_of, network, image)
        return
    found, expected = pred_of(network, image), pred_of(make(randomise).double(), image.double())
    assert found.dtype == weights
    tolerance = 100 * max(torch.finfo(weights).eps, 1e-7)
    assert (found.double() - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("make", [automaton, pyramid])
def test_images_of_whole_numbers_are_refused(make, randomise):
    with pytest.raises(ConfigError, match=r"is of floats, not torch\.uint8"):
        make(randomise).predict(torch.zeros(1, 1, 6, 6, dtype=torch.uint8))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("given", [torch.float16, torch.float64, torch.int64], ids=str)
def test_a_roll_out_of_another_dtype_than_the_weights_is_refused(backend, given, randomise):
    with using_backend(backend), pytest.raises(ConfigError, match="(does not go with weights of|is of floats)"):
        rollout(torch.ones(1, 5, 6, 6, dtype=given), automaton(randomise), 2)


def test_a_double_network_is_trained_and_a_half_one_is_refused(randomise):
    image = np.random.default_rng(0).random((2, 1, 6, 6))
    batch = {"data": image, "label": image}

    def train(network):
        trainer = PyTorchNetworkTrainer(network, None, {"mse": mse}, torch.optim.SGD, {"lr": 0.1})
        return trainer.train(1, [batch]).state_dict()

    single, double = train(automaton(randomise)), train(automaton(randomise).double())
    for name, value in double.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value.float(), single[name], rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"float32 does not go with weights of torch\.float16.*mixed_precision=True"):
        train(automaton(randomise).half())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_network_is_loaded_with_the_bits_that_were_saved(dtype, randomise, tmp_path):
    network = automaton(randomise).to(dtype)
    save_network(network, tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt").state_dict()
    for name, value in network.state_dict().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_a_prediction_in_bfloat16_becomes_an_array_of_the_same_numbers(randomise):
    found = automaton(randomise).bfloat16().predict(torch.rand(1, 1, 6, 6).bfloat16())
    assert np.array_equal(found.output_array, found.output_image.float().numpy())


# Grids that are too small for their padding ---------------------------------------------------------------------------

PERCEPTIONS = {
    "fixed": lambda padding: {"perception": Perception("identity", "sobel", padding=padding)},
    "learned": lambda padding: {"perception": Perception("identity", LearnedFilters(1), padding=padding)},
    "grouped": lambda padding: {"perception": GroupedPerception(padding=padding)},
    "isotropic": lambda padding: {"perception": IsotropicPerception(padding=padding)},
    "steerable": lambda padding: {"perception": SteerablePerception(padding=padding)},
    "attention": lambda padding: {
        "perception": Perception("identity"),
        "rule": AttentionRule(8, num_heads=2, padding=padding),
    },
}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("kind", PERCEPTIONS)
def test_a_grid_of_one_row_is_refused_with_reflect_padding_and_computed_with_others(kind, shape, backend, randomise):
    state = torch.rand(1, 5, *shape)
    with using_backend(backend):
        for padding in ("zeros", "replicate", "circular"):
            assert rollout(state, automaton(randomise, **PERCEPTIONS[kind](padding)), 2).shape == state.shape
        with pytest.raises(ShapeError, match=r"reflect padding by 1 needs at least 2 cells along every axis, not \("):
            rollout(state, automaton(randomise, **PERCEPTIONS[kind]("reflect")), 2)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("padding", "side"), [("reflect", 2), ("circular", 1)])
def test_a_wide_kernel_needs_a_wide_grid(padding, side, backend, randomise):
    model = automaton(randomise, num_learned_filters=1, kernel_size=5, filter_padding=padding)
    with using_backend(backend):
        assert rollout(torch.rand(1, 5, side + 1, 9), model, 2).shape == (1, 5, side + 1, 9)
        with pytest.raises(ShapeError, match=f"{padding} padding by 2 needs at least {side + 1} cells"):
            rollout(torch.rand(1, 5, side, 9), model, 2)
