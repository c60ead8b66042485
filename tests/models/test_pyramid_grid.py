import numpy as np
import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ShapeError, UnknownNameError
from delira_nca.models import resize_labels
from delira_nca.models.pyramid_grid import draw_patches, enlarge, pad_to, shrink


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("shape", [(5, 3), (20, 28), (10, 7), (1, 1)])
def test_resized_labels_keep_their_type_and_their_set(noise, dtype, shape):
    label = (noise(2, 10, 14).abs() * 3).to(dtype)
    small = resize_labels(label, shape)
    assert small.shape == (2, *shape)
    assert small.dtype == dtype
    assert set(small.unique().tolist()) <= set(label.unique().tolist())
    expected = F.interpolate(label[None].double(), shape, mode="nearest-exact")[0]
    assert torch.equal(small.double(), expected)


def test_labels_of_volumes_are_resized_along_all_axes_and_padding_repeats_the_last_cells(noise, refuses):
    label = (noise(1, 2, 6, 4, 8) * 3).long()
    assert torch.equal(resize_labels(label, (6, 8, 8)), label.repeat_interleave(2, 3))
    refuses(ShapeError, r"a label of \(4,\) cannot be resized to \(2, 2\)", resize_labels, torch.zeros(4), (2, 2))
    image = noise(1, 2, 5, 8)
    padded = pad_to(image, (4, 4))
    assert padded.shape == (1, 2, 8, 8)
    assert torch.equal(padded[:, :, 5:], image[:, :, 4:5].expand(-1, -1, 3, -1))
    assert pad_to(image, (5, 4)) is image
    refuses(UnknownNameError, "unknown way to shrink an image 'mean'", shrink, padded, (2, 2), "mean")


@pytest.mark.parametrize("factor", [(2,), (1, 3), (2, 1, 3)])
def test_enlarging_is_nearest_interpolation_and_shrinking_its_inverse(noise, factor):
    state = noise(2, 3, *(4, 2, 3)[: len(factor)])
    large = enlarge(state, factor)
    assert torch.equal(large, F.interpolate(state, scale_factor=tuple(map(float, factor)), mode="nearest"))
    for how in ("area", "max", "nearest", "bilinear"):
        torch.testing.assert_close(shrink(large, factor, how), state)
    assert shrink(state, (1,) * len(factor), "area") is state


@pytest.mark.parametrize(
    "scales", [[(8, 8), (4, 4), (2, 2), (1, 1)], [(4, 1), (2, 1), (1, 1)], [(3, 6), (1, 2), (1, 1)]]
)
@pytest.mark.parametrize("patch", [(3, 4), (6, 6), (13, 5), (1, 1)])
def test_patches_lie_in_one_another_and_in_the_image(scales, patch):
    rng, shape = np.random.default_rng(0), (13, 22)
    whole = [size + -size % by for size, by in zip(shape, scales[0], strict=True)]
    for levels in range(1, len(scales) + 1):
        drawn = draw_patches(rng, 50, shape, scales, patch, levels)
        assert [part is None for part in drawn[: len(scales) - levels]] == [True] * (len(scales) - levels)
        finest = drawn[-1]
        for axis in range(2):
            end = finest.origin[:, axis] + finest.shape[axis]
            assert end.max() <= (whole[axis] if patch[axis] == shape[axis] else shape[axis])
        for level in range(len(scales) - 1):
            coarse, fine = drawn[level], drawn[level + 1]
            if coarse is None or fine is None:
                continue
            factor = np.array(scales[level]) // np.array(scales[level + 1])
            low, high = coarse.origin * factor, (coarse.origin + np.array(coarse.shape)) * factor
            assert (low >= 0).all()
            assert (high <= np.array(whole) // np.array(scales[level + 1])).all()
            assert (low <= fine.origin).all()
            assert (fine.origin + np.array(fine.shape) <= high).all()


def test_every_place_of_a_patch_is_as_likely_as_another():
    drawn = draw_patches(np.random.default_rng(1), 8000, (10,), [(2,), (1,)], (4,), 1)[-1].origin[:, 0]
    counts = np.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert ((counts - 8000 / 7) ** 2 / (8000 / 7)).sum() < 22.5  # chi-square of 6 degrees, p = 0.001
