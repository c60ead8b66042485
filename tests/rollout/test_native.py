"""What only the native back end promises: equal bits however the work is divided and stored, and memory given back."""

import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time
import weakref
from contextlib import contextmanager

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from delira_nca.errors import ConfigError
from delira_nca.machine import usable_cores
from delira_nca.models import AliveMask, BasicNCAModel, FullFilters, LearnedFilters, MLPRule, Perception
from delira_nca.rollout import BACKENDS, native_library, rollout, trajectory, using_backend
from delira_nca.rollout import threads as threads_module
from delira_nca.rollout.cost import worst_step_bytes
from delira_nca.rollout.memory import least_bytes
from delira_nca.rollout.native_library import NativeLibrary
from delira_nca.rollout.threads import THREAD_COUNT

WHY_NOT = BACKENDS["native"].unavailable()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"needs the native library: {WHY_NOT}")


@pytest.fixture(autouse=True)
def on_native(monkeypatch):
    """On as many threads as a test asks for, whatever the machine has."""
    monkeypatch.setattr(threads_module, "usable_cores", lambda: 64)
    monkeypatch.setattr(THREAD_COUNT, "choose", lambda most: most)
    with using_backend("native"):
        yield


@pytest.fixture
def tapes(monkeypatch):
    """Bytes of every tape that is made, by address; gone when it is freed."""
    made, forward, free = {}, NativeLibrary.forward, NativeLibrary.free

    def spy_forward(self, job, x, outs, *, tape):
        address = forward(self, job, x, outs, tape=tape)
        if address is not None:
            made[address] = self.tape_bytes(address)
        return address

    def spy_free(self, address):
        free(self, address)
        del made[address]

    monkeypatch.setattr(NativeLibrary, "forward", spy_forward)
    monkeypatch.setattr(NativeLibrary, "free", spy_free)
    return made


@contextmanager
def threads(number):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def automaton(channels=8, fixed=0, perception=("identity", "sobel"), padding="zeros", seed=0, **changes):
    arguments = {
        "num_image_channels": fixed,
        "num_hidden_channels": channels - fixed,
        "perception": Perception(*perception, padding=padding),
        "rule": MLPRule(64),
        **changes,
    }
    model = BasicNCAModel(**arguments)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.dim() == 1 else 0.7 / parameter[0].numel() ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=source))
    return model


def state(*shape, seed=0, life=0.5):
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=source)
    x[..., int(shape[-1] * life) :] = 0.0
    return x


