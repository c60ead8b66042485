import pytest
import torch
from torch import nn

from delira_nca.errors import CheckpointError, ConfigError, ExportError
from delira_nca.export import to_html
from delira_nca.io import describe_network, load_checkpoint, load_network, save_checkpoint, save_network
from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    CascadeNCA,
    FullFilters,
    LearnedFilters,
    MLPRule,
    Perception,
    PyramidNCA,
    presets,
)
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


def level(**changes):
    return BasicNCAModel(
        **{"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8, **changes}
    )


def pyramids():
    yield PyramidNCA(level(), [4, 2, 1], [2, 2, 2], downscale="max", patch_size=8, patch_levels=2, jitter=0.5)
    yield PyramidNCA([level(), level(hidden_size=12)], [(4, 2), 1], [2, 2], patch_size=(8, 4))
    yield CascadeNCA(level(pad_noise=True), [2, 1], [2, 2])
    yield CascadeNCA(level(), [2, 1], [2, 2], single_model=False)
    yield PyramidNCA(**presets.m3d_nca(steps=(1, 1)))


@pytest.mark.parametrize("number", range(5))
def test_a_saved_pyramid_predicts_as_before(number, randomise, noise, path):
    network = randomise(list(pyramids())[number])
    save_network(network, path)
    again = load_network(path)
    image = noise(1, 1, *(8,) * network.dims)
    assert type(again) is type(network)
    assert again.to_dict() == network.to_dict()
    assert torch.equal(again.predict(image, seed=3).output_image, network.predict(image, seed=3).output_image)
    if network.patch_size is not None:
        batch = {"data": noise(2, 1, 16, 16)}
        states = [net.forward_batch(batch, seed=1, train=True)[0].output_image for net in (network, again)]
        assert torch.equal(*states)


def test_a_level_of_the_users_own_is_handed_in_again(path):
    class Mine(BasicNCAModel):
        pass

    mine = Mine(num_image_channels=1, num_hidden_channels=3, hidden_size=8)
    save_network(PyramidNCA(mine, [2, 1], [1, 1]), path)
    with pytest.raises(CheckpointError, match="a level is a .*Mine, which is not the package's: pass the models"):
        load_network(path)
    assert load_network(path, models=mine).models[0] is mine
    with pytest.raises(ConfigError, match=r"PyramidNCA takes no argument 'step'.*Did you mean 'steps'"):
        PyramidNCA.from_dict({"models": {}, "scales": [1], "step": [1]})


def test_no_class_of_another_package_is_made_of_a_file_and_a_live_page_refuses_a_pyramid(path):
    network = PyramidNCA(level(), [2, 1], [1, 1])
    description = describe_network(network)
    description["class"] = "delira_nca.io.network.save_network"
    save_checkpoint({"model": description, "network": dict(network.state_dict())}, path)
    with pytest.raises(CheckpointError, match="is of a delira_nca.io.network.save_network, not a"):
        load_network(path)
    with pytest.raises(ExportError, match="a live page shows a BasicNCAModel, not a PyramidNCA"):
        to_html(network, path.with_name("page.html"))
    assert not path.with_name("page.html").exists()


def squares(count, size=16):
    images, labels = torch.zeros(count, 1, size, size), torch.zeros(count, 1, size, size)
    for number in range(count):
        row, column = (number * 5) % 9, (number * 3) % 8
        labels[number, :, row : row + 6, column : column + 7] = 1
    generator = torch.Generator().manual_seed(0)
    images = labels + 0.3 * torch.randn(labels.shape, generator=generator)
    return [{"data": images[i : i + 4], "label": labels[i : i + 4]} for i in range(0, count, 4)]


@pytest.mark.processor
@pytest.mark.parametrize("single", [True, False])
def test_a_trainer_trains_a_pyramid_on_patches_and_its_checkpoint_describes_it(single, path):
    torch.manual_seed(0)
    network = CascadeNCA(level(fire_rate=0.8), [2, 1], [6, 6], single, patch_size=10)
    trainer = PyTorchNetworkTrainer(
        network, None, {"loss": dice_bce}, torch.optim.Adam, {"lr": 1e-2}, metrics={"dice": dice_score}
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.train(12, squares(16), squares(4), "dice", "highest")
    losses = [entry["loss"] for entry in trainer.history]
    assert losses[-1] < 0.5 * losses[0]
    assert trainer.history[-1]["val_dice"] > 0.75
    assert all(not torch.equal(before[name], value) for name, value in network.state_dict().items())
    trainer.save_state(path)
    assert load_checkpoint(path)["model"]["class"].endswith("CascadeNCA")
    again, image = load_network(path, best=False), squares(4)[0]["data"]
    assert torch.equal(again.predict(image).pred, network.predict(image).pred)
