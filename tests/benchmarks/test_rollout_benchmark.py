"""The benchmark of roll-outs times what it says, and only who computes the right thing."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from delira_nca.rollout import BACKENDS, step

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.processor


@pytest.fixture
def parts():
    """Modules of the benchmark."""
    names = ("check", "contenders", "measure", "peers", "plain_eager", "table", "workloads")
    return SimpleNamespace(**{name: importlib.import_module(f"benchmarks.rollouts.{name}") for name in names})


@pytest.mark.parametrize("name", ["G", "S64", "V32"])
def test_plain_eager_code_and_the_reference_take_the_same_step(parts, name):
    workload = parts.workloads.WORKLOADS[name].quick()
    model = workload.model(update_scale=0.05)
    plain = parts.plain_eager.PlainEager(model)
    x = workload.state()
    fire = torch.rand(len(x), 1, *x.shape[2:], generator=torch.Generator().manual_seed(3)) < 0.5
    expected = step(model, x, 0, fire)
    assert (expected - x).abs().max() > 0.01
    assert torch.allclose(plain.step(x, fire), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["G", "G-dense", "S64", "S256", "S256-b8", "V32", "V32-dense"])
def test_a_state_stays_what_it_is_while_it_is_timed(parts, name):
    workload = parts.workloads.WORKLOADS[name].quick()
    x, model = workload.state(), workload.model()
    final = model(x, workload.steps, seed=0).output_image.detach()
    assert 0 < (final - x).abs().max() < 0.01
    if workload.is_growing:
        alive = model.alive
        assert torch.equal(alive(final), alive(x))
        assert alive(x).all() == workload.is_dense


def test_shares_of_life_and_times_for_a_cell_and_a_step(parts):
    assert parts.workloads.WORKLOADS["G"].share_of_life() == pytest.approx(0.20, abs=0.01)
    assert parts.workloads.WORKLOADS["G-dense"].share_of_life() == 1
    workload = parts.workloads.Workload("two cells", 1, (1, 2), 5, 5, is_growing=False, is_dense=True)
    assert parts.measure.nanoseconds(2e-6, workload, steps=5) == pytest.approx(200)


@pytest.mark.parametrize("name", ["G", "S64", "V32"])
def test_every_back_end_that_is_there_takes_part_and_is_right(parts, name):
    workload = parts.workloads.WORKLOADS[name].quick()
    expected = parts.check.Expected(workload)
    found = dict(parts.contenders.backends(workload, parts.check.check_weights(False)))
    assert found.keys() >= BACKENDS.keys()
    for back_end, contender in found.items():
        base = BACKENDS[back_end.removesuffix(" bf16")]
        assert isinstance(contender, str) == (base.unavailable() is not None), contender
        if not isinstance(contender, str):
            assert parts.check.what_is_wrong(contender, expected) is None


def test_plain_eager_code_passes_the_check_and_with_other_weights_or_gradients_is_found_out(parts):
    workload = parts.workloads.WORKLOADS["G"].quick()
    expected = parts.check.Expected(workload)

    def what_is_wrong(change=lambda module: None, **options):
        contender = parts.contenders.plain_eager(workload, parts.check.check_weights(False), **options)
        change(contender.module)
        return parts.check.what_is_wrong(contender, expected)

    def scale(module):
        module.last.weight.data *= 1.001

    assert what_is_wrong(bfloat16=False) is None
    assert what_is_wrong(bfloat16=True) is None
    assert "state is off by 1" in what_is_wrong(scale)
    change_gradient = what_is_wrong(lambda module: module.hidden.weight.register_hook(lambda grad: 1.01 * grad))
    assert "gradient of tensor 0 is off by 1.0e-02" in change_gradient


def test_a_training_step_changes_no_weight_by_more_than_the_learning_rate(parts):
    workload = parts.workloads.WORKLOADS["S64"].quick()
    contender = parts.contenders.plain_eager(workload, parts.contenders.Weights())
    before = [p.detach().clone() for p in contender.parameters]
    contender.train(2)
    norms = [float(p.grad.norm()) for p in contender.parameters]
    assert norms == pytest.approx([1.0] * 5, abs=1e-2)
    assert all(torch.allclose(p, b, rtol=0, atol=1e-7) for p, b in zip(contender.parameters, before, strict=True))


@pytest.mark.slow
def test_everybody_is_timed_once_in_each_round_after_one_that_does_not_count(parts):
    calls = []

    def somebody(name):
        return SimpleNamespace(
            prepare=lambda steps: None,
            train=lambda steps: calls.append((name, "train", steps)),
            forward=lambda steps: calls.append((name, "forward", steps)),
        )

    runs = parts.measure.time_in_turns({"a": (somebody("a"), 3), "b": (somebody("b"), 4)}, rounds=2, threads=1)
    assert [len(runs[name][mode]) for name in "ab" for mode in ("train", "forward")] == [2] * 4
    assert [name for name, mode, _ in calls if mode == "train"] == ["a", "b", "b", "a", "a", "b"]
    assert {(name, steps) for name, _, steps in calls} == {("a", 3), ("b", 4)}


def made_up(train, forward, steps=5):
    runs = {
        mode: [{"cpu": s, "wall": 2 * s} for s in spent] for mode, spent in (("train", train), ("forward", forward))
    }
    return {"steps": steps, "threads": {"1": runs, "2": runs}}


def test_rows_hold_medians_and_ratios(parts):
    workload = parts.workloads.Workload("ten cells", 1, (2, 5), 10, 5, is_growing=False, is_dense=True)
    fast = {**made_up([1e-6, 3e-6, 2e-6], [1e-6]), "memory": {"train": {"mib": 12.345, "estimated": True}}}
    figures = {"variants": {"fast": fast, "plain eager": made_up([8e-6], [2e-6]), "NCALab": made_up([6e-6], [5e-6])}}
    fast, plain, _ = parts.table.rows(figures, workload, "1")
    assert fast == (
        "fast", "5", "40", "20 .. 60", "4", "3", "20", "20 .. 20", "2", "5", "4e-06", "about 12.3", "-",
    )  # fmt: skip
    assert plain[:6] == ("plain eager", "5", "160", "160 .. 160", "1", "0.75")
    assert len(fast) == len(parts.table.HEADER)
    on_the_clock = next(iter(parts.table.rows(figures, workload, "2")))
    assert on_the_clock[2] == "80"


def test_peak_memory_of_a_call_is_that_of_what_it_allocates(parts):
    if not parts.measure.CLEAR.exists():
        pytest.skip("the system does not say how much memory a process had")
    # in a process of its own: memory that earlier tests have freed would be used again
    script = (
        "import torch; from benchmarks.rollouts.measure import peak_growth; "
        "print(peak_growth(lambda: torch.zeros(48 * 2**18).add_(1)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 47 < float(done.stdout) < 60


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(parts):
    if not parts.measure.CLEAR.exists():
        pytest.skip("the system does not say how much memory a process had")
    grown = parts.measure.measure_memory(parts.workloads.WORKLOADS["G"], "plain eager", {}, quick=True)
    assert grown.keys() == {"train", "forward"}
    assert all(not memory.estimated and memory.mib < 500 for memory in grown.values())
    reason = parts.measure.measure_memory(parts.workloads.WORKLOADS["V32"], "NCALab", {}, quick=True)
    assert reason == "it has two dimensions only"


@pytest.mark.slow
def test_a_quick_run_writes_figures_and_a_page(tmp_path, run_benchmark):
    figures, page = tmp_path / "figures.json", tmp_path / "page.rst"
    options = ["--quick", "--workloads", "G,S64", "--backends", "reference", "--peers", "plain eager,NCALab"]
    done = run_benchmark("rollout", *options, "--json", figures, "--table", page)
    results = json.loads(figures.read_text())
    assert results["machine"].keys() >= {"processor", "cores", "versions", "THP_MEM_ALLOC_ENABLE", "load before"}
    assert results["workloads"].keys() == {"G", "S64"}
    for workload in results["workloads"].values():
        assert workload["missing"].keys() <= {"NCALab"}
        assert workload["variants"].keys() >= {"reference", "plain eager"}
        for variant in workload["variants"].values():
            (one,) = variant["threads"]["1"]["train"]
            assert min(one["cpu"], one["wall"]) > 0
    assert "   * - plain eager\n     - 2\n" in page.read_text()
    assert "x plain" in done.stdout


def test_an_unknown_workload_is_refused_by_name(capsys):
    from benchmarks.rollout import main

    with pytest.raises(SystemExit, match="2"):
        main(["--quick", "--workloads", "G,Q7"])
    assert "unknown workloads ['Q7']: choose from G, G-dense" in capsys.readouterr().err
