import numpy as np
import pytest
import torch
from PIL import Image, features

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.visualization import Cut, crop_to_life, film_strip, save_film, save_growth_film, save_picture
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


def test_many_colours_are_near_or_kept_and_what_stands_still_does_not_flicker(tmp_path, many_colours):
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
    for suffix in SUFFIXES[1:]:  # formats without a palette
        save_film(many_colours, tmp_path / f"film{suffix}", scale=1)
        assert np.array_equal(read_film(tmp_path / f"film{suffix}")[0], many_colours)


def test_a_palette_is_shared_and_no_larger_than_allowed(many_colours):
    palette, indices = shared_palette(many_colours, 32)
    assert len(palette) <= 32
    assert indices.shape == many_colours.shape[:3]
    distance = ((many_colours[3, ..., None, :].astype(int) - palette) ** 2).sum(axis=-1)
    taken = np.take_along_axis(distance, indices[3, ..., None].astype(int), axis=-1)[..., 0]
    assert np.array_equal(taken, distance.min(axis=-1))


def test_delays_are_multiples_of_ten_that_keep_the_length_and_no_shorter_than_twenty(tmp_path):
    frames = np.arange(31, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    save_film(frames, tmp_path / "film.gif", fps=30, hold=0)
    _, delays, _ = read_film(tmp_path / "film.gif")
    assert set(delays) == {30, 40}
    assert sum(delays[:30]) == 1000
    save_film(frames[:4], tmp_path / "film.gif", fps=50, hold=0)
    assert read_film(tmp_path / "film.gif")[1] == [20, 20, 20, 20]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_is_a_film_and_so_is_an_iterable_of_tensors(tmp_path, suffix):
    frame = torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3)
    save_film((frame for _ in range(1)), tmp_path / f"film{suffix}", scale=1)
    with Image.open(tmp_path / f"film{suffix}") as film:
        assert film.n_frames == 1
        assert np.array_equal(np.asarray(film.convert("RGB")), frame.numpy())


FRAMES = np.zeros((6, 8, 5, 3), np.uint8)
UNEQUAL = [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)]


@pytest.mark.parametrize(
    ("save", "frames", "options", "error", "message"),
    [
        *(
            (save_film, FRAMES, {name: value}, ConfigError, name)
            for name, value in (
                *(("fps", 0), ("fps", 51), ("fps", float("nan")), ("scale", 0), ("scale", 1.5), ("hold", -1)),
                *(("min_size", 0), ("tolerance", -1), ("num_colours", 0), ("num_colours", 255)),
            )
        ),
        *(
            (save_film, FRAMES, {"cuts": [cut]}, ConfigError, "6 frames and 5 columns")
            for cut in (Cut(0, 2), Cut(6, 2), Cut(3, 6), Cut(3, -1))
        ),
        *((save_film, frames, {}, ShapeError, "frames are") for frames in ([], FRAMES[..., 0], 3, UNEQUAL)),
        (save_film, np.zeros((2, 4, 4, 3)), {}, ConfigError, "float64"),
        (save_film, FRAMES, {"path": "film.mp4"}, UnknownNameError, r"'\.gif', '\.png'"),
        (save_picture, FRAMES[0], {"path": "picture.jpg"}, UnknownNameError, r"'\.png'"),
    ],
)
def test_what_is_no_film_is_refused(save, frames, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save(frames, tmp_path / options.pop("path", "film.gif"), **options)
    assert list(tmp_path.iterdir()) == []


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


def test_a_strip_shows_first_and_last_on_a_gap_or_all_in_as_many_rows_as_it_takes():
    film = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    strip = film_strip(film, 3, gap=2, gap_colour=77)
    assert strip.shape == (2, 13, 3)
    assert strip[1, :, 2].tolist() == [0, 0, 0, 77, 77, 4, 4, 4, 77, 77, 8, 8, 8]
    film = film[:5, :1, :1]
    assert film_strip(film, 3, rows=None)[..., 0].tolist() == [[0, 208, 1, 208, 2], [208] * 5, [3, 208, 4, 208, 208]]
    assert film_strip(film, 8).shape == (1, 9, 3)
    for options in ({"columns": 0}, {"rows": 0}, {"gap": -1}, {"gap_colour": 300}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            film_strip(film, **options)


def test_films_and_pictures_are_enlarged_by_a_whole_number(tmp_path, few_colours):
    path = tmp_path / "film.gif"
    for height, width, options, size in (
        (30, 20, {}, (360, 540)),  # the size of a slide
        (5, 513, {}, (513, 5)),
        (300, 300, {}, (600, 600)),
        (30, 20, {"min_size": 31}, (40, 60)),
    ):
        save_film(np.zeros((2, height, width, 3), np.uint8), path, **options)
        with Image.open(path) as film:
            assert film.size == size
    for suffix in SUFFIXES[1:]:
        save_picture(few_colours[0], tmp_path / f"picture{suffix}", 4)
        with Image.open(tmp_path / f"picture{suffix}") as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), few_colours[0].repeat(4, 0).repeat(4, 1))


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


def test_slight_changes_can_be_left_out_and_add_up_to_none_but_background_stays(tmp_path):
    def shown(*levels):
        frames = np.full((len(levels), 4, 4, 3), 255, np.uint8)
        frames[:, 1, 1] = np.array(levels, np.uint8)[:, None]
        save_film(frames, tmp_path / "film.png", scale=1, tolerance=5)
        return read_film(tmp_path / "film.png")

    frames, delays, _ = shown(100, 103, 106, 109, 112, 255)
    assert frames[:, 1, 1, 0].tolist() == [100, 106, 112, 255]  # frames that show the same are one
    assert delays[:3] == [100, 100, 50]
    assert (shown(253, 253, 255)[0][-1] == 255).all()


