import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import BasicNCAModel, GroupedPerception, LinearRule, Perception
from delira_nca.rollout import BACKENDS, UnsupportedCellError, rollout, using_backend

pytestmark = pytest.mark.processor


@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_each_channel_goes_through_its_filter_and_absolute_values_follow(noise, padding, dims):
    channels = 2 * (dims + 1)
    x = noise(2, channels, *[5] * dims)
    seen = GroupedPerception(padding=padding, sobel_scale=1.0).build(channels, dims)(x)
    every = Perception("laplacian", "sobel", padding=padding).build(channels, dims)(x)
    every = every.unflatten(1, (dims + 1, channels))
    picked = torch.stack([every[:, c // 2, c] for c in range(channels)], 1)
    assert torch.allclose(seen, torch.cat([x, picked, x.abs(), picked.abs()], 1), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(4, (2, 1, 1)), (6, (2, 2, 2)), (8, (4, 2, 2)), (12, (4, 4, 4)), (5, (3, 1, 1))]
)
def test_channels_are_shared_out_as_in_the_article(channels, groups):
    assert GroupedPerception().build(channels).groups == groups


@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_the_fast_back_ends_roll_a_linear_rule_out_as_the_reference(noise, randomise, time, fixed):
    model = BasicNCAModel(
        num_image_channels=2,
        num_hidden_channels=4,
        immutable_image_channels=fixed,
        perception=GroupedPerception(),
        rule=LinearRule(),
        use_temporal_encoding=time,
        training_timesteps=8,
    )
    randomise(model, 0.05)
    x = noise(2, 6, 8, 9)
    found = {}
    for backend in ("reference", "sparse", "native"):
        if BACKENDS[backend].unavailable() is None:
            with using_backend(backend), torch.no_grad():
                found[backend] = rollout(x, model, 6, seed=4)
            assert torch.allclose(found[backend], found["reference"], atol=1e-5, rtol=1e-4)
    assert len(found) > 1


def test_linear_rules_with_gradients_or_on_another_perception_are_left_to_the_reference(noise, refuses):
    model = BasicNCAModel(
        num_image_channels=4, num_hidden_channels=0, immutable_image_channels=False,
        perception=GroupedPerception(), rule=LinearRule(init_scale=0.1),
    )  # fmt: skip
    refuses(UnsupportedCellError, "no gradients of a linear rule", model.to_arrays)
    x = torch.zeros(1, 4, 6, 6, requires_grad=True)  # where the two rectifiers would have none
    model(x, 1, masks=lambda t: None).output_image.sum().backward()
    signed = model.rule.last.weight[:, :4, 0, 0].sum(0)
    assert torch.allclose(x.grad.mean((0, 2, 3)), 1 + signed, atol=1e-5)
    model = BasicNCAModel(perception=Perception("identity"), rule=LinearRule())
    with torch.no_grad(), pytest.raises(UnsupportedCellError, match="not GroupedPerception itself"):
        model.to_arrays()
    assert model.predict(noise(1, 16, 6, 6), 2).output_image.isfinite().all()


def test_a_linear_rule_begins_as_small_as_it_is_told():
    torch.manual_seed(0)
    last = LinearRule(init_scale=0.01).build(400, 100).last
    assert abs(last.weight.std().item() - 0.01) < 1e-3
    assert LinearRule(init_scale=0.0, bias=False).build(4, 2).last.weight.abs().max() == 0
    assert LinearRule(bias=False).build(4, 2).last.bias is None
    rule = LinearRule().build(4, 2)
    rule.freeze()
    assert rule.last.weight.requires_grad
    rule.freeze(freeze_last=True)
    assert not rule.last.weight.requires_grad


def test_what_cannot_work_is_refused(noise, refuses):
    refuses(ConfigError, r"3 numbers with the sum 6.*not \(2, 2, 1\)", GroupedPerception((2, 2, 1)).build, 6)
    refuses(ConfigError, r"2 numbers with the sum 6", GroupedPerception((2, 2, 2)).build, 6, 1)
    refuses(ConfigError, "groups must be one or more whole numbers of at least 0", GroupedPerception, (2, -1, 1))
    refuses(ConfigError, "sobel_scale must be a number above 0", GroupedPerception, sobel_scale=-1)
    refuses(UnknownNameError, "Did you mean 'circular'", GroupedPerception, padding="circle")
    refuses(ShapeError, r"built for \(B, 4, 2 spatial axes\)", GroupedPerception().build(4), noise(1, 4, 6))
    refuses(ConfigError, "init_scale must be a number of at least 0, not -1", LinearRule, init_scale=-1)
