import gc
import itertools
import re
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from delira_nca.errors import ConfigError
from delira_nca.models import AliveMask, BasicNCAModel, FullFilters, LearnedFilters, MLPRule, Perception
from delira_nca.rollout import fire_mask, using_backend
from delira_nca.rollout.eager import Reference
from delira_nca.rollout.job import Job
from delira_nca.rollout.memory import best_length, least_bytes
from delira_nca.rollout.sparse import Sparse
from delira_nca.rollout.sparse_kernels import Rows, spread

SPARSE = Sparse()
PADDINGS = ["zeros", "reflect", "replicate", "circular"]
ALIVE = {
    "all live": None,
    "before and after": AliveMask(channel=1),
    "before": AliveMask(channel=1, after=False),
    "after": AliveMask(channel=1, before=False),
    "nothing is dead": AliveMask(channel=1, threshold=-0.3),
    "of a fixed channel": AliveMask(channel=0),
}
PERCEPTIONS = {
    "sobel": ("identity", "sobel"),
    "identity": ("identity",),
    "laplacian and 5": ("laplacian", LearnedFilters(1, kernel_size=5)),
    "learned with bias": ("identity", LearnedFilters(2, bias=True)),
    "full": ("identity", FullFilters(1, out_channels=4)),
    "full, rectified, before others": (
        FullFilters(2, out_channels=3, bias=False, relu=True),
        LearnedFilters(1),
        "sobel",
    ),
    "learned 1": (LearnedFilters(1, kernel_size=1, bias=True),),
}


def automaton(channels=5, fixed=1, perception=("identity", "sobel"), padding="zeros", seed=0, scale=0.4, **changes):
    arguments = {
        "num_image_channels": fixed,
        "num_hidden_channels": channels - fixed,
        "perception": Perception(*perception, padding=padding),
        "rule": MLPRule(7),
        **changes,
    }
    model = BasicNCAModel(**arguments).double()
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=source))
    return model


def state(*shape, seed=0, filled=0.5, dtype=torch.float64):
    """Numbers in some of the cells."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=source, dtype=torch.float64)
    return (x * (torch.rand(shape[0], 1, *shape[2:], generator=source) < filled)).to(dtype)


def job_of(model, x, steps=3, stops=None, **options):
    return Job(x, model, steps, (steps,) if stops is None else stops, **options)


def run(backend, model, x, steps=3, stops=None, **options):
    """States at the stops, and the gradients of the input and of every weight."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    states = backend.states(job_of(model, x, steps, stops, **options))
    assert list(states) == list((steps,) if stops is None else stops)
    weighted = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape) for out in states.values())
    sum(part.sum() for part in weighted).backward()
    return [*(out.detach() for out in states.values()), x.grad, *(p.grad for p in model.parameters())]


def assert_close(found, expected, tolerance=1e-9):
    for a, b in zip(found, expected, strict=True):
        if b is None:
            assert a is None or not a.any()
            continue
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * max(1e-2, b.abs().max())


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def assert_like_reference(model, x, steps=3, stops=None, **options):
    expected = run(Reference(), model, x, steps, stops, **options)
    found = run(SPARSE, model, x, steps, stops, **options)
    assert_close(found, expected)
    return found


# Values and gradients against the reference -------------------------------------------------------------------------


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("alive", list(ALIVE))
@pytest.mark.parametrize("perception", list(PERCEPTIONS))
def test_values_and_gradients_are_those_of_the_reference(padding, alive, perception):
    model = automaton(perception=PERCEPTIONS[perception], padding=padding, alive=ALIVE[alive], fire_rate=0.6)
    found = assert_like_reference(model, state(2, 5, 6, 5), 4, (2, 4), seed=7)
    assert found[1].abs().max() > 0.1
    assert all(part.abs().max() > 0 for part in found[2:])


@pytest.mark.parametrize("shape", [(7,), (1,), (4, 5), (1, 6), (6, 1), (1, 1), (3, 4, 5), (1, 3, 1)])
@pytest.mark.parametrize("alive", ["all live", "before and after"])
def test_every_shape_of_grid(shape, alive):
    model = automaton(
        perception=("identity", LearnedFilters(1)), padding="replicate", alive=ALIVE[alive], dims=len(shape)
    )
    assert_like_reference(model, state(3, 5, *shape, filled=0.8), 3, seed=1)


