"""Ray: what is there is used and stays; what cannot work is refused."""

import socket

import pytest

from delira_nca.errors import ConfigError
from delira_nca.experiment.launchers import LaunchError, RayLauncher

ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture
def connected(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=2**27, logging_level="warning")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_connection_that_is_there_is_used_and_stays(connected, tasks):
    (outcome,) = RayLauncher().run(tasks.divide, [{"number": 1, "by": 4}])
    assert outcome.value == 0.25
    assert ray.is_initialized()
    with pytest.raises(ConfigError, match="connected to Ray already: leave out the address 'auto'"):
        RayLauncher(address="auto").run(tasks.divide, [{"number": 1, "by": 4}])
    assert ray.is_initialized()


@pytest.mark.slow
def test_what_this_machine_does_not_have_is_refused_and_ray_is_ended(tasks):
    with pytest.raises(ConfigError, match="each task needs 2 of 'microscope', and this machine has 0"):
        RayLauncher(1, resources={"microscope": 2}).run(tasks.divide, [{"number": 1, "by": 4}])
    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Ray Client connection timed out")  # with grpcio, Ray tries for half a minute
def test_a_cluster_that_is_not_there_is_named(tasks, monkeypatch):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(LaunchError, match=f"cannot connect to Ray at '{address}'"):
        RayLauncher(address=address).run(tasks.divide, [{"number": 1, "by": 4}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 0}, "num_workers must be a whole number of at least 1, not 0"),
        ({"threads": 0}, "threads must be a whole number of at least 1, not 0"),
        ({"num_gpus": -1}, "num_gpus must be a number of at least 0, not -1"),
        ({"num_gpus": float("nan")}, "num_gpus must be a number of at least 0, not nan"),
        ({"memory": 0.5}, "memory must be a whole number of at least 1, not 0.5"),
    ],
)
def test_numbers_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RayLauncher(**options)
