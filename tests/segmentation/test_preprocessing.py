"""Images become inputs of the network, and predictions return to the grid of the files."""

import numpy as np
import pytest

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.segmentation import Preprocessing
from delira_nca.segmentation.data import preprocessing_of


def test_each_channel_is_normalised_as_planned():
    rng = np.random.default_rng(0)
    data = rng.normal(5, 3, (3, 20, 30)).astype(np.float32)
    statistics = [{"low": 2.0, "high": 6.0, "mean": 4.0, "std": 2.0}] * 3
    made = Preprocessing([0, 1], normalisation=("zscore", "clip_zscore", "none"), statistics=statistics)
    found, frame = made.image(data)
    assert found[0].mean() == pytest.approx(0, abs=1e-5)
    assert found[0].std() == pytest.approx(1, abs=1e-5)
    assert (found[1].min(), found[1].max()) == (-1, 1)
    assert np.array_equal(found[2], data[2])
    assert frame.shape == (20, 30)


def test_a_volume_is_cropped_and_resampled_and_returns_to_its_place():
    data = np.zeros((1, 20, 24, 12), np.float32)
    data[0, 4:16, 6:20, 2:10] = np.random.default_rng(0).uniform(1, 2, (12, 14, 8))
    made = Preprocessing([0, 5], spacing=(2.0, 2.0, 2.0), crop=True, dims=3)
    found, frame = made.image(data, (1.0, 1.0, 4.0))
    assert found.shape == (1, 6, 7, 16)
    label = np.zeros((20, 24, 12), np.int64)
    label[6:12, 8:14, 4:8] = 5
    classes = made.label(label, frame)
    assert set(np.unique(classes)) == {0, 1}
    back = frame.restore(classes[None].astype(np.float32))[0] > 0.5
    assert back.shape == label.shape
    assert 2 * (back & (label == 5)).sum() / (back.sum() + (label == 5).sum()) > 0.9
    assert np.array_equal(made.mask(np.array([0, 1])), [0, 5])
    several = frame.restore(np.full((3, 6, 7, 16), 1 / 3, np.float32))
    assert several[:, 0, 0, 0].tolist() == [1, 0, 0]
    assert np.allclose(several.sum(0), 1)


def test_classes_are_numbered_in_the_order_of_their_values():
    made = Preprocessing([0, 255, 3])
    label = np.array([[0, 255], [3, 0]])
    _, frame = made.image(np.ones((1, 2, 2), np.float32))
    assert made.label(label, frame).tolist() == [[0, 1], [2, 0]]
    assert made.mask(np.array([2, 1, 0])).tolist() == [3, 255, 0]
    with pytest.raises(ConfigError, match=r"contains \[4\]; the classes are \[0, 255, 3\]"):
        made.label(np.array([[0, 4], [3, 0]]), frame)
    objects = Preprocessing([0, 1], instances=True)
    assert objects.num_classes == 2
    assert objects.label(np.array([[0, 17], [3, 0]]), frame).tolist() == [[0, 1], [1, 0]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="the image has 2 channels, the model was trained with 1"):
        Preprocessing([0, 1]).image(np.zeros((2, 4, 4), np.float32))
    with pytest.raises(ShapeError, match="the image has 3 spatial axes, the model was trained with 2"):
        Preprocessing([0, 1]).image(np.zeros((1, 4, 4, 4), np.float32))
    with pytest.raises(ConfigError, match="the image has no voxel size"):
        Preprocessing([0, 1], spacing=(1.0, 1.0, 1.0), dims=3).image(np.zeros((1, 4, 4, 4), np.float32))
    with pytest.raises(UnknownNameError, match="Did you mean 'zscore'"):
        Preprocessing([0, 1], normalisation=("zscor",))
    with pytest.raises(ConfigError, match="clip_zscore needs the statistics"):
        Preprocessing([0, 1], normalisation=("clip_zscore",))
    with pytest.raises(ConfigError, match="no entry 'value'"):
        preprocessing_of({"value": [0, 1]})


def test_a_constant_image_has_no_infinite_values():
    for value in (3.0, 1000.1, -1024.0, 0.0):
        found, _ = Preprocessing([0, 1], crop=True).image(np.full((1, 5, 5), value, np.float32))
        assert np.array_equal(found, np.zeros((1, 5, 5)))


def test_a_small_image_is_padded_and_its_prediction_is_cut():
    made = Preprocessing([0, 1], normalisation=("none",), least=8)
    data = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    found, frame = made.image(data)
    assert found.shape == (1, 8, 8)
    assert np.array_equal(found[:, :3, :5], data)
    assert np.array_equal(found[0, 3:, :5], np.repeat(data[0, 2:], 5, 0))
    assert np.array_equal(frame.restore(found), data)
    label = np.eye(3, 5, dtype=np.int64)
    padded = made.label(label, frame)
    assert np.array_equal(padded[:3, :5], label)
    assert np.array_equal(padded[3:, :5], np.repeat(label[2:], 5, 0))


def test_cells_outside_of_the_body_do_not_count():
    made = Preprocessing(values=[0, 1], normalisation=["content_zscore"], dims=3)
    inside = np.random.default_rng(0).normal(50, 5, (1, 4, 4, 4)).astype(np.float32)
    for margin in (1, 5):
        whole = np.pad(inside, [(0, 0), (0, 0), (0, 0), (margin, 0)])
        data, _ = made.image(whole, (1, 1, 1))
        np.testing.assert_allclose(data[..., margin:], (inside - inside.mean()) / inside.std(), atol=1e-4)
