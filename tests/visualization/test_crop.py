"""Films are cut to where life is."""

import numpy as np
import pytest

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.visualization import crop_to_life


def states(*living, shape=(12, 15)):
    film = np.zeros((len(living), 4, *shape))
    for frame, (row, column) in enumerate(living):
        film[frame, :, row, column] = 1.0
    return film


def test_square_holds_the_life_of_all_frames_with_its_margin():
    film = states((3, 4), (5, 9))
    cut = crop_to_life(film, margin=1)
    assert cut.shape == (2, 4, 8, 8)
    assert cut[..., 3, :, :].sum() == 2
    assert np.shares_memory(cut, film)


def test_square_at_the_border_is_moved_inside():
    cut = crop_to_life(states((0, 0), (1, 1)), margin=2)
    assert cut.shape == (2, 4, 6, 6)
    assert cut[0, 3, 0, 0] == cut[1, 3, 1, 1] == 1


def test_square_is_no_larger_than_the_grid():
    assert crop_to_life(states((0, 0), (11, 14)), margin=3).shape == (2, 4, 12, 15)


def test_nothing_alive_leaves_the_whole():
    assert crop_to_life(np.full((1, 4, 5, 6), 0.1)).shape == (1, 4, 5, 6)


def test_what_is_no_film_is_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 5, 6\)"):
        crop_to_life(np.zeros((1, 3, 5, 6)))
    with pytest.raises(ConfigError, match="-1"):
        crop_to_life(np.zeros((1, 4, 5, 6)), margin=-1)
