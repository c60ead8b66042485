import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.visualization import save_growth_film
from delira_nca.visualization.film import CUT_COLOUR


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


def read(path):
    frames, delays = [], []
    with Image.open(path) as film:
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")))
            delays.append(round(film.info["duration"]))
    return frames, delays


def marked(frame):
    return (frame == CUT_COLOUR).all(-1)


def test_it_grows_pauses_at_the_cut_heals_and_holds(tmp_path):
    save_growth_film(square(9), cut_and_healed(9), tmp_path / "film.gif", every=2, fps=10, hold=1.5, margin=1)
    frames, delays = read(tmp_path / "film.gif")
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
    frames, delays = read(tmp_path / "film.gif")
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


def test_a_film_is_made_small_enough(tmp_path, restless):
    def size(most):
        save_growth_film(restless, restless[15:], tmp_path / "film.gif", max_bytes=most)
        return (tmp_path / "film.gif").stat().st_size

    large = size(10**9)
    assert size(large) == large
    assert size(large - 1) < large


def test_a_film_that_cannot_be_small_enough_is_written_and_said(tmp_path, restless, caplog):
    save_growth_film(restless, None, tmp_path / "film.gif", max_bytes=10)
    assert (tmp_path / "film.gif").exists()
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
def test_what_cannot_work_is_refused(arguments, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save_growth_film(*arguments, tmp_path / "film.gif", **options)
    assert list(tmp_path.iterdir()) == []
