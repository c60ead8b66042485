import numpy as np
import pytest
import torch
from PIL import Image, features

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.visualization import Cut, film_strip, save_film, save_picture
from delira_nca.visualization.colour import shared_palette
from delira_nca.visualization.film import CUT_COLOUR

SUFFIXES = [".gif", ".png", *([".webp"] if features.check("webp") else [])]


def read_film(path):
    frames, delays = [], []
    with Image.open(path) as film:
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")))
            delays.append(round(film.info["duration"]))
        loop = film.info.get("loop")
    return np.stack(frames), delays, loop


@pytest.fixture
def few_colours():
    """Six frames of up to 200 colours."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (200, 3)).astype(np.uint8)
    return colours[rng.integers(0, 200, (6, 8, 5))]


@pytest.fixture
def many_colours():
    """A smooth disc that grows on white, with thousands of colours and a still corner."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    frames = np.full((10, 32, 32, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        inside = np.hypot(x, y) < 0.1 * index
        hue = np.stack([x + 1, y + 1, np.full_like(x, index / 5)], axis=-1) * 127
        frame[inside] = hue[inside].astype(np.uint8)
        frame[:3, :3] = (10, 200, 30)
    return frames


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_few_colours_come_back_exactly(tmp_path, few_colours, suffix):
    path = tmp_path / "films" / f"film{suffix}"
    save_film(few_colours, path, fps=20, scale=3, hold=0.5)
    frames, delays, loop = read_film(path)
    assert np.array_equal(frames, few_colours.repeat(3, axis=1).repeat(3, axis=2))
    assert delays == [50, 50, 50, 50, 50, 500]
    assert loop == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".gif"])
def test_formats_without_a_palette_keep_every_colour(tmp_path, many_colours, suffix):
    save_film(many_colours, tmp_path / f"film{suffix}", scale=1)
    assert np.array_equal(read_film(tmp_path / f"film{suffix}")[0], many_colours)


def test_many_colours_are_near_and_what_stands_still_does_not_flicker(tmp_path, many_colours):
    assert len(np.unique(many_colours.reshape(-1, 3), axis=0)) > 1000
    save_film(many_colours, tmp_path / "film.gif", scale=2)
    frames, _, _ = read_film(tmp_path / "film.gif")
    assert np.array_equal(frames, frames[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))  # no dithering
    frames = frames[:, ::2, ::2]
    error = np.abs(frames.astype(int) - many_colours)
    assert error.mean() < 3
    assert error.max() < 40
    assert (frames[many_colours.min(axis=-1) == 255] == 255).all()
    assert (frames[:, :3, :3] == (10, 200, 30)).all()


def test_a_palette_is_shared_and_no_larger_than_allowed(many_colours):
    palette, indices = shared_palette(many_colours, 32)
    assert len(palette) <= 32
    assert indices.shape == many_colours.shape[:3]
    distance = ((many_colours[3, ..., None, :].astype(int) - palette) ** 2).sum(axis=-1)
    taken = np.take_along_axis(distance, indices[3, ..., None].astype(int), axis=-1)[..., 0]
    assert np.array_equal(taken, distance.min(axis=-1))


def test_delays_are_multiples_of_ten_that_keep_the_length(tmp_path):
    frames = np.arange(31, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    save_film(frames, tmp_path / "film.gif", fps=30, hold=0)
    _, delays, _ = read_film(tmp_path / "film.gif")
    assert set(delays) == {30, 40}
    assert sum(delays[:30]) == 1000


def test_the_fastest_film_has_delays_of_twenty_milliseconds(tmp_path):
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    save_film(frames, tmp_path / "film.gif", fps=50, hold=0)
    assert read_film(tmp_path / "film.gif")[1] == [20, 20, 20, 20]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_is_a_film_and_so_is_an_iterable_of_tensors(tmp_path, suffix):
    frame = torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3)
    save_film((frame for _ in range(1)), tmp_path / f"film{suffix}", scale=1)
    with Image.open(tmp_path / f"film{suffix}") as film:
        assert film.n_frames == 1
        assert np.array_equal(np.asarray(film.convert("RGB")), frame.numpy())


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0},
        {"fps": 51},
        {"fps": float("nan")},
        {"scale": 0},
        {"scale": 1.5},
        {"hold": -1},
        {"min_size": 0},
        {"tolerance": -1},
        {"num_colours": 0},
        {"num_colours": 255},
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, few_colours, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        save_film(few_colours, tmp_path / "film.gif", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames", [[], np.zeros((2, 4, 4), np.uint8), 3, [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)]]
)
def test_frames_of_another_shape_are_refused(tmp_path, frames):
    with pytest.raises(ShapeError, match="frames are"):
        save_film(frames, tmp_path / "film.gif")


