"""The contract of every back end: values and gradients of the reference in float64, and clear words for the rest."""

import copy
import functools
import logging
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import AliveMask, BasicNCAModel, FullFilters, LearnedFilters, MLPRule, Perception
from delira_nca.rollout import BACKENDS, current_backend, fire_mask, rollout, set_backend, trajectory, using_backend
from delira_nca.rollout.backends import choose
from delira_nca.rollout.job import Job

PADDINGS = ("zeros", "reflect", "replicate", "circular")
VALUES, GRADIENTS = 1e-5, 1e-4  # largest error, of the largest number
BIG = 2**31


def require(name):
    if (reason := BACKENDS[name].unavailable()) is not None:
        pytest.skip(reason)


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    require(request.param)
    with using_backend(request.param):
        yield request.param


@pytest.fixture
def native():
    require("native")
    with using_backend("native"):
        yield


# Every option against the reference in float64 ----------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A roll-out, and where its numbers come from."""

    shape: tuple
    batch: int
    channels: int
    fixed: int
    hidden: int
    filters: tuple
    padding: str
    nonlinearity: str
    gain: float
    final_bias: bool
    alive: AliveMask | None
    life: float
    fire_rate: float
    masks: str
    time: bool
    noise: float
    steps: int
    stops: tuple
    start: int
    segment: int | None
    frozen: str
    needs_x: bool
    seed: int

    def numbers(self, *shape, offset=0):
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed + offset))

    def model(self):
        model = BasicNCAModel(
            num_image_channels=self.fixed,
            num_hidden_channels=self.channels - self.fixed,
            perception=Perception(*self.filters, padding=self.padding, laplacian_scale=0.1),
            rule=MLPRule(self.hidden, nonlinearity=self.nonlinearity, final_bias=self.final_bias),
            alive=self.alive,
            fire_rate=self.fire_rate,
            use_temporal_encoding=self.time,
            training_timesteps=10,
            update_noise=self.noise,
            dims=len(self.shape),
        )
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                scale = 0.1 if parameter.dim() == 1 else self.gain / parameter[0].numel() ** 0.5
                parameter.copy_(scale * self.numbers(*parameter.shape, offset=i))
        frozen = {"nothing": [], "all": [model], "perception": [model.perception], "last": [model.rule.last]}
        for part in frozen.get(self.frozen, [model.rule]):
            part.requires_grad_(False)
        return model

    def state(self):
        x = self.numbers(self.batch, self.channels, *self.shape, offset=100) * 0.5
        lives = torch.rand(self.batch, 1, *self.shape, generator=torch.Generator().manual_seed(self.seed)) < self.life
        return torch.where(lives, x, 0.0)

    def given_masks(self):
        if self.masks == "seed":
            return None
        drawn = self.numbers(self.steps + 2, self.batch, 1, *self.shape, offset=200) > 0
        if self.masks == "tensor":
            return drawn
        return lambda t: None if t % 3 == 1 else drawn[t - self.start]

    def run(self, model, x):
        """States, and the gradients that are wanted, None for the others."""
        x = x.clone().requires_grad_(self.needs_x)
        options = {"start": self.start, "seed": self.seed, "masks": self.given_masks(), "segment": self.segment}
        states = trajectory(x, model, self.steps, keep=(0, *self.stops), **options)
        weights = (self.numbers(*x.shape, offset=300 + done).to(x.dtype) for done in states)
        total = sum((state * weight).sum() for state, weight in zip(states.values(), weights, strict=True))
        assert total.requires_grad == (
            self.needs_x or (self.steps > 0 and any(p.requires_grad for p in model.parameters()))
        )
        if total.requires_grad:
            total.backward()
        return {k: state.detach() for k, state in states.items()}, [x.grad, *(p.grad for p in model.parameters())]


