import re

import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, PyramidNCA
from delira_nca.rollout import rollout
from delira_nca.training import PyTorchNetworkTrainer


class Own(nn.Module):
    """A module of the user's; as a perception it says its channels."""

    def __init__(self, layer, out_channels=None):
        super().__init__()
        self.layer = layer
        if out_channels is not None:
            self.out_channels, self.radius = out_channels, 1

    def forward(self, x):
        return self.layer(x)


class Positional(nn.Module):
    """A rule for grids of 6 x 6 cells only."""

    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Parameter(torch.ones(1, 15, 6, 6)), nn.Conv2d(15, 4, 1)

    def forward(self, x):
        return self.layer(x + self.table)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def automaton(**changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "training_timesteps": 2}
    return BasicNCAModel(**{**arguments, **changes})


@pytest.mark.parametrize("name", ["rule", "perception", "head", "conditioning"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x: x, "{name} is a torch.nn.Module, not the function '<lambda>': put it into the forward of a class"),
        ("mlp", "{name} is a torch.nn.Module, not 'mlp'"),
        (MLPRule, "{name} is the class MLPRule: make an object of it, MLPRule(...)"),
    ],
)
def test_a_part_that_is_no_module_is_refused(name, given, message, refuses):
    refuses(ConfigError, re.escape(message.format(name=name)), automaton, **{name: given})


def test_a_rule_type_that_makes_no_module_is_refused():
    with pytest.raises(ConfigError, match="rule is a torch.nn.Module, not the function"):
        automaton(rule_type=lambda size, final_bias: lambda x: x)


@pytest.mark.parametrize("name", ["alive", "input_mask"])
def test_a_mask_that_is_none_is_refused(name, refuses):
    refuses(ConfigError, rf"{name} is an \w+Mask\(\.\.\.\) or None, not True", automaton, **{name: True})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (nn.Conv2d(14, 4, 1), "rule Conv2d cannot take 15 channels"),
        (Own(nn.Conv2d(16, 4, 1)), "rule Own cannot take 15 channels"),
        (nn.Conv2d(15, 3, 1), "rule Conv2d maps (1, 15, 16, 16) to (1, 3, 16, 16); (1, 4, 16, 16) was expected"),
        (nn.Conv2d(15, 1, 1), "rule Conv2d maps (1, 15, 16, 16) to (1, 1, 16, 16)"),  # would be broadcast
        (nn.Conv2d(15, 4, 3), "to (1, 4, 14, 14)"),
        (nn.Flatten(), "rule Flatten maps (1, 15, 16, 16) to (1, 3840)"),
        (Pair(), "rule Pair maps (1, 15, 16, 16) to a tuple"),
        (nn.Bilinear(15, 15, 4), "rule Bilinear cannot take 15 channels"),
    ],
)
def test_a_rule_with_other_channels_is_refused(rule, message, refuses):
    refuses(ShapeError, re.escape(message), automaton, rule=rule)


def test_a_perception_with_other_channels_than_it_says_is_refused():
    with pytest.raises(ShapeError, match=re.escape("perception Own maps (1, 5, 16, 16) to (1, 5, 16, 16); (1, 7,")):
        automaton(perception=Own(nn.Identity(), out_channels=7))
    with pytest.raises(ShapeError, match="perception Own cannot take 5 channels"):
        automaton(perception=Own(nn.Conv2d(4, 7, 1), out_channels=7))


@pytest.mark.parametrize("rule", [nn.Conv2d(15, 4, 3, padding=1), nn.Sequential(nn.LazyConv2d(4, 1)), Positional()])
def test_a_rule_that_fits_is_taken_and_stays_as_it_is(rule):
    before = {name: value for name, value in rule.state_dict().items() if not nn.parameter.is_lazy(value)}
    model = automaton(rule=rule)
    assert model.rule is rule
    assert all(rule.state_dict()[name].equal(value) for name, value in before.items())
    assert model.predict(torch.rand(1, 1, 6, 6), 2).output_image.shape == (1, 5, 6, 6)


def test_a_rule_that_is_replaced_by_one_with_other_channels_is_refused_in_its_first_step():
    model = automaton()
    model.rule = nn.Conv2d(15, 1, 1)
    with pytest.raises(ShapeError, match=re.escape("rule Conv2d maps a perception of (1, 15, 6, 6) to (1, 1, 6, 6)")):
        model.predict(torch.rand(1, 1, 6, 6), 2)


@pytest.mark.parametrize("make", [automaton, lambda: PyramidNCA(automaton(), [2, 1], [2, 2])])
def test_an_entry_that_is_a_list_is_refused_by_its_name(make):
    batch = {"data": [[[[0.0] * 6] * 6]], "label": torch.zeros(1, 1, 6, 6)}
    with pytest.raises(ConfigError, match=r"entry 'data' of a batch is a torch\.Tensor, not list"):
        PyTorchNetworkTrainer(make(), None, {"mse": mse}).train(1, [batch])


def test_images_states_and_levels_of_another_type_are_refused(refuses):
    model = automaton()
    for call in (model.predict, model, lambda x: rollout(x, model, 2), PyramidNCA(automaton(), [1], [2]).predict):
        refuses(ConfigError, r"must be of type Tensor|is a torch\.Tensor", call, [[0.0]])
    with pytest.raises(ConfigError, match="a level of a pyramid must be of type BasicNCAModel, not function"):
        PyramidNCA(lambda x: x, [2, 1], [2, 2])
