import pytest

from delira_nca.models import AbstractNetwork


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
