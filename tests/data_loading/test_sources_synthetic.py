"""Computed pictures: a function of the seed, with masks that geometry confirms."""

import inspect

import numpy as np
import pytest
from scipy import ndimage

from delira_nca.data_loading import sources
from delira_nca.data_loading.sources import blobs, discs, synthetic, vessels
from delira_nca.data_loading.sources.scenes import FARTHEST, _ball, _rays, _scene, scenes
from delira_nca.errors import ConfigError

KINDS = [discs, blobs, vessels]
SHAPES = [(32, 32), (24, 40), (20, 24, 16)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_have_the_shape_and_every_picture_both_classes(kind, shape):
    drawn = kind(num_samples=6, shape=shape, seed=3)
    assert sorted(drawn) == ["data", "label"]
    data, label = drawn["data"], drawn["label"]
    assert data.shape == label.shape == (6, 1, *shape)
    assert (data.dtype, label.dtype) == (np.float32, np.uint8)
    assert 0 <= data.min() < data.max() <= 1
    share = label.reshape(6, -1).mean(axis=1)
    assert set(np.unique(label).tolist()) == {0, 1}
    assert 0 < share.min() < share.max() < 0.8


@pytest.mark.parametrize("kind", [*KINDS, scenes])
def test_sample_is_a_function_of_seed_and_index_and_the_global_generator_is_untouched(kind, generators_stay_untouched):
    few, many, other = kind(num_samples=2, seed=5), kind(num_samples=4, seed=5), kind(num_samples=2, seed=6)
    for key in ("data", "label"):
        assert np.array_equal(few[key], many[key][:2])
        assert not np.array_equal(few[key], other[key])
    assert len({sample.tobytes() for sample in many["label"]}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_a_threshold_over_a_flat_ground_finds_the_mask(kind):
    drawn = kind(num_samples=8, shape=(48, 48), noise=0.0)
    for picture, mask in zip(drawn["data"][:, 0], drawn["label"][:, 0].astype(bool), strict=True):
        assert picture[mask].min() > picture[~mask].max()
    noisy = kind(num_samples=8, shape=(48, 48), noise=0.2)
    assert np.array_equal(noisy["label"], drawn["label"])
    residual = (noisy["data"] - drawn["data"])[(noisy["data"] > 0) & (noisy["data"] < 1)]
    assert 0.12 < residual.std() < 0.2


@pytest.mark.parametrize("centre", [(5.0, 7.0), (5.25, 6.5), (0.0, 15.0), (-3.0, 4.0), (-30.0, 4.0)])
@pytest.mark.parametrize("radius", [0.9, 3.0, 4.7])
def test_stamp_is_exactly_the_cells_within_the_radius(centre, radius):
    inside = np.zeros((12, 16), dtype=bool)
    synthetic._stamp(inside, np.array(centre), radius)
    rows, columns = np.mgrid[:12, :16]
    assert np.array_equal(inside, (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2)


def test_discs_are_whole_and_one_to_four():
    masks = discs(num_samples=60, shape=(64, 64))["label"][:, 0]
    counts = [ndimage.label(mask)[1] for mask in masks]
    assert {1, 2, 3} <= set(counts) <= {1, 2, 3, 4}
    for mask, count in zip(masks, counts, strict=True):
        assert 0.9 * np.pi * 6.4**2 <= mask.sum() / count <= 4.1 * np.pi * 16**2
        if count == 4:  # none of them touches another
            for number in range(1, 5):
                rows, columns = np.nonzero(ndimage.label(mask)[0] == number)
                assert abs(np.ptp(rows) - np.ptp(columns)) <= 1


def test_blobs_cover_a_fifth_to_a_half():
    share = blobs(num_samples=40, shape=(32, 32))["label"].reshape(40, -1).mean(axis=1)
    assert 0.2 <= share.min() < 0.26
    assert 0.44 < share.max() <= 0.5


@pytest.mark.parametrize("shape", [(64, 64), (32, 32, 32)])
def test_vessels_hang_together_and_come_in_at_a_border(shape):
    for mask in vessels(num_samples=10, shape=shape)["label"][:, 0]:
        structure = np.ones((3,) * mask.ndim)
        assert ndimage.label(mask, structure)[1] == 1
        inner = tuple(slice(1, -1) for _ in shape)
        assert mask.sum() > mask[inner].sum()
        # thin: no cell is deeper inside than the trunk's radius
        assert ndimage.distance_transform_edt(mask).max() <= 2 * max(min(shape) / 24, 1.2) + 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, not 0"),
        ({"num_samples": 2.0}, "num_samples must be"),
        ({"shape": (64,)}, r"\(H, W\) or \(D, H, W\)"),
        ({"shape": (64, 7)}, r"at least 8, not \(64, 7\)"),
        ({"shape": 64}, "not 64"),
        ({"shape": "ab"}, "not 'ab'"),
        ({"shape": (8.0, 8.0)}, "shape must be one or more whole numbers of at least 8"),
        ({"noise": -0.1}, "noise must be a number of at least 0, not -0.1"),
        ({"noise": float("nan")}, "noise must be"),
        ({"seed": -1}, "a seed must be a whole number of at least 0, not -1"),
    ],
)
def test_wrong_argument_is_refused_with_its_value(kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        kind(**arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_take_the_same_arguments_and_numbers_of_numpy(kind):
    assert inspect.signature(kind) == inspect.signature(discs)
    drawn = kind(num_samples=np.int64(2), shape=np.array([16, 24]), seed=np.int64(1), noise=np.float32(0.5))
    plain = kind(num_samples=2, shape=(16, 24), seed=1, noise=0.5)
    assert np.array_equal(drawn["data"], plain["data"])


def test_arrays_have_their_shapes_and_depth_is_from_near_to_the_wall():
    drawn = scenes(num_samples=6, shape=(24, 40), seed=3)
    assert (drawn["data"].shape, drawn["label"].shape) == ((6, 3, 24, 40), (6, 1, 24, 40))
    assert drawn["data"].dtype == drawn["label"].dtype == np.float32
    assert 0 <= drawn["data"].min() < drawn["data"].max() <= 1
    assert drawn["label"].min() > 0.05
    assert 0.4 < drawn["label"].max() < 0.95
    assert np.array_equal(sources.open("scenes", num_samples=6, shape=(24, 40), seed=3)["label"], drawn["label"])


def test_the_floor_comes_nearer_from_row_to_row_and_noise_is_on_the_picture_alone():
    clean, noisy = scenes(num_samples=8, noise=0.0), scenes(num_samples=8, noise=0.1)
    assert np.array_equal(clean["label"], noisy["label"])
    assert 0.05 < (noisy["data"] - clean["data"]).std() < 0.11
    lowest = np.sort(noisy["label"][:, 0, -8:], axis=2)[:, :, -4:]  # of each row the farthest: no ball
    assert (np.diff(lowest.mean(2), axis=1) < 0).mean() > 0.9


def test_a_ball_ahead_is_met_where_geometry_says_and_the_nearer_surface_is_seen():
    rays = _rays(33, 33)
    depth = _ball(rays, np.array([0.0, 0.0, 4.0]), 1.0)
    assert rays[16, 16].tolist() == [0.0, 0.0, 1.0]
    assert depth[16, 16] == pytest.approx(3.0)
    assert np.isinf(depth[0, 0])
    met = np.isfinite(depth)
    points = rays[met] * depth[met][:, None]
    assert np.allclose(np.linalg.norm(points - [0, 0, 4], axis=1), 1.0)
    angle = np.degrees(np.arctan(rays[16, -1, 0]))
    assert angle == pytest.approx(np.degrees(np.arctan(0.5 * 32 / 33 / 0.8)))
    assert np.isinf(_ball(rays, np.array([0.0, 0.0, -4.0]), 1.0)).all()  # behind the camera
    rng, rays = np.random.default_rng(0), _rays(48, 48)
    depth, _ = _scene(rng, rays)
    pitch, height, wall = np.random.default_rng(0).uniform([0.1, 0.8, 5.0], [0.35, 1.4, 9.0])
    below, ahead = [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]
    points = rays * depth[..., None]
    assert (points @ below <= height + 1e-9).all()
    assert (points @ ahead <= wall + 1e-9).all()
    on_ball = (points @ below < height - 1e-9) & (points @ ahead < wall - 1e-9)
    assert 0 < on_ball.mean() < 0.5
    assert depth.max() < FARTHEST


def test_what_cannot_be_drawn_is_refused():
    for options, message in (
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, not 0"),
        ({"shape": (8, 8, 8)}, r"shape must be \(H, W\), not \(8, 8, 8\)"),
        ({"shape": (7, 8)}, r"at least 8, not \(7, 8\)"),
        ({"noise": -0.1}, "noise must be a number of at least 0, not -0.1"),
    ):
        with pytest.raises(ConfigError, match=message):
            scenes(**options)
