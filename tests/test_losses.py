import numpy as np
import pytest
import torch

from delira_nca.errors import ShapeError
from delira_nca.losses import mse, per_sample_mse


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 2, 7), (3, 1), (3,)])
def test_errors_are_those_of_numpy(noise, shape):
    pred, label = noise(*shape), noise(*shape, seed=1)
    squares = (pred.double().numpy() - label.double().numpy()) ** 2
    assert mse(pred, label).item() == pytest.approx(squares.mean(), rel=1e-6)
    if len(shape) > 1:
        assert np.allclose(per_sample_mse(pred, label).numpy(), squares.reshape(3, -1).mean(1), rtol=1e-6)
        assert per_sample_mse(pred, label).mean().item() == pytest.approx(mse(pred, label).item(), rel=1e-6)


def test_the_gradient_is_that_of_the_mean(noise):
    pred, label = noise(2, 3, 4).requires_grad_(), noise(2, 3, 4, seed=1)
    mse(pred, label).backward()
    assert torch.allclose(pred.grad, 2 * (pred.detach() - label) / 24)


@pytest.mark.parametrize("shape", [(2, 1, 4), (1, 3, 4), (3, 4), (2, 4, 3)])
@pytest.mark.parametrize("loss", [mse, per_sample_mse])
def test_nothing_is_broadcast(loss, shape):
    with pytest.raises(ShapeError, match=r"prediction \(2, 3, 4\) and label .* differ in shape"):
        loss(torch.zeros(2, 3, 4), torch.zeros(shape))
