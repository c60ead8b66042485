import math

import numpy as np
import pytest
import torch

from delira_nca.checks import (
    accepted_keywords,
    as_plain,
    is_number,
    is_whole,
    require_callable,
    require_number,
    require_type,
    require_whole,
    require_wholes,
)
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.io import load_checkpoint, load_network, save_network
from delira_nca.losses import mse
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    ClassificationNCAModel,
    FullFilters,
    LearnedFilters,
    MLPRule,
    Perception,
    build_model,
    presets,
)
from delira_nca.models.tiled import tiled_predict
from delira_nca.rollout import rollout, trajectory
from delira_nca.training import PyTorchNetworkTrainer

SCALARS = {int: (np.int64, np.int32, np.uint8), float: (np.float64, np.float32), bool: (np.bool_,)}


def as_numpy(value, kind=0):
    """Numbers of a nested value as numpy scalars."""
    if isinstance(value, (list, tuple)):
        return type(value)(as_numpy(part, kind) for part in value)
    if isinstance(value, dict):
        return {key: as_numpy(part, kind) for key, part in value.items()}
    if type(value) in SCALARS:
        kinds = SCALARS[type(value)]
        return kinds[kind % len(kinds)](value)
    return value


def is_plain(value):
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return not isinstance(value, np.generic)


ARGUMENTS = {
    "num_image_channels": 1,
    "num_hidden_channels": 4,
    "num_output_channels": 1,
    "fire_rate": 0.5,
    "hidden_size": 8,
    "kernel_size": 5,
    "training_timesteps": (2, 4),
    "inference_timesteps": 3,
    "update_noise": 0.25,
    "pad_noise": True,
    "dims": 2,
    "memory_budget": 2**7,
}


def test_values_without_numpy_scalars_are_the_same_objects():
    for value in ([1, (2, {"a": 3})], {"a": [np.zeros(3)]}, (1, 2), "text", None):
        assert as_plain(value) is value


@pytest.mark.parametrize("kind", range(3))
def test_a_model_of_numpy_scalars_is_that_of_numbers(kind, tmp_path):
    made = BasicNCAModel(**as_numpy(ARGUMENTS, kind))
    assert made.to_dict() == BasicNCAModel(**ARGUMENTS).to_dict()
    assert is_plain(made.to_dict())
    save_network(made, tmp_path / "model.pt")
    assert load_network(tmp_path / "model.pt").to_dict() == made.to_dict()


@pytest.mark.parametrize(
    ("cls", "args", "kwargs"),
    [
        (AliveMask, (1, 0.25), {"num_spared": 1}),
        (LearnedFilters, (2, 5), {"bias": True}),
        (FullFilters, (2, 4), {"kernel_size": 5}),
        (MLPRule, ((8, 4),), {"spare_rows": 1}),
        (Perception, ("identity", "sobel"), {"angle": 0.5, "sobel_scale": 8.0}),
    ],
)
def test_parts_take_numpy_scalars(cls, args, kwargs):
    found, expected = cls(*as_numpy(args), **as_numpy(kwargs)), cls(*args, **kwargs)
    if hasattr(found, "to_dict"):
        found, expected = found.to_dict(), expected.to_dict()
    assert found == expected
    assert is_plain(vars(found) if hasattr(found, "__dict__") else found)


@pytest.mark.parametrize("preset", presets.__all__)
def test_presets_take_numpy_scalars(preset):
    if preset.endswith("_nca"):
        changes = {"num_channels": 6}
    else:
        changes = {"num_hidden_channels": 16, "training_timesteps": (2, 4), "inference_timesteps": 3, "fire_rate": 0.5}
    found, expected = build_model(preset, as_numpy(changes)), build_model(preset, changes)
    assert found.to_dict() == expected.to_dict()
    assert is_plain(found.to_dict())


def test_a_task_takes_numpy_scalars():
    found = ClassificationNCAModel(None, np.int64(1), np.int64(4), np.int64(3), hidden_size=np.int64(8))
    assert is_plain(found.to_dict())


def test_roll_outs_and_predictions_take_numpy_scalars():
    model = BasicNCAModel(**{**ARGUMENTS, "memory_budget": 2**30})
    i = np.int64
    image = torch.rand(1, 1, 6, 6)
    assert torch.equal(model.predict(image, i(3), seed=i(2)).output_image, model.predict(image, 3, seed=2).output_image)
    assert torch.equal(model.predict(image, (i(2), i(3))).output_image, model.predict(image, 2).output_image)
    assert [p.steps for p in model.record(image, i(3), keep=[i(1), i(3)])] == [1, 3]
    state = torch.rand(1, 6, 6, 6)
    numbers = {"start": 1, "seed": 3, "segment": 2, "memory_budget": 2**20}
    expected = rollout(state, model, 3, **numbers)
    assert torch.equal(rollout(state, model, i(3), **as_numpy(numbers)), expected)
    assert torch.equal(trajectory(state, model, i(3), keep=[i(3)], **as_numpy(numbers))[3], expected)
    assert torch.equal(model(state, i(3), start=i(1), seed=i(3)).output_image, expected)
    assert model.cost((i(6), i(6)), i(3), batch_size=i(2)) == model.cost((6, 6), 3, batch_size=2)
    model = BasicNCAModel(**{**ARGUMENTS, "pad_noise": False, "update_noise": 0.0})
    assert torch.allclose(tiled_predict(model, image, tile=i(4), steps=i(1)), model.predict(image, 1).pred, atol=1e-6)