def run(model, x, steps=6, **options):
    """States after half of the steps and after all, and all gradients."""
    x = x.clone().requires_grad_()
    stops = (steps // 2, steps) if steps > 1 else (1,)
    states = trajectory(x, model, steps, keep=stops, **{"seed": 5, **options})
    total = sum((out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum() for out in states.values())
    gradients = torch.autograd.grad(total, [x, *(p for p in model.parameters() if p.requires_grad)])
    return [*(out.detach() for out in states.values()), *gradients]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


KINDS = {
    "growing": {"alive": AliveMask()},
    "alive after": {"alive": AliveMask(before=False), "perception": ("identity", "sobel", "laplacian")},
    "of an image": {"fixed": 3, "perception": ("identity", LearnedFilters(2)), "padding": "reflect"},
    "on a torus with time and noise": {"padding": "circular", "use_temporal_encoding": True, "update_noise": 0.1},
    "full": {"perception": ("identity", FullFilters(1, 5, relu=True)), "padding": "replicate", "fixed": 1},
    "in a volume": {"dims": 3, "alive": AliveMask(), "perception": ("identity", LearnedFilters(1, 5, bias=True))},
}


def of_kind(kind, batch, size=(96, 48)):
    model = automaton(**KINDS[kind])
    return model, state(batch, 8, *((16, 16, 18) if model.dims == 3 else size))


# However the work is divided ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(kind, batch):
    """More samples than threads, fewer, and numbers that do not divide; a sample has up to four bands."""
    model, x = of_kind(kind, batch)
    expected = run(model, x, 4)
    assert all(part.abs().max() > 0 for part in expected)
    for number in (2, 3, 5):
        with threads(number):
            assert_equal(run(model, x, 4), expected)


def test_threads_may_change_between_the_passes():
    model, x = of_kind("of an image", 3)
    expected = run(model, x, 4)[1:]
    for forward, backward in ((1, 3), (3, 1), (2, 3)):
        x.requires_grad_()
        with threads(forward):
            states = trajectory(x, model, 4, keep=(2, 4), seed=5)
            total = sum((out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum() for out in states.values())
        with threads(backward):
            found = torch.autograd.grad(total, [x, *model.parameters()])
        assert_equal([states[4].detach(), *found], expected)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_other_threads_do_a_part_of_the_work(batch):
    """On a busy machine, a thread that comes late finds nothing left; so several attempts are made."""
    model, x = of_kind("growing", batch, (192, 96))

    def share_of_the_caller(number):
        with threads(number), torch.no_grad():
            own, all_of_them = time.thread_time(), time.process_time()
            rollout(x, model, 30, seed=1)
            own, all_of_them = time.thread_time() - own, time.process_time() - all_of_them
        return own / all_of_them

    assert share_of_the_caller(1) > 0.6  # threads of PyTorch's that have nothing to do spin for a while
    if usable_cores() > 1:
        assert any(share_of_the_caller(2) < 0.9 for _ in range(100))


def test_results_do_not_depend_on_the_number_of_threads_while_it_adapts(monkeypatch):
    """Each pass, forward or backward, takes another number."""
    model, x = of_kind("of an image", 3)
    expected = run(model, x, 4)
    numbers, used = itertools.cycle([1, 5, 2, 3, 2, 1, 3]), []

    def choose(most):
        used.append(next(numbers))
        return used[-1]

    monkeypatch.setattr(THREAD_COUNT, "choose", choose)
    for _ in range(5):
        assert_equal(run(model, x, 4), expected)
    assert set(used) == {1, 2, 3, 5}


def test_a_pass_takes_no_more_threads_than_affinity_and_quota_allow(monkeypatch):
    model, x = of_kind("growing", 8)
    taken, record = [], THREAD_COUNT.record

    def spy(threads, cpu, wall):
        taken.append(threads)
        record(threads, cpu, wall)

    monkeypatch.setattr(THREAD_COUNT, "record", spy)
    monkeypatch.setattr(threads_module, "usable_cores", lambda: 1)
    with threads(4):
        run(model, x, 4)
    assert taken
    assert set(taken) == {1}


# However it is stored -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("number", [1, 3])
def test_any_segment_gives_the_same_bits_and_keeps_less(kind, number, tapes):
    model, x = of_kind(kind, 2, (24, 20))
    kept = {}
    with threads(number):
        expected = run(model, x, 24, segment=24)
        for segment in (1, 4, 5, 24, 30, None):
            out = rollout(x, model, 24, seed=5, segment=segment)
            (kept[segment],) = tapes.values()
            del out
            assert_equal(run(model, x, 24, segment=segment), expected)
    assert kept[None] == kept[30] == kept[24]
    if model.alive is None:  # otherwise so little changes that states are larger
        assert max(kept[4], kept[5]) < 0.8 * kept[None]
    assert not tapes


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_a_budget_that_binds_in_the_middle_gives_the_same_bits_and_keeps_less(kind, factor, tapes):
    model, _ = of_kind(kind, 2)
    x = state(2, 8, *((5, 10, 9) if model.dims == 3 else (24, 20)), life=1.0)
    expected = run(model, x, 40)
    budget = int(factor * least_bytes(40, x.nbytes, worst_step_bytes(x, mortal=model.alive is not None)))
    kept = []
    for options in ({}, {"memory_budget": budget}):
        out = rollout(x, model, 40, seed=5, **options)
        kept += tapes.values()
        del out
    assert kept[1] < 0.95 * kept[0]
    assert kept[1] <= budget + 2 * x.nbytes
    for number in (1, 3):
        with threads(number):
            assert_equal(run(model, x, 40, memory_budget=budget), expected)


@pytest.mark.parametrize("steps", [1, 2, 5, 9, 20, 64])
@pytest.mark.parametrize("alive", [None, AliveMask(channel=1, threshold=-1.0)])
@pytest.mark.parametrize("shape", [(1, 5, 300), (3, 17, 12, 70), (2, 4, 4, 20, 9)])
def test_a_tape_is_not_larger_than_its_budget_and_a_few_states(steps, alive, shape, tapes):
    """Everybody lives and fires: the most that there can be to keep."""
    model = automaton(
        channels=shape[1], perception=("identity",), rule=MLPRule(2), alive=alive, fire_rate=1.0, dims=len(shape) - 2
    )
    x = torch.ones(shape)
    least = least_bytes(steps, x.nbytes, worst_step_bytes(x, mortal=alive is not None))
    for factor in (1, 1.2, 2, 5):
        out = rollout(x, model, steps, memory_budget=int(least * factor))
        (kept,) = tapes.values()
        assert kept <= least * factor + 2.5 * x.nbytes
        del out


# Memory -------------------------------------------------------------------------------------------------------------


def test_nothing_is_kept_without_gradients(tapes):
    model, x = of_kind("growing", 2, (24, 20))
    library = native_library.load()
    before = library.pool_bytes(trim=True)
    with torch.no_grad():
        rollout(x, model, 9)
    model.requires_grad_(False)
    rollout(x, model, 9)
    with torch.inference_mode():
        rollout(x, model, 9)
    assert not tapes
    assert library.pool_bytes() == before


def test_a_tape_goes_with_its_graph_also_where_the_result_stays_or_is_in_a_cycle(tapes):
    model, x = of_kind("growing", 2, (24, 20))
    states = trajectory(x, model, 9, keep=[3, 9])
    first = states.pop(3)
    assert len(tapes) == 1
    del states
    assert len(tapes) == 1  # the other stop hangs on it
    second = first.sum()
    del first
    second.backward(retain_graph=True)
    assert len(tapes) == 1
    del second
    assert not tapes
    out = rollout(x, model, 9)
    out.sum().backward()
    assert not tapes
    assert out.requires_grad
    knot = [rollout(x, model, 9)]
    knot.append(knot)
    del knot
    gc.collect()
    assert not tapes


def test_training_does_not_grow(tapes):
    model, x = of_kind("growing", 2, (48, 40))
    library, held = native_library.load(), []
    library.pool_bytes(trim=True)
    for _ in range(12):
        rollout(x, model, 20, seed=1).sum().backward()
        held.append(library.pool_bytes())
    assert not tapes
    assert held[0] > 2**20
    assert max(held) == held[0]


def test_what_a_large_roll_out_needed_is_given_back():
    model, x = of_kind("of an image", 2, (64, 64))
    library = native_library.load()
    rollout(x, model, 60, seed=1).sum().backward()
    large = library.pool_bytes()
    for _ in range(60):  # small ones, which need one huge page
        rollout(x[:1, ..., :8, :8], model, 2, seed=1).sum().backward()
    assert large >= 2**23
    assert library.pool_bytes() <= 2**22
    rollout(x, model, 60, seed=1).sum().backward()
    assert library.pool_bytes(trim=True) <= 2**21


def test_a_tape_in_use_survives_a_trim():
    model, x = of_kind("growing", 2, (48, 40))
    expected = run(model, x, 9)
    library = native_library.load()
    x.requires_grad_()
    states = trajectory(x, model, 9, keep=(4, 9), seed=5)
    library.pool_bytes(trim=True)
    total = sum((out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum() for out in states.values())
    assert_equal(torch.autograd.grad(total, [x, *model.parameters()]), expected[2:])


# Instruction sets ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=native_library.INSTRUCTION_SETS)
def instruction_set(request):
    if request.param not in native_library.available():
        pytest.skip(f"{request.param} was not built, or is not in this CPU")
    native_library.use_instruction_set(request.param)
    yield request.param
    native_library.use_instruction_set(None)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_instruction_set_is_close_to_the_reference(instruction_set, kind):
    model, x = of_kind(kind, 2, (14, 70))
    assert native_library.load().name == instruction_set
    found = run(model, x, 5)
    with using_backend("reference"):
        expected = run(model.double(), x.double(), 5)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a - b).abs().max() <= (1e-5 if i < 2 else 1e-4) * b.abs().max()


# Processes and threads ----------------------------------------------------------------------------------------------


def in_a_child(work, seconds=60):
    """Exit code of a forked child that does a piece of work; None where it hangs."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    for _ in range(10 * seconds):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 about fork and threads
def test_a_forked_child_rolls_out_and_trains_after_its_parent_did():
    """With tensors so small that torch starts no threads of its own: those do not survive a fork."""
    model, x = of_kind("growing", 3, (36, 32))

    def outcome():
        out = rollout(x, model, 20, seed=5)
        return [out.detach(), *torch.autograd.grad(out, list(model.parameters()), x)]

    expected = outcome()
    with threads(2):
        assert_equal(outcome(), expected)
        kept = rollout(x, model, 20, seed=5)  # a tape of the parent's

        def work():
            assert_equal(outcome(), expected)
            assert_equal(torch.autograd.grad(kept, list(model.parameters()), x), expected[1:])

        assert in_a_child(work) == 0
        assert_equal(outcome(), expected)
        assert_equal(torch.autograd.grad(kept, list(model.parameters()), x), expected[1:])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_may_be_forked_while_another_thread_begins_a_roll_out():
    begun, forked = threading.Event(), threading.Event()

    class Slow(BasicNCAModel):
        def to_arrays(self):
            begun.set()
            forked.wait()
            return super().to_arrays()

    model, x = of_kind("growing", 1, (8, 8))
    slow = Slow(num_hidden_channels=4)
    other = threading.Thread(target=rollout, args=(x, slow, 2))
    other.start()
    try:
        assert begun.wait(10)
        code = in_a_child(lambda: rollout(x, model, 2), 10)
    finally:
        forked.set()
        other.join()
    assert code == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_may_be_forked_while_another_thread_rolls_out():
    model, x = of_kind("growing", 1, (36, 32))
    expected, stop = run(model, x, 4), threading.Event()

    def busy():
        while not stop.is_set():
            run(model, x, 4)

    other = threading.Thread(target=busy)
    other.start()
    try:
        codes = [in_a_child(lambda: assert_equal(run(model, x, 4), expected), 10) for _ in range(8)]
    finally:
        stop.set()
        other.join()
    assert codes == [0] * 8


def test_python_threads_that_roll_out_at_once_give_what_each_gives_alone():
    jobs = [of_kind(kind, 2, (48, 40)) for kind in list(KINDS)[:4]]
    expected = [run(model, x, 6) for model, x in jobs]
    found, errors = [None] * 4, []

    def work(i):
        try:
            for _ in range(3):
                found[i] = run(*jobs[i], 6)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    for a, b in zip(found, expected, strict=True):
        assert_equal(a, b)


class Grown(Dataset):
    """Each sample is rolled out where it is loaded."""

    def __init__(self, model, x):
        self.model, self.x = model, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        with torch.no_grad():
            return rollout(self.x[index : index + 1], self.model, 6, seed=index)[0]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_roll_out(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    model, x = of_kind("of an image", 4, (20, 16))
    model.requires_grad_(False)
    workers = {"fork": 2}.get(method, 1)  # a spawned one has to import everything
    loader = DataLoader(Grown(model, x), batch_size=2, num_workers=workers, multiprocessing_context=method)
    expected = torch.cat([rollout(x[i : i + 1], model, 6, seed=i) for i in range(4)])
    assert torch.equal(torch.cat(list(loader)), expected)


# bfloat16 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_products_in_bfloat16_are_within_two_percent_and_the_state_stays_float32(kind, instruction_set):
    model, x = of_kind(kind, 2, (14, 20))
    model.alive = None  # life would hang on the last bits
    expected = run(model, x, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(model, x, 5)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == torch.float32
        if i < 2:
            assert (a - b).abs().max() <= 0.02 * b.abs().max()
        else:  # a rectifier that changes its mind is a jump of one number
            assert (a - b).norm() <= 0.1 * b.norm()
    rounds = native_library.load().name == "avx512_bf16"
    assert rounds != torch.equal(found[1], expected[1])


def test_the_backward_pass_takes_its_products_as_the_forward_pass_did():
    model, x = of_kind("of an image", 2, (14, 20))
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.autograd.grad(rollout(x, model, 5, seed=1).square().sum(), [x, *model.parameters()])
        out = rollout(x, model, 5, seed=1)
    assert_equal(torch.autograd.grad(out.square().sum(), [x, *model.parameters()]), inside)


def test_gradients_in_bfloat16_do_not_depend_on_what_was_in_memory():
    """An odd number of free channels, summed in pairs: the last pair of the last cell ends beyond it."""
    model = automaton(16, fixed=3, perception=("identity", LearnedFilters(2)))
    x = state(1, 16, 13, 9)
    with torch.autocast("cpu", torch.bfloat16):
        expected = run(model, x, 3)
        assert all(part.isfinite().all() for part in expected)
        for _ in range(20):
            poison = [torch.full((size,), float("nan")) for size in range(1900, 2300, 8)]
            del poison  # what the C library hands out next
            assert_equal(run(model, x, 3), expected)


def test_another_dtype_of_autocast_is_refused_and_auto_goes_around_it(refuses):
    model, x = of_kind("of an image", 2, (14, 20))
    with torch.autocast("cpu", torch.float16):
        refuses(ConfigError, "autocast is on with torch.float16, and native knows bfloat16", rollout, x, model, 3)
        with using_backend("auto"), torch.no_grad():
            assert rollout(x, model, 3).isfinite().all()


# The node in the graph ----------------------------------------------------------------------------------------------


def test_there_are_no_second_derivatives(refuses):
    model, x = of_kind("of an image", 1, (8, 8))
    x.requires_grad_()
    (first,) = torch.autograd.grad(rollout(x, model, 2).square().sum(), x, create_graph=True)
    refuses(RuntimeError, "once_differentiable", first.sum().backward)


def test_checkpointing_of_pytorch_goes_around_a_roll_out(tapes):
    model, x = of_kind("of an image", 2, (14, 12))
    x.requires_grad_()
    plain = torch.autograd.grad(rollout(x, model, 5, seed=1).square().sum(), [x, *model.parameters()])
    out = checkpoint(lambda x: rollout(x, model, 5, seed=1), x, use_reentrant=False)
    assert_equal(torch.autograd.grad(out.square().sum(), [x, *model.parameters()]), plain)
    del out
    assert not tapes


def test_only_the_gradients_that_are_wanted_are_made():
    model, x = of_kind("full", 2, (10, 9))
    model.perception.requires_grad_(False)
    model.rule.last.weight.requires_grad_(False)
    expected = run(model.requires_grad_(True), x)[3:]
    names = [name for name, _ in model.named_parameters()]
    model.perception.requires_grad_(False)
    model.rule.last.weight.requires_grad_(False)
    total = sum(
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum()
        for out in trajectory(x, model, 6, keep=(3, 6), seed=5).values()
    )
    total.backward()
    for name, gradient in zip(names, expected, strict=True):
        found = model.get_parameter(name).grad
        if model.get_parameter(name).requires_grad:
            assert torch.equal(found, gradient)
        else:
            assert found is None
    assert x.grad is None


def test_what_points_to_the_library_lives_no_longer_than_the_graph():
    model, x = of_kind("growing", 1, (8, 8))
    out = rollout(x, model, 2)
    tape = weakref.ref(out.grad_fn)
    del out
    assert tape() is None


@pytest.mark.parametrize(("channels", "cells"), [(1, 2**20), (32752, 3), (1, 2**20 + 2**15), (33000, 3), (50000, 3)])
def test_what_does_not_fit_into_a_piece_of_the_log_is_refused_or_done_right(channels, cells):
    model = automaton(channels, perception=("identity",), rule=MLPRule(1), dims=1)
    x = torch.linspace(-1, 1, channels * cells).view(1, channels, cells)
    with using_backend("reference"):
        expected = rollout(x, model, 2, seed=1)
        target = torch.autograd.grad(expected, list(model.parameters()), x)

    def work():
        try:
            out = rollout(x, model, 2, seed=1)
        except ConfigError:
            return
        for a, b in zip(
            [out, *torch.autograd.grad(out, list(model.parameters()), x)], [expected, *target], strict=True
        ):
            assert (a - b).abs().max() <= 1e-2 * b.abs().max()

    assert in_a_child(work) == 0
