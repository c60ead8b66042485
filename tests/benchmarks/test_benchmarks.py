"""What benchmarks print and write, and what their figures mean."""

import json
import shutil

import pytest


@pytest.fixture
def run_with_figures(run_benchmark, tmp_path):
    """What a benchmark prints, and the figures that it writes."""

    def run(name, *options):
        done = run_benchmark(name, *options, "--json", tmp_path / "figures.json")
        return done.stdout, json.loads((tmp_path / "figures.json").read_text())

    return run


@pytest.mark.slow
def test_benchmark_shows_what_a_trainer_adds_to_a_bare_loop(run_with_figures):
    printed, results = run_with_figures("trainer", "--iterations", 20, "--rounds", 2)
    assert "what a trainer adds to the bare loop" in printed
    table = results["over the bare loop"]
    assert {"bare loop", "DataManager alone", "no callbacks", "all of the usual callbacks"} <= table.keys()
    assert {"PoolUpdate only", "WeightAverage only", "MetricLogger only"} <= table.keys()
    assert all(len(values) == 2 and min(values) > 0 for values in results["spent"].values())


def test_differences_are_taken_within_a_round():
    from benchmarks.trainer import over_the_bare_loop

    table = over_the_bare_loop({"bare loop": [10.0, 50.0, 20.0], "trainer": [30.0, 60.0, 90.0]})
    assert table["trainer"] == {"median": 20.0, "of the least": 20.0, "min": 10.0, "max": 70.0}
    assert table["bare loop"]["median"] == 20.0


@pytest.mark.slow
def test_benchmark_shows_what_recording_costs_and_that_nothing_is_lost(run_with_figures):
    printed, results = run_with_figures("store", "--iterations", 400, "--chunk", 100, "--rounds", 1)
    assert "records lost: 0" in printed
    assert results["table"].keys() == {"store", "store, opened for each chunk", "one pickle"}
    assert all(min(row["write"], row["read"], row["bytes"]) > 0 for row in results["table"].values())
    assert results["two processes"]["lost"] == 0
    assert len(results["recorder"]) == 1


def test_ratios_are_those_of_the_medians():
    from benchmarks.store import summarise

    row = {"write": [1.0, 5.0, 2.0], "read": [1.0], "bytes": [1e6]}
    table = summarise({"store": row, "one pickle": {**row, "write": [9.0, 8.0, 1.0]}})
    assert table["store"]["times the store"] == 1.0
    assert table["one pickle"]["times the store"] == 4.0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_benchmark_compares_the_engine_with_a_loop_that_computes_the_same(run_with_figures):
    options = ("--rounds", 2, "--seconds", 0.01, "--size", 16, "--no-browser")
    printed, results = run_with_figures("live", *options)
    assert "Steps a second, 16 x 16 cells" in printed
    assert results["table"].keys() == {"every cell lives", "a disc lives"}
    for engines in results["rates"].values():
        assert engines.keys() == {"JavaScript", "naive"}
        assert all(len(rates) == 2 and min(rates) > 0 for rates in engines.values())


def test_rates_are_compared_within_a_round():
    from benchmarks.live import table

    rows = table({"dish": {"naive": [1.0, 10.0, 2.0], "JavaScript": [6.0, 40.0, 10.0]}})["dish"]
    assert rows["JavaScript"] == {"median": 10.0, "min": 6.0, "max": 40.0, "times naive": 5.0}
    assert rows["naive"]["times naive"] == 1.0


def test_a_third_of_the_cells_of_the_disc_live():
    from benchmarks.live import dishes, make_model

    full, disc = dishes().values()
    alive = make_model().alive
    assert alive(full.unsqueeze(0)).all()
    assert alive(disc.unsqueeze(0)).float().mean() == pytest.approx(1 / 3, abs=0.02)


def rows_of(run_benchmark, *arguments):
    """Cells of the rows below the head of the table of the benchmark of growing."""
    done = run_benchmark("growing", *arguments, "--quick", warnings="default")
    lines = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


@pytest.mark.slow
def test_seeds_are_runs_of_the_command_with_their_median_and_worst(run_benchmark):
    rows = rows_of(run_benchmark, "seeds", "--seeds", "2")
    assert [row[0] for row in rows] == ["0", "1", "median", "worst"]
    first, second, median, worst = ([float(cell) for cell in row[2:]] for row in rows)
    assert first != second
    assert worst == [max(pair) for pair in zip(first, second, strict=True)]
    assert median == pytest.approx([sum(pair) / 2 for pair in zip(first, second, strict=True)], abs=0.011)


@pytest.mark.slow
def test_recipes_are_trained_with_what_they_change(run_benchmark):
    rows = rows_of(run_benchmark, "recipes", "learning rate")
    assert sorted(row[0] for row in rows) == ["learning rate 2e-3", "learning rate 8e-3"]
    assert rows[0][2:] != rows[1][2:]


@pytest.mark.slow
def test_the_benchmark_of_tensorflow_prints_both_medians_and_their_ratio(run_benchmark):
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    done = run_benchmark("keras_nca", "--rounds", 1, "--size", 12, "--steps", 3, warnings="default")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["native", "TensorFlow", "ratio"]


@pytest.fixture
def busy():
    from benchmarks import busy

    return busy


def test_fair_shares_add_up_to_the_cores_and_none_is_more_than_a_whole_one(busy):
    assert busy.fair_share(4, num_cores=3) * 6 == 3
    assert busy.fair_share(0, num_cores=8) == 1


def test_table_compares_with_one_thread_and_with_the_fair_share(busy):
    found = {
        "quiet": {1: [0.08, 0.09, 0.07], 2: [0.04]},
        "beside two": {1: [0.16], 2: [0.1]},
        "one core": {1: [0.08], 2: [0.1]},
    }
    header, quiet, beside, pinned = busy.table(found, {"quiet": 1.0, "beside two": 0.5}, "one core")
    assert header[-2:] == ["2 / 1 thread", "2 / fair share"]
    assert quiet == ["quiet", "80 (70 .. 90)", "40 (40 .. 40)", "40", "0.50", "1.00"]
    assert beside[3:] == ["80", "0.62", "1.25"]
    assert pinned[3:] == ["80", "1.25", "1.25"]
    assert "   * - quiet\n     - 80 (70 .. 90)" in busy.as_list_table([header, quiet])


def test_a_training_step_is_timed_with_one_thread_and_with_two(busy):
    calls = []
    seconds = busy.measure(lambda: calls.append(1), rounds=2, in_a_row=3)
    assert {threads: len(found) for threads, found in seconds.items()} == {1: 6, 2: 6}
    assert len(calls) == 3 * 2 * 4


def test_the_training_step_runs(busy):
    step = busy.training_step(batch=1, size=12, num_steps=3)
    step()
    step()
