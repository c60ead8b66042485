"""NCALab's cascade: interpolation, noise, steps and names."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError
from delira_nca.ncalab import BinarySegmentationNCAModel, CascadeNCA, ClassificationNCAModel, downscale, upscale

OPTIONS = {"hidden_size": 8, "fire_rate": 1.0, "use_temporal_encoding": True, "training_timesteps": 10}


def cascade(scales=(4, 2, 1), steps=(4, 3, 2), single=True, **options):
    model = BinarySegmentationNCAModel("cpu", 3, 5, **{**OPTIONS, **options})
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return CascadeNCA(model, scales, steps, single)


def images(side=16):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.processor
@pytest.mark.parametrize("single", [True, False])
def test_a_cascade_computes_what_nca_labs_does(single, nca_lab_step):
    net, x = cascade(single=single), F.pad(images(), (0, 0, 0, 0, 0, 6))
    weights = dict(net.wrapped.named_parameters())
    state, done = downscale(x, 4), 0
    for scale, steps, following in ((4, 4, 2), (2, 3, 1), (1, 2, None)):
        for _ in range(steps):
            state = nca_lab_step(state, done, weights, image=3, padding="circular", horizon=10)
            done += 1
        if following is not None:
            state = upscale(state, scale / following)
            state = torch.cat([downscale(x[:, :3], following), state[:, 3:]], 1)
    for given in (x, images()):
        torch.testing.assert_close(net.predict(given).output_image, state, rtol=1e-4, atol=1e-5)
    assert torch.equal(net.predict(x).mask, net.predict(x).logits > 0)


def test_the_interpolation_aligns_the_corners():
    image = images(9)
    assert torch.equal(downscale(image, 1), image)
    small = downscale(image, 4)
    assert small.shape == (2, 3, 2, 2)
    torch.testing.assert_close(small, image[..., ::8, ::8])
    assert torch.equal(upscale(small, 2)[..., :2, :2], small[..., :1, :1].expand(2, 3, 2, 2))
    with pytest.raises(ConfigError, match="scale is at least 1, not 0.5"):
        downscale(image, 0.5)


def test_noise_is_that_of_the_image_downscaled():
    net, full = (cascade(scales, (1,) * len(scales), pad_noise=True) for scales in ((2, 1), (1,)))
    for each in (net, full):
        nn.init.zeros_(each.wrapped.rule.network[2].weight)
    first = net.record(images(64), keep=[1])[0].hidden_channels[..., ::2, ::2]
    assert first.mean() == pytest.approx(0.5, abs=0.02)
    assert 0.1 < first.std() < 0.2  # interpolated; that of single cells would be 0.225
    assert full.predict(images(64)).hidden_channels.std() == pytest.approx(0.225, abs=0.01)


def test_a_number_of_steps_is_accepted_and_not_used(caplog):
    net = cascade()
    frames = net.record(images(), 9)
    assert [frame.steps for frame in frames] == list(range(1, 10))
    assert not caplog.records
    assert torch.equal(net.predict(images(), 50).output_image, frames[-1].output_image)
    assert "steps=50 is not used: a cascade makes (4, 3, 2) steps" in caplog.text
    assert len(net.record(images(), [1, 1, 1])) == 3


def test_steps_vary_in_training_only():
    net = cascade(steps=(10, 10, 5))
    batch = {"data": images()}
    assert len({net.forward_batch(batch, seed=seed, train=True)[0].steps for seed in range(20)}) > 1
    assert {net.forward_batch(batch, seed=seed)[0].steps for seed in range(5)} == {25}


def test_weights_of_nca_labs_cascades_are_loaded_and_its_unused_ones_dropped():
    net = cascade()
    state = {f"wrapped.{name}": torch.ones_like(tensor) for name, tensor in net.wrapped.state_dict().items()}
    unused = {name.removeprefix("wrapped."): torch.zeros_like(tensor) for name, tensor in state.items()}
    for prefix in ("", "_orig_mod."):
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
        net.load_state_dict({f"{prefix}{name}": tensor for name, tensor in {**unused, **state}.items()})
        assert all(bool((parameter == 1).all()) for parameter in net.parameters())
    several = cascade(single=False)
    several.load_state_dict({**unused, **state})
    assert all(bool((parameter == 1).all()) for parameter in several.parameters())


def test_a_cascade_has_the_classes_and_metrics_of_its_model():
    model = ClassificationNCAModel("cpu", 3, 5, 2, class_names=["cat", "dog"], avg_pool_size=2, hidden_size=8)
    net = CascadeNCA(torch.compile(model, backend="eager"), [2, 1], [2, 2])
    assert (net.wrapped, net.num_classes, net.class_names, net.avg_pool_size) == (model, 2, ["cat", "dog"], 2)
    assert (net.metrics, net.validation_metric) == (model.metrics, "f1")
    assert (net.head, net.rule, net.training_timesteps, net.pad_noise) == (model.head, model.rule, 100, False)
    with pytest.raises(AttributeError, match="fire"):
        net.fire  # noqa: B018
    net.metrics = {"accuracy": lambda logits, label: torch.tensor(1.0)}
    pairs = [(images(), torch.tensor([0, 1])), (images()[:1], torch.tensor([0]))]
    metrics, predictions = net.validate(pairs)
    assert metrics == {"accuracy": 1.0}
    assert [one.logits.shape for one in predictions] == [(2, 2), (1, 2)]
