"""What a roll-out is said to cost, against what it does cost."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from delira_nca.errors import ConfigError
from delira_nca.models import AliveMask, BasicNCAModel, FullFilters, LearnedFilters, MLPRule, Perception, presets
from delira_nca.rollout import BACKENDS, Job, native, rollout, using_backend
from delira_nca.rollout.memory import measure_saved_bytes

MODELS = {
    "growing": {},
    "immortal": {"alive": None},
    "after": {"alive": AliveMask(before=False), "use_temporal_encoding": True},
    "reflect": {
        "alive": None,
        "perception": Perception("identity", LearnedFilters(2, bias=True), padding="reflect"),
        "immutable_image_channels": True,
    },
    "full": {
        "perception": Perception("identity", "sobel", FullFilters(2, relu=True), padding="circular"),
        "rule": MLPRule(32),
    },
    "deep": {"alive": None, "rule": MLPRule((32, 16), nonlinearity="gelu")},
    "noisy": {"alive": None, "update_noise": 0.01, "fire_rate": 0.25},
    "line": {"dims": 1, "fire_rate": 1.0},
    "solid": {"dims": 3},
}
SHAPES = {"line": (600,), "solid": (8, 9, 9)}


def make(name):
    torch.manual_seed(0)
    model = BasicNCAModel(**presets.growing(**MODELS[name]))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return model, SHAPES.get(name, (26, 23))


def living(model, batch, shape):
    source = torch.Generator().manual_seed(1)
    return torch.rand(batch, model.num_channels, *shape, generator=source) / 2 + 0.5


# Operations ---------------------------------------------------------------------------------------------------------


def test_growing_costs_what_its_layers_say_and_learned_filters_their_gradient_too():
    cost = BasicNCAModel(**presets.growing()).cost((72, 72), 80, batch_size=8)
    assert cost.num_parameters == 8336
    assert cost.rule == 48 * 128 + 128 * 16 == 16384 / 2
    assert cost.perception == 2 * 6 * 16  # Sobel's filters have six numbers that are not zero
    assert cost.forward_operations == 16384 + 384
    assert cost.training_operations == 16384 + 32768 + 12288 + 3 * 384  # forward, gradients, hidden layer again
    assert cost.num_cells == 8 * 72 * 72
    assert cost.step_operations(every_cell=True) == 16768 * cost.num_cells
    assert cost.step_operations(training=True) == cost.training_operations * cost.num_cells / 2
    cost = make("reflect")[0].cost((8, 8), 1)
    assert cost.perception == 2 * 9 * 16
    assert cost.backward == 3 * cost.perception + 2 * cost.rule + (cost.rule - 128 * 12)
    full = make("full")[0].cost((8, 8), 1)
    assert full.perception == 2 * 6 * 16 + 9 * 16 * 32


@pytest.mark.parametrize("name", ["growing", "reflect", "deep", "solid"])
def test_torch_counts_the_same_operations_of_the_rule(name):
    model, shape = make(name)
    seen = torch.ones(2, model.input_vector_size, *shape, requires_grad=True)
    cost = model.cost(shape, 1, batch_size=2)
    with FlopCounterMode(display=False) as counter:
        update = model.rule(seen)
    assert counter.get_total_flops() == 2 * cost.rule * cost.num_cells
    with FlopCounterMode(display=False) as counter:
        update.sum().backward()
    assert counter.get_total_flops() == 4 * cost.rule * cost.num_cells


# What is kept -------------------------------------------------------------------------------------------------------


def kept_by(backend, model, x, steps, budget):
    """Bytes that a back end keeps between forward and backward pass, or None where it refuses.

    The reference measures itself where a budget binds, and nobody else can then: it is measured without one.
    """
    segment = steps if backend == "reference" else None
    job, backend = Job(x, model, steps, (steps,), memory_budget=budget, segment=segment), BACKENDS[backend]
    if (backend.unavailable() or backend.refusal(job)) is not None:
        return None
    if backend.name == "native":
        node = backend.states(job)[steps].grad_fn
        return node.call.library.tape_bytes(native._TAPES[int(node.saved_tensors[-1])].address)
    weights = (
        [] if isinstance(job.parameters, str) else [tensor for tensor in job.parameters.tensors() if tensor is not None]
    )
    return measure_saved_bytes(lambda: backend.states(job)[steps], [x, *weights, *model.parameters()])[1]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", ["native", "sparse", "reference"])
@pytest.mark.parametrize("share", [None, 1.0, 1.7, 3.0])
def test_no_more_is_kept_than_the_upper_bound_and_no_less_than_the_lower_one(name, backend, share):
    model, shape = make(name)
    x = living(model, 3, shape)
    least = model.cost(shape, 30, batch_size=3).least_memory_budget
    budget = 2**30 if share is None else round(share * least)
    need = model.cost(shape, 30, batch_size=3, memory_budget=budget).memory[backend]
    assert need.kept_expected <= need.kept < need.training
    assert need.training_least <= need.training_expected <= need.training
    if backend == "reference" and share is not None:
        assert need.segment is not None
        assert need.kept <= kept_by(backend, model, x, 30, budget)
        return
    if (measured := kept_by(backend, model, x, 30, budget)) is None:
        assert backend == "native"
        return
    assert measured <= need.kept
    if share is None:
        assert (need.kept_steps, need.segment) == (30, None)
        assert 0.85 * need.kept_expected <= measured <= 1.1 * need.kept_expected
        if backend != "native":
            assert need.training_least <= measured + 2 * x.nbytes


def test_a_state_without_life_needs_no_less_than_the_lower_bound_and_what_learns_nothing_keeps_nothing():
    model, shape = make("growing")
    dead = torch.zeros(3, 16, *shape)
    for backend in ("sparse", "reference"):
        need = model.cost(shape, 30, batch_size=3).memory[backend]
        assert need.training_least <= 2 * dead.nbytes + kept_by(backend, model, dead, 30, 2**30)
    model, shape = make("immortal")
    model.requires_grad_(False)
    cost = model.cost(shape, 30)
    assert {need.training_least for need in cost.memory.values()} == {living(model, 1, shape).nbytes}
    model.rule.last.requires_grad_(True)
    assert model.cost(shape, 30).memory["reference"].training_least == 2 * living(model, 1, shape).nbytes


@pytest.mark.parametrize("backend", ["native", "sparse"])
def test_a_budget_bounds_what_is_kept(backend):
    model, shape = make("growing")
    x = living(model, 3, shape)
    needs, least = [], model.cost(shape, 30, batch_size=3).least_memory_budget
    for budget in (2**30, 2 * least, 3 * least // 2, least):
        need = model.cost(shape, 30, batch_size=3, memory_budget=budget).memory[backend]
        measured = kept_by(backend, model, x, 30, budget)
        if measured is None:
            return
        # native adds the last state, and rounds lengths; what a segment needs is kept in the backward pass only
        assert measured <= budget + 2 * x.nbytes
        needs.append(need)
    assert [need.segment is None for need in needs] == [True, False, False, False]
    for one, other in pairwise(needs):
        assert one.kept > other.kept
        assert one.kept_steps > other.kept_steps


def test_least_memory_budget_is_the_least_that_is_accepted():
    model, shape = make("growing")
    x = living(model, 2, shape)
    least = model.cost(shape, 20, batch_size=2).least_memory_budget
    for backend in ("native", "sparse"):
        with using_backend(backend) if BACKENDS[backend].unavailable() is None else using_backend("auto"):
            rollout(x, model, 20, memory_budget=least)
    with using_backend("sparse"), pytest.raises(ConfigError, match=f"give at least {least}"):
        rollout(x, model, 20, memory_budget=least - 1)


# Peaks --------------------------------------------------------------------------------------------------------------

PEAKS = """
import ctypes, gc, importlib.util, json, sys
import torch

