import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import (
    AliveMask,
    AttentionRule,
    BasicNCAModel,
    GroupedPerception,
    InputMask,
    IsotropicPerception,
    LinearRule,
    MixtureRule,
    MLPRule,
    Perception,
    SteerablePerception,
    presets,
)

OPTIONS = {
    "steerable by gradient": {"perception": SteerablePerception("gradient", laplacian=False, padding="reflect")},
    "steerable, scaled": {"perception": SteerablePerception(sobel_scale=1.0), "alive": AliveMask(num_spared=2)},
    "steepness": {"perception": IsotropicPerception(laplacian=False, padding="reflect", sobel_scale=2.0)},
    "grouped": {"perception": GroupedPerception((2, 8, 6), padding="zeros", sobel_scale=2.0)},
    "scaled Sobel": {"perception": Perception("sobel", sobel_scale=8.0)},
    "not zero": {"rule": MLPRule((4, 3), zero_init=False)},
    "linear": {"rule": LinearRule(init_scale=0.5, bias=False)},
    "attention": {"rule": AttentionRule(6, num_heads=3, hidden_size=5, padding="circular")},
    "mixture": {"rule": MixtureRule(2, MLPRule(5, nonlinearity="tanh"), selector_size=3, choice="mean")},
    "input mask": {"input_mask": InputMask(2, 0.3), "immutable_image_channels": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_description_makes_the_same_model(name, noise, randomise):
    arguments = {"immutable_image_channels": False, **OPTIONS[name]}
    model = randomise(BasicNCAModel(**arguments))
    other = BasicNCAModel.from_dict(model.to_dict())
    assert other.to_dict() == model.to_dict()
    assert other.to_dict() != BasicNCAModel(immutable_image_channels=False).to_dict()
    other.load_state_dict(model.state_dict())
    x = noise(1, 16, 6, 6)
    assert torch.equal(other.predict(x, 3, seed=1).output_image, model.predict(x, 3, seed=1).output_image)


def test_a_description_of_before_there_were_kinds_still_makes_its_model():
    config = BasicNCAModel(immutable_image_channels=False).to_dict()
    assert "type" not in config["perception"]
    assert "type" not in config["rule"]
    old = {key: value for key, value in config.items() if key not in ("conditioning", "input_mask")}
    old["alive"] = {"channel": 3, "threshold": 0.1, "before": True, "after": True}
    assert BasicNCAModel.from_dict(old).alive == AliveMask()


def test_unknown_kinds_and_modules_of_the_users_own_are_refused(refuses):
    config = BasicNCAModel(rule=LinearRule()).to_dict()
    with pytest.raises(UnknownNameError, match="unknown type of a rule 'LinearRul'.*Did you mean 'LinearRule'"):
        BasicNCAModel.from_dict({**config, "rule": {**config["rule"], "type": "LinearRul"}})
    with pytest.raises(UnknownNameError, match="unknown type of a perception 'LinearRule'"):
        BasicNCAModel.from_dict({**config, "perception": config["rule"]})
    model = BasicNCAModel(num_image_channels=1, num_hidden_channels=1, head=nn.Identity())
    refuses(ConfigError, "head is a torch.nn.modules.linear.Identity", BasicNCAModel.from_dict, model.to_dict())


def test_numbers_that_were_changed_after_the_construction_are_described():
    model = BasicNCAModel(**presets.growing(training_timesteps=(4, 6), inference_timesteps=5))
    model.training_timesteps, model.inference_timesteps, model.fire_rate = (7, 9), 12, 0.75
    again = BasicNCAModel.from_dict(model.to_dict())
    assert (again.training_timesteps, again.inference_timesteps, again.fire_rate) == ((7, 9), 12, 0.75)
