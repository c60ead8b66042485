import dataclasses
import json

import pytest

from delira_nca import losses
from delira_nca.errors import UnknownNameError
from delira_nca.models import FullFilters, LearnedFilters, build_model, presets
from delira_nca.models.presets import Recipe, recipe
from delira_nca.models.presets.recipes import RECIPES
from delira_nca.training import callbacks


@pytest.mark.parametrize("name", presets.__all__)
def test_every_preset_has_a_recipe_of_plain_values(name):
    found = recipe(name)
    assert isinstance(found, Recipe)
    assert Recipe(**dataclasses.asdict(found)) == found
    assert set(found.losses) <= set(losses.__all__)
    assert set(found.terms) <= set(callbacks.__all__)
    assert json.loads(json.dumps(dataclasses.asdict(found)))["losses"] == list(found.losses)


@pytest.mark.parametrize("name", ["growing", "texture", "micro_texture", "isotropic", "steerable", "conditional"])
def test_a_model_takes_the_steps_of_its_recipe(name):
    assert build_model(name).training_timesteps == recipe(name).steps


TABLE = {
    "growing": {
        "steps": (64, 96), "pool_size": 0, "losses": ("mse",), "learning_rate": 2e-3, "schedule": "multi_step",
        "milestones": (2000,), "decay": 0.1, "gradients": "normalise", "batch_size": 8, "iterations": 8000,
    },
    "persistent": {"steps": (64, 96), "pool_size": 1024, "num_seeds": 1, "seed_every": 1, "num_damaged": 0},
    "regenerating": {"pool_size": 1024, "num_seeds": 1, "num_damaged": 3, "damage_radius": (0.1, 0.4)},
    "texture": {
        "steps": (32, 96), "pool_size": 256, "seed_every": 8, "losses": ("SlicedTransport", "overflow"),
        "overflow_limit": 1.0, "overflow_squared": False, "learning_rate": 1e-3, "milestones": (1000, 2000),
        "decay": 0.3, "gradients": "normalise", "batch_size": 4, "iterations": 5000,
    },
    "micro_texture": {
        "steps": (32, 128), "pool_size": 256, "seed_every": 8, "overflow_squared": True,
        "terms": ("StateGradientNormalization",),
        "learning_rate": 1e-3, "milestones": (1000, 4000), "decay": 0.3, "gradients": "normalise", "batch_size": 4,
        "iterations": 10000,
    },
    "self_classifying": {
        "steps": (20, 21), "pool_size": 160, "fresh_share": 0.25, "mutated_share": 0.25, "losses": ("one_hot_l2",),
        "learning_rate": 1e-3, "milestones": (30000, 70000), "decay": 0.1, "gradients": "normalise", "batch_size": 16,
        "iterations": 100000,
    },
    "isotropic": {
        "steps": (64, 96), "pool_size": 256, "seed_every": 6, "damage_every": 6, "reseed_dead": True,
        "losses": ("rotation_invariant_mse",), "terms": ("IntermediateSupervision", "RolloutLoss", "ActivityLoss"),
        "overflow_limit": 2.0, "activity_weight": 10.0, "learning_rate": 1e-3, "lowest_rate": 1e-5,
        "schedule": "cyclic", "period": 2000, "gradients": "normalise", "batch_size": 8, "iterations": 50000,
    },
    "conditional": {
        "losses": ("mse",), "milestones": (5000,), "decay": 0.3, "gradients": "normalise", "calls_per_batch": 2,
    },
    "med_nca": {
        "steps": (64, 64), "pool_size": 0, "losses": ("dice_bce",), "learning_rate": 16e-4, "betas": (0.5, 0.5),
        "schedule": "exponential", "decay": 0.9999, "gradients": None, "batch_size": 48, "epochs": 1000,
    },
    "m3d_nca": {
        "steps": (10, 10), "losses": ("soft_dice", "focal"), "learning_rate": 16e-4, "betas": (0.5, 0.5),
        "decay": 0.9999, "batch_size": 4, "epochs": 1000,
    },
    "octree_nca": {
        "steps": (20, 5, 5, 5, 5), "losses": ("dice_bce",), "learning_rate": 16e-4, "betas": (0.9, 0.99),
        "decay": 0.9999**8, "ema": 0.99, "batch_size": 3, "epochs": 2000,
    },
    "attention": {
        "steps": (32, 33), "pool_size": 1024, "losses": ("mse",), "mask_ratio": 0.5, "learning_rate": 1e-3,
        "schedule": "linear", "decay": 0.1, "period": 4096, "gradients": "clip", "clip_norm": 1.0, "batch_size": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_every_figure_of_the_papers_is_in_the_recipe(name):
    found = dataclasses.asdict(recipe(name))
    assert {key: found[key] for key in TABLE[name]} == TABLE[name]
    assert found["optimizer"] == "Adam"


def test_recipes_that_are_those_of_another_preset_and_unknown_ones(refuses):
    assert recipe("steerable") == recipe("isotropic")
    assert recipe("mixture") == recipe("persistent")
    assert set(TABLE) | {"steerable", "mixture"} == set(RECIPES) == set(presets.__all__)
    refuses(UnknownNameError, "Did you mean 'texture'", recipe, "textur")


@pytest.mark.parametrize(
    ("name", "channels", "fixed", "filters", "padding", "hidden", "last_bias", "fire"),
    [
        ("growing", 16, 0, ("identity", "sobel"), "zeros", (128,), True, 0.5),
        ("texture", 12, 0, ("identity", "sobel", "laplacian"), "circular", (96,), False, 0.5),
        ("self_classifying", 20, 1, (FullFilters(1, 80, relu=True),), "zeros", (80,), True, 0.5),
        ("isotropic", 16, 0, ("identity", "laplacian"), "circular", (192,), False, 0.5),
        ("conditional", 21, 0, (LearnedFilters(3),), "zeros", (64, 64), False, 0.5),
    ],
)
def test_every_figure_of_the_papers_is_in_the_cell(name, channels, fixed, filters, padding, hidden, last_bias, fire):
    model = build_model(name)
    assert (model.num_channels, model.num_fixed_channels, model.fire_rate) == (channels, fixed, fire)
    assert (model.perception.specs, model.perception.padding) == (filters, padding)
    assert model.rule.hidden_sizes == hidden
    assert (model.rule.last.bias is not None) is last_bias
    assert bool(model.rule.last.weight.any()) is (name == "conditional")  # all others begin with zeros


@pytest.mark.parametrize(
    ("name", "parameters", "filters", "hidden"),
    [
        ("med_nca", 25920, [FullFilters(2)] * 2, 128),
        ("m3d_nca", 12480, [LearnedFilters(1, 7, bias=True), LearnedFilters(1, 3, bias=True)], 64),
        ("octree_nca", 16480, [LearnedFilters(1, 3, bias=True)] * 5, 64),
    ],
)
def test_every_figure_of_the_medical_line_is_in_the_pyramid(name, parameters, filters, hidden):
    pyramid = build_model(name)
    assert pyramid.num_trainable_parameters() == parameters
    assert pyramid.steps == recipe(name).steps
    for model, seen in zip(pyramid.models, filters, strict=True):
        assert (model.num_channels, model.num_fixed_channels, model.fire_rate) == (16, 1, 0.5)
        assert (model.perception.specs, model.perception.padding) == (("identity", seen), "reflect")
        assert model.rule.hidden_sizes == (hidden,)
        assert model.rule.last.bias is None
        assert not model.rule.last.weight.any()
