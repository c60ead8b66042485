import numpy as np
import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import focal, multiclass_focal


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_is_its_formula_for_each_element(noise, gamma, alpha):
    logits, target = 3 * noise(3, 2, 5), (noise(3, 2, 5, seed=1) > 0).long()
    p, y = 1 / (1 + np.exp(-logits.double().numpy())), target.numpy()
    p_t = np.where(y == 1, p, 1 - p)
    weight = 1.0 if alpha is None else np.where(y == 1, alpha, 1 - alpha)
    expected = (-weight * (1 - p_t) ** gamma * np.log(p_t)).mean()
    assert focal(logits, target, gamma=gamma, alpha=alpha).item() == pytest.approx(expected, rel=1e-5)


def test_without_gamma_focal_is_the_cross_entropy_and_two_classes_are_the_binary_case(noise):
    logits, target = noise(4, 6), (noise(4, 6, seed=1) > 0).float()
    expected = F.binary_cross_entropy_with_logits(logits, target).item()
    assert focal(logits, target, gamma=0).item() == pytest.approx(expected, rel=1e-6)
    logits, label = noise(4, 5, 6), torch.arange(24).reshape(4, 6) % 5
    assert multiclass_focal(logits, label, gamma=0).item() == pytest.approx(F.cross_entropy(logits, label).item())
    logits, label = noise(7, 2), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    assert multiclass_focal(logits, label).item() == pytest.approx(focal(logits[:, 1] - logits[:, 0], label).item())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, (0.1, 0.2, 0.7)])
@pytest.mark.parametrize("shape", [(4,), (4, 5), (2, 3, 3)])
def test_multiclass_focal_is_its_formula(noise, gamma, alpha, shape):
    logits, label = 3 * noise(shape[0], 3, *shape[1:]), noise(*shape, seed=1).mul(10).long().abs() % 3
    p = np.exp(logits.double().log_softmax(1).numpy())
    p_t = np.take_along_axis(p, label.numpy()[:, None], 1)[:, 0]
    weight = 1.0 if alpha is None else np.array(alpha)[label.numpy()]
    expected = (-weight * (1 - p_t) ** gamma * np.log(p_t)).mean()
    assert multiclass_focal(logits, label, gamma=gamma, alpha=alpha).item() == pytest.approx(expected, rel=1e-5)
    with_axis = multiclass_focal(logits, label.unsqueeze(1), gamma=gamma, alpha=alpha)
    assert torch.equal(with_axis, multiclass_focal(logits, label, gamma=gamma, alpha=alpha))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_gradients_are_finite_where_everything_is_right_or_wrong(gamma):
    logits = torch.tensor([[100.0], [-100.0], [0.0]], requires_grad=True)
    focal(logits, torch.ones(3, 1), gamma=gamma).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1] < 0
    many = torch.tensor([[100.0, 0.0, -100.0], [-100.0, 0.0, 100.0]], requires_grad=True)
    multiclass_focal(many, torch.tensor([0, 0]), gamma=gamma).backward()
    assert torch.isfinite(many.grad).all()
    assert many.grad[1, 0] < 0


def test_what_is_right_weighs_less_than_in_the_cross_entropy():
    easy, hard = torch.tensor([3.0]), torch.tensor([-1.0])
    one = torch.ones(1)
    assert focal(easy, one) / focal(easy, one, gamma=0) < 0.01
    assert focal(hard, one) / focal(hard, one, gamma=0) > 0.5


def test_bad_arguments_are_refused(refuses):
    logits, label, weights = torch.zeros(2, 3), torch.tensor([0, 1]), (1.0, 2.0)
    for error, message, wrong in (
        (ConfigError, "labels run from 0 to 3, but there are 3 classes: 0 to 2", torch.tensor([0, 3])),
        (ConfigError, "labels run from -1 to 0, but there are 3 classes", torch.tensor([0, -1])),
        (ConfigError, r"labels of classes are whole numbers, not torch.float32", torch.zeros(2)),
        (ShapeError, r"logits \(2, 3\) need a label of \(2,\) or \(2, 1\), not \(3,\)", torch.zeros(3).long()),
    ):
        refuses(error, message, multiclass_focal, logits, wrong)
    refuses(ConfigError, r"K of at least 2, not \(2, 1\)", multiclass_focal, torch.zeros(2, 1), torch.zeros(2).long())
    message = "one weight of at least 0 for each of 3 classes"
    refuses(ConfigError, message, multiclass_focal, logits, label, alpha=weights)
    refuses(ConfigError, "gamma must be a number of at least 0, not -1", focal, logits, logits, gamma=-1)
    refuses(ConfigError, "alpha must be a number from 0 to 1, not 2", focal, logits, logits, alpha=2)
    refuses(ShapeError, "differ in shape", focal, logits, torch.zeros(2, 1))
