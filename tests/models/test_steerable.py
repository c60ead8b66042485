import math

import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception, SteerablePerception
from delira_nca.models.perception import FRAMES


def turned(x, angle_channel):
    x = torch.rot90(x, 1, (2, 3)).clone()
    if angle_channel:
        x[:, -1] -= math.pi / 2
    return x


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("laplacian", [True, False])
def test_what_turns_with_the_cell_is_seen_as_before(noise, frame, padding, laplacian):
    x = noise(2, 5, 9, 9)
    perception = SteerablePerception(frame, padding=padding, laplacian=laplacian, sobel_scale=1.0).build(5)
    seen = torch.rot90(perception(x), 1, (2, 3))
    assert torch.allclose(perception(turned(x, frame == "angle")), seen, atol=1e-5)
    assert perception(x).shape[1] == perception.out_channels


def test_a_picture_that_turns_alone_is_seen_otherwise(noise):
    x = noise(1, 4, 9, 9)
    perception = SteerablePerception().build(4)
    assert (perception(torch.rot90(x, 1, (2, 3))) - torch.rot90(perception(x), 1, (2, 3))).abs().max() > 0.1


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_one_angle_everywhere_is_that_of_turned_sobel_filters(noise, angle):
    x = noise(1, 4, 8, 8)
    x[:, -1] = angle
    seen = SteerablePerception(laplacian=False, sobel_scale=1.0).build(4)(x)
    expected = Perception("identity", "sobel", padding="circular", angle=-angle).build(3)(x[:, :3])
    assert torch.allclose(seen, expected, atol=1e-5)


def test_the_frame_of_a_ramp_is_its_slope_and_without_one_there_is_no_direction_and_no_nan(noise):
    x = torch.zeros(1, 2, 7, 7)
    x[0, 0] = torch.arange(7.0)[:, None]  # grows along the first axis
    x[0, 1] = torch.arange(7.0)[None]  # the frame points along the last axis
    seen = SteerablePerception("gradient", laplacian=False, padding="replicate").build(2)(x)[0, :, 3, 3]
    assert seen.tolist() == [3.0, 3.0, 0.0, 8.0]  # state, along the frame, across
    x[0, 1] = torch.arange(7.0)[:, None]
    seen = SteerablePerception("gradient", laplacian=False, padding="replicate").build(2)(x)[0, :, 3, 3]
    assert seen.tolist() == [3.0, 3.0, 8.0, 0.0]
    x = noise(1, 3, 6, 6)
    x[:, -1] = 0.5
    x.requires_grad_()
    seen = SteerablePerception("gradient").build(3)(x)
    assert seen[:, 3:7].abs().max() == 0
    seen.square().sum().backward()
    assert x.grad.isfinite().all()


def test_dead_cells_keep_the_spared_channels_and_lose_all_others(noise, randomise):
    x = noise(1, 6, 9, 9).abs()
    x[:, 3, :, 4:] = 0
    model = randomise(
        BasicNCAModel(
            num_image_channels=4,
            num_hidden_channels=2,
            immutable_image_channels=False,
            perception=SteerablePerception(),
            rule=MLPRule(8),
            alive=AliveMask(after=False, num_spared=1),
            fire_rate=0.0,
        )
    )
    after = model.predict(x, 1).output_image
    assert torch.equal(after[:, -1], x[:, -1])
    assert after[:, :-1, :, 5:].abs().max() == 0
    assert torch.equal(after[..., :5], x[..., :5])


def test_what_cannot_work_is_refused(noise, refuses):
    refuses(UnknownNameError, "Did you mean 'angle'", SteerablePerception, "angel")
    refuses(ConfigError, "sobel_scale must be a number above 0, not 0", SteerablePerception, sobel_scale=0)
    refuses(ConfigError, "dims=2, not 3", SteerablePerception().build, 4, 3)
    refuses(ConfigError, "beside that of its frame, not 1", SteerablePerception().build, 1)
    with pytest.raises(ShapeError, match=r"built for \(B, 4, 2 spatial axes\), got \(1, 5, 6, 6\)"):
        SteerablePerception().build(4)(noise(1, 5, 6, 6))
