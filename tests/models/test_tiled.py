import warnings

import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    FullFilters,
    LearnedFilters,
    MLPRule,
    NormedRule,
    Perception,
    PyramidNCA,
    presets,
    tiled_predict,
)
from delira_nca.models.tiled import step_reach


def small(**changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    return BasicNCAModel(**{**arguments, "fire_rate": 1.0, **changes})


def kernel(size, padding="reflect"):
    return Perception("identity", LearnedFilters(2, size), padding=padding)


CELLS = {
    "reflect": {},
    "zeros": {"filter_padding": "zeros"},
    "replicate": {"filter_padding": "replicate"},
    "circular": {"filter_padding": "circular"},
    "kernel 5": {"perception": kernel(5)},
    "full filters": {"perception": Perception("identity", FullFilters(1), padding="reflect")},
    "time": {"use_temporal_encoding": True, "training_timesteps": 4},
    "alive": {"alive": AliveMask(1, 0.1), "filter_padding": "zeros"},
    "alive after": {"alive": AliveMask(1, 0.1, before=False)},
    "1D": {"dims": 1},
    "3D": {"dims": 3},
    "3D circular": {"dims": 3, "filter_padding": "circular"},
    "cell-wise head": {"head": nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))},
}
SHAPES = {1: (41,), 2: (29, 41), 3: (13, 11, 15)}


@pytest.mark.parametrize("fire_rate", [1.0, 0.5])
@pytest.mark.parametrize("name", CELLS)
def test_tiles_are_the_whole_also_of_cells_that_fire_by_chance(name, fire_rate, randomise, noise):
    model = randomise(small(fire_rate=fire_rate, **CELLS[name]), 0.3)
    image = noise(2, model.num_channels, *SHAPES[model.dims])
    whole = model.predict(image, 3, seed=4).pred
    assert whole.abs().max() > 0.05
    tiled = tiled_predict(model, image, 7 if model.dims < 3 else 5, 3, seed=4)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["reflect", "circular", "kernel 5", "alive after", "3D"])
def test_a_smaller_overlap_is_told_the_needed_one_and_gives_another_result(name, randomise, noise):
    model = randomise(small(**CELLS[name]), 0.3)
    image = noise(1, model.num_channels, *SHAPES[model.dims])
    whole, needed = model.predict(image, 3).pred, 3 * step_reach(model)
    with pytest.warns(
        UserWarning, match=rf"an overlap of 1 cells is smaller than 3 steps reach: .* from {needed} cells"
    ):
        tiled = tiled_predict(model, image, 5, 3, overlap=1)
    assert (tiled - whole).abs().max() > 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(tiled_predict(model, image, 5, 3, needed), whole, rtol=0, atol=1e-6)


def test_masks_of_the_whole_grid_are_needed_for_cells_that_fire_by_chance(randomise, noise):
    model, image = randomise(small(fire_rate=0.5), 0.3), noise(1, 1, 29, 41)
    whole = model.predict(image, 3, seed=4).pred
    apart = tiled_predict(model, image, 7, 3, seed=4, exact=False)
    assert (apart - whole).abs().max() > 1e-2


def test_a_published_automaton_grows_in_tiles(randomise, noise):
    model = randomise(BasicNCAModel(**presets.growing()), 0.1)
    state = noise(1, 16, 24, 30)
    assert step_reach(model) == 2
    whole = model.predict(state, 4, seed=1).pred
    torch.testing.assert_close(tiled_predict(model, state, (9, 11), 4, seed=1), whole, rtol=0, atol=1e-6)


def test_no_grid_is_larger_than_a_tile_and_its_surroundings(randomise, noise):
    model = randomise(small(fire_rate=0.5))
    seen = []
    model.perception.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    image = noise(1, 1, 64, 50)
    out = torch.empty(1, 1, 64, 50, dtype=torch.float64)
    assert tiled_predict(model, image, (16, 10), 2, out=out) is out
    assert max(seen) == (20, 14)
    assert len(set(seen)) > 1
    torch.testing.assert_close(out.float(), model.predict(image, 2).pred, rtol=0, atol=1e-6)