@functools.cache
def expected(case):
    """Results in float64, and how close a number came to where a rectifier or a life changes its mind."""
    model, margins = case.model().double(), []

    class Watched(AliveMask):
        def __call__(self, x):
            distance = (x[:, self.channel].detach() - self.threshold).abs()
            margins.append(distance[distance > 0].min().item() / 5 if distance.any() else 1.0)
            return super().__call__(x)

    def watch(module, arguments, output):
        distance = output.detach().abs()
        margins.append(distance[distance > 0].min().item() / max(1.0, distance.max().item()) if distance.any() else 1.0)

    if case.alive is not None:
        model.alive = Watched(case.alive.channel, case.alive.threshold, case.alive.before, case.alive.after)
    rectified = [*model.rule.hidden]
    for spec, bank in zip((f for f in case.filters if not isinstance(f, str)), model.perception.learned, strict=True):
        rectified += list(bank) if getattr(spec, "relu", False) else []
    for module in rectified:
        module.register_forward_hook(watch)
    with using_backend("reference"):
        return case.run(model, case.state().double()), min(margins, default=1.0)


def assert_close(found, target, tolerance):
    assert (found is None) == (target is None)
    if found is None:
        return
    assert found.dtype == torch.float32
    assert found.shape == target.shape
    error = (found.double() - target).abs().max().item()
    assert error <= tolerance * target.abs().max().item() + 1e-7, error


FILTERS = st.sampled_from(
    [
        ("identity",),
        ("identity", "sobel"),
        ("identity", "sobel", "laplacian"),
        ("laplacian",),
        (LearnedFilters(),),
        ("identity", LearnedFilters(1, 1)),
        ("identity", LearnedFilters(3, 3, bias=True)),
        (LearnedFilters(1, 5), "identity", LearnedFilters(1, 3, bias=True)),
        ("identity", LearnedFilters(6, 3)),
        (FullFilters(1, 7, 3), "identity"),
        (FullFilters(2, 3, 3, bias=False, relu=True), "sobel"),
        ("identity", FullFilters(1, 20, 5)),
        (FullFilters(1, None, 1, relu=True),),
    ]
)
THRESHOLDS = st.sampled_from([-0.1, 0.0, 0.1, 0.4])


