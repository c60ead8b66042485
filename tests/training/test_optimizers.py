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


def test_a_single_optimizer_becomes_the_default(network):
    made = make_optimizers(network, lambda net, cls, **kw: cls(net.parameters(), **kw), torch.optim.SGD, {"lr": 0.25})
    assert made["default"].param_groups[0]["lr"] == 0.25


def test_several_optimizers_keep_their_names(network):
    def by_layer(net, cls, **kw):
        return {"first": cls(net[0].parameters(), **kw), "second": cls(net[1].parameters(), lr=1.0)}

    assert sorted(make_optimizers(network, by_layer, torch.optim.SGD, {"lr": 0.25})) == ["first", "second"]


@pytest.mark.parametrize("optimizer_cls", ["Adam", None, torch.nn.Linear])
def test_what_is_no_optimizer_class_is_refused(network, optimizer_cls):
    with pytest.raises(ConfigError, match="optimizer_cls"):
        make_optimizers(network, create_optims_default_pytorch, optimizer_cls, None)


def test_an_object_instead_of_a_class_is_refused(network):
    with pytest.raises(ConfigError, match="optimizer_cls"):
        make_optimizers(network, create_optims_default_pytorch, torch.optim.SGD(network.parameters(), lr=1.0), None)


@pytest.mark.parametrize("params", [{"learning_rate": 1.0}, {"lr": -1.0}])
def test_parameters_that_do_not_fit_are_refused(network, params):
    with pytest.raises(ConfigError, match="optimizer_params"):
        make_optimizers(network, create_optims_default_pytorch, torch.optim.Adam, params)


@pytest.mark.parametrize("made", [{"default": 3}, 3, None, {}])
def test_a_function_that_gives_no_optimizers_is_refused(network, made):
    with pytest.raises(ConfigError, match="optim_fn"):
        make_optimizers(network, lambda *args, **kwargs: made, torch.optim.SGD, None)


def test_a_network_without_anything_to_train_is_refused(network):
    with pytest.raises(ConfigError, match="empty parameter list"):
        make_optimizers(network.requires_grad_(False), create_optims_default_pytorch, torch.optim.SGD, {"lr": 1.0})


def test_an_optimizer_that_computes_the_loss_within_its_step_is_refused_by_name(make_trainer):
    with pytest.raises(ConfigError, match="optimizer 'default' is a LBFGS, whose step computes the loss several times"):
        make_trainer(optimizer_cls=torch.optim.LBFGS)
