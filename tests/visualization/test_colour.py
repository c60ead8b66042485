import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.visualization import to_rgb


def cell(*channels):
    return np.array(channels, np.float64).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("channels", "background", "expected"),
    [
        ((0, 0, 0, 0), 1.0, (255, 255, 255)),
        ((0, 0, 0, 0), 0.0, (0, 0, 0)),
        ((0, 0, 0, 0), (1.0, 0.5, 0.0), (255, 128, 0)),
        ((0.2, 0.4, 0.6, 1), 1.0, (51, 102, 153)),
        ((0.2, 0.0, 0.1, 0.5), 1.0, (178, 128, 153)),
        ((2.0, -1.0, 0.0, 1.7), 1.0, (255, 0, 0)),  # alpha is clipped: no negative background
        ((0.5, 0.5, 0.5, -3.0), 0.2, (178, 178, 178)),  # nor more than all of it
        ((np.inf, -np.inf, 0, 1), 1.0, (255, 0, 0)),
        ((0, np.nan, 0, 1), 1.0, (255, 0, 255)),
        ((0, 0, 0, np.nan), 1.0, (255, 0, 255)),
        ((0, 0, 0, 1, np.nan), 1.0, (0, 0, 0)),  # hidden channels are not looked at
    ],
)
def test_colour_of_a_cell(channels, background, expected):
    assert to_rgb(cell(*channels), background).tolist() == [[list(expected)]]


def test_leading_axes_stay_channels_go_last_and_a_tensor_with_gradients_gives_the_same():
    state = np.random.default_rng(0).random((2, 5, 16, 6, 7))
    state[:, :, 3] = 1.0
    rgb = to_rgb(state)
    assert rgb.shape == (2, 5, 6, 7, 3)
    assert rgb.dtype == np.uint8
    assert rgb[1, 4, 2, 3].tolist() == np.rint(255 * state[1, 4, :3, 2, 3]).tolist()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        tensor = torch.from_numpy(state).to(dtype)
        assert np.array_equal(to_rgb(tensor.clone().requires_grad_()), to_rgb(tensor.float().numpy())), dtype


def test_fewer_channels_and_other_backgrounds_are_refused():
    for shape in ((3, 8, 8), (4, 8), (2, 3, 8, 8)):
        with pytest.raises(ShapeError, match=r"C >= 4"):
            to_rgb(np.zeros(shape))
    for background in (2.0, (0, 0), "white", (0, 0, np.nan)):
        with pytest.raises(ConfigError, match="background"):
            to_rgb(np.zeros((4, 2, 2)), background)
