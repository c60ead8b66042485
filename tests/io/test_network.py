import pytest
import torch
from torch import nn

from delira_nca.errors import CheckpointError
from delira_nca.io import describe_network, load_checkpoint, load_network, save_checkpoint, save_network
from delira_nca.models import AliveMask, BasicNCAModel, FullFilters, LearnedFilters, MLPRule, Perception, presets
from delira_nca.training import PyTorchNetworkTrainer


class Smaller(BasicNCAModel):
    pass


@pytest.mark.parametrize(
    "arguments",
    [
        presets.growing(),
        presets.growing(alive=AliveMask(2, 0.2, before=False), use_temporal_encoding=True, update_noise=0.1),
        {
            "dims": 3,
            "perception": Perception("identity", LearnedFilters(2, 5), FullFilters(1, 7), padding="circular"),
            "rule": MLPRule((20, 10), nonlinearity="gelu", final_bias=False),
        },
    ],
)
def test_a_saved_network_rolls_out_as_before(arguments, randomise, noise, path):
    model = randomise(BasicNCAModel(**arguments))
    save_network(model, path)
    again = load_network(path)
    x = noise(1, model.num_channels, *(6,) * model.dims)
    assert not again.training
    assert torch.equal(again.predict(x, 5, seed=3).output_image, model.predict(x, 5, seed=3).output_image)


def test_a_checkpoint_of_a_run_gives_its_best_or_its_last_network(path):
    network = BasicNCAModel(**presets.growing(training_timesteps=3))
    trainer = PyTorchNetworkTrainer(network, None, optimizer_params={"lr": 0.1})
    batch = {"data": torch.ones(1, 16, 6, 6), "label": torch.zeros(1, 4, 6, 6)}
    best = trainer.train(3, [batch], [batch], "mse", "lowest")
    trainer._best_weights = {name: torch.full_like(value, 0.5) for name, value in best.state_dict().items()}
    trainer.save_state(path)
    found = load_network(path)
    assert all(bool((value == 0.5).all()) for value in found.state_dict().values())
    last = load_network(path, best=False).state_dict()
    assert all(torch.equal(last[name], value) for name, value in network.state_dict().items())


def test_a_network_of_another_class_is_loaded_by_naming_the_class(path):
    save_network(Smaller(**presets.growing()), path)
    with pytest.raises(CheckpointError, match=r"of a .*Smaller, not a .*BasicNCAModel: pass cls="):
        load_network(path)
    assert type(load_network(path, Smaller)) is Smaller


def test_a_rule_of_the_users_own_is_handed_in_again(path, randomise):
    def rule():
        return nn.Conv2d(48, 16, 1)

    model = randomise(BasicNCAModel(**presets.growing(rule=rule())))
    save_network(model, path)
    with pytest.raises(CheckpointError, match=r"rule is a torch.*Conv2d, which a description cannot hold"):
        load_network(path)
    again = load_network(path, rule=rule())
    assert torch.equal(again.rule.weight, model.rule.weight)


def test_a_checkpoint_without_a_description_or_with_weights_that_do_not_fit_is_an_error(path):
    save_checkpoint({"network": {}}, path)
    with pytest.raises(CheckpointError, match="does not say of which model it is"):
        load_network(path)
    save_network(BasicNCAModel(**presets.growing()), path)
    state = load_checkpoint(path)
    state["network"]["rule.last.bias"] = torch.zeros(3)
    save_checkpoint(state, path)
    with pytest.raises(CheckpointError, match=r"(?s)does not fit a BasicNCAModel.*rule\.last\.bias"):
        load_network(path)


def test_a_network_with_arguments_that_are_no_plain_values_is_not_described(path):
    class Odd(BasicNCAModel):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.odd = True

        def to_dict(self):
            return {**super().to_dict(), "plot": print}

    assert describe_network(Odd(**presets.growing())) is None
    assert describe_network(nn.Linear(1, 1)) is None
    with pytest.raises(CheckpointError, match="Odd has arguments that are not plain values"):
        save_network(Odd(**presets.growing()), path)
