import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import AbstractNetwork
from delira_nca.models.network import entry, evaluate, total_loss

NAMED = {"pred": torch.tensor(5.0), "label": torch.tensor(3.0), "mask": torch.tensor(10.0)}


def difference(a, b):
    return a - b


def test_functions_get_what_they_are_wired_to_in_that_order():
    keys = {"swapped": ("label", "pred"), "one": ("mask",), "unused": ("nothing",)}
    functions = {"plain": difference, "swapped": difference, "one": torch.neg}
    values = evaluate(functions, NAMED, keys)
    assert {name: value.item() for name, value in values.items()} == {"plain": 2.0, "swapped": -2.0, "one": -10.0}
    assert list(values) == ["plain", "swapped", "one"]
    assert evaluate({}, NAMED) == {}


def test_a_name_that_is_not_there_is_refused_with_the_nearest(refuses):
    with pytest.raises(UnknownNameError, match="'mse' is wired to 'lable', which is not there.*Did you mean 'label'"):
        evaluate({"mse": difference}, NAMED, {"mse": ("pred", "lable")})
    refuses(UnknownNameError, "the pool is wired to 'data'", entry, NAMED, "data", "the pool")
    assert entry(NAMED, "mask", "anybody") is NAMED["mask"]


def test_criterions_are_summed_but_for_none_and_one_with_the_name_of_the_sum(refuses):
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.5)}
    assert total_loss(losses).item() == 3.5
    assert losses["a"].item() == 1.0
    assert total_loss({"loss": torch.tensor(2.0)}).item() == 2.0
    refuses(ConfigError, "nothing to minimise", total_loss, {})
    with pytest.raises(ConfigError, match="'loss' is the name of the sum"):
        total_loss({"loss": torch.tensor(1.0), "mse": torch.tensor(1.0)})


class Network(AbstractNetwork):
    @staticmethod
    def closure(model, data_dict, optimizers, criterions, metrics, fold=0, batch_nr=0, **kwargs):
        return {}, {}, None

    @staticmethod
    def prepare_batch(batch, input_device, output_device):
        return dict(batch)


def test_every_network_remembers_its_own_arguments():
    first, second = Network(a=1), Network(b=2)
    assert first.init_kwargs == {"a": 1}
    assert second.init_kwargs == {"b": 2}
    first.init_kwargs["a"] = 3  # a copy
    assert first.init_kwargs == {"a": 1}


@pytest.mark.parametrize("missing", ["closure", "prepare_batch"])
def test_a_network_has_a_closure_and_prepares_its_batches(missing, refuses):
    members = {name: vars(Network)[name] for name in ("closure", "prepare_batch") if name != missing}
    refuses(TypeError, missing, type("Incomplete", (AbstractNetwork,), members))
