import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError, ShapeError, UnknownNameError
from delira_nca.losses import SlicedTransport, TextureLoss
from delira_nca.losses.texture import FilterBank


def waves(channels=3, size=96):
    """A texture: crossed waves of a few lengths, of another phase in each channel."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    parts = [torch.sin(0.7 * x + 0.3 * y + c) * torch.sin(0.45 * y - 0.2 * x + 2 * c) for c in range(channels)]
    return torch.stack(parts)[None] / 2 + 0.5


@pytest.fixture(scope="module")
def loss():
    return SlicedTransport()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shuffled_texture_is_far_and_another_crop_is_near(loss, channels):
    texture = waves(channels)
    target, crop = texture[..., :48, :48], texture[..., 37:85, 41:89]
    order = torch.randperm(48 * 48, generator=torch.Generator().manual_seed(0))
    shuffled = target.flatten(2)[..., order].reshape(target.shape)
    assert loss(target, target).item() == 0
    assert loss(shuffled, target) > 20 * loss(crop, target) > 0


def test_textures_of_different_size_are_compared_by_the_nearest_rank(loss):
    texture = waves()
    assert loss(texture[..., :48, :64], texture) < 0.1 * loss(texture[..., :48, :64] * 0.5, texture)
    few, many = torch.tensor([[[1.0], [3.0], [2.0]]]), torch.arange(9.0).reshape(1, 9, 1)
    plain = SlicedTransport(lambda x: [x.flatten(2).mT], num_projections=1)
    found = plain(few.mT[..., None], many.mT[..., None]).item()
    assert found == pytest.approx(sum((a - b) ** 2 for a, b in zip([1, 2, 3], [1, 4, 7], strict=True)) / 3)


def test_in_one_dimension_it_is_the_distance_of_sorted_values(noise):
    a, b = noise(2, 1, 8, 8), noise(2, 1, 8, 8, seed=1)
    plain = SlicedTransport(lambda x: [x.flatten(2).mT], num_projections=3)
    expected = (a.flatten(1).sort(1).values - b.flatten(1).sort(1).values).square().mean()
    assert plain(a, b).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_filters_are_orthogonal_and_those_of_the_seed():
    for channels in (1, 3):
        filters = FilterBank(64, seed=3).filters(channels)
        assert [tuple(f.shape[1:]) for f in filters] == [(channels, 5, 5), (channels, 7, 7)]
        assert sum(map(len, filters)) == 64
        for weight in filters:
            assert torch.allclose(weight.flatten(1) @ weight.flatten(1).T, torch.eye(len(weight)), atol=1e-6)
    again, other = FilterBank(64, seed=3).filters(3), FilterBank(64, seed=4).filters(3)
    assert torch.equal(again[0], filters[0])
    assert not torch.equal(other[0], filters[0])


def test_the_bank_sees_pixels_and_rectified_answers_at_each_level(noise):
    bank = FilterBank(8, num_levels=2)
    picture = noise(1, 2, 20, 16)
    pixels, answers, coarse, _ = bank(picture)
    assert torch.equal(pixels, picture.flatten(2).mT)
    assert torch.allclose(coarse, F.avg_pool2d(picture, 2).flatten(2).mT)
    seven = F.conv2d(picture, bank.filters(2)[1]).relu()
    assert torch.allclose(answers[..., 4:], seven.flatten(2).mT, atol=1e-6)


def test_the_same_seed_gives_the_same_loss_and_none_draws_new_lines():
    texture = waves()
    a, b = texture[..., :32, :32], texture[..., 40:72, 40:72]
    assert torch.equal(SlicedTransport()(a, b), SlicedTransport()(a, b))
    assert not torch.equal(SlicedTransport(seed=1)(a, b), SlicedTransport()(a, b))
    drawing = SlicedTransport(seed=None)
    torch.manual_seed(0)
    first, second = drawing(a, b), drawing(a, b)
    torch.manual_seed(0)
    assert torch.equal(drawing(a, b), first)
    assert not torch.equal(first, second)


@pytest.mark.processor
def test_a_picture_becomes_the_texture_by_descent(loss, noise):
    target = waves()[..., :32, :32]
    picture = (0.5 + 0.1 * noise(1, 3, 32, 32)).requires_grad_()
    optimizer, values = torch.optim.Adam([picture], 0.05), []
    for _ in range(25):
        optimizer.zero_grad()
        value = loss(picture, target)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.1 * values[0]


def test_what_cannot_be_compared_is_refused(loss, refuses):
    picture, grey, whole = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), "must be a whole number of at least 1"
    refuses(ShapeError, r"not \(1, 3, 32, 32\) and \(2, 3, 32, 32\)", loss, picture, picture.repeat(2, 1, 1, 1))
    refuses(ShapeError, "at least 28 cells along each side for 3 levels", loss, picture[:, :, :27], picture)
    many = SlicedTransport(num_filters=80)
    refuses(ConfigError, "1 channels have 74 orthogonal filters, not 80", many, grey, grey)
    refuses(ConfigError, r"a texture is of floats from 0 to 1, .* not of torch\.uint8", loss, picture, picture.byte())
    refuses(UnknownNameError, "unknown features 'vg'", SlicedTransport, "vg")
    refuses(ConfigError, "features are 'filters', 'vgg' or a module, not a Tensor", SlicedTransport, picture)
    for name in ("num_projections", "num_levels"):
        refuses(ConfigError, f"{name} {whole}, not 0", SlicedTransport, **{name: 0})


def small_vgg(weights=None):
    assert weights is None  # anything else would be downloaded
    layers = [layer for _ in range(13) for layer in (nn.Conv2d(3, 3, 1), nn.ReLU())]
    return SimpleNamespace(
        features=nn.Sequential(*layers), load_state_dict=lambda state: layers[0].weight.data.copy_(state["w"])
    )


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    zoo = ModuleType("torchvision.models")
    address = "https://somewhere/vgg16-x.pth"
    zoo.VGG16_Weights, zoo.vgg16 = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=address)), small_vgg
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", zoo)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / "vgg16-x.pth"


def test_without_torchvision_or_its_weights_vgg_is_refused_and_nothing_is_downloaded(torchvision, monkeypatch, refuses):
    refuses(MissingFileError, r"weights of VGG16 at .*vgg16-x.pth; they are not downloaded", SlicedTransport, "vgg")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    refuses(MissingDependencyError, "features='vgg' needs torchvision: pip install torchvision", SlicedTransport, "vgg")


def test_vgg_takes_the_weights_of_the_cache_and_sees_colour_only(torchvision, refuses):
    torch.save({"w": torch.eye(3)[..., None, None]}, torchvision)
    loss = SlicedTransport("vgg")
    texture = waves()[..., :32, :32]
    assert len(loss.features(texture)) == 6
    assert loss(texture, texture).item() == 0
    assert loss(texture.flip(1) * 0.5, texture).item() > 0
    assert not any(p.requires_grad for p in loss.features.parameters())
    refuses(ShapeError, r"VGG sees \(B, 3, H, W\) pictures, not \(1, 1, 32, 32\)", loss, texture[:, :1], texture[:, :1])


def test_the_loss_of_a_state_is_that_of_its_first_three_channels_plus_a_half(loss):
    texture = waves(size=48)
    state = torch.cat([0.7 * texture - 0.5, torch.rand(1, 9, 48, 48)], 1).requires_grad_()
    value = TextureLoss(seed=0)(state, texture)
    assert value.item() == loss(0.7 * texture, texture).item() > 0
    value.backward()
    assert state.grad[:, :3].abs().sum() > 0 == state.grad[:, 3:].abs().sum()
    beyond = torch.cat([state.detach(), torch.full((1, 12, 48, 48), 3.0)], 1)
    assert TextureLoss(seed=0, overflow=0.5)(beyond, texture).item() == pytest.approx(value.item() + 0.5)
    torch.manual_seed(0)
    other = TextureLoss()
    assert other(state, texture).item() != other(state, texture).item()