def test_a_still_film_of_many_frames_takes_little_more_than_one(tmp_path, many_colours):
    save_film(many_colours[-1:], tmp_path / "one.gif", scale=8)
    moving = many_colours[-1:].repeat(30, axis=0)
    moving[:, 0, 0] = np.arange(30, dtype=np.uint8)[:, None]
    save_film(moving, tmp_path / "many.gif", scale=8)
    assert (tmp_path / "many.gif").stat().st_size < 1.5 * (tmp_path / "one.gif").stat().st_size


# Growth and healing ---------------------------------------------------------------------------------------------------


def square(steps, alpha=1.0):
    """A black square of 6 cells in a grid of 20, from nothing on."""
    states = np.zeros((steps, 5, 20, 20), np.float32)
    for step in range(1, steps):
        states[step, 3, 7:13, 7:13] = alpha * step / (steps - 1)
    return states


def cut_and_healed(steps):
    states = square(steps)
    states[:] = states[-1]
    states[0, ..., 10:] = 0.0
    return states


def marked(frame):
    return (frame == CUT_COLOUR).all(-1)


def test_it_grows_pauses_at_the_cut_heals_and_holds(tmp_path):
    save_growth_film(square(9), cut_and_healed(9), tmp_path / "film.gif", every=2, fps=10, hold=1.5, margin=1)
    frames, delays, _ = read_film(tmp_path / "film.gif")
    assert frames[0].shape == (512, 512, 3)  # 8 cells of 64 pixels
    assert delays[:6] == [100, 100, 100, 100, 700, 700]
    assert sum(delays[6:]) == 3 * 100 + 1500
    assert [index for index, frame in enumerate(frames) if marked(frame).any()] == [4, 5]
    columns = np.nonzero(marked(frames[5])[300:].any(axis=0))[0]
    assert abs(columns.mean() - 4 * 64) <= 2  # the middle of the grid, in the window that is shown
    assert (frames[5][256, 300:] == 255).all()
    assert (frames[6][256, 70:440] == 0).all()
    assert not marked(frames[6]).any()


def test_without_healing_it_ends_with_the_growth(tmp_path):
    save_growth_film(square(4), None, tmp_path / "film.gif", every=2)
    frames, delays, _ = read_film(tmp_path / "film.gif")
    assert len(frames) == 3  # steps 0, 2 and the last
    assert delays[-1] == 2000
    assert not any(marked(frame).any() for frame in frames)


@pytest.fixture
def restless():
    """States of 30 steps that flicker a little everywhere."""
    source = np.random.default_rng(0)
    states = square(30)
    states[:, 3] *= 0.7 + 0.3 * source.random((30, 20, 20))
    states[:, :3] = states[:, 3:4] * source.random((1, 3, 20, 20)) + 0.02 * source.random((30, 3, 20, 20))
    return states


def test_a_film_is_made_small_enough_or_written_with_a_warning(tmp_path, restless, caplog):
    def size(most):
        save_growth_film(restless, restless[15:], tmp_path / "film.gif", max_bytes=most)
        return (tmp_path / "film.gif").stat().st_size

    large = size(10**9)
    assert size(large) == large
    assert size(large - 1) < large
    assert not caplog.text
    assert size(10) > 10
    assert "more than 10" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((square(3), cut_and_healed(3)[..., 1:]), {}, ShapeError, "one shape"),
        ((square(3)[0], None), {}, ShapeError, r"got \(5, 20, 20\)"),
        ((square(3)[:0], None), {}, ShapeError, "at least one"),
        ((square(3), None), {"every": 0}, ConfigError, "every must be"),
    ],
)
def test_growth_that_cannot_be_shown_is_refused(arguments, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save_growth_film(*arguments, tmp_path / "film.gif", **options)
    assert list(tmp_path.iterdir()) == []


# What lives -----------------------------------------------------------------------------------------------------------


def states(*living, shape=(12, 15)):
    film = np.zeros((len(living), 4, *shape))
    for frame, (row, column) in enumerate(living):
        film[frame, :, row, column] = 1.0
    return film


def test_square_holds_the_life_of_all_frames_with_its_margin_inside_of_the_grid():
    film = states((3, 4), (5, 9))
    cut = crop_to_life(film, margin=1)
    assert cut.shape == (2, 4, 8, 8)
    assert cut[..., 3, :, :].sum() == 2
    assert np.shares_memory(cut, film)
    cut = crop_to_life(states((0, 0), (1, 1)), margin=2)  # moved inside
    assert cut.shape == (2, 4, 6, 6)
    assert cut[0, 3, 0, 0] == cut[1, 3, 1, 1] == 1


def test_the_whole_is_left_if_all_or_nothing_lives_and_what_is_no_film_is_refused():
    assert crop_to_life(states((0, 0), (11, 14)), margin=3).shape == (2, 4, 12, 15)
    assert crop_to_life(np.full((1, 4, 5, 6), 0.1)).shape == (1, 4, 5, 6)
    with pytest.raises(ShapeError, match=r"\(1, 3, 5, 6\)"):
        crop_to_life(np.zeros((1, 3, 5, 6)))
    with pytest.raises(ConfigError, match="-1"):
        crop_to_life(np.zeros((1, 4, 5, 6)), margin=-1)
