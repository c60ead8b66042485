from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here")


@pytest.fixture
def busy(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
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
