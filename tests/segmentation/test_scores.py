"""Scores of masks against values by hand and those of MONAI."""

import math

import numpy as np
import pytest
import torch

from delira_nca.errors import ShapeError
from delira_nca.segmentation import case_scores, instance_scores


def blobs(shape, seed):
    rng = np.random.default_rng(seed)
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, *(1.5,) * len(shape)))
    return tuple((smooth[0] + part * 0.5 * smooth[1] > 0.05).astype(int) for part in (0, 1))


@pytest.mark.filterwarnings("ignore:monai:FutureWarning")
@pytest.mark.parametrize(("shape", "spacing"), [((30, 40), (1.0, 1.0)), ((24, 20, 12), (0.8, 0.8, 2.5))])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_monai(shape, spacing, seed):
    from monai import metrics

    mask, reference = blobs(shape, seed)
    found = case_scores(mask, reference, values=[1], spacing=spacing)[1]
    pair = [torch.from_numpy(np.stack([1 - part, part])[None]) for part in (mask, reference)]
    options = {"include_background": False, "spacing": list(spacing)}
    expected = {
        "dice": metrics.compute_dice(*pair, include_background=False),
        "iou": metrics.compute_iou(*pair, include_background=False),
        "hd95": metrics.compute_hausdorff_distance(*pair, percentile=95, **options),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5), name
    both = [
        float(metrics.compute_average_surface_distance(*order, **options)) for order in (pair, list(reversed(pair)))
    ]
    assert min(both) <= found["assd"] <= max(both)


def test_surface_scores_of_a_shifted_square():
    one, other = np.zeros((20, 20), int), np.zeros((20, 20), int)
    one[5:15, 5:15], other[5:15, 8:18] = 1, 1
    found = case_scores(one, other, values=[1], spacing=(2.0, 0.5))[1]
    assert found["dice"] == pytest.approx(0.7)
    assert found["iou"] == pytest.approx(7 / 13)
    assert found["hd95"] == pytest.approx(1.5)
    assert case_scores(one, other, values=[1], spacing=(2.0, 0.5), tolerance=1.0)[1]["surface_dice"] < 1
    assert case_scores(one, other, values=[1], spacing=(2.0, 0.5), tolerance=1.5)[1]["surface_dice"] == 1
    assert case_scores(one, one, values=[1])[1] == {"dice": 1, "iou": 1, "hd95": 0, "assd": 0, "surface_dice": 1}


def test_empty_masks_have_scores():
    one, empty = np.zeros((6, 6), int), np.zeros((6, 6), int)
    one[2:4, 2:4] = 1
    assert all(map(math.isnan, case_scores(empty, empty, values=[1])[1].values()))
    lost = case_scores(empty, one, values=[1])[1]
    assert (lost["dice"], lost["surface_dice"]) == (0, 0)
    assert math.isinf(lost["hd95"])
    assert set(case_scores(one, one, values=[1, 2])) == {1, 2}
    with pytest.raises(ShapeError, match=r"\(6, 6\) cannot be compared with one of shape \(5, 6\)"):
        case_scores(one, one[:5], values=[1])


@pytest.mark.filterwarnings("ignore:monai:FutureWarning")
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_objects_are_those_of_monai(seed):
    from monai.metrics import compute_panoptic_quality
    from scipy import ndimage

    mask, reference = blobs((40, 50), seed)
    numbered, _ = ndimage.label(reference)
    objects, _ = ndimage.label(mask)
    found = instance_scores(mask, 3 * numbered)  # numbers may have gaps
    pair = [torch.from_numpy(part) for part in (objects, numbered)]
    for name, metric in (("pq", "pq"), ("sq", "sq"), ("f1", "rq")):
        expected = float(compute_panoptic_quality(*pair, metric_name=metric, match_iou_threshold=0.5))
        assert found[name] == pytest.approx(expected, abs=1e-4), name
    assert (found["found"], found["numbered"]) == (objects.max(), numbered.max())


def test_scores_of_objects_of_empty_masks():
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    assert math.isnan(instance_scores(empty, empty)["f1"])
    assert instance_scores(full, empty)["pq"] == instance_scores(empty, full)["pq"] == 0
    assert instance_scores(full, full)["pq"] == 1
    with pytest.raises(ShapeError):
        instance_scores(full, full[1:])
