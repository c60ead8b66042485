import json
import math

import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import FullFilters, LearnedFilters, Perception
from delira_nca.models.perception import PADDINGS, _FixedFilters, pad_state


def ramp(dims, axis, size=8):
    """(1, 1, *spatial) state that grows by 1 per cell along one axis."""
    line = torch.arange(size, dtype=torch.float32)
    return line.view([size if a == axis else 1 for a in range(dims)]).expand([size] * dims)[None, None].clone()


def interior(x):
    for axis in range(2, x.dim()):
        x = x.narrow(axis, 1, x.shape[axis] - 2)
    return x


def test_values_on_a_ramp_along_the_last_axis():
    seen = Perception("identity", "sobel", padding="zeros").build(1)(ramp(2, 1))[0]
    identity, along_last, along_first = seen
    assert torch.equal(identity, ramp(2, 1)[0, 0])
    assert (interior(along_last[None, None]) == 1.0).all()
    assert (interior(along_first[None, None]) == 0.0).all()
    assert (along_last[1:-1, 0] == 0.5).all()
    assert (along_last[1:-1, -1] == -3.0).all()


@pytest.mark.parametrize(
    ("padding", "left", "right"),
    [("zeros", 0.5, -3.0), ("reflect", 0.0, 0.0), ("replicate", 0.5, 0.5), ("circular", -3.0, -3.0)],
)
def test_what_lies_beyond_the_border(padding, left, right):
    along_last = Perception("sobel", padding=padding).build(1)(ramp(2, 1))[0, 0]
    assert along_last[4].tolist() == [left, *[1.0] * 6, right]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_ramp_of_slope_one_gives_one_along_its_axis_and_zero_along_the_others(dims):
    perception = Perception("sobel").build(1, dims)
    for axis in range(dims):
        seen = interior(perception(ramp(dims, axis, 5)))[0]
        for position, found in enumerate(seen):  # last axis first
            assert torch.equal(found, torch.full_like(found, float(axis == dims - 1 - position)))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_constant_has_no_gradient_and_no_laplacian(dims, padding):
    perception = Perception("sobel", "laplacian", padding=padding).build(2, dims)
    seen = perception(torch.full((1, 2, *[6] * dims), 3.0))
    assert seen.shape[1] == 2 * (dims + 1)
    assert (interior(seen) == 0).all()
    assert (padding == "zeros") == bool((seen != 0).any())


def test_laplacian_of_a_parabola_is_constant():
    parabola = ramp(2, 1).square()
    assert (interior(Perception("laplacian").build(1)(parabola)) == 8.0).all()
    assert (interior(Perception("laplacian", laplacian_scale=0.0625).build(1)(parabola)) == 0.5).all()
    kernel = Perception("laplacian").build(1).kernels[0]
    assert kernel.tolist() == [[1, 2, 1], [2, -12, 2], [1, 2, 1]]


def test_channels_run_filter_by_filter(noise):
    x = noise(2, 3, 7, 6)
    both = Perception("identity", "sobel", "laplacian").build(3)(x)
    assert both.shape == (2, 12, 7, 6)
    for first, name in ((0, "identity"), (9, "laplacian")):
        assert torch.equal(both[:, first : first + 3], Perception(name).build(3)(x))
    for channel in range(3):
        alone = Perception("sobel").build(1)(x[:, channel : channel + 1])
        assert torch.equal(both[:, [3 + channel, 6 + channel]], alone)


def test_a_turned_perception_sees_the_turned_picture(noise):
    x = noise(2, 3, 9, 9)
    rotate = {"k": 1, "dims": (2, 3)}
    straight = Perception("sobel", padding="circular").build(3)
    for angle in (math.pi / 2, -math.pi / 2):
        other = Perception("sobel", padding="circular", angle=angle).build(3)
        k = round(angle / (math.pi / 2))
        found = other(torch.rot90(x, k, (2, 3)))
        assert torch.allclose(found, torch.rot90(straight(x), k, (2, 3)), atol=1e-6)
    minus = Perception("sobel", padding="circular", angle=-math.pi / 2).build(3)
    assert torch.allclose(straight(torch.rot90(x, **rotate)), torch.rot90(minus(x), **rotate), atol=1e-6)
    assert not torch.allclose(straight(torch.rot90(x, **rotate)), torch.rot90(straight(x), **rotate), atol=0.1)