def test_frames_of_floats_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="float64"):
        save_film(np.zeros((2, 4, 4, 3)), tmp_path / "film.gif")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path, few_colours):
    with pytest.raises(UnknownNameError, match=r"'\.gif', '\.png'"):
        save_film(few_colours, tmp_path / "film.mp4")
    with pytest.raises(UnknownNameError, match=r"'\.png'"):
        save_picture(few_colours[0], tmp_path / "picture.jpg")


def test_a_film_that_fails_leaves_the_old_one(tmp_path, few_colours, monkeypatch):
    path = tmp_path / "film.gif"
    path.write_bytes(b"old")

    def fail(self, file, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_film(few_colours, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_strip_shows_first_and_last_on_a_gap():
    film = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    strip = film_strip(film, 3, gap=2, gap_colour=77)
    assert strip.shape == (2, 13, 3)
    assert strip[1, :, 2].tolist() == [0, 0, 0, 77, 77, 4, 4, 4, 77, 77, 8, 8, 8]


def test_a_strip_of_all_frames_has_as_many_rows_as_it_takes():
    film = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    strip = film_strip(film, 3, rows=None)
    assert strip[..., 0].tolist() == [[0, 208, 1, 208, 2], [208] * 5, [3, 208, 4, 208, 208]]
    assert film_strip(film, 8).shape == (1, 9, 3)


@pytest.mark.parametrize("options", [{"columns": 0}, {"rows": 0}, {"gap": -1}, {"gap_colour": 300}])
def test_a_strip_has_columns_and_rows(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        film_strip(np.zeros((2, 2, 2, 3), np.uint8), **options)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".gif"])
def test_a_picture_is_enlarged_exactly(tmp_path, few_colours, suffix):
    path = tmp_path / f"picture{suffix}"
    save_picture(few_colours[0], path, 4)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), few_colours[0].repeat(4, axis=0).repeat(4, axis=1))


def test_a_film_is_enlarged_by_a_whole_number_to_the_size_of_a_slide(tmp_path):
    for height, width, size in ((30, 20, (360, 540)), (5, 513, (513, 5)), (300, 300, (600, 600))):
        save_film(np.zeros((2, height, width, 3), np.uint8), tmp_path / "film.gif")
        with Image.open(tmp_path / "film.gif") as film:
            assert film.size == size
    save_film(np.zeros((1, 30, 20, 3), np.uint8), tmp_path / "film.gif", min_size=31)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == (40, 60)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_is_marked_on_two_frames_which_stand(tmp_path, few_colours, suffix):
    path = tmp_path / f"film{suffix}"
    save_film(few_colours, path, scale=40, fps=10, hold=0, cuts=[Cut(3, 2, pause=0.5)])
    frames, delays, _ = read_film(path)
    assert delays == [100, 100, 500, 500, 100, 100]
    plain = few_colours.repeat(40, axis=1).repeat(40, axis=2)
    changed = (frames != plain).any(axis=-1)
    assert changed.any(axis=(1, 2)).tolist() == [False, False, True, True, False, False]
    assert (frames[changed] == CUT_COLOUR).all()
    assert changed[2, 200:].any(axis=0).nonzero()[0].tolist() == [79, 80]


@pytest.mark.parametrize("cut", [Cut(0, 2), Cut(6, 2), Cut(3, 6), Cut(3, -1)])
def test_a_cut_outside_of_the_film_is_refused(tmp_path, few_colours, cut):
    with pytest.raises(ConfigError, match="6 frames and 5 columns"):
        save_film(few_colours, tmp_path / "film.gif", cuts=[cut])


def test_slight_changes_can_be_left_out_and_add_up_to_none(tmp_path):
    levels = np.array([100, 103, 106, 109, 112, 255], np.uint8)
    frames = np.full((6, 4, 4, 3), 255, np.uint8)
    frames[:, 1, 1] = levels[:, None]
    save_film(frames, tmp_path / "film.png", scale=1, tolerance=5)
    shown, delays, _ = read_film(tmp_path / "film.png")
    assert shown[:, 1, 1, 0].tolist() == [100, 106, 112, 255]  # frames that show the same are one
    assert delays[:3] == [100, 100, 50]


def test_what_becomes_background_does_so_however_slight(tmp_path):
    frames = np.full((3, 4, 4, 3), 255, np.uint8)
    frames[:2, 1, 1] = 253
    save_film(frames, tmp_path / "film.png", scale=1, tolerance=5)
    assert (read_film(tmp_path / "film.png")[0][-1] == 255).all()


def test_a_still_film_of_many_frames_takes_little_more_than_one(tmp_path, many_colours):
    save_film(many_colours[-1:], tmp_path / "one.gif", scale=8)
    moving = many_colours[-1:].repeat(30, axis=0)
    moving[:, 0, 0] = np.arange(30, dtype=np.uint8)[:, None]
    save_film(moving, tmp_path / "many.gif", scale=8)
    assert (tmp_path / "many.gif").stat().st_size < 1.5 * (tmp_path / "one.gif").stat().st_size