@pytest.mark.parametrize("nonlinearity", ["relu", "leaky_relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("sizes", [(9,), (6, 4), (3, 5, 4)])
@pytest.mark.parametrize("final_bias", [True, False])
def test_every_rule(nonlinearity, sizes, final_bias):
    rule = MLPRule(sizes, nonlinearity=nonlinearity, final_bias=final_bias)
    assert_like_reference(automaton(rule=rule, use_temporal_encoding=True), state(2, 5, 4, 3), 3, start=5)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("alive", list(ALIVE))
def test_every_fire_rate_with_noise(rate, alive):
    model = automaton(alive=ALIVE[alive], fire_rate=rate, update_noise=0.3)
    assert_like_reference(model, state(2, 5, 5, 4), 4, seed=3, start=2)


def test_masks_may_be_given_as_a_tensor_or_by_a_function():
    model, x = automaton(alive=ALIVE["before and after"]), state(2, 5, 5, 4)
    masks = [fire_mask(4, t, 2, (5, 4), 0.5) for t in range(3)]
    expected = run(SPARSE, model, x, seed=4)
    assert_equal(run(SPARSE, model, x, masks=torch.stack(masks)), expected)
    assert_equal(run(SPARSE, model, x, masks=lambda t: masks[t]), expected)
    assert_like_reference(model, x, masks=lambda t: None if t == 1 else masks[t])


def test_a_cell_that_did_not_live_may_save_its_neighbour_and_dies():
    model = automaton(channels=2, fixed=0, perception=("identity",), alive=ALIVE["before and after"], fire_rate=1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.rule.hidden[0].weight[0, 1] = 1.0
        model.rule.hidden[0].bias[1] = 1.0
        model.rule.last.weight[1, 0] = -1.5  # life goes where it is
        model.rule.last.weight[1, 1] = 0.5  # and comes where it is not
        model.rule.last.bias[1] = -0.3
    x = torch.zeros(1, 2, 1, 7, dtype=torch.float64)
    x[0, 1, 0, 3] = 1.0
    masks = torch.zeros(1, 1, 1, 1, 7, dtype=torch.bool)
    masks[..., 3] = masks[..., 1] = True  # the living cell, and one beside its neighbour
    found = SPARSE.states(job_of(model, x + 0.01, 1, masks=masks))[1]
    expected = Reference().states(job_of(model, x + 0.01, 1, masks=masks))[1]
    assert (found - expected).abs().max() < 1e-12
    assert found[0, 1, 0].ne(0).tolist() == [False, False, True, False, False, False, False]


@pytest.mark.parametrize("changes", [{}, {"alive": AliveMask(channel=1)}])
def test_single_precision_is_close(changes):
    model = automaton(channels=8, perception=("identity", LearnedFilters(2)), padding="reflect", **changes)
    x = state(2, 8, 40, 45)  # more cells than a tile has rows
    model.float()
    found = run(SPARSE, model, x.float(), 3, masks=torch.ones(3, 2, 1, 40, 45, dtype=torch.bool))
    model.double()
    expected = run(Reference(), model, x, 3, masks=torch.ones(3, 2, 1, 40, 45, dtype=torch.bool))
    assert found[0].dtype == torch.float32
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_more_cells_than_a_tile_holds_and_more_samples_than_one_look(monkeypatch):
    monkeypatch.setattr("delira_nca.rollout.sparse_kernels._TILE", 32)
    monkeypatch.setattr("delira_nca.rollout.sparse_kernels._GRAIN", 16)
    monkeypatch.setattr("delira_nca.rollout.sparse_step._VIEW_BYTES", 2 * 11 * 10 * 5 * 8)
    for alive in ALIVE.values():
        model = automaton(perception=PERCEPTIONS["learned with bias"], padding="circular", alive=alive)
        assert_like_reference(model, state(3, 5, 9, 8), 3)


@st.composite
def cases(draw):
    dims = draw(st.integers(1, 3))
    padding = draw(st.sampled_from(PADDINGS))
    filters = draw(
        st.lists(
            st.one_of(
                st.sampled_from(["identity", "sobel", "laplacian"]),
                st.builds(LearnedFilters, st.integers(1, 2), st.sampled_from([1, 3, 5]), st.booleans()),
                st.builds(
                    FullFilters,
                    st.integers(1, 2),
                    st.sampled_from([None, 1, 3]),
                    st.sampled_from([1, 3]),
                    st.booleans(),
                    st.just(draw(st.booleans())),
                ),
            ),
            min_size=1,
            max_size=3,
        )
    )
    channels = draw(st.integers(1, 12))
    fixed = draw(st.integers(0, channels - 1))
    radius = max((f.kernel_size // 2 if not isinstance(f, str) else int(f != "identity")) for f in filters)
    least = radius + 1 if padding == "reflect" else max(radius, 1)
    shape = draw(st.lists(st.integers(least, max(least, {1: 9, 2: 6, 3: 4}[dims])), min_size=dims, max_size=dims))
    alive = draw(
        st.one_of(
            st.none(),
            st.builds(
                AliveMask,
                st.integers(0, channels - 1),
                st.sampled_from([0.1, 0.0, -0.5, 0.7]),
                st.booleans(),
                st.booleans(),
            ),
        )
    )
    hidden = draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))
    rule = MLPRule(
        hidden,
        nonlinearity=draw(st.sampled_from(["relu", "leaky_relu", "gelu", "silu", "tanh"])),
        final_bias=draw(st.booleans()),
    )
    seed = draw(st.integers(0, 1000))
    model = automaton(
        channels,
        fixed,
        filters,
        padding,
        seed,
        scale=0.3,
        rule=rule,
        alive=alive,
        dims=dims,
        fire_rate=draw(st.sampled_from([0.0, 0.5, 1.0])),
        update_noise=draw(st.sampled_from([0.0, 0.2])),
        use_temporal_encoding=draw(st.booleans()),
    )
    x = state(draw(st.integers(1, 3)), channels, *shape, seed=seed, filled=draw(st.sampled_from([0.1, 0.5, 1.0])))
    steps = draw(st.integers(1, 6))
    stops = tuple(sorted({steps, *draw(st.lists(st.integers(1, steps), max_size=2))}))
    return model, x, steps, stops, {"seed": seed, "start": draw(st.integers(0, 9))}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases())
def test_any_automaton_is_that_of_the_reference(case):
    model, x, steps, stops, options = case
    assert SPARSE.refusal(job_of(model, x, steps, stops)) is None
    expected = run(Reference(), model, x, steps, stops, **options)
    found = run(SPARSE, model, x, steps, stops, **options)
    assert_close(found, expected, 1e-8)


@pytest.mark.parametrize("alive", ["all live", "before and after"])
def test_gradients_are_those_of_finite_differences(alive):
    model = automaton(
        3,
        1,
        ("identity", LearnedFilters(1, bias=True)),
        "reflect",
        rule=MLPRule(3, nonlinearity="tanh"),
        alive=ALIVE[alive],
        use_temporal_encoding=True,
    )
    x = state(1, 3, 3, 2, filled=1.0).requires_grad_()
    masks = torch.stack([fire_mask(2, t, 1, (3, 2), 0.7) for t in range(2)])
    names, weights = zip(*model.named_parameters(), strict=True)

    def function(x, *weights):
        return torch.func.functional_call(_States(model), dict(zip(names, weights, strict=True)), (x, masks))

    class _States(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.__dict__["_modules"] = model._modules
            self.__dict__["model"] = model

        def forward(self, x, masks):
            return tuple(SPARSE.states(job_of(self.model, x, 2, (1, 2), masks=masks)).values())

    assert torch.autograd.gradcheck(function, (x, *weights))


# What is kept -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", list(ALIVE))
@pytest.mark.parametrize("segment", [1, 2, 3, 6])
def test_gradients_of_segments_are_bit_equal(alive, segment):
    model = automaton(perception=PERCEPTIONS["learned with bias"], padding="circular", alive=ALIVE[alive])
    x = state(2, 5, 5, 4)
    plain = run(SPARSE, model, x, 7, (2, 3, 7), seed=2, segment=7)
    assert plain[3].abs().max() > 0
    assert_equal(run(SPARSE, model, x, 7, (2, 3, 7), seed=2, segment=segment), plain)


def least_for(model, x, steps):
    with pytest.raises(ConfigError) as error:
        SPARSE.states(job_of(model, x, steps, memory_budget=1))
    return int(re.search(r"give at least (\d+)", str(error.value))[1])


@pytest.mark.parametrize("alive", ["all live", "before and after", "after"])
def test_gradients_of_every_budget_that_suffices_are_bit_equal(alive):
    model, x, steps = automaton(alive=ALIVE[alive]), state(2, 5, 5, 4), 12
    plain = run(SPARSE, model, x, steps, seed=2, segment=steps)
    least = least_for(model, x, steps)
    for budget in (least, least + x.nbytes, 2 * least, 4 * least):
        assert_equal(run(SPARSE, model, x, steps, seed=2, memory_budget=budget), plain)


def test_a_budget_that_cannot_hold_the_way_back_is_refused_with_the_number_that_would_do():
    model, x = automaton(), state(2, 5, 5, 4)
    least = least_for(model, x, 9)
    cells = 2 * 5 * 4
    assert least == least_bytes(9, cells * 5 * 8, cells * (4 * 8 + 4))
    with pytest.raises(ConfigError, match=rf"memory_budget of {least - 1} bytes .* 9 steps .* give at least {least}"):
        SPARSE.states(job_of(model, x, 9, memory_budget=least - 1))
    SPARSE.states(job_of(model, x, 9, memory_budget=least))
    with torch.no_grad():
        SPARSE.states(job_of(model, x, 9, memory_budget=1))


@pytest.mark.parametrize(("state_bytes", "step_bytes"), [(10, 10), (10, 1), (1, 10), (7, 3), (100, 99), (1, 0)])
def test_no_length_of_segments_needs_less_than_the_best(state_bytes, step_bytes):
    for steps in range(1, 70):
        kept = {n: -(-steps // n) * state_bytes + n * step_bytes for n in range(1, steps + 1)}
        assert least_bytes(steps, state_bytes, step_bytes) == min(kept.values())
        assert kept[best_length(steps, state_bytes, step_bytes)] == min(kept.values())


@pytest.mark.parametrize(
    "alive", ["after", *(pytest.param(name, marks=pytest.mark.slow) for name in ("all live", "nothing is dead"))]
)
def test_a_whole_training_step_stays_within_the_budget(alive, peak):
    model, x, steps = automaton(alive=ALIVE[alive], fire_rate=1.0), state(2, 5, 30, 30), 30

    def measured(steps, **options):
        return peak(lambda: SPARSE.states(job_of(model, x, steps, **options))[steps])

    least, work = least_for(model, x, steps), measured(1)
    budgets = [least, 2 * least, 3 * least, 2**30]
    peaks = [measured(steps, memory_budget=budget) - work for budget in budgets]
    for found, budget in zip(peaks, budgets, strict=True):
        assert found <= budget + 3 * x.nbytes  # "beside a few states"
    assert peaks[0] < 0.5 * peaks[3]


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Bytes of the distinct tensors that are kept for the way back, but for those of the model."""

    def __init__(self, model):
        self.storages = {}
        known = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                self.storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        super().__init__(pack, lambda tensor: tensor)

    def __enter__(self):
        super().__enter__()
        return self

    @property
    def nbytes(self):
        return sum(self.storages.values())


def test_only_what_changed_is_kept():
    model = automaton(channels=16, fixed=0, alive=AliveMask(channel=1))
    x = torch.zeros(1, 16, 30, 30, dtype=torch.float64)
    x[:, :, 14:16, 14:16] = 1.0
    with Kept(model) as memory:
        SPARSE.states(job_of(model, x, 4))
    assert memory.nbytes < 1.3 * x.nbytes  # one state, and not five


class Live(TorchDispatchMode):
    """Storages that operations make, as weak references."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.made.append(torch.multiprocessing.reductions.StorageWeakRef(tensor.untyped_storage()))
        return out


@pytest.mark.parametrize("how", ["no_grad", "frozen"])
def test_without_gradients_nothing_is_kept(how):
    model, x = automaton(alive=ALIVE["before and after"]), state(2, 5, 6, 5)
    model.requires_grad_(how != "frozen")
    with Live() as live, torch.set_grad_enabled(how == "frozen"):
        out = SPARSE.states(job_of(model, x, 3))[3]
    gc.collect()
    assert not out.requires_grad
    storages = {ref.cdata for ref in live.made if not ref.expired()}
    assert storages - {x.untyped_storage()._cdata} - {p.untyped_storage()._cdata for p in model.parameters()} <= {
        out.untyped_storage()._cdata
    } | {b.untyped_storage()._cdata for b in model.buffers()}
    with using_backend("reference"):
        assert (out - Reference().states(job_of(model, x, 3))[3]).abs().max() < 1e-12


# The node of the graph ----------------------------------------------------------------------------------------------


def test_two_backward_passes_over_one_graph_are_equal(refuses):
    model, x = automaton(alive=ALIVE["before and after"]), state(2, 5, 6, 5).requires_grad_()
    for options in ({}, {"segment": 2}, {"memory_budget": least_for(model, x, 5)}):
        out = SPARSE.states(job_of(model, x, 5, **options))[5].square().sum()
        first = torch.autograd.grad(out, [x, *model.parameters()], retain_graph=True)
        second = torch.autograd.grad(out, [x, *model.parameters()])
        assert_equal(first, second)
        assert first[0].abs().max() > 0
        refuses(RuntimeError, "second time", out.backward)


def test_the_input_is_neither_changed_nor_shared_and_a_result_may_be_changed_in_place():
    for requires_grad, steps in itertools.product((True, False), (1, 3)):
        model, x = automaton(fire_rate=0.0), state(2, 5, 6, 5)
        before = x.clone()
        states = SPARSE.states(job_of(model, x.requires_grad_(requires_grad), steps, tuple(range(1, steps + 1))))
        for out in states.values():
            assert torch.equal(out, before)
            assert out.is_contiguous()
            assert out.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        assert len({out.untyped_storage().data_ptr() for out in states.values()}) == steps
        assert torch.equal(x, before)
    model, x = automaton(), state(2, 5, 6, 5).requires_grad_()
    expected = torch.autograd.grad(2 * SPARSE.states(job_of(model, x))[3].sum(), x)
    assert_equal(torch.autograd.grad(SPARSE.states(job_of(model, x))[3].mul_(2).sum(), x), expected)


@pytest.mark.parametrize("perception", ["sobel", "learned with bias", "full"])
def test_only_gradients_that_are_wanted_are_made(perception):
    model = automaton(perception=PERCEPTIONS[perception], padding="circular", use_temporal_encoding=True)
    x = state(2, 5, 6, 5)
    whole = dict(zip(["x", *(n for n, _ in model.named_parameters())], run(SPARSE, model, x)[1:], strict=True))
    for name in whole:
        model.requires_grad_(False)
        model.zero_grad()
        leaf = x.clone().requires_grad_(name == "x")
        wanted = leaf if name == "x" else dict(model.named_parameters())[name].requires_grad_()
        out = SPARSE.states(job_of(model, leaf))[3]
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
        assert (wanted.grad - whole[name]).abs().max() <= 1e-12 * whole[name].abs().max()
        assert all(p.grad is None for p in model.parameters() if p is not wanted)


def test_a_loss_on_an_earlier_stop_alone():
    model, x = automaton(), state(2, 5, 6, 5)
    for options in ({}, {"segment": 2}, {"segment": 5}):
        states = SPARSE.states(job_of(model, x, 6, (3, 6), seed=1, **options))
        found = torch.autograd.grad(states[3].square().sum(), list(model.parameters()))
        expected = torch.autograd.grad(
            SPARSE.states(job_of(model, x, 3, seed=1))[3].square().sum(), list(model.parameters())
        )
        assert_equal(found, expected)


def test_autocast_during_the_way_back_changes_nothing():
    model, x = automaton().float(), state(2, 5, 6, 5, dtype=torch.float32)
    expected = run(SPARSE, model, x)
    leaf = x.clone().requires_grad_()
    out = SPARSE.states(job_of(model, leaf))[3]
    with torch.autocast("cpu", torch.bfloat16):
        out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
    assert torch.equal(leaf.grad, expected[1])


# What does not leak -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [None, AliveMask(channel=2)])
def test_a_nan_reaches_no_fixed_channel_and_no_cell_that_does_not_fire(alive):
    model, x = automaton(alive=alive, padding="circular"), state(2, 5, 6, 5, filled=1.0)
    x[:, 2] = 1.0
    x[0, 3, 2, 2] = float("nan")
    x[0, 0, 0, 0] = -0.0
    masks = torch.stack([fire_mask(1, t, 2, (6, 5), 0.5) for t in range(1)])
    out = SPARSE.states(job_of(model, x, 1, masks=masks))[1].detach()
    assert out[:, :1].numpy().tobytes() == x[:, :1].numpy().tobytes()
    resting = ~masks[0].expand_as(x)
    if alive is None:
        assert torch.equal(out[resting].nan_to_num(99.0), x[resting].nan_to_num(99.0))
        assert out[0].isnan().any()
    assert not out[1].isnan().any()


def test_a_nan_in_the_gradient_of_a_dead_cell_goes_nowhere():
    model, x = automaton(fixed=0, alive=ALIVE["before and after"]), state(1, 5, 9, 9, filled=0.0)
    x[0, :, 2, 2] = 1.0
    x.requires_grad_()
    out = SPARSE.states(job_of(model, x, 3, seed=1))[3]
    assert not out.detach()[0, :, 8, 8].any()
    grad = torch.ones_like(out)
    grad[0, :, 8, 8] = float("nan")
    out.backward(grad)
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert x.grad.isfinite().all()


# What is refused ----------------------------------------------------------------------------------------------------


class OtherTensor(torch.Tensor):
    pass


def test_jobs_that_it_cannot_do_are_refused_with_a_reason():
    model, x = automaton(), state(2, 5, 6, 5)
    assert SPARSE.unavailable() is None
    assert SPARSE.refusal(job_of(model, x)) is None
    assert "float16" in SPARSE.refusal(job_of(automaton().half(), x.half()))
    assert "float32" in SPARSE.refusal(job_of(model, x.float()))
    assert "meta" in SPARSE.refusal(job_of(model, x.to("meta")))
    assert "OtherTensor" in SPARSE.refusal(job_of(model, x.as_subclass(OtherTensor)))
    assert "empty" in SPARSE.refusal(job_of(model, x[:0]))
    assert "channels" in SPARSE.refusal(job_of(model, x[:, :4]))
    assert SPARSE.refusal(job_of(automaton(rule=torch.nn.Conv2d(15, 4, 1)), x)) is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert SPARSE.refusal(job_of(model, x)) == "autocast is on"
    with warnings.catch_warnings(), torch.autograd.forward_ad.dual_level():
        warnings.simplefilter("ignore")  # torch compiles something of its own in a way of the past
        dual = torch.autograd.forward_ad.make_dual(x, x)
        assert "forward mode" in SPARSE.refusal(job_of(model, dual))
    reasons = []
    torch.func.vmap(lambda x: reasons.append(SPARSE.refusal(job_of(model, x))) or x)(x.unsqueeze(0))
    assert reasons != [None]


def test_gradients_of_gradients_are_refused(refuses):
    model, x = automaton(), state(2, 5, 6, 5).requires_grad_()
    (grad,) = torch.autograd.grad(SPARSE.states(job_of(model, x))[3].square().sum(), x, create_graph=True)
    refuses(RuntimeError, "once_differentiable", grad.sum().backward)


# Rows of cells ------------------------------------------------------------------------------------------------------

PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("shape", "radius"), [((4,), (2,)), ((4, 5), (1, 3)), ((3, 4, 5), (2, 0, 1))])
def test_the_border_is_that_of_torch_and_folding_is_its_gradient(padding, shape, radius):
    grid = Rows(2, shape, radius, padding)
    x = state(2, 3, *shape, filled=1.0).requires_grad_()
    pads = [reach for reach in reversed(radius) for _ in range(2)]
    with torch.enable_grad():
        expected = torch.nn.functional.pad(x, pads, mode=PAD[padding])
    rows = grid.load(x.detach())
    found = rows.view(2, *expected.shape[2:], 3).movedim(-1, 1)
    assert torch.equal(found, expected)
    assert torch.equal(grid.unload(rows), x)
    assert torch.equal(grid.unload(grid.restore(grid.save(rows))), x)
    grad = state(*rows.shape, seed=1, filled=1.0)
    expected.backward(grad.view(2, *expected.shape[2:], 3).movedim(-1, 1))
    grid.fold_border(grad)
    assert (grid.unload(grad) - x.grad).abs().max() < 1e-12


@pytest.mark.parametrize(("shape", "pool"), [((7,), "1d"), ((1, 5), "2d"), ((4, 6), "2d"), ((3, 1, 4), "3d")])
def test_spreading_is_pooling(shape, pool):
    x = state(2, 1, *shape, filled=1.0)
    x[0, 0].view(-1)[2] = float("nan")
    expected = getattr(torch.nn.functional, f"max_pool{pool}")(x, 3, 1, 1)
    assert torch.equal(spread(x[:, 0]).nan_to_num(99.0), expected[:, 0].nan_to_num(99.0))
