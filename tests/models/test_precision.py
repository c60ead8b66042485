import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.models import BasicNCAModel, presets
from delira_nca.models.precision import Precision
from delira_nca.rollout import using_backend

pytestmark = pytest.mark.processor


def test_full_precision_is_the_default():
    precision = Precision()
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert precision.scaler is None
    assert precision.state_dict() == {}


def test_mixed_precision_computes_in_bfloat16_and_keeps_the_state_in_float32(randomise, noise):
    model = randomise(BasicNCAModel(**presets.growing(training_timesteps=5, inference_timesteps=5)), 0.05)
    state = noise(2, 16, 8, 8).abs()
    batch = {"data": state, "label": torch.zeros(2, 4, 8, 8)}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for backend in ("auto", "reference"):  # of which the first may have no products in bfloat16 on this processor
        with using_backend(backend):
            exact = model.closure(model, batch, {}, {}, {}, seed=1)[2].output_image
            mixed = model.closure(model, batch, {}, {}, {}, precision=Precision(mixed=True), seed=1)[2].output_image
        assert (exact - mixed).abs().max() < 0.1 * exact.abs().max()
    assert not torch.equal(exact, mixed)
    seen = []
    model.rule.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    before = [p.clone() for p in model.parameters()]
    _, losses, prediction = model.closure(
        model, batch, {"default": optimizer}, {}, {}, precision=Precision(mixed=True), seed=1
    )
    assert set(seen) == {torch.bfloat16}
    assert prediction.output_image.dtype == torch.float32
    assert losses["loss"].dtype == torch.float32
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert not torch.equal(parameter, old)


@pytest.mark.parametrize("dtype", ["float16", torch.float16])
def test_float16_is_scaled_and_its_scale_is_in_the_state(dtype):
    precision = Precision(mixed=True, device_type="cpu", options={"dtype": dtype, "scaler": {"init_scale": 8.0}})
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([weight], 1.0)
    precision.backward((weight * 0.5).sum())
    assert weight.grad.item() == 4.0  # 8 times 0.5
    precision.step(optimizer)
    precision.update()
    assert weight.item() == 0.5  # by the true gradient
    other = Precision(mixed=True, device_type="cpu", options={"dtype": "float16"})
    other.load_state_dict(precision.state_dict())
    assert other.scaler.get_scale() == 8.0


def test_delira_and_apex_options_are_taken_or_dropped_with_a_warning():
    assert Precision(options={"enable_caching": False}).cache_enabled is False
    assert Precision(options={"verbose": False, "allow_banned": False}).cache_enabled is True
    with pytest.warns(UserWarning, match="allow_banned.*mean nothing to torch.amp"):
        Precision(options={"allow_banned": True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtpye": "bfloat16"}, "Did you mean 'dtype'"),
        ({"dtype": "float32"}, "float16 or bfloat16, not 'float32'"),
        ({"dtype": "no_dtype"}, "not 'no_dtype'"),
        ({"dtype": torch.float64}, "not torch.float64"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, refuses):
    refuses(ConfigError, message, Precision, mixed=True, options=options)