@pytest.mark.parametrize("angle", [0.3, 1.0, -2.0])
def test_turned_filters_are_those_of_the_article(noise, angle):
    x = noise(1, 1, 8, 8)
    along_x, along_y = Perception("sobel").build(1)(x)[0]
    first, second = Perception("sobel", angle=angle).build(1)(x)[0]
    assert torch.allclose(first, math.cos(angle) * along_x - math.sin(angle) * along_y, atol=1e-5)
    assert torch.allclose(second, math.sin(angle) * along_x + math.cos(angle) * along_y, atol=1e-5)
    assert torch.allclose(first**2 + second**2, along_x**2 + along_y**2, atol=1e-4)


@pytest.mark.parametrize("padding", PADDINGS)
def test_isotropic_filters_commute_with_turning_and_mirroring(noise, padding):
    x = noise(2, 3, 9, 9)
    perception = Perception("identity", "laplacian", padding=padding).build(3)
    assert torch.allclose(perception(torch.rot90(x, 1, (2, 3))), torch.rot90(perception(x), 1, (2, 3)), atol=1e-5)
    assert torch.allclose(perception(x.flip(3)), perception(x).flip(3), atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("filters", "per_channel", "weights", "radius"),
    [
        (("identity",), 1, lambda c, d: 0, 0),
        (("identity", "learned"), 3, lambda c, d: 2 * c * 3**d, 1),
        (("laplacian", LearnedFilters(3, 5, bias=True)), 4, lambda c, d: 3 * c * (5**d + 1), 2),
        (("full",), 2, lambda c, d: 2 * (c * c * 3**d + c), 1),
        ((FullFilters(1, out_channels=8, kernel_size=5, bias=False, relu=True),), 2, lambda c, d: 8 * c * 5**d, 2),
    ],
)
def test_sizes_of_learned_filters(noise, dims, filters, per_channel, weights, radius):
    perception = Perception(*filters, padding="replicate").build(4, dims)
    assert perception.out_channels == 4 * per_channel
    assert perception(noise(2, 4, *[6] * dims)).shape == (2, 4 * per_channel, *[6] * dims)
    assert sum(p.numel() for p in perception.parameters()) == weights(4, dims)
    assert perception.radius == radius


def test_the_rectifier_belongs_to_full_filters_that_ask_for_it(noise):
    x = noise(1, 2, 8, 8)
    plain, rectified = (Perception(FullFilters(1, relu=relu)).build(2) for relu in (False, True))
    rectified.load_state_dict(plain.state_dict())
    assert plain(x).min() < 0
    assert torch.equal(rectified(x), plain(x).clamp(min=0))


def test_depthwise_filters_keep_channels_apart(noise):
    perception = Perception("learned").build(3)
    x = noise(1, 3, 6, 6)
    other = x.clone()
    other[:, 1] += 1.0
    changed = (perception(x) != perception(other)).flatten(2).any(2)[0]
    assert changed.tolist() == [False, True, False] * 2


@pytest.mark.parametrize("padding", PADDINGS)
def test_learned_filters_use_the_padding_too(padding):
    perception = Perception(LearnedFilters(1), padding=padding).build(1, 1)
    with torch.no_grad():
        next(perception.parameters()).copy_(torch.tensor([[[1.0, 0.0, 10.0]]]))
    seen = perception(torch.tensor([[[1.0, 2.0, 3.0]]]))[0, 0].tolist()
    assert (
        seen
        == {"zeros": [20, 31, 2], "reflect": [22, 31, 22], "replicate": [21, 31, 32], "circular": [23, 31, 12]}[padding]
    )


