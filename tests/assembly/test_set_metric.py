"""Values of whole sets do not depend on the batch size, for every function."""

import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.nn import functional as F

from delira_nca.assembly import SetMetric, over_states, pred, target, term
from delira_nca.errors import ConfigError
from delira_nca.losses import MacroAccuracy, mse, rmse
from delira_nca.training.callbacks import RolloutLoss

GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.rand(23, 5, generator=GENERATOR)
LABELS = (torch.rand(23, 5, generator=GENERATOR) < 0.4).float()


def f1(scores, labels):
    return f1_score(labels.flatten() > 0.5, scores.flatten() > 0.5)


def area(scores, labels):
    return roc_auc_score(labels.flatten(), scores.flatten())


def over_set(node, sizes, mode="auto"):
    metric = SetMetric(node, mode)
    for scores, labels in zip(SCORES.split(sizes), LABELS.split(sizes), strict=True):
        named = {"pred": scores, "label": labels}
        metric.update(*(named[key] for key in metric.keys))
    return float(metric.compute())


NODES = {
    "mean": term(F.mse_loss),
    "root": term(mse) ** 0.5,
    "module": term(nn.L1Loss()) * 2 + 1,
    "metric": term(rmse) + term(F.binary_cross_entropy),
    "f1": term(f1),
    "area": 1 - term(area),
    "nested": term(torch.median, (pred() - target()) ** 2),
}


@pytest.mark.parametrize("name", NODES)
def test_uneven_batches_give_the_value_of_the_set(name):
    expected = {"f1": f1(SCORES, LABELS), "area": 1 - area(SCORES, LABELS)}
    value = expected.get(name, float(NODES[name].value({"pred": SCORES, "label": LABELS})))
    for sizes in ([23], [10, 10, 3], [1] * 23):
        assert over_set(NODES[name], sizes) == pytest.approx(value, rel=1e-6)


def test_what_is_a_mean_or_a_metric_is_streamed_and_the_rest_is_held():
    modes = {name: SetMetric(node).mode for name, node in NODES.items()}
    assert modes == dict.fromkeys(("mean", "root", "module", "metric"), "streaming") | dict.fromkeys(
        ("f1", "area", "nested"), "whole"
    )
    assert SetMetric(term(f1, per_sample=True)).mode == "streaming"
    metric = SetMetric(NODES["mean"])
    metric.update(LABELS, SCORES)
    assert not metric.held
    with pytest.raises(ConfigError, match="the value of f1 over a set is not known to be the mean"):
        SetMetric(NODES["f1"], "streaming")
    with pytest.raises(ConfigError, match="exist only in training"):
        SetMetric(term(mse) + over_states(RolloutLoss(torch.mean, name="overflow")))
    assert over_set(NODES["root"], [20, 3], "whole") == pytest.approx(over_set(NODES["root"], [23]), rel=1e-6)


def test_metric_objects_are_computed_once_over_the_set():
    metric = SetMetric(term(MacroAccuracy(), pred(), target()))
    for answer, label in [(0, 0), (0, 0), (0, 1), (1, 1)]:
        metric.update(torch.tensor([label]), torch.eye(2)[[answer]])
    assert metric.compute() == 0.75
    metric.reset()
    metric.update(torch.tensor([1]), torch.eye(2)[[0]])
    assert metric.compute() == 0.0
