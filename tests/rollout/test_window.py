import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from delira_nca.models import AliveMask, BasicNCAModel, FullFilters, LearnedFilters, MLPRule, Perception
from delira_nca.rollout import rollout, using_backend
from delira_nca.rollout.eager import Window

CHANNELS = 5


@pytest.fixture(autouse=True)
def on_the_reference():
    with using_backend("reference"):
        yield


class PlainNCA(BasicNCAModel):
    skips_dead_space = False


def automaton(cls=BasicNCAModel, dims=2, **changes):
    arguments = {
        "num_image_channels": 4,
        "num_hidden_channels": CHANNELS - 4,
        "immutable_image_channels": False,
        "perception": Perception("identity", "sobel", padding="zeros"),
        "rule": MLPRule(8),
        "alive": AliveMask(channel=3),
        "dims": dims,
        **changes,
    }
    return cls(**arguments)


def pair(randomise, dims=2, scale=0.3, seed=0, **changes):
    windowed, plain = automaton(dims=dims, **changes), automaton(PlainNCA, dims=dims, **changes)
    randomise(windowed, scale, seed)
    with torch.no_grad():
        windowed.rule.last.bias[3] = 0.4  # life grows
    plain.load_state_dict(windowed.state_dict())
    assert windowed.skips_dead_space
    return windowed, plain


def gradients(model, x, steps, **options):
    x = x.clone().requires_grad_()
    out = rollout(x, model, steps, **options)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return out.detach(), [x.grad, *(p.grad for p in model.parameters())]


def assert_equal_runs(windowed, plain, x, steps, **options):
    out, grads = gradients(windowed, x, steps, **options)
    expected, expected_grads = gradients(plain, x, steps, **options)
    assert (out - expected).abs().max() <= 1e-6 * max(1.0, expected.abs().max())
    for grad, other in zip(grads, expected_grads, strict=True):
        if other is None:  # no step, no weight
            assert grad is None
        else:
            assert (grad - other).abs().max() <= 1e-5 * max(1e-3, other.abs().max())
    return out


def blob(shape, corners, size=2, samples=2):
    """A sample for each corner has a patch of life there, and one hidden number without life beside it."""
    x = torch.zeros(samples, CHANNELS, *shape)
    for sample, corner in enumerate(corners):
        where = tuple(slice(c, c + size) for c in corner)
        x[(sample % samples, slice(None), *where)] = torch.linspace(0.2, 1.0, CHANNELS).view(-1, *[1] * len(shape))
    return x


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        ((20,), [(9,)]),
        ((20,), [(0,), (18,)]),
        ((9, 17), [(4, 8)]),
        ((17, 9), [(0, 0)]),
        ((9, 17), [(7, 15), (0, 3)]),
        ((6, 7, 8), [(2, 3, 4)]),
        ((6, 5, 7), [(0, 0, 5), (4, 3, 0)]),
    ],
)
def test_the_window_changes_neither_values_nor_gradients(randomise, shape, corners):
    windowed, plain = pair(randomise, dims=len(shape))
    out = assert_equal_runs(windowed, plain, blob(shape, corners), 9, seed=4)
    assert out.abs().sum() > 0


@pytest.mark.parametrize("steps", [1, 2, 4, 5])
@pytest.mark.parametrize(
    "perception",
    [
        Perception("identity", "sobel"),
        Perception("identity", LearnedFilters(2, kernel_size=5)),
        Perception("laplacian", FullFilters(1, out_channels=3, kernel_size=7)),
    ],
    ids=["radius 1", "radius 2", "radius 3"],
)
def test_gradients_reach_as_far_into_dead_space_as_a_cell_can_see(randomise, perception, steps):
    windowed, plain = pair(randomise, perception=perception, fire_rate=1.0)
    x = blob((21, 21), [(10, 10)], size=1)
    assert_equal_runs(windowed, plain, x, steps, segment=steps)
    _, (grad, *_) = gradients(windowed, x, 1)
    reach = 1 + windowed.radius
    assert grad[0, :, 10 + reach, 10].abs().sum() > 0
    assert grad[0, :, 10 + reach + 1 :].abs().sum() == 0


