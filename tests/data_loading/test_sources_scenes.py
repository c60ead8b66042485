"""Computed scenes: their depth is that of the geometry, and the picture shows it."""

import numpy as np
import pytest

from delira_nca.data_loading import sources
from delira_nca.data_loading.sources.scenes import FARTHEST, _ball, _rays, _scene, scenes
from delira_nca.errors import ConfigError


def test_arrays_have_their_shapes_and_depth_is_from_near_to_the_wall():
    drawn = scenes(num_samples=6, shape=(24, 40), seed=3)
    assert (drawn["data"].shape, drawn["label"].shape) == ((6, 3, 24, 40), (6, 1, 24, 40))
    assert drawn["data"].dtype == drawn["label"].dtype == np.float32
    assert 0 <= drawn["data"].min() < drawn["data"].max() <= 1
    assert drawn["label"].min() > 0.05
    assert 0.4 < drawn["label"].max() < 0.95
    assert np.array_equal(sources.open("scenes", num_samples=6, shape=(24, 40), seed=3)["label"], drawn["label"])


def test_a_scene_is_a_function_of_seed_and_index():
    few, many, other = scenes(num_samples=2, seed=5), scenes(num_samples=4, seed=5), scenes(num_samples=2, seed=6)
    for key in ("data", "label"):
        assert np.array_equal(few[key], many[key][:2])
        assert not np.array_equal(few[key], other[key])
    assert len({scene.tobytes() for scene in many["label"]}) == 4


def test_the_floor_comes_nearer_from_row_to_row_and_noise_is_on_the_picture_alone():
    clean, noisy = scenes(num_samples=8, noise=0.0), scenes(num_samples=8, noise=0.1)
    assert np.array_equal(clean["label"], noisy["label"])
    assert 0.05 < (noisy["data"] - clean["data"]).std() < 0.11
    lowest = np.sort(noisy["label"][:, 0, -8:], axis=2)[:, :, -4:]  # of each row the farthest: no ball
    assert (np.diff(lowest.mean(2), axis=1) < 0).mean() > 0.9


def test_a_ball_ahead_is_met_where_geometry_says():
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


def test_of_two_surfaces_the_nearer_one_is_seen():
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, not 0"),
        ({"shape": (8, 8, 8)}, r"shape must be \(H, W\), not \(8, 8, 8\)"),
        ({"shape": (7, 8)}, r"at least 8, not \(7, 8\)"),
        ({"noise": -0.1}, "noise must be a number of at least 0, not -0.1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        scenes(**options)
