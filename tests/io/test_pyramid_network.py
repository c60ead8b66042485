import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError, ExportError
from delira_nca.export import to_html
from delira_nca.io import describe_network, load_checkpoint, load_network, save_checkpoint, save_network
from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import BasicNCAModel, CascadeNCA, PyramidNCA, presets
from delira_nca.training import PyTorchNetworkTrainer


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
def test_a_saved_pyramid_predicts_as_before(number, randomise, noise, tmp_path):
    network = randomise(list(pyramids())[number])
    save_network(network, tmp_path / "pyramid.pt")
    again = load_network(tmp_path / "pyramid.pt")
    image = noise(1, 1, *(8,) * network.dims)
    assert type(again) is type(network)
    assert again.to_dict() == network.to_dict()
    assert torch.equal(again.predict(image, seed=3).output_image, network.predict(image, seed=3).output_image)
    if network.patch_size is not None:
        batch = {"data": noise(2, 1, 16, 16)}
        states = [net.forward_batch(batch, seed=1, train=True)[0].output_image for net in (network, again)]
        assert torch.equal(*states)


def test_a_level_of_the_users_own_is_handed_in_again(tmp_path):
    class Mine(BasicNCAModel):
        pass

    mine = Mine(num_image_channels=1, num_hidden_channels=3, hidden_size=8)
    save_network(PyramidNCA(mine, [2, 1], [1, 1]), tmp_path / "pyramid.pt")
    with pytest.raises(CheckpointError, match="a level is a .*Mine, which is not the package's: pass the models"):
        load_network(tmp_path / "pyramid.pt")
    assert load_network(tmp_path / "pyramid.pt", models=mine).models[0] is mine
    with pytest.raises(ConfigError, match=r"PyramidNCA takes no argument 'step'.*Did you mean 'steps'"):
        PyramidNCA.from_dict({"models": {}, "scales": [1], "step": [1]})


def test_no_class_of_another_package_is_made_of_a_file_and_a_live_page_refuses_a_pyramid(tmp_path):
    network = PyramidNCA(level(), [2, 1], [1, 1])
    description = describe_network(network)
    description["class"] = "delira_nca.io.network.save_network"
    save_checkpoint({"model": description, "network": dict(network.state_dict())}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="is of a delira_nca.io.network.save_network, not a"):
        load_network(tmp_path / "evil.pt")
    with pytest.raises(ExportError, match="a live page shows a BasicNCAModel, not a PyramidNCA"):
        to_html(network, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


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
def test_a_trainer_trains_a_pyramid_on_patches_and_its_checkpoint_describes_it(single, tmp_path):
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
    trainer.save_state(tmp_path / "state.pt")
    assert load_checkpoint(tmp_path / "state.pt")["model"]["class"].endswith("CascadeNCA")
    again, image = load_network(tmp_path / "state.pt", best=False), squares(4)[0]["data"]
    assert torch.equal(again.predict(image).pred, network.predict(image).pred)
