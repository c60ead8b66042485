"""One process: nothing is different, nothing is begun; and what is refused."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.training import distributed
from delira_nca.training.distributed import WholeBatch, session
from delira_nca.training.distributed.context import ALONE
from delira_nca.training.run_environment import changes

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    """What torchrun would say, as far as it is said."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def test_one_process_is_alone_and_begins_nothing(environment, make_trainer):
    assert distributed.init_from_environment() is ALONE
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.gather("here") == ["here"]
    assert distributed.broadcast(3) == 3
    assert distributed.all_reduce_sums({"a": 2}) == {"a": 2.0}
    distributed.barrier()
    distributed.end()
    with session.session() as ranks:
        assert ranks is ALONE
    assert make_trainer().ranks is ALONE
    assert not dist.is_initialized()


def test_a_world_of_one_is_one_process(environment):
    for name, value in zip(NAMES, ("0", "1", "0", "localhost", "29500"), strict=True):
        environment(name, value)
    assert distributed.find_context() is ALONE
    assert distributed.init() is ALONE
    assert not dist.is_initialized()


def test_the_child_of_a_process_of_a_training_is_none(environment, monkeypatch):
    for name, value in zip(NAMES, ("1", "2", "1", "localhost", "29500"), strict=True):
        environment(name, value)
    environment(session._OWNER, session._signature(os.getpid() + 1))
    assert distributed.find_context() is ALONE
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, ConfigError, "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set. Start it with torchrun"),
        ({"timeout": 0}, ConfigError, "greater than 0, not 0"),
        ({"backend": "glo"}, UnknownNameError, "gloo"),
    ],
)
def test_what_cannot_begin_is_refused(environment, options, kind, message):
    with pytest.raises(kind, match=message):
        distributed.init(**options)


def test_a_rank_is_a_number(environment):
    for name, value in zip(NAMES, ("first", "2", "0", "localhost", "29500"), strict=True):
        environment(name, value)
    with pytest.raises(ConfigError, match="RANK in the environment is a number, not 'first'"):
        distributed.init()


def test_a_trainer_alone_loads_no_part_of_it():
    code = (
        "import sys; from delira_nca.training import PyTorchNetworkTrainer; "
        "print([name for name in sys.modules if name.startswith('delira_nca.training.distributed.')])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['delira_nca.training.distributed.context']"


def test_a_metric_of_the_whole_batch_is_itself_in_one_process():
    pred, label = torch.ones(2, 3), torch.zeros(2, 3)
    assert torch.equal(WholeBatch(mse)(pred, label), mse(pred, label))
    with pytest.raises(ConfigError, match="cannot be called"):
        WholeBatch("dice")


def test_another_number_of_processes_is_told_and_none_in_a_file_was_one():
    assert changes({"processes": 2}, {"processes": 1}) == ["processes: 2 then, 1 now"]
    assert changes({"threads": 1}, {"threads": 1, "processes": 1}) == []
    assert changes({"threads": 1}, {"threads": 1, "processes": 4}) == ["processes: 1 then, 4 now"]
