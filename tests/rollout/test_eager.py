import pytest
import torch

from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception
from delira_nca.rollout import rollout, using_backend

STEPS = 12


@pytest.fixture(autouse=True)
def on_the_reference():
    with using_backend("reference"):
        yield


def automaton(windowed=True, **changes):
    arguments = {
        "num_image_channels": 4,
        "num_hidden_channels": 4,
        "immutable_image_channels": False,
        "perception": Perception("identity", "sobel", padding="zeros" if windowed else "circular"),
        "rule": MLPRule(12),
        "alive": AliveMask(),
        **changes,
    }
    return BasicNCAModel(**arguments)


@pytest.fixture(params=[True, False], ids=["windowed", "everywhere"])
def model(request, randomise):
    model = randomise(automaton(request.param, use_temporal_encoding=True))
    with torch.no_grad():
        model.rule.last.bias[3] = 0.2
    assert model.skips_dead_space is request.param
    return model


@pytest.fixture
def x(noise):
    """Life in the middle of 14 x 13 cells."""
    x = torch.zeros(2, 8, 14, 13)
    x[:, :, 6:8, 5:8] = noise(2, 8, 2, 3).abs()
    return x


def run(model, x, steps=STEPS, **options):
    """Result, and the gradients of the input and of every weight."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = rollout(x, model, steps, **options)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


def assert_all_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("segment", [1, 3, 4, 6, 7])
def test_checkpointed_gradients_are_bit_equal(model, x, segment):
    plain = run(model, x, seed=7, segment=STEPS)
    assert plain[1].abs().max() > 0
    assert_all_equal(run(model, x, seed=7, segment=segment), plain)


def test_a_small_budget_chooses_segments_with_equal_gradients(randomise, x):
    model = randomise(automaton(windowed=False))
    assert_all_equal(run(model, x, seed=7, memory_budget=1), run(model, x, seed=7, segment=STEPS))
    assert_all_equal(run(model, x, seed=7), run(model, x, seed=7, segment=STEPS))


def test_segments_need_less_memory(randomise, noise, peak):
    model, steps = randomise(automaton(windowed=False)), 48
    x = noise(2, 8, 12, 12)

    def measured(**options):
        return peak(lambda: rollout(x, model, steps, **options))

    plain = measured(segment=steps)
    assert plain > steps * x.nbytes  # the measure sees what is stored
    assert measured(segment=6) < 0.3 * plain
    assert measured(memory_budget=x.nbytes) < 0.3 * plain
    assert measured() > 0.9 * plain  # the default budget is large


def test_nothing_is_kept_without_gradients(randomise, noise):
    model = randomise(automaton(windowed=False))
    x = noise(2, 8, 12, 12)
    with torch.no_grad():
        out = rollout(x, model, 8, seed=1, segment=2)
    assert not out.requires_grad
    assert torch.equal(out, rollout(x, model, 8, seed=1).detach())
