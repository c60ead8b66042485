"""Where a training computes."""

import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.training.run_environment import choose_device


@pytest.mark.parametrize(
    ("arguments", "device"), [((), "cpu"), (((), "cpu"), "cpu"), (((), torch.device("cpu")), "cpu")]
)
def test_a_device_that_is_there_is_taken(arguments, device):
    assert choose_device(*arguments) == torch.device(device)


@pytest.mark.parametrize(("number", "device"), [(0, "cpu"), (2, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, number, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    assert choose_device((), "auto") == torch.device(device)


@pytest.mark.parametrize(
    ("gpu_ids", "device", "message"),
    [
        ([0, 1], None, "torchrun"),
        ([0], "cpu", "not both"),
        ((), "gpu", "'gpu' is not a torch device"),
        ([2], None, "device cuda:2 was asked for, and torch sees 2 GPUs"),
        ((), "cuda:5", "torch sees 2 GPUs"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, gpu_ids, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device([1]) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=message):
        choose_device(gpu_ids, device)
