import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import BasicNCAModel, ImplicitDecoder
from delira_nca.models.implicit import _between


@pytest.mark.parametrize(("dims", "mode"), [(1, "linear"), (2, "bilinear"), (3, "trilinear")])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_pixels_see_the_bilinear_interpolation_of_the_cells(noise, dims, mode, factor):
    states = noise(2, 3, *(5, 4, 6)[:dims])
    seen = states
    for axis in range(dims):
        seen = _between(seen, axis + 2, factor)
    torch.testing.assert_close(seen, F.interpolate(states, scale_factor=factor, mode=mode, align_corners=False))


def edge(size, angle=0.4, offset=0.1):
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    return ((line[:, None] * torch.cos(torch.tensor(angle)) + line * torch.sin(torch.tensor(angle))) > offset).float()


@pytest.mark.processor
def test_an_edge_is_sharper_than_that_of_the_cells_enlarged():
    sharp = edge(64)[None, None]
    cells = F.avg_pool2d(sharp, 4)
    blocks = F.interpolate(cells, scale_factor=4, mode="nearest")
    torch.manual_seed(0)
    decoder = ImplicitDecoder(1, 1, scale=4)
    optimizer = torch.optim.Adam(decoder.parameters(), 2e-2)
    for _ in range(120):
        optimizer.zero_grad()
        F.mse_loss(decoder(cells), sharp).backward()
        optimizer.step()
    with torch.no_grad():
        error, of_blocks = F.mse_loss(decoder(cells), sharp), F.mse_loss(blocks, sharp)
        other = edge(64, 1.1, -0.2)[None, None]  # which it has never seen
        error_of_other = F.mse_loss(decoder(F.avg_pool2d(other, 4)), other)
        of_other_blocks = F.mse_loss(F.interpolate(F.avg_pool2d(other, 4), scale_factor=4), other)
        interpolated = F.mse_loss(F.interpolate(cells, scale_factor=4, mode="bilinear"), sharp)
    assert error < 0.8 * of_blocks
    assert error < 0.95 * interpolated
    assert error_of_other < 0.8 * of_other_blocks


@pytest.mark.processor
def test_an_automaton_with_a_decoder_learns_a_picture_finer_than_its_grid():
    torch.manual_seed(1)
    sharp = edge(32)[None, None]
    image = F.avg_pool2d(sharp, 4)
    model = BasicNCAModel(
        num_image_channels=1, num_hidden_channels=5, hidden_size=16, head=ImplicitDecoder(5, 1, 4, 16), fire_rate=1.0
    )
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    batch = {"data": image, "label": sharp}
    model.training_timesteps = 3
    errors = []
    for _ in range(80):
        optimizer.zero_grad()
        prediction, _ = model.forward_batch(batch, train=True)
        assert prediction.pred.shape == (1, 1, 32, 32)
        error = model.loss(prediction, sharp)["total"]
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.75 * F.mse_loss(F.interpolate(image, scale_factor=4), sharp)
    assert all(p.grad is not None for p in model.parameters())


def test_one_decoder_draws_at_any_scale(noise):
    torch.manual_seed(0)
    decoder, states = ImplicitDecoder(3, 2, scale=3, dims=2), noise(1, 3, 5, 6)
    fine = decoder(states, scale=9)
    assert fine.shape == (1, 2, 45, 54)
    torch.testing.assert_close(fine[..., 1::3, 1::3], decoder(states))  # the middle pixel of nine
    assert decoder(states, scale=(1, 2)).shape == (1, 2, 5, 12)
    assert decoder.scale_factor == (3, 3)


def test_a_pixel_sees_only_the_cells_around_it(noise):
    torch.manual_seed(0)
    decoder, states = ImplicitDecoder(3, 1, scale=4), noise(1, 3, 9, 9)
    changed = states.clone()
    changed[:, :, 4, 4] += 1
    moved = (decoder(changed) != decoder(states))[0, 0].nonzero()
    assert (moved.min(), moved.max()) == (14, 21)  # the cell's pixels are 16 to 19


def test_decoding_is_deterministic_and_moves_with_the_cells(noise):
    torch.manual_seed(0)
    decoder, states = ImplicitDecoder(3, 1, scale=4), noise(1, 3, 9, 9)
    assert torch.equal(decoder(states), decoder(states))
    there = decoder(states.roll(2, 2))[..., 12:-12, :]
    torch.testing.assert_close(there, decoder(states).roll(8, 2)[..., 12:-12, :])


def test_a_model_with_a_decoder_can_be_described(randomise, noise):
    model = randomise(BasicNCAModel(num_image_channels=1, num_hidden_channels=4, head=ImplicitDecoder(4, 3, (2, 4))))
    again = BasicNCAModel.from_dict(model.to_dict())
    assert again.to_dict() == model.to_dict()
    again.load_state_dict(model.state_dict())
    image = noise(1, 1, 6, 6)
    assert torch.equal(again.predict(image, 2).pred, model.predict(image, 2).pred)
    assert model.predict(image, 2).pred.shape == (1, 3, 12, 24)


def test_scales_states_and_numbers_that_cannot_be_are_refused(noise, refuses):
    decoder, whole = ImplicitDecoder(3, 1), "must be a whole number of at least 1"
    for scale in (0, -1, 1.5, True, (2, 2, 2), (2, 0)):
        refuses(ConfigError, f"scale {whole}, or 2 of them", ImplicitDecoder, 3, 1, scale=scale)
        refuses(ConfigError, f"scale {whole}, or 2 of them", decoder, noise(1, 3, 4, 4), scale=scale)
    refuses(ShapeError, r"takes \(B, 3, 2 spatial axes\), not \(1, 4, 5, 5\)", decoder, noise(1, 4, 5, 5))
    refuses(ConfigError, rf"hidden_size {whole}, or several, not \(8, 0\)", ImplicitDecoder, 3, 1, hidden_size=(8, 0))
    refuses(ConfigError, r"in_channels must be a whole number of at least 1, not 0", ImplicitDecoder, 0, 1)
    refuses(UnknownNameError, "unknown number of spatial dimensions 4", ImplicitDecoder, 3, 1, dims=4)
