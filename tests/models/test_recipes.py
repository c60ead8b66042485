import dataclasses
import json

import pytest

from delira_nca import losses
from delira_nca.errors import UnknownNameError
from delira_nca.models import build_model, presets
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


def test_recipes_are_those_of_the_papers():
    growing, persistent, regenerating = map(recipe, ("growing", "persistent", "regenerating"))
    assert (growing.steps, growing.batch_size, growing.iterations, growing.pool_size) == ((64, 96), 8, 8000, 0)
    assert (growing.learning_rate, growing.milestones, growing.decay, growing.gradients) == (
        (2e-3, (2000,), 0.1, "normalise")
    )
    assert (persistent.pool_size, persistent.num_seeds, persistent.num_damaged) == (1024, 1, 0)
    assert (regenerating.num_damaged, regenerating.damage_radius) == (3, (0.1, 0.4))
    texture, micro = recipe("texture"), recipe("micro_texture")
    assert (texture.steps, texture.batch_size, texture.pool_size, texture.seed_every) == ((32, 96), 4, 256, 8)
    assert (texture.milestones, texture.decay, texture.overflow_limit) == ((1000, 2000), 0.3, 1.0)
    assert (micro.steps, micro.iterations, micro.milestones) == ((32, 128), 10000, (1000, 4000))
    assert micro.normalise_each_step
    assert micro.overflow_squared
    digits = recipe("self_classifying")
    assert (digits.steps, digits.batch_size, digits.iterations, digits.pool_size) == ((20, 21), 16, 100000, 160)
    assert (digits.milestones, digits.fresh_share, digits.mutated_share) == ((30000, 70000), 0.25, 0.25)
    turning = recipe("steerable")
    assert (turning.schedule, turning.lowest_rate, turning.learning_rate, turning.period) == (
        ("cyclic", 1e-5, 1e-3, 2000)
    )
    assert (turning.damage_every, turning.reseed_dead, turning.overflow_limit) == (6, True, 2.0)
    goals = recipe("conditional")
    assert (goals.milestones, goals.decay, goals.calls_per_batch) == ((5000,), 0.3, 2)
    attention = recipe("attention")
    assert (attention.gradients, attention.clip_norm, attention.pool_size, attention.mask_ratio) == (
        ("clip", 1.0, 1024, 0.5)
    )


def test_recipes_of_the_medical_line():
    med, m3d, octree = (RECIPES[name] for name in ("med_nca", "m3d_nca", "octree_nca"))
    assert {r.learning_rate for r in (med, m3d, octree)} == {16e-4}
    assert (med.betas, m3d.betas, octree.betas) == ((0.5, 0.5), (0.5, 0.5), (0.9, 0.99))
    assert (med.steps, m3d.steps, octree.steps) == ((64, 64), (10, 10), (20, 5, 5, 5, 5))
    assert (med.batch_size, m3d.batch_size, octree.batch_size) == (48, 4, 3)
    assert (med.losses, m3d.losses, octree.ema) == (("dice_bce",), ("soft_dice", "focal"), 0.99)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'texture'"):
        recipe("textur")