def test_a_trainer_takes_numpy_scalars(tmp_path):
    i = np.int64
    arguments = {**ARGUMENTS, "memory_budget": 2**30}
    batch = {"data": np.zeros((2, 1, 6, 6)), "label": np.zeros((2, 1, 6, 6))}
    weights = []
    for number in (int, i):
        torch.manual_seed(0)
        trainer = PyTorchNetworkTrainer(
            BasicNCAModel(**arguments),
            tmp_path / number.__name__,
            {"mse": mse},
            optimizer_params={"lr": np.float64(1e-3)},
            save_freq=number(1),
            start_epoch=number(1),
            val_freq=number(1),
            fold=number(0),
            seed=number(3),
        )
        trainer.train(number(2), [batch], [batch], val_freq=number(2))
        weights.append(load_checkpoint(tmp_path / number.__name__ / "checkpoint_epoch_2.safetensors"))
    assert weights[0]["history"] == weights[1]["history"]


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [
        (3, True, True),
        (np.int64(3), True, True),
        (True, False, False),
        (np.True_, False, False),
        (3.0, False, True),
        (np.float32(3), False, True),
        ("3", False, False),
        (None, False, False),
    ],
)
def test_what_counts_as_a_number(value, whole, number):
    assert (is_whole(value), is_number(value)) == (whole, number)


@pytest.mark.parametrize(
    ("check", "value", "options", "expected"),
    [
        (require_whole, -1, {"least": 0}, "a whole number of at least 0, not -1"),
        (require_whole, 2.0, {}, "a whole number, not 2.0"),
        (require_whole, True, {"least": 0}, "a whole number of at least 0, not True"),
        (require_whole, 4, {"least": 1, "most": 3}, "a whole number from 1 to 3, not 4"),
        (require_wholes, (), {"least": 1}, r"one or more whole numbers of at least 1, not \(\)"),
        (require_wholes, 3, {}, "one or more whole numbers, not 3"),
        (require_wholes, "34", {"count": 2}, "2 whole numbers, not '34'"),
        (require_wholes, (1, True), {"count": 2}, r"2 whole numbers, not \(1, True\)"),
        (require_wholes, None, {"repeat": 1}, "a whole number, or several, not None"),
        (
            require_wholes,
            (1,),
            {"least": 1, "count": 2, "repeat": 2},
            "a whole number of at least 1, or 2 of them, not",
        ),
        (require_number, math.nan, {"least": 0, "below": 1}, "a number of at least 0 and below 1, not nan"),
        (require_number, math.inf, {}, "a finite number, not inf"),
        (require_number, 1, {"below": 1}, "a number below 1, not 1"),
        (require_number, 0, {"above": 0, "most": 1}, "a number above 0 and at most 1, not 0"),
        (require_number, 1.5, {"least": 0, "most": 1}, "a number from 0 to 1, not 1.5"),
        (require_number, "0", {"most": 1}, "a number of at most 1, not '0'"),
        (require_number, False, {}, "a finite number, not False"),
        (require_callable, 3, {}, "callable, not 3"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_name_and_what_is_expected(check, value, options, expected):
    for error in (ConfigError, ShapeError):
        with pytest.raises(error, match=f"^size must be {expected}"):
            check("size", value, **options, error=error)


def test_a_value_of_another_type_is_refused():
    with pytest.raises(ConfigError, match="^size must be of type bool or str, not int"):
        require_type("size", 3, bool, np.bool_, str)


@pytest.mark.parametrize(
    ("check", "value", "options", "expected"),
    [
        (require_whole, np.uint8(3), {"least": 3, "most": 3}, 3),
        (require_wholes, np.array([3, 4]), {"count": 2}, (3, 4)),
        (require_wholes, np.int64(3), {"repeat": 2}, (3, 3)),
        (require_wholes, range(2), {"least": 0, "repeat": 3}, (0, 1)),
        (require_wholes, (), {"count": 0}, ()),
        (require_number, np.float32(0.5), {"above": 0, "below": 1}, 0.5),
        (require_number, 1, {"least": 1, "most": 1}, 1),
    ],
)
def test_an_argument_that_fits_becomes_a_plain_number(check, value, options, expected):
    found = check("size", value, **options)
    assert found == expected
    assert type(found) is type(expected)
    assert is_plain(found)


def test_a_function_is_given_the_keywords_that_it_takes():
    assert accepted_keywords(lambda x, *, fold: x, {"fold": 1, "seed": 2}) == {"fold": 1}
    assert accepted_keywords(lambda x, **more: x, {"fold": 1, "seed": 2}) == {"fold": 1, "seed": 2}
