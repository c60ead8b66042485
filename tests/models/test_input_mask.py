import pytest
import torch

from delira_nca.errors import ExportError
from delira_nca.export.cell import describe_cell
from delira_nca.models import BasicNCAModel, InputMask, MLPRule, Perception, build_model
from delira_nca.rollout import BACKENDS, trajectory, using_backend

pytestmark = pytest.mark.processor


@pytest.fixture
def model(randomise):
    return randomise(build_model("self_classifying"), 0.1)


@pytest.fixture
def digits(noise):
    return noise(2, 1, 10, 10).clamp(-1, 1)


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    if (reason := BACKENDS[request.param].unavailable()) is not None:
        pytest.skip(reason)
    with using_backend(request.param):
        yield request.param


def test_only_cells_of_the_digit_update_and_others_keep_what_they_hold(backend, model, digits, noise):
    state = model.predict(digits, 20, seed=1).output_image
    inside = (digits > 0.1).expand_as(state[:, 1:])
    assert torch.equal(state[:, :1], digits)
    assert state[:, 1:][~inside].abs().max() == 0
    assert (state[:, 1:][inside] != 0).all()
    x = torch.cat([digits, noise(2, 19, 10, 10, seed=1)], 1)
    state = model.predict(x, 5, seed=1).output_image
    outside = (digits <= 0.1).expand_as(x)
    assert torch.equal(state[outside], x[outside])
    assert not torch.equal(state, x)


@pytest.mark.parametrize("masks", ["seed", "tensor", "function"])
def test_all_back_ends_agree_and_gradients_too(model, digits, noise, masks):
    x = torch.cat([digits, noise(2, 19, 10, 10, seed=1)], 1)
    drawn = noise(4, 2, 1, 10, 10, seed=2) > 0
    given = {"seed": None, "tensor": drawn, "function": lambda t: None if t == 1 else drawn[t]}[masks]
    found = {}
    for name, each in BACKENDS.items():
        if each.unavailable() is not None:
            continue
        model.zero_grad()
        with using_backend(name):
            states = trajectory(x, model, 4, keep=[2, 4], seed=3, masks=given)
        (states[4] * noise(2, 20, 10, 10, seed=5)).sum().backward()
        found[name] = [*(s.detach() for s in states.values()), *(p.grad.clone() for p in model.parameters())]
    for name in found:
        for a, b in zip(found[name], found["reference"], strict=True):
            assert torch.allclose(a, b, atol=1e-4 * max(1.0, b.abs().max().item())), name


def test_it_is_strictly_above_the_threshold(randomise):
    model = BasicNCAModel(
        num_image_channels=1, num_hidden_channels=1, perception=Perception("identity"), rule=MLPRule(2), fire_rate=1.0,
        input_mask=InputMask(0, 0.25),
    )  # fmt: skip
    with torch.no_grad():
        model.rule.last.bias.fill_(1.0)
    image = torch.tensor([0.2, 0.25, 0.26, -1.0]).view(1, 1, 1, 4)
    assert model.predict(image, 3).hidden_channels.flatten().tolist() == [0.0, 0.0, 3.0, 0.0]
    one = model._forward_step(torch.cat([image, torch.zeros_like(image)], 1), 0)
    assert one[:, 1].flatten().tolist() == [0.0, 0.0, 1.0, 0.0]


def test_noise_joins_the_updates_of_the_digit_alone(digits):
    model = build_model("self_classifying")  # a fresh rule says nothing: the noise is all there is
    hidden = model.predict(digits, 1, masks=lambda t: None).output_image[:, 1:]
    inside = (digits > 0.1).expand_as(hidden)
    assert hidden[~inside].abs().max() == 0
    assert abs(hidden[inside].std().item() - 0.02) < 0.002


def test_a_live_page_refuses_it_by_name(model, refuses):
    refuses(ExportError, "those of this BasicNCAModel do where the input says so", describe_cell, model)