def test_the_steps_are_those_of_a_prediction_and_a_tile_larger_than_the_image_is_the_image(randomise, noise):
    model, image = randomise(small(fire_rate=0.5)), noise(1, 1, 8, 9)
    assert torch.equal(tiled_predict(model, image, 100, 2, seed=1), model.predict(image, 2, seed=1).pred)
    model, image = randomise(small(inference_timesteps=(2, 9))), noise(1, 1, 12, 12)
    for seed in range(3):
        whole = model.predict(image, seed=seed).pred
        torch.testing.assert_close(tiled_predict(model, image, 6, seed=seed), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"update_noise": 0.1}, "its update noise is drawn for a whole grid"),
        ({"pad_noise": True}, "its hidden channels start as noise of a whole grid"),
        ({"rule": NormedRule(8)}, "its rule, a NormedRule, looks at all cells"),
        ({"head": nn.Conv2d(3, 1, 3, padding=1)}, "its head, a Conv2d, may look beyond a cell"),
        ({"rule": nn.Conv2d(15, 4, 3, padding=1)}, "its rule, a Conv2d, looks around"),
    ],
)
def test_what_cannot_be_tiled_exactly_is_refused_or_tiled_all_the_same(changes, message, noise):
    model, image = small(**changes), noise(1, 1, 16, 16)
    with pytest.raises(ConfigError, match=f"tiles of this BasicNCAModel would not be those of the whole: {message}"):
        tiled_predict(model, image, 8, 2)
    assert tiled_predict(model, image, 8, 2, exact=False).shape == (1, 1, 16, 16)


def test_bad_numbers_are_refused(noise, refuses):
    model, image, whole = small(), noise(1, 1, 16, 16), "must be a whole number of at least"
    enlarging = small(head=nn.Sequential(nn.Conv2d(3, 1, 1), nn.Upsample(scale_factor=2)))
    refuses(ConfigError, rf"tile {whole} 1, or 2 of them, not \(4, 4, 4\)", tiled_predict, model, image, (4, 4, 4))
    refuses(ConfigError, f"tile {whole} 1, or 2 of them, not 0", tiled_predict, model, image, 0)
    refuses(ConfigError, f"overlap {whole} 0, not -1", tiled_predict, model, image, 4, overlap=-1)
    wanted = r"an image of this model is \(B, channels, 2 spatial axes\), not \(1, 16, 16\)"
    refuses(ShapeError, wanted, tiled_predict, model, image[0], 4)
    wanted, out = r"out has the shape of the prediction, \(1, 1, 16, 16\), not \(1, 1, 4, 4\)", torch.empty(1, 1, 4, 4)
    refuses(ShapeError, wanted, tiled_predict, model, image, 4, out=out)
    refuses(ShapeError, r"nothing to predict in an image of \(1, 1, 0, 16\)", tiled_predict, model, image[:, :, :0], 4)
    wanted = "tiles are of a BasicNCAModel, which has one resolution, not of a PyramidNCA"
    refuses(ConfigError, wanted, tiled_predict, PyramidNCA(model, [2, 1], [1, 1]), image, 4)
    wanted = r"a prediction of \(20, 20\) for a tile of \(10, 10\)"
    refuses(ConfigError, wanted, tiled_predict, enlarging, image, 8, 2, exact=False)


def test_spare_rows_of_a_rule_are_left_out_of_every_back_end(randomise, noise, refuses):
    model = small(rule=MLPRule(8, spare_rows=1))
    assert model.rule.last.weight.shape[0] == 5
    assert model.to_arrays().weights[-1].shape[0] == model.to_arrays().biases[-1].shape[0] == 4
    randomise(model)
    assert torch.equal(model.to_arrays().weights[-1], model.rule.last.weight.flatten(1)[1:])
    refuses(ConfigError, "spare_rows must be a whole number of at least 0, not -1", MLPRule, 8, spare_rows=-1)