@pytest.mark.parametrize("alive", [AliveMask(), AliveMask(after=False), AliveMask(threshold=0.0)], ids=str)
def test_every_alive_rule_that_asks_before_can_be_windowed(randomise, alive):
    windowed, plain = pair(randomise, alive=alive)
    assert_equal_runs(windowed, plain, blob((13, 15), [(6, 7)]), 6, seed=1)


def test_an_empty_grid_stays_empty_and_numbers_without_life_die_outside_of_the_window_too(randomise):
    windowed, plain = pair(randomise)
    out = assert_equal_runs(windowed, plain, torch.zeros(2, CHANNELS, 7, 9), 6)
    assert torch.equal(out, torch.zeros(2, CHANNELS, 7, 9))
    x = blob((15, 15), [(7, 7)])
    x[1, 4, 0, 0] = 5.0
    out = assert_equal_runs(windowed, plain, x, 4)
    assert out[1, :, 0, 0].abs().sum() == 0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_window_is_right_for_any_life_anywhere(data):
    dims = data.draw(st.integers(1, 3))
    largest = {1: 14, 2: 9, 3: 6}[dims]
    shape = tuple(data.draw(st.lists(st.integers(1, largest), min_size=dims, max_size=dims)))
    seed = data.draw(st.integers(0, 1000))
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(2, CHANNELS, *shape, generator=source)
    x = x * (torch.rand(2, 1, *shape, generator=source) < data.draw(st.sampled_from([0.0, 0.05, 0.3, 1.0])))
    windowed, plain = automaton(dims=dims), automaton(PlainNCA, dims=dims)
    with torch.no_grad():
        for parameter in windowed.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))
    plain.load_state_dict(windowed.state_dict())
    assert_equal_runs(windowed, plain, x, data.draw(st.integers(0, 6)), seed=seed)


class OtherRule(MLPRule):
    pass


class OtherAlive(AliveMask):
    pass


class OtherPerceive(BasicNCAModel):
    def perceive(self, x, t):
        return super().perceive(x, t) + 1.0


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (BasicNCAModel, {"perception": Perception("identity", "sobel", padding="circular")}),
        (BasicNCAModel, {"perception": Perception("identity", "sobel", padding="reflect")}),
        (BasicNCAModel, {"alive": AliveMask(before=False)}),
        (BasicNCAModel, {"alive": AliveMask(threshold=-0.1)}),
        (BasicNCAModel, {"alive": OtherAlive()}),
        (BasicNCAModel, {"alive": None}),
        (BasicNCAModel, {"immutable_image_channels": True}),
        (BasicNCAModel, {"rule": OtherRule(8)}),
        (BasicNCAModel, {"rule": nn.Conv2d(3 * CHANNELS, CHANNELS, 1)}),
        (OtherPerceive, {}),
    ],
)
def test_models_whose_dead_space_matters_are_computed_everywhere(cls, changes):
    assert automaton().skips_dead_space
    assert not automaton(cls, **changes).skips_dead_space


class LocalRule(nn.Module):
    """A rule of a user's own that looks at one cell only."""

    local = True

    def __init__(self):
        super().__init__()
        self.hidden, self.last = nn.Conv2d(3 * CHANNELS, 8, 1), nn.Conv2d(8, CHANNELS, 1)
        self.seen = []

    def forward(self, perception):
        self.seen.append(perception[0, 0].numel())
        return self.last(torch.tanh(self.hidden(perception)))


def test_dead_space_is_not_computed_for_a_rule_that_declares_itself_local(randomise):
    windowed, plain = automaton(rule=LocalRule()), automaton(PlainNCA, rule=LocalRule())
    randomise(windowed, 0.3, 0)
    plain.load_state_dict(windowed.state_dict())
    assert_equal_runs(windowed, plain, blob((40, 40), [(20, 20)]), 8, seed=4)
    assert max(windowed.rule.seen) < 40 * 40
    assert set(plain.rule.seen) == {40 * 40}


def test_the_box_holds_all_samples_and_ends_at_the_border():
    x = torch.zeros(2, 3, 10, 12)
    x[0, 0, 1, 6] = 1.0
    x[1, 2, 4, 9] = float("nan")
    window = Window(x, margin=2)
    assert window.bounds == [(0, 7), (4, 12)]
    part = window.cut(x)
    assert part.shape == (2, 3, 7, 8)
    assert torch.equal(window.put_back(part).nan_to_num(7.0), x.nan_to_num(7.0))
