import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import gradient_l1, shift_free_mse, ssim


@pytest.mark.parametrize("shape", [(2, 1, 5, 6), (2, 2, 4, 3, 5), (3, 1, 7)])
def test_gradients_are_compared_along_all_axes(noise, shape):
    pred, label = noise(*shape).double(), noise(*shape, seed=1).double()
    axes = range(2, len(shape))
    each = [np.abs(np.diff(pred.numpy(), axis=a) - np.diff(label.numpy(), axis=a)).mean() for a in axes]
    assert gradient_l1(pred, label).item() == pytest.approx(np.mean(each))
    assert gradient_l1(pred + 3, pred).item() == pytest.approx(0, abs=1e-12)


def test_the_median_of_each_sample_is_taken_off(noise):
    pred, label = noise(3, 1, 5, 5), noise(3, 1, 5, 5, seed=1)
    p, g = pred.flatten(1).numpy(), label.flatten(1).numpy()
    expected = ((p - np.median(p, 1, keepdims=True) - g + np.median(g, 1, keepdims=True)) ** 2).mean()
    assert shift_free_mse(pred, label).item() == pytest.approx(expected, rel=1e-5)
    shift = torch.tensor([1.0, -4.0, 0.5]).reshape(3, 1, 1, 1)
    assert shift_free_mse(pred + shift, label).item() == pytest.approx(expected, rel=1e-4)


def test_structural_similarity_is_its_formula_in_each_window(noise):
    pred, label = noise(2, 2, 13, 14).sigmoid().double(), noise(2, 2, 13, 14, seed=1).sigmoid().double()
    place = np.arange(11) - 5
    gauss = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    gauss /= gauss.sum()
    values = []
    for i in range(3):
        for j in range(4):
            x, y = pred.numpy()[..., i : i + 11, j : j + 11], label.numpy()[..., i : i + 11, j : j + 11]
            mx, my = (x * gauss).sum((2, 3)), (y * gauss).sum((2, 3))
            vx, vy = (x * x * gauss).sum((2, 3)) - mx**2, (y * y * gauss).sum((2, 3)) - my**2
            c = (x * y * gauss).sum((2, 3)) - mx * my
            values.append((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert ssim(pred, label).item() == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 16), (2, 3, 12, 16), (1, 1, 12, 12, 12)])
def test_structural_similarity_is_1_for_equal_pictures_of_any_dimension(noise, shape):
    picture = noise(*shape).sigmoid()
    assert ssim(picture, picture).item() == pytest.approx(1, abs=1e-5)
    assert ssim(picture, 1 - picture).item() < 0.1
    assert ssim(255 * picture, 255 * picture.flip(2), data_range=255).item() == pytest.approx(
        ssim(picture, picture.flip(2)).item(), abs=1e-4
    )


def test_structural_similarity_can_be_trained_on(noise):
    pred, label = torch.full((1, 1, 12, 12), 0.5, requires_grad=True), noise(1, 1, 12, 12).sigmoid()
    loss = 1 - ssim(pred, label)
    loss.backward()
    assert torch.isfinite(pred.grad).all()
    assert 1 - ssim(pred - 0.1 * pred.grad, label) < loss


def test_what_does_not_fit_is_refused(refuses):
    small = torch.zeros(1, 1, 8, 8)
    refuses(ShapeError, r"a window of 11 cells does not fit into \(1, 1, 8, 8\)", ssim, small, small)
    refuses(ConfigError, "window of ssim must be odd, not 4", ssim, small, small, window=4)
    refuses(ShapeError, "axes of at least 2", gradient_l1, small[..., :1], small[..., :1])
    for loss in (ssim, gradient_l1, shift_free_mse):
        refuses(ShapeError, "differ in shape", loss, small, small[0])