def test_fixed_kernels_are_no_part_of_the_weights_but_follow_the_module():
    perception = Perception("identity", "sobel").build(2).double()
    assert perception.state_dict() == {}
    assert perception.kernels.dtype == torch.float64
    assert perception(torch.zeros(1, 2, 5, 5, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    "perception",
    [
        Perception("identity", "sobel", padding="circular", angle=0.4),
        Perception("laplacian", "learned", laplacian_scale=0.1),
        Perception("full", LearnedFilters(3, 5, True), FullFilters(1, 7, 3, False, True), padding="reflect"),
    ],
)
def test_a_description_makes_the_same_perception(noise, perception):
    description = json.loads(json.dumps(perception.to_dict()))
    other = Perception.from_dict(description)
    assert other.to_dict() == perception.to_dict()
    perception.build(4)
    other.build(4)
    other.load_state_dict(perception.state_dict())
    x = noise(1, 4, 6, 6)
    assert torch.equal(other(x), perception(x))
    assert set(description) == {"filters", "padding", "angle", "laplacian_scale"}  # from_dict left it as it was


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((), {}, ConfigError, "at least one filter"),
        (("sobl",), {}, UnknownNameError, "Did you mean 'sobel'"),
        (("sobel",), {"padding": "zero"}, UnknownNameError, "Did you mean 'zeros'"),
        ((LearnedFilters(kernel_size=4),), {}, ConfigError, "odd kernel"),
        ((LearnedFilters(kernel_size=-1),), {}, ConfigError, "odd kernel"),
        ((LearnedFilters(num=0),), {}, ConfigError, "at least one of it"),
        ((FullFilters(out_channels=0),), {}, ConfigError, "at least one channel"),
        ((3,), {}, ConfigError, "not 3"),
    ],
)
def test_descriptions_that_cannot_work_are_refused(arguments, options, error, message, refuses):
    refuses(error, message, Perception, *arguments, **options)


def test_what_it_was_not_built_for_is_refused(noise, refuses):
    refuses(ConfigError, "not of one in 3D", Perception("sobel", angle=0.1).build, 2, 3)
    refuses(UnknownNameError, "number of spatial dimensions 4", Perception("sobel").build, 2, 4)
    perception = Perception("sobel").build(2, 2)
    for shape in ((1, 3, 5, 5), (1, 2, 5), (1, 2, 5, 5, 5)):
        refuses(ShapeError, r"built for \(B, 2, 2 spatial axes\)", perception, noise(*shape))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_fixed_filters_in_one_call_are_those_one_by_one(dims, padding, noise):
    filters = ("identity", "sobel", LearnedFilters(1), "laplacian", "sobel", "identity")
    perception = Perception(*filters, padding=padding).build(3, dims).double()
    x = noise(2, 3, *(6, 5, 4)[:dims]).double().requires_grad_()
    expected = perception(x)

    padded = pad_state(x, padding)
    for number, first, columns in ((1 + dims, 0, slice(3 + 3 * dims)), (2 + dims, 1 + dims, slice(6 + 3 * dims, None))):
        found = perception._in_one_call(padded, number, first)
        assert (found - expected[:, columns]).abs().max() < 1e-12
        weights = noise(*found.shape, seed=1).double()
        both = [(seen * weights).sum() for seen in (found, expected[:, columns])]
        grads = [torch.autograd.grad(total, x, retain_graph=True)[0] for total in both]
        assert (grads[0] - grads[1]).abs().max() < 1e-12


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("padding", [0, 1])
def test_fixed_filters_in_one_call_have_every_derivative(padding, noise):
    weight = noise(6, 1, 3, 3, seed=1).double()
    x = noise(2, 3, 5, 4).double().requires_grad_()

    def run(x):
        return _FixedFilters.apply(x, weight, padding)

    assert torch.autograd.gradcheck(run, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x,))
    each = torch.func.vmap(run)(x.detach().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(each, run(x.detach()))
