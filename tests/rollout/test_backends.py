"""The contract of every back end: values and gradients of the reference in float64, and clear words for the rest."""

import copy
import functools
import logging
from dataclasses import dataclass

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
EXAMPLES = 150
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
    final_bias: bool
    alive: AliveMask | None
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
                fan_in = max(parameter[0].numel(), 4)
                parameter.copy_(self.numbers(*parameter.shape, offset=i) * 0.7 / fan_in**0.5)
        frozen = {"nothing": [], "all": [model], "perception": [model.perception], "last": [model.rule.last]}
        for part in frozen.get(self.frozen, [model.rule]):
            part.requires_grad_(False)
        return model

    def state(self):
        x = self.numbers(self.batch, self.channels, *self.shape, offset=100) * 0.5
        if self.alive is not None:  # space without life
            x[..., -(self.shape[-1] // 2) :] = 0.0
        return x

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
        assert total.requires_grad == (self.needs_x or (self.steps > 0 and any(p.requires_grad for p in model.parameters())))
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
        final_bias=draw(st.booleans()),
        alive=draw(
            st.none()
            | st.builds(
                AliveMask,
                channel=st.integers(0, channels - 1),
                threshold=st.sampled_from([-0.1, 0.0, 0.1, 0.4]),
                before=st.booleans(),
                after=st.booleans(),
            )
        ),
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


@pytest.mark.parametrize("name", list(BACKENDS))
@settings(derandomize=True, deadline=None, max_examples=EXAMPLES, database=None)
@given(case=cases())
def test_values_and_gradients_are_those_of_the_reference_in_float64(name, case):
    require(name)
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