from delira_nca.rollout import native_library

spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
torch.set_num_threads(2 if json.loads(sys.argv[2])[0][1] == "native" else 1)

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

def run(backend, model, x, steps, budget, train):
    job = cases.Job(x, model, steps, (steps,), memory_budget=budget)
    backend = cases.BACKENDS[backend]
    if backend.unavailable() or backend.refusal(job):
        return False
    with torch.set_grad_enabled(train):
        out = backend.states(job)[steps]
    if train:
        out.square().sum().backward()
    return True

for name, backend, batch, shape, steps, budget, train in json.loads(sys.argv[2]):
    model, small = cases.make(name)
    able = run(backend, model, cases.living(model, 1, small), 2, 2**30, train)
    x = cases.living(model, batch, shape)
    for _ in range(2):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    if able and backend == "native":
        native_library.load().pool_bytes(trim=True)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    if able:
        run(backend, model, x, steps, budget, train)
    need = model.cost(shape, steps, batch_size=batch, memory_budget=budget).memory[backend]
    measured = status("VmHWM") - before if able else None
    most = need.training if train else need.inference
    print(json.dumps([measured, most, need.training_expected, need.training_least]))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are read from Linux")
@pytest.mark.parametrize(
    "backend", ["native", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sparse", "reference"))]
)
def test_the_process_grows_by_no_more_than_the_upper_bound(backend):
    cases = [
        ("growing", backend, 3, (64, 56), 16, 2**30, True),
        ("growing", backend, 3, (64, 56), 24, 8_000_000, True),
        ("reflect", backend, 3, (48, 64), 12, 2**30, True),
        ("solid", backend, 2, (12, 16, 16), 8, 2**30, True),
        ("immortal", backend, 2, (96, 96), 16, 2**30, True),
        ("immortal", backend, 2, (96, 96), 40, 20_000_000, True),
        ("growing", backend, 4, (64, 64), 4, 2**30, False),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if backend == "reference":
        environment["MALLOC_MMAP_THRESHOLD_"] = "262144"  # holes that freed tensors leave are not counted
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(Path(__file__)), json.dumps(cases)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(cases)
    for (*_, train), (measured, most, expected, least) in zip(cases, rows, strict=True):
        if measured is None:
            assert backend == "native"
            continue
        assert measured <= most
        if train:
            assert expected <= 2.5 * measured + 2**27
            assert least <= measured + 2**21  # some pages were there before


# What it looks like, and what is refused -----------------------------------------------------------------------------


def test_the_report_is_short_and_says_what_the_budget_does():
    model, _ = make("growing")
    lines = str(model.cost((72, 72), 80, batch_size=8, memory_budget=2**27)).splitlines()
    assert lines[0] == "80 steps of 8 x (72 x 72) cells that fire with probability 0.5, 8,336 parameters"
    assert lines[1].endswith("16,768 forward (384 perception, 16,384 rule), 62,592 in training")
    assert "348 M forward, 1.3 G in training; 695 M and 2.6 G if every cell is evaluated" in lines[2]
    rows = {line.split()[0]: line for line in lines[4:7]}
    assert list(rows) == ["native", "sparse", "reference"]
    assert rows["native"].endswith("steps, then states 5 apart")
    assert lines[7] == "memory_budget 128.0 MiB; native and sparse need 47.2 MiB of it at least"
    assert "all steps" in str(model.cost((72, 72), 80))


def test_large_grids_are_not_computed_no_steps_keep_nothing_and_the_budget_is_that_of_the_model():
    cost = make("growing")[0].cost((10**6, 10**6), 1000, batch_size=64)
    assert cost.memory["native"].training_least == 2 * 64 * 10**12 * 16 * 4
    assert "PiB" not in str(cost)
    model = BasicNCAModel(**presets.growing(memory_budget=12_345_678))
    assert model.cost((8, 8), 4).memory_budget == 12_345_678
    assert model.cost((8, 8), 4, memory_budget=999).memory_budget == 999
    need = make("growing")[0].cost((8, 8), 0).memory["sparse"]
    assert (need.kept_steps, need.segment) == (0, None)


@pytest.mark.parametrize(
    ("shape", "steps", "options", "message"),
    [
        ((8,), 4, {}, "shape must be 2 whole numbers of at least 1, not"),
        ((8, 0), 4, {}, "whole numbers of at least 1, not"),
        ((8, 8.0), 4, {}, "whole numbers of at least 1, not"),
        ((8, 8), 4, {"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ((8, 8), -1, {}, "steps must be a whole number of at least 0"),
        ((8, 8), 4, {"memory_budget": 0}, "memory_budget must be a whole number of at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(shape, steps, options, message, refuses):
    refuses(ConfigError, message, make("growing")[0].cost, shape, steps, **options)


def test_a_part_that_cannot_be_counted_is_named(refuses):
    class MyRule(torch.nn.Conv2d):
        pass

    model = BasicNCAModel(perception=Perception("identity"), rule=MyRule(16, 12, 1))
    refuses(ConfigError, "cost of this BasicNCAModel cannot be counted: the rule is a MyRule", model.cost, (8, 8), 4)
