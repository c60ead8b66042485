"""Metrics of whole sets."""

import functools
from collections import OrderedDict

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.io import load_checkpoint, save_checkpoint
from delira_nca.losses import MacroAccuracy, accuracy, direction, macro_accuracy, mse, rmse
from delira_nca.losses.metric import RMSE, Metric, as_metric, load_metric_state, metric_state

SOURCE = torch.Generator().manual_seed(0)
PRED, LABEL = torch.rand(7, 3, 4, generator=SOURCE), torch.rand(7, 3, 4, generator=SOURCE)
LOGITS, CLASSES = torch.rand(40, 5, generator=SOURCE), torch.randint(0, 4, (40,), generator=SOURCE)


@pytest.mark.parametrize("sizes", [(7,), (1, 6), (3, 3, 1), (1,) * 7])
def test_the_root_of_a_set_does_not_depend_on_its_batches(sizes):
    metric = RMSE()
    for pred, label in zip(PRED.split(sizes), LABEL.split(sizes), strict=True):
        metric.update(pred, label)
    assert metric.compute() == pytest.approx(float(rmse(PRED, LABEL)), rel=1e-6)
    metric.reset()
    assert metric.compute() != metric.compute()


@pytest.mark.parametrize("sizes", [(40,), (1, 39), (13, 13, 14), (1,) * 40])
def test_the_accuracy_over_classes_does_not_depend_on_batches(sizes):
    metric = MacroAccuracy()
    for logits, label in zip(LOGITS.split(sizes), CLASSES.split(sizes), strict=True):
        metric.update(logits, label)
    assert metric.compute() == pytest.approx(float(macro_accuracy(LOGITS, CLASSES)), rel=1e-6)


def test_a_prediction_that_is_no_number_makes_the_accuracy_nan():
    metric = MacroAccuracy()
    metric.update(torch.full((1, 2), torch.nan), torch.tensor([0]))
    assert metric.compute() != metric.compute()


def test_calling_it_gives_the_value_of_a_batch_and_keeps_the_state():
    metric = RMSE()
    metric.update(PRED[:2], LABEL[:2])
    before = metric.compute()
    assert metric(PRED[2:], LABEL[2:]) == pytest.approx(float(rmse(PRED[2:], LABEL[2:])), rel=1e-6)
    assert metric.compute() == before


def test_shapes_that_differ_are_refused(refuses):
    refuses(ShapeError, "differ in shape", RMSE().update, torch.zeros(2, 1), torch.zeros(2))


def test_which_functions_are_metrics_of_sets():
    assert isinstance(as_metric(rmse), RMSE)
    assert isinstance(as_metric(macro_accuracy), MacroAccuracy)
    assert isinstance(as_metric(functools.partial(accuracy, average="macro")), MacroAccuracy)
    assert as_metric(functools.partial(accuracy, average="micro")) is None
    assert as_metric(mse) is None
    assert as_metric(RMSE) is None
    assert (direction(RMSE()), direction(MacroAccuracy())) == ("lowest", "highest")


def test_a_metric_that_is_given_is_copied_and_reset():
    given = RMSE()
    given.update(PRED, LABEL)
    before = given.compute()
    taken = as_metric(given)
    assert taken is not given
    assert taken.count == 0
    assert given.compute() == before


class LikeTorchmetrics:
    """States in ``_defaults``, a count of updates, and synchronisation of its own."""

    def __init__(self):
        self._defaults, self.sync_on_compute = {"total": torch.tensor(0.0)}, True
        self.reset()

    def update(self, value):
        self.total, self._update_count = self.total + value.sum(), self._update_count + 1

    def compute(self):
        return self.total

    def reset(self):
        self.total, self._update_count = self._defaults["total"].clone(), 0


def test_a_metric_of_torchmetrics_does_not_synchronise_itself_and_keeps_its_state():
    metric = as_metric(LikeTorchmetrics())
    assert metric.sync_on_compute is False
    metric.update(torch.ones(3))
    again = as_metric(LikeTorchmetrics())
    load_metric_state(again, metric_state(metric))
    assert (float(again.compute()), again._update_count) == (3.0, 1)


@pytest.mark.parametrize("make", [RMSE, LikeTorchmetrics])
def test_a_state_of_another_metric_is_refused(make, refuses):
    refuses(ConfigError, f"{make.__name__} has no state 'other'", load_metric_state, make(), {"other": 1})


def test_the_base_class_asks_for_three_methods(refuses):
    refuses(TypeError, "abstract", Metric)


def test_an_array_is_part_of_the_state_and_stays_an_array():
    class Counts:
        def __init__(self):
            self.reset()

        def update(self, values):
            self.counts = self.counts + np.bincount(values.numpy(), minlength=3)

        def compute(self):
            return self.counts.max()

        def reset(self):
            self.counts = np.zeros(3, dtype=np.int64)

    metric, again = Counts(), Counts()
    metric.update(torch.tensor([0, 2, 2]))
    saved = {name: torch.from_numpy(value) for name, value in metric_state(metric).items()}  # as a checkpoint does
    load_metric_state(again, saved)
    again.update(torch.tensor([2]))
    assert again.counts.tolist() == [1, 0, 3]


class Group:
    """Metrics in containers of several kinds."""

    def __init__(self):
        self.named = OrderedDict(a=RMSE(), b=MacroAccuracy())
        self.listed, self.empty = [[RMSE()]], torch.nn.ModuleList()

    def update(self, pred, label):
        for metric in (self.named["a"], self.listed[0][0]):
            metric.update(pred, label)

    def compute(self):
        return self.named["a"].compute() + self.listed[0][0].compute()

    def reset(self):
        for metric in (*self.named.values(), self.listed[0][0]):
            metric.reset()


def test_metrics_in_containers_are_stored_and_restored(tmp_path):
    first, second = Group(), Group()
    first.update(torch.zeros(2, 1), torch.ones(2, 1))
    save_checkpoint(metric_state(first), tmp_path / "state.safetensors")
    load_metric_state(second, load_checkpoint(tmp_path / "state.safetensors"))
    assert second.compute() == first.compute() == 2.0
    assert isinstance(second.named, OrderedDict)
