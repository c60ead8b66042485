"""Means over samples."""

import pytest
import torch

from delira_nca.training.set_values import SampleMean


def test_a_batch_counts_as_often_as_it_has_samples():
    mean = SampleMean()
    mean.add({"loss": torch.tensor(1.0), "dice": 0.5}, 3)
    mean.add({"loss": torch.tensor(5.0)}, 1)
    assert mean.result() == {"loss": 2.0, "dice": 0.5}


def test_sums_are_exact_and_results_plain():
    mean = SampleMean()
    for value in [torch.tensor(1e8), *[torch.tensor(1.0)] * 3]:
        mean.add({"loss": value.requires_grad_()}, 1)
    result = mean.result()["loss"]
    assert result == pytest.approx((1e8 + 3) / 4, rel=1e-12)
    assert type(result) is float


def test_nothing_gives_no_means():
    assert SampleMean().result() == {}
