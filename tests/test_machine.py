import pytest

from delira_nca import machine

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Makes a /proc and a /sys/fs/cgroup of the files that it is given."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
        monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")

    return make


MEMINFO = (
    "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\nSwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n"
)
NO_SWAP = MEMINFO.replace("SwapFree: 1048576", "SwapFree: 0")


def test_the_system_says_how_much_there_is(system):
    system({"proc/meminfo": MEMINFO})
    assert machine.available_memory() == 8 * GIB
    assert machine.available_memory(swap=True) == 9 * GIB
    assert machine.total_memory() == 16 * GIB


def test_nothing_is_known_where_nothing_can_be_read(system):
    system({})
    assert machine.available_memory() is None
    assert machine.total_memory() is None
    assert machine.cpu_name()


@pytest.mark.parametrize("path", ["/job", "/not/mounted/here"])
def test_a_control_group_limits_what_there_is(system, path):
    system(
        {
            "proc/meminfo": NO_SWAP,
            "proc/self/cgroup": f"0::{path}\n",
            "cgroup/job/memory.max": "max\n",
            "cgroup/job/memory.current": f"{GIB}\n",
            "cgroup/memory.max": f"{4 * GIB}\n",
            "cgroup/memory.current": f"{3 * GIB}\n",
            "cgroup/memory.stat": f"anon {2 * GIB}\nactive_file {GIB // 4}\ninactive_file {GIB // 4}\n",
        }
    )
    assert machine.available_memory() == 1.5 * GIB
    assert machine.available_memory(swap=True) == 1.5 * GIB


@pytest.mark.parametrize(("swap", "left"), [("max", 9), (str(2 * GIB), 2.5)])
def test_a_control_group_may_swap(system, swap, left):
    system(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "cgroup/memory.max": f"{4 * GIB}\n",
            "cgroup/memory.current": f"{3 * GIB}\n",
            "cgroup/memory.swap.max": swap,
            "cgroup/memory.swap.current": f"{GIB // 2}\n",
        }
    )
    assert machine.available_memory() == GIB
    assert machine.available_memory(swap=True) == left * GIB


def test_a_control_group_of_the_old_kind_counts_too(system):
    group = "cgroup/memory/box/memory."
    system(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:cpu:/box\n4:memory:/box\n0::/\n",
            f"{group}limit_in_bytes": f"{2 * GIB}\n",
            f"{group}usage_in_bytes": f"{3 * GIB}\n",
            f"{group}stat": f"active_file 7\ntotal_active_file {GIB // 2}\ntotal_inactive_file {GIB}\n",
        }
    )
    assert machine.available_memory() == 0.5 * GIB
    assert machine.available_memory(swap=True) == 9 * GIB  # how much the group may swap is not known


def test_the_processor_has_a_name(system):
    system({"proc/cpuinfo": "processor : 0\nmodel name\t: Fast CPU 3000\n"})
    assert machine.cpu_name() == "Fast CPU 3000"
    assert machine.usable_cores() >= 1


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 6),
        ({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "max 100000\n"}, 6),
        ({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "390000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "1600000 100000\n"}, 6),
        ({"proc/self/cgroup": "0::/pod/job\n", "cgroup/pod/cpu.max": "150000 50000\n"}, 3),
        ({"proc/self/cgroup": "0::/not/mounted\n", "cgroup/cpu.max": "100000 50000\n"}, 2),
    ],
)
def test_no_more_cores_are_usable_than_affinity_and_quota_allow(system, monkeypatch, files, cores):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    system(files)
    assert machine.usable_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [(-1, 6), (200000, 2), (50000, 1), (10**7, 6)])
def test_a_quota_of_the_old_kind_counts_too(system, monkeypatch, quota, cores):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    group = "cgroup/cpu/box/cpu.cfs_"
    cgroups = "3:cpu,cpuacct:/box\n2:memory:/box\n0::/\n"
    system({"proc/self/cgroup": cgroups, f"{group}quota_us": f"{quota}\n", f"{group}period_us": "100000\n"})
    assert machine.usable_cores() == cores


def test_the_cores_of_the_affinity_are_usable_without_a_quota(system, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {3}, raising=False)
    system({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "400000 100000\n"})
    assert machine.usable_cores() == 1


def test_a_quota_that_changes_while_the_process_runs_is_read_again_a_second_later(system, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    seconds = iter([10.0, 10.9, 11.0])
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(seconds))
    for quota, cores in ((2, 2), (4, 2), (4, 4)):
        system({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": f"{quota}00000 100000\n"})
        assert machine.usable_cores() == cores
