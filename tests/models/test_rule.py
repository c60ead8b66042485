import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import BasicNCARule, MLPRule


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("final_bias", [True, False])
def test_a_fresh_rule_says_nothing(noise, dims, final_bias):
    rule = MLPRule(8, final_bias=final_bias).build(6, 4, dims)
    update = rule(noise(2, 6, *[5] * dims))
    assert torch.equal(update, torch.zeros(2, 4, *[5] * dims))
    assert (rule.last.bias is not None) == final_bias
    assert rule.hidden[0].weight.abs().sum() > 0  # only the last layer is zero


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (MLPRule(128), 48 * 128 + 128 + 128 * 16 + 16),
        (MLPRule(128, final_bias=False), 48 * 128 + 128 + 128 * 16),
        (MLPRule((64, 32)), 48 * 64 + 64 + 64 * 32 + 32 + 32 * 16 + 16),
        (MLPRule([10]), 48 * 10 + 10 + 10 * 16 + 16),
    ],
)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_parameter_counts(rule, expected, dims):
    assert sum(p.numel() for p in rule.build(48, 16, dims).parameters()) == expected


@pytest.mark.parametrize(
    ("name", "function"),
    [("relu", F.relu), ("leaky_relu", F.leaky_relu), ("gelu", F.gelu), ("silu", F.silu), ("tanh", torch.tanh)],
)
def test_it_is_a_perceptron_of_each_cell(randomise, noise, name, function):
    rule = randomise(MLPRule((7, 5), nonlinearity=name).build(3, 2), 0.7)
    x = noise(2, 3, 4, 6)
    cells = x.permute(0, 2, 3, 1)
    for layer in rule.hidden:
        cells = function(F.linear(cells, layer.weight[..., 0, 0], layer.bias))
    cells = F.linear(cells, rule.last.weight[..., 0, 0], rule.last.bias)
    assert torch.allclose(rule(x), cells.permute(0, 3, 1, 2), atol=1e-5)


def test_freezing_leaves_the_last_layer_unless_asked_for():
    rule = MLPRule((4, 4)).build(3, 2)
    rule.freeze()
    assert [name for name, p in rule.named_parameters() if p.requires_grad] == ["last.weight", "last.bias"]
    rule.freeze(freeze_last=True)
    assert not any(p.requires_grad for p in rule.parameters())


def test_a_description_makes_the_same_rule_also_by_the_name_of_ncalab():
    rule = MLPRule((4, 5), nonlinearity="silu", final_bias=False)
    assert rule.to_dict() == {"hidden_size": [4, 5], "nonlinearity": "silu", "final_bias": False}
    assert MLPRule(**rule.to_dict()).to_dict() == rule.to_dict()
    assert BasicNCARule is MLPRule


@pytest.mark.parametrize("size", [0, -3, (), (8, 0), True, 2.5, (2.5,), None, "8"])
def test_sizes_that_cannot_work_are_refused(size, refuses):
    refuses(ConfigError, "hidden_size must be a whole number of at least 1, or several, not", MLPRule, size)


def test_unknown_names_are_refused(refuses):
    refuses(UnknownNameError, "Did you mean 'relu'", MLPRule, 8, nonlinearity="relus")
    refuses(UnknownNameError, "number of spatial dimensions 4", MLPRule(8).build, 3, 2, 4)
