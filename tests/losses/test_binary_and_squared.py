import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import dice_bce, dice_score, focal, mse, multiclass_dice, per_sample_mse, soft_dice


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
@pytest.mark.parametrize("loss", [mse, per_sample_mse, soft_dice, dice_bce, dice_score])
def test_nothing_is_broadcast(loss, shape):
    with pytest.raises(ShapeError, match=r"prediction \(2, 3, 4\) and label .* differ in shape"):
        loss(torch.zeros(2, 3, 4), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 1, 5, 6), (2, 2, 4, 3, 5), (4, 1, 7)])
@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_soft_dice_is_its_formula_for_each_sample_and_channel(noise, shape, smooth):
    logits, target = noise(*shape), (noise(*shape, seed=1) > 0).long()
    p, g = 1 / (1 + np.exp(-logits.double().numpy())), target.numpy().astype(float)
    axes = tuple(range(2, len(shape)))
    expected = 1 - (2 * (p * g).sum(axes) + smooth) / (p.sum(axes) + g.sum(axes) + smooth)
    assert soft_dice(logits, target, smooth=smooth).item() == pytest.approx(expected.mean(), rel=1e-5)


def test_dice_and_cross_entropy_are_added(noise):
    logits, target = noise(3, 1, 5, 6), (noise(3, 1, 5, 6, seed=1) > 0).to(torch.uint8)
    p, g = 1 / (1 + np.exp(-logits.double().numpy())), target.numpy()
    entropy = -np.where(g == 1, np.log(p), np.log(1 - p)).mean()
    assert dice_bce(logits, target).item() == pytest.approx(soft_dice(logits, target).item() + entropy, rel=1e-5)


def test_segmentation_losses_have_finite_gradients_that_lead_to_the_target():
    target = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    for start in (torch.zeros(1, 1, 4), torch.full((1, 1, 4), 100.0), torch.full((1, 1, 4), -100.0)):
        logits = start.clone().requires_grad_()
        dice_bce(logits, target).backward()
        assert torch.isfinite(logits.grad).all()
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    soft_dice(logits, target).backward()
    assert (logits.grad[0, 0] < 0).tolist() == [True, False, True, False]


def test_dice_score_counts_cells_and_knows_what_is_empty():
    target = torch.tensor([[[1, 1, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]])
    logits = torch.tensor([[[1.0, -1, -1, 3]], [[-1, -1, -1, 0]], [[2, -1, -1, -1]], [[9, 9, 9, 9]]])
    each = [dice_score(logits[i : i + 1], target[i : i + 1]).item() for i in range(4)]
    assert each == pytest.approx([2 / 5, 1.0, 0.0, 1.0])
    assert dice_score(logits, target).item() == pytest.approx(np.mean(each))


@pytest.mark.parametrize("loss", [soft_dice, dice_bce, focal])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.uint16])
def test_a_mask_of_0_and_255_is_refused(loss, dtype):
    logits, mask = torch.zeros(1, 1, 4), torch.tensor([[[0, 255, 0, 255]]])
    with pytest.raises(ConfigError, match=r"labels run from 0(\.0)? to 255(\.0)?, but a mask has 0 outside"):
        loss(logits, mask.to(dtype))
    assert torch.isfinite(loss(logits, (mask > 0).to(dtype)))
    assert torch.isfinite(loss(logits, 1.000001 * (mask > 0)))  # as interpolation rounds


@pytest.mark.parametrize("loss", [soft_dice, multiclass_dice])
def test_dice_without_smoothing_is_refused(loss, refuses):
    label = torch.zeros(1, 2, 2) if loss is soft_dice else torch.zeros(1, 2).long()
    refuses(ConfigError, "smooth must be a number above 0, not 0", loss, torch.zeros(1, 2, 2), label, smooth=0)
