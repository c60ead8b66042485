"""How optimizers are made."""

import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.training.optimizers import create_optims_default_pytorch, make_optimizers


@pytest.fixture
def network():
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))


def test_the_default_is_one_over_all_that_is_trained(network):
    network[0].requires_grad_(False)
    made = create_optims_default_pytorch(network, torch.optim.SGD, lr=0.5, momentum=0.9)
    (group,) = made["default"].param_groups
    assert list(made) == ["default"]
    assert group["params"] == list(network[1].parameters())
    assert (group["lr"], group["momentum"]) == (0.5, 0.9)


def test_a_single_optimizer_becomes_the_default_and_several_keep_their_names(network):
    def by_layer(net, cls, **kw):
        return {"first": cls(net[0].parameters(), **kw), "second": cls(net[1].parameters(), lr=1.0)}

    made = make_optimizers(network, lambda net, cls, **kw: cls(net.parameters(), **kw), torch.optim.SGD, {"lr": 0.25})
    assert made["default"].param_groups[0]["lr"] == 0.25
    assert sorted(make_optimizers(network, by_layer, torch.optim.SGD, {"lr": 0.25})) == ["first", "second"]


SGD, WEIGHT = torch.optim.SGD, torch.nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize(
    ("optim_fn", "cls", "params", "text"),
    [
        *((None, cls, None, "optimizer_cls") for cls in ("Adam", None, torch.nn.Linear, SGD([WEIGHT], lr=1.0))),
        *((None, torch.optim.Adam, params, "optimizer_params") for params in ({"learning_rate": 1.0}, {"lr": -1.0})),
        *((lambda *_, made=made: made, SGD, None, "optim_fn") for made in ({"default": 3}, 3, None, {})),
        (lambda net, cls: create_optims_default_pytorch(net.requires_grad_(False), cls), SGD, None, "empty parameter"),
    ],
)
def test_what_makes_no_optimizers_is_refused(network, optim_fn, cls, params, text):
    with pytest.raises(ConfigError, match=text):
        make_optimizers(network, optim_fn or create_optims_default_pytorch, cls, params)


def test_an_optimizer_that_computes_the_loss_within_its_step_is_refused_by_name(make_trainer):
    with pytest.raises(ConfigError, match="optimizer 'default' is a LBFGS, whose step computes the loss several times"):
        make_trainer(optimizer_cls=torch.optim.LBFGS)
