import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.io.network import load_network, save_network
from delira_nca.models import AliveMask, IsotropicPerception, Perception, build_model
from delira_nca.models.perception import PADDINGS
from delira_nca.rollout import BACKENDS, Job

VARIANT = {"perception": IsotropicPerception()}


@pytest.mark.parametrize("padding", PADDINGS)
def test_what_is_turned_or_mirrored_is_seen_turned_or_mirrored(noise, padding):
    x = noise(2, 3, 9, 9)
    perception = IsotropicPerception(padding=padding).build(3)
    seen = perception(x)
    assert seen.shape[1] == perception.out_channels == 9
    assert torch.allclose(perception(torch.rot90(x, 1, (2, 3))), torch.rot90(seen, 1, (2, 3)), atol=1e-5)
    assert torch.allclose(perception(x.flip(3)), seen.flip(3), atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_length_is_that_of_the_gradients_of_sobel(noise, dims):
    x = noise(2, 3, *[6] * dims)
    seen = IsotropicPerception(sobel_scale=8.0).build(3, dims)(x)
    parts = Perception("identity", "sobel", "laplacian", padding="circular", sobel_scale=8.0).build(3, dims)(x)
    gradients = parts[:, 3:-3].reshape(2, dims, 3, *x.shape[2:])
    assert torch.allclose(seen[:, 3:6], gradients.square().sum(1).sqrt(), atol=1e-5)
    assert torch.equal(seen[:, :3], x)
    assert torch.equal(seen[:, 6:], parts[:, -3:])
    assert torch.equal(IsotropicPerception(laplacian=False, sobel_scale=8.0).build(3, dims)(x), seen[:, :6])


def test_gradients_are_those_of_finite_differences_and_flat_cells_are_not_steep_and_give_no_nan(noise):
    x = torch.full((1, 2, 5, 5), 0.5, requires_grad=True)
    seen = IsotropicPerception().build(2)(x)
    assert seen[:, 2:4].abs().max() == 0
    seen.sum().backward()
    assert x.grad.isfinite().all()
    perception = IsotropicPerception().build(2).double()
    assert torch.autograd.gradcheck(perception, noise(1, 2, 4, 5).double().requires_grad_())


def test_the_preset_takes_it_commutes_with_turning_and_comes_out_of_a_file(noise, randomise, tmp_path):
    model = randomise(build_model("isotropic", VARIANT), 0.1).double()
    assert model.num_trainable_parameters() == 48 * 192 + 192 + 192 * 16
    x = noise(1, 16, 11, 11).double()
    everywhere = {"steps": 4, "masks": lambda t: None}
    grown = model.predict(x, **everywhere).output_image
    turned = model.predict(torch.rot90(x, 1, (2, 3)), **everywhere).output_image
    assert torch.allclose(turned, torch.rot90(grown, 1, (2, 3)), atol=1e-10)
    assert (grown - x).abs().max() > 0.01
    model = model.float()
    save_network(model, tmp_path / "cell.pt")
    loaded = load_network(tmp_path / "cell.pt")
    state = x.float()
    assert torch.equal(loaded.predict(state, 3, seed=5).output_image, model.predict(state, 3, seed=5).output_image)


def test_back_ends_that_cannot_do_it_name_it(noise):
    model = build_model("isotropic", {**VARIANT, "alive": AliveMask()})
    with torch.no_grad():
        job = Job(noise(1, 16, 7, 7), model, 2, (2,)).gated()
        for name in ("native", "sparse"):
            assert BACKENDS[name].refusal(job) == "the perception is a IsotropicPerception, not Perception itself"


def test_what_cannot_work_is_refused(noise, refuses):
    refuses(UnknownNameError, "Did you mean 'zeros'", IsotropicPerception, padding="zero")
    refuses(ConfigError, "sobel_scale must be a number above 0, not 0", IsotropicPerception, sobel_scale=0)
    refuses(ConfigError, "number of spatial dimensions", IsotropicPerception().build, 3, 4)
    with pytest.raises(ShapeError, match=r"built for \(B, 3, 2 spatial axes\), got \(1, 4, 5, 5\)"):
        IsotropicPerception().build(3)(noise(1, 4, 5, 5))