@st.composite
def cases(draw):
    dims = draw(st.integers(1, 3))
    filters = draw(FILTERS)
    padding = draw(st.sampled_from(PADDINGS))
    radius = max(f.kernel_size // 2 if not isinstance(f, str) else int(f != "identity") for f in filters)
    least = {"reflect": radius + 1, "circular": max(radius, 1)}.get(padding, 1)
    longest = {1: (9, 63, 64, 65, 130), 2: (9, 12, 66), 3: (4, 5)}[dims]
    sizes = [draw(st.integers(least, max(9 if dims == 2 else 4, least))) for _ in range(dims - 1)]
    shape = (*sizes, max(least, draw(st.one_of(st.integers(1, 12), st.sampled_from(longest)))))
    batch = draw(st.integers(1, 5))
    channels = draw(st.one_of(st.integers(1, 40), st.sampled_from([1, 4, 16, 32])))
    fixed = draw(st.one_of(st.just(0), st.integers(0, channels - 1)))
    hidden = draw(st.one_of(st.integers(1, 40), st.integers(1, 200)))
    cells = batch * functools.reduce(int.__mul__, shape)
    steps = min(draw(st.integers(0, 9)), max(1, 40000 // (cells * hidden)), max(1, 40000 // (cells * channels)))
    return Case(
        shape=shape,
        batch=batch,
        channels=channels,
        fixed=fixed,
        hidden=hidden,
        filters=filters,
        padding=padding,
        nonlinearity=draw(st.sampled_from(["relu", "leaky_relu"])),
        gain=draw(st.sampled_from([0.7, 1.5])),
        final_bias=draw(st.booleans()),
        alive=draw(
            st.none()
            | st.builds(AliveMask, st.integers(0, channels - 1), THRESHOLDS)
            | st.builds(AliveMask, st.integers(0, channels - 1), THRESHOLDS, st.booleans(), st.booleans())
        ),
        life=draw(st.sampled_from([0.1, 0.2, 0.5, 1.0])),
        fire_rate=draw(st.sampled_from([0.0, 0.3, 0.5, 0.5, 1.0])),
        masks=draw(st.sampled_from(["seed", "seed", "tensor", "function"])),
        time=draw(st.booleans()),
        noise=draw(st.sampled_from([0.0, 0.0, 0.1])),
        steps=steps,
        stops=tuple(sorted(draw(st.sets(st.integers(1, steps), max_size=3)) | {steps})) if steps else (),
        start=draw(st.sampled_from([0, 0, 5])),
        segment=draw(st.sampled_from([None, None, 1, 2, 3])),
        frozen=draw(st.sampled_from(["nothing", "nothing", "nothing", "all", "perception", "last", "rule"])),
        needs_x=draw(st.booleans()),
        seed=draw(st.integers(0, 2**33)),
    )


def assert_like_the_reference_in_float64(name, case):
    (states, gradients), margin = expected(case)
    assume(margin > 2e-6)  # nothing hangs on the last bits of a float32
    with using_backend(name):
        found_states, found_gradients = case.run(case.model(), case.state())
    assert found_states.keys() == states.keys()
    for done, state in states.items():
        assert_close(found_states[done], state, VALUES)
        assert torch.equal(found_states[done][:, : case.fixed], case.state()[:, : case.fixed])
    for found, gradient in zip(found_gradients, gradients, strict=True):
        assert_close(found, gradient, GRADIENTS)


@pytest.mark.parametrize("name", list(BACKENDS))
@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(case=cases())
def test_values_and_gradients_are_those_of_the_reference_in_float64(name, case):
    require(name)
    assert_like_the_reference_in_float64(name, case)


@pytest.mark.parametrize("name", list(BACKENDS))
@settings(derandomize=True, deadline=None, max_examples=80, database=None)
@given(case=cases(), threshold=THRESHOLDS, small=st.sampled_from([(9,), (5, 7), (3, 4, 4)]))
def test_who_lives_and_dies_is_what_the_reference_says(name, case, threshold, small):
    require(name)
    alive = replace(case.alive or AliveMask(), channel=case.channels - 1, threshold=threshold)
    changes = {"shape": small, "batch": 2, "hidden": 9, "gain": 1.5, "fire_rate": max(case.fire_rate, 0.3)}
    steps = max(case.steps, 2)
    case = replace(case, **changes, alive=alive, steps=steps, stops=(1, steps), filters=("identity", "sobel"))
    assert_like_the_reference_in_float64(name, case)


# One automaton for what follows -------------------------------------------------------------------------------------


def automaton(channels=6, fixed=0, perception=("identity", "sobel"), padding="zeros", seed=0, **changes):
    arguments = {
        "num_image_channels": fixed,
        "num_hidden_channels": channels - fixed,
        "perception": Perception(*perception, padding=padding),
        "rule": MLPRule(16),
        **changes,
    }
    model = BasicNCAModel(**arguments)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))
    return model


def gradients(out, model, *others, **options):
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return torch.autograd.grad((out * weight).sum(), [*others, *model.parameters()], **options)


def bits(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


# Randomness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(130,), (7, 66), (3, 2, 9)])
@pytest.mark.parametrize(("seed", "start", "rate"), [(0, 0, 0.5), (BIG - 1, 3, 0.3), (5 * BIG + 11, 0, 0.9)])
def test_the_same_cells_fire_in_every_back_end(backend, shape, seed, start, rate):
    model = automaton(channels=1, perception=("identity",), fire_rate=rate, dims=len(shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.rule.last.bias.fill_(1.0)
        states = trajectory(torch.zeros(3, 1, *shape), model, 4, keep=range(5), seed=seed, start=start)
    for t in range(4):
        assert torch.equal(states[t + 1] - states[t] == 1, fire_mask(seed, start + t, 3, shape, rate))


@pytest.mark.parametrize("shape", [(65,), (4, 9)])
def test_the_same_noise_falls_in_every_back_end(backend, shape):
    model = automaton(fixed=2, fire_rate=0.5, update_noise=0.5, dims=len(shape))
    x = torch.zeros(2, 6, *shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        found = rollout(x, model, 3, seed=7)
        with using_backend("reference"):
            target = rollout(x, model, 3, seed=7)
    assert target.abs().max() > 0.5
    assert (found - target).abs().max() < 1e-6


# Life ---------------------------------------------------------------------------------------------------------------


def test_a_dead_cell_that_fires_saves_its_neighbour_and_dies(backend):
    model = automaton(channels=2, perception=("identity",), alive=AliveMask(channel=0), fire_rate=1.0, dims=1)
    x = torch.zeros(1, 2, 7)
    x[0, 0, 1] = 0.5  # lives, and with it its neighbours, but not after the step
    x[0, 1, 3] = 5.0  # is dead, and would be above the threshold
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.rule.hidden[0].weight[0, 1] = 1.0
        model.rule.last.weight[0, 0] = 1.0
        model.rule.last.bias[0] = -1.0
        out = rollout(x, model, 1)
    assert out[0].tolist() == [[0, 0, -1, 0, 0, 0, 0], [0] * 7]


# Numbers that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("alive", [None, AliveMask(channel=1)])
def test_an_update_of_nan_stays_in_the_free_channels_of_the_cells_that_fire(backend, padding, alive):
    model = automaton(channels=7, fixed=2, padding=padding, alive=alive)
    x = torch.randn(2, 7, 6, 5, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 1.0  # everybody lives by a fixed channel
    x[0, 0, 0, 0], x[1, 0, 2, 2] = -0.0, 1e-40
    fire = fire_mask(3, 0, 2, (6, 5), 0.5)
    with torch.no_grad():
        model.rule.last.bias.fill_(float("nan"))
        out = rollout(x, model, 1, seed=3)
    assert bits(out[:, :2]) == bits(x[:, :2])
    assert torch.equal(out[:, 2:].isnan(), fire.expand(-1, 5, -1, -1))
    assert torch.equal(out[:, 2:].nan_to_num(0.0), torch.where(fire, 0.0, x[:, 2:]))


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_cell_of_nan_reaches_no_fixed_channel_and_no_cell_that_rests(backend, padding):
    model = automaton(channels=7, fixed=2, padding=padding)
    x = torch.randn(2, 7, 6, 5, generator=torch.Generator().manual_seed(0))
    x[0, 4, 2, 3] = float("nan")
    fire = fire_mask(3, 0, 2, (6, 5), 0.5)
    with torch.no_grad():
        out = rollout(x, model, 1, seed=3)
    assert bits(out[:, :2]) == bits(x[:, :2])
    assert torch.equal(out.nan_to_num(7.0)[~fire.expand_as(out)], x.nan_to_num(7.0)[~fire.expand_as(out)])
    assert out[0].isnan().any()
    assert not out[1].isnan().any()


# Inputs as they come ------------------------------------------------------------------------------------------------


def test_no_step_is_the_input_itself_and_the_input_is_not_changed(backend):
    x = torch.randn(2, 6, 5, 4).requires_grad_()
    assert rollout(x, automaton(), 0) is rollout(x, automaton(), 0, segment=3) is x
    assert trajectory(x, automaton(), 0) == {}
    assert trajectory(x, automaton(), 0, keep=[0])[0] is x
    before = x.detach().clone()
    rollout(x, automaton(), 5).sum().backward()
    assert torch.equal(x, before)


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "with an offset": lambda x: torch.cat([x[:1] * 9, x])[1:],
    "expanded": lambda x: x[:1].expand(3, -1, -1, -1),
    "one number for all": lambda x: x[:1, :1, :1, :1].expand_as(x),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_an_input_of_any_layout_gives_what_a_contiguous_one_gives(backend, layout):
    model = automaton(padding="circular")
    x = LAYOUTS[layout](torch.randn(3, 6, 7, 5, generator=torch.Generator().manual_seed(0)))
    results = []
    for given_x in (x.contiguous().requires_grad_(), x.detach().requires_grad_()):
        out = rollout(given_x, model, 4, seed=1)
        results.append([out.detach(), *gradients(out, model, given_x)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "expanded"])
def test_a_gradient_of_any_layout_gives_what_a_contiguous_one_gives(backend, layout):
    model = automaton(padding="circular")
    x = torch.randn(3, 6, 7, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    arriving = LAYOUTS[layout](torch.randn(3, 6, 7, 5, generator=torch.Generator().manual_seed(1)))
    out = rollout(x, model, 4, seed=1)
    for a, b in zip(
        torch.autograd.grad(out, [x, *model.parameters()], arriving.contiguous(), retain_graph=True),
        torch.autograd.grad(out, [x, *model.parameters()], arriving),
        strict=True,
    ):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


# Graphs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [None, AliveMask(channel=1)])
@pytest.mark.parametrize("segment", [None, 2])
def test_a_second_backward_pass_gives_the_same_gradients(backend, alive, segment, refuses):
    model = automaton(alive=alive)
    x = torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = rollout(x, model, 5, seed=1, segment=segment)
    first = gradients(out, model, x, retain_graph=True)
    second = gradients(out, model, x, retain_graph=True)
    third = gradients(out, model, x)
    for a, b, c in zip(first, second, third, strict=True):
        assert a.abs().max() > 0
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    refuses(RuntimeError, "second time", gradients, out, model, x)


def test_weights_that_changed_under_the_graph_are_told(backend, refuses):
    model = automaton()
    out = rollout(torch.randn(2, 6, 7, 5), model, 3)
    with torch.no_grad():
        model.rule.last.weight.add_(1.0)
    refuses(RuntimeError, "modified by an inplace operation", out.sum().backward)


def test_only_some_stops_have_a_gradient(backend):
    model = automaton()
    x = torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    states = trajectory(x, model, 5, keep=[1, 2, 3, 5], seed=1)
    found = gradients(states[2], model, x)
    for a, b in zip(found, gradients(rollout(x, model, 2, seed=1), model, x), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_nothing_asks_for_gradients_where_they_are_off(backend):
    model = automaton()
    x = torch.randn(2, 6, 7, 5)
    target = rollout(x, model, 3, seed=1)
    assert target.requires_grad
    with torch.no_grad():
        assert torch.equal(rollout(x, model, 3, seed=1), target)
        assert not rollout(x, model, 3, seed=1).requires_grad
    with torch.inference_mode():
        assert torch.equal(rollout(x, model, 3, seed=1), target)
    model.requires_grad_(False)
    assert not rollout(x, model, 3, seed=1).requires_grad
    assert torch.equal(rollout(x, model, 3, seed=1), target.detach())


def test_a_budget_binds_only_where_something_is_kept(backend):
    model = automaton().requires_grad_(False)
    x = torch.randn(2, 6, 7, 5)
    assert torch.equal(rollout(x, model, 9, memory_budget=1), rollout(x, model, 9))


# What is refused ----------------------------------------------------------------------------------------------------


BAD_MASKS = {
    "too few steps": torch.ones(2, 2, 1, 5, 4, dtype=torch.bool),
    "another batch": torch.ones(3, 1, 1, 5, 4, dtype=torch.bool),
    "turned": torch.ones(3, 2, 1, 4, 5, dtype=torch.bool),
    "for each channel": torch.ones(3, 2, 6, 5, 4, dtype=torch.bool),
    "numbers": torch.ones(3, 2, 1, 5, 4, dtype=torch.uint8),
    "floats": torch.ones(3, 2, 1, 5, 4),
    "a single one": torch.tensor(True),
}


@pytest.mark.parametrize("masks", list(BAD_MASKS))
def test_masks_that_do_not_fit_are_refused(backend, masks):
    with pytest.raises(ShapeError, match=r"bool tensor of shape \(3, 2, 1, 5, 4\), not torch"):
        rollout(torch.zeros(2, 6, 5, 4), automaton(), 3, masks=BAD_MASKS[masks])


@pytest.mark.parametrize(
    ("channels", "width", "dtype"), [(1, 3, torch.bool), (6, 4, torch.bool), (1, 4, torch.float32)]
)
def test_a_mask_function_that_returns_something_else_is_refused(backend, channels, width, dtype):
    with pytest.raises(ShapeError, match=r"mask of step 0 is a bool tensor of shape \(2, 1, 5, 4\), not torch"):
        rollout(torch.zeros(2, 6, 5, 4), automaton(), 3, masks=lambda t: torch.ones(2, channels, 5, width).to(dtype))


@pytest.mark.parametrize("how", ["tensor", "function"])
def test_masks_on_another_device_are_refused(backend, how):
    masks = torch.ones(3, 2, 1, 5, 4, dtype=torch.bool, device="meta")
    with pytest.raises(ConfigError, match="meta"):
        rollout(torch.zeros(2, 6, 5, 4), automaton(), 3, masks=masks if how == "tensor" else lambda t: masks[t])


@pytest.mark.parametrize(
    ("padding", "shape"), [("reflect", (2, 9)), ("reflect", (9, 2)), ("reflect", (1, 1)), ("circular", (9, 1))]
)
def test_a_grid_that_is_too_small_for_its_padding_is_refused(backend, padding, shape, refuses):
    model = automaton(perception=("identity", LearnedFilters(1, 5)), padding=padding)
    refuses(ShapeError, f"{padding} padding by 2 needs at least", rollout, torch.zeros(1, 6, *shape), model, 2)


@pytest.mark.parametrize("wrong", [(2, 5, 7, 7), (2, 6, 7), (2, 6, 3, 7, 7)])
def test_a_state_of_another_model_is_refused(backend, wrong, refuses):
    refuses(ConfigError, r"axes", rollout, torch.zeros(wrong), automaton(), 2)


REFUSALS = {
    "float64": (lambda: (automaton().double(), torch.zeros(2, 6, 5, 4).double()), "float64, not torch.float32"),
    "half": (lambda: (automaton().half(), torch.zeros(2, 6, 5, 4).half()), "float16, not torch.float32"),
    "whole numbers": (lambda: (automaton(), torch.zeros(2, 6, 5, 4).long()), "int64, not torch.float32"),
    "two dtypes": (lambda: (automaton(), torch.zeros(2, 6, 5, 4).double()), "float64, not torch.float32"),
    "another device": (lambda: (automaton().to("meta"), torch.zeros(2, 6, 5, 4, device="meta")), "on meta"),
    "a state elsewhere": (lambda: (automaton(), torch.zeros(2, 6, 5, 4, device="meta")), "on meta"),
    "sparse": (lambda: (automaton(), torch.zeros(2, 6, 5, 4).to_sparse()), "on cpu"),
    "no sample": (lambda: (automaton(), torch.zeros(0, 6, 5, 4)), "empty"),
    "other channels": (lambda: (automaton(), torch.zeros(2, 5, 5, 4)), "does not have 6 channels and 2 spatial axes"),
    "two layers": (lambda: (automaton(rule=MLPRule((4, 4))), torch.zeros(2, 6, 5, 4)), "2 hidden layers"),
    "gelu": (lambda: (automaton(rule=MLPRule(4, nonlinearity="gelu")), torch.zeros(2, 6, 5, 4)), "gelu"),
}


@pytest.mark.parametrize("case", list(REFUSALS))
def test_native_says_what_it_cannot_do(native, case, refuses):
    make, words = REFUSALS[case]
    model, x = make()
    refuses(ConfigError, f"'native' cannot do this roll-out: .*{words}", rollout, x, model, 2)


class OwnRule(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(18, 6, 1)

    def forward(self, perception):
        return 0.1 * torch.tanh(self.layer(perception))


class OwnAlive(AliveMask):
    def __call__(self, x):
        return x[:, 1:2] > 0


class OwnMLP(MLPRule):
    def forward(self, perception):
        return 2 * super().forward(perception)


class OwnSight(BasicNCAModel):
    def perceive(self, x, t):
        return self.perception(x) * 2


def with_hook(model):
    model.rule.hidden[0].register_forward_hook(lambda *_: None)
    return model


def with_a_forward_of_its_own(model):
    model.rule.last.forward = lambda x: F.conv2d(x, model.rule.last.weight)
    return model


PARTS = {
    "a rule of the user's": (lambda: automaton(rule=OwnRule()), "the rule is a OwnRule, not MLPRule itself"),
    "a rule that inherits": (lambda: automaton(rule=OwnMLP(16)), "the rule is a OwnMLP, not MLPRule itself"),
    "an alive mask of the user's": (lambda: automaton(alive=OwnAlive()), "the alive mask is a OwnAlive"),
    "a model that perceives": (
        lambda: OwnSight(num_image_channels=0, num_hidden_channels=6, perception=Perception("identity", "sobel")),
        "OwnSight perceives in a way of its own",
    ),
    "a hook": (lambda: with_hook(automaton()), "a hook listens to the rule's hidden.0"),
    "a forward that was replaced": (
        lambda: with_a_forward_of_its_own(automaton()),
        "the forward of the rule's last was replaced",
    ),
    "two sorts of full filters": (
        lambda: automaton(perception=(FullFilters(1), FullFilters(1, relu=True))),
        "some of the full filters have a rectifier and some have none",
    ),
}


@pytest.mark.parametrize("part", list(PARTS))
def test_what_is_not_plain_falls_back_and_native_says_why_it_cannot(native, part, caplog, refuses):
    make, words = PARTS[part]
    model, x = make(), torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    refuses(ConfigError, f"'native' cannot do this roll-out: {words}", rollout, x, model, 3)
    with using_backend("auto"), caplog.at_level(logging.INFO, "delira_nca"):
        assert choose(Job(x, model, 3, (3,))).name == "reference"
        out = rollout(x, model, 3, seed=1)
    assert all(words in record.getMessage() for record in caplog.records)
    with using_backend("reference"):
        assert torch.equal(out, rollout(x, model, 3, seed=1))


def test_float64_falls_back_with_the_precision_it_asks_for():
    model, x = automaton().double(), torch.randn(2, 6, 5, 4, dtype=torch.float64)
    out = rollout(x, model, 3, seed=1)
    assert out.dtype == torch.float64
    with using_backend("reference"):
        assert (out - rollout(x, model, 3, seed=1)).abs().max() < 1e-12


def test_a_budget_that_holds_no_backward_pass_is_refused_with_the_least_that_does(native, refuses):
    model, x = automaton(alive=AliveMask(channel=1)), torch.randn(2, 6, 8, 8)
    with pytest.raises(
        ConfigError, match=r"memory_budget of 1 bytes is too small for 20 steps .* give at least \d+"
    ) as told:
        rollout(x, model, 20, memory_budget=1)
    least = int(str(told.value).rpartition(" ")[2])
    refuses(ConfigError, f"give at least {least}", rollout, x, model, 20, memory_budget=least - 1)
    found, target = (gradients(rollout(x, model, 20, seed=1, memory_budget=budget), model) for budget in (least, 2**30))
    for a, b in zip(found, target, strict=True):
        assert torch.equal(a, b)


# Which one is chosen ------------------------------------------------------------------------------------------------


PLAIN = {
    "growing": {"alive": AliveMask()},
    "of an image": {"fixed": 2, "perception": ("identity", LearnedFilters(2)), "padding": "reflect"},
    "with time and noise": {"use_temporal_encoding": True, "update_noise": 0.1},
    "leaky": {"rule": MLPRule(9, nonlinearity="leaky_relu", final_bias=False)},
    "full": {"perception": (FullFilters(2, relu=True), "identity")},
    "in a volume": {"dims": 3, "padding": "circular"},
    "frozen": {},
}


@pytest.mark.parametrize("kind", list(PLAIN))
def test_auto_takes_native_wherever_it_can(kind):
    require("native")
    model = automaton(**PLAIN[kind])
    if kind == "frozen":
        model.requires_grad_(False)
    x = torch.zeros(2, 6, *(4, 5, 6)[-model.dims :])
    assert current_backend() == "auto"
    assert choose(Job(x, model, 3, (3,))).name == "native"
    assert choose(Job(x, model, 3, (3,), masks=lambda t: None)).name == "native"


def test_the_reference_is_asked_last_and_can_do_everything():
    assert list(BACKENDS)[-1] == "reference"
    assert all(backend.name == name for name, backend in BACKENDS.items())
    assert BACKENDS["reference"].unavailable() is None


def test_an_unknown_back_end_is_refused_and_the_choice_stays_and_comes_back_after_an_error(refuses):
    refuses(UnknownNameError, "Did you mean 'native'", set_backend, "nativ")
    assert current_backend() == "auto"

    def fail():
        with using_backend("reference"):
            assert current_backend() == "reference"
            raise RuntimeError("inside")

    refuses(RuntimeError, "inside", fail)
    assert current_backend() == "auto"


def test_a_copy_of_a_model_rolls_out_alike(backend):
    model = automaton()
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rollout(x, copy.deepcopy(model), 3, seed=1), rollout(x, model, 3, seed=1))
