import math

import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import rotation_invariant_mse


def smooth_picture(noise, size=32, seed=0):
    """Random blobs that are the same to the eye at any rotation of the grid."""
    coarse = noise(1, 4, 6, 6, seed=seed)
    return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).sigmoid()


def turned(picture, angle):
    cos, sin = math.cos(angle), math.sin(angle)
    grid = F.affine_grid(torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]]), picture.shape, align_corners=False)
    return F.grid_sample(picture, grid, align_corners=False)


@pytest.mark.parametrize("size", [15, 16])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_picture_turned_by_quarters_is_the_same(noise, size, quarters):
    picture, other = noise(2, 4, size, size), noise(2, 4, size, size, seed=1)
    assert rotation_invariant_mse(picture, picture.rot90(quarters, (2, 3))).item() < 1e-9
    loss = rotation_invariant_mse(picture, other).item()
    assert rotation_invariant_mse(picture, other.rot90(quarters, (2, 3))).item() == pytest.approx(loss, rel=1e-4)
    assert loss > 0.5


@pytest.mark.parametrize("angle", [0.3, 1.1, -2.0])
def test_a_target_turned_by_any_angle_gives_nearly_the_same(noise, angle):
    picture, other = smooth_picture(noise), smooth_picture(noise, seed=1)
    plain = ((picture - turned(picture, angle)) ** 2).mean().item()
    assert rotation_invariant_mse(picture, turned(picture, angle)).item() < 0.03 * plain
    loss = rotation_invariant_mse(picture, other).item()
    assert rotation_invariant_mse(picture, turned(other, angle)).item() == pytest.approx(loss, rel=0.05)


def test_it_is_the_least_error_over_all_rotations(noise):
    picture, other = noise(3, 2, 12, 12), noise(3, 2, 12, 12, seed=1)
    loss = rotation_invariant_mse(picture, other, num_angles=4).item()
    upright = [rotation_invariant_mse_at(picture, other.rot90(k, (2, 3))) for k in range(4)]
    assert loss == pytest.approx(torch.stack(upright).amin(0).mean().item(), rel=1e-4)


def rotation_invariant_mse_at(picture, other, radii=6):
    """(B,) weighted error at four angles and given radii, without any turning."""
    errors, weights = [], []
    for k in range(radii):
        r = (k + 0.5) / radii * 11 / 12
        grid = torch.tensor([[[r, 0.0], [0.0, r], [-r, 0.0], [0.0, -r]]]).expand(3, -1, -1)[:, None]
        difference = F.grid_sample(picture - other, grid, align_corners=False)
        errors.append(r * difference.square().mean((1, 2, 3)))
        weights.append(r)
    return torch.stack(errors).sum(0) / sum(weights)


def test_each_sample_has_its_own_rotation_and_a_mirror_image_is_another_picture(noise):
    picture = noise(2, 4, 16, 16)
    other = torch.stack([picture[0].rot90(1, (1, 2)), picture[1].rot90(3, (1, 2))])
    assert rotation_invariant_mse(picture, other).item() < 1e-9
    picture = noise(1, 4, 16, 16)
    assert rotation_invariant_mse(picture + 0.5, picture).item() == pytest.approx(0.25, rel=1e-3)
    assert rotation_invariant_mse(picture, picture.flip(3)).item() > 0.1


def test_the_gradient_leads_to_the_turned_target(noise):
    target = smooth_picture(noise, 16)
    pred = target.rot90(1, (2, 3)) + 0.1 * noise(1, 4, 16, 16, seed=5)
    pred.requires_grad_()
    loss = rotation_invariant_mse(pred, target)
    loss.backward()
    assert rotation_invariant_mse(pred - 100 * pred.grad, target) < 0.9 * loss


def test_what_cannot_be_turned_is_refused(refuses):
    picture = torch.zeros(1, 4, 8, 8)
    refuses(ShapeError, "differ in shape", rotation_invariant_mse, picture, torch.zeros(1, 1, 8, 8))
    refuses(ShapeError, r"are \(B, C, H, W\), not \(4, 8, 8\)", rotation_invariant_mse, picture[0], picture[0])
    with pytest.raises(ConfigError, match="num_angles must be a whole number of at least 4, not 3"):
        rotation_invariant_mse(picture, picture, num_angles=3)
