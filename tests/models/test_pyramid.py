import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError, UnknownKeywordError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, CascadeNCA, LearnedFilters, Model, Perception, PyramidNCA, presets
from delira_nca.models.build import build_model
from delira_nca.models.network import declared_loss_names
from delira_nca.rollout import using_backend
from delira_nca.rollout.job import BatchPart, at_part
from delira_nca.training import PyTorchNetworkTrainer


def level(**changes):
    sizes = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    return BasicNCAModel(**{**sizes, "fire_rate": 1.0, **changes})


@pytest.fixture
def pyramid(randomise):
    def make(models=1, scales=(4, 2, 1), steps=(3, 2, 2), *, of=None, **options):
        made = [level(**(of or {})) for _ in range(models)]
        return randomise(PyramidNCA(made if models > 1 else made[0], scales, steps, **options), 0.3)

    return make


def trained_state(network, image, seed=0):
    prediction, parts = network.forward_batch({"data": image, "label": image}, seed=seed, train=True)
    return prediction.output_image, parts


# What goes from level to level --------------------------------------------------------------------------------------


@pytest.mark.parametrize("models", [1, 3])
def test_states_go_up_by_nearest_and_the_image_comes_anew_at_every_level(pyramid, noise, models):
    network, image = pyramid(models), noise(2, 1, 16, 24)
    record = network.record(image, keep=[0, 3, 4, 5, 7])
    at = {p.steps: p.output_image for p in record}
    small = nn.functional.avg_pool2d(image, 4)
    assert torch.equal(at[0][:, :1], small.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert not at[0][:, 1:].any()
    one, two, three = (network.model_of(n) for n in range(3))
    state = one.predict(small, 3).output_image
    assert torch.equal(at[3], state.repeat_interleave(4, 2).repeat_interleave(4, 3))
    start = 0 if models > 1 else 3
    state = state.repeat_interleave(2, 2).repeat_interleave(2, 3)
    state[:, :1] = nn.functional.avg_pool2d(image, 2)
    state = two(state, 2, start=start).output_image.detach().repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(at[5], state)
    state[:, :1] = image
    final = three(state, 2, start=0 if models > 1 else 5).output_image
    assert torch.equal(at[7], final)
    assert torch.equal(at[7][:, :1], image)


def test_the_time_plane_of_one_model_goes_on_over_the_levels(pyramid, noise):
    image = noise(1, 1, 8, 8)
    of = {"use_temporal_encoding": True, "training_timesteps": 7}
    network = pyramid(scales=(2, 1), steps=(3, 4), of=of)
    times = []
    network.models[0].perceive = lambda x, t: times.append(t) or BasicNCAModel.perceive(network.models[0], x, t)
    network.predict(image)
    assert times == list(range(7))
    of_each = pyramid(2, scales=(2, 1), steps=(3, 4), of=of)
    for model in of_each.models:
        model.perceive = lambda x, t, model=model: times.append(t) or BasicNCAModel.perceive(model, x, t)
    times.clear()
    of_each.predict(image)
    assert times == [0, 1, 2, 0, 1, 2, 3]


def test_a_pyramid_of_one_level_is_its_model(pyramid, noise):
    network = pyramid(scales=[1], steps=[6], of={"fire_rate": 0.5, "pad_noise": True})
    image = noise(2, 1, 9, 7)
    alone = network.models[0].predict(image, 6, seed=5)
    assert torch.equal(network.predict(image, seed=5).output_image, alone.output_image)


@pytest.mark.parametrize("how", ["area", "bilinear", "max", "nearest"])
def test_the_way_to_shrink_is_the_callers(pyramid, noise, how):
    image = noise(1, 1, 8, 8)
    seen = pyramid(scales=(4, 1), steps=(1, 1), downscale=how).record(image, keep=[0])[0].image_channels[..., ::4, ::4]
    expected = {
        "area": nn.functional.avg_pool2d(image, 4),
        "bilinear": nn.functional.avg_pool2d(image[..., [1, 2, 5, 6], :][..., [1, 2, 5, 6]], 2),
        "max": nn.functional.max_pool2d(image, 4),
        "nearest": image[..., ::4, ::4],
    }[how]
    torch.testing.assert_close(seen, expected)


def test_an_image_that_does_not_divide_is_continued_and_cut_back(pyramid, noise):
    network, image = pyramid(), noise(1, 1, 13, 18)
    continued = nn.functional.pad(image, (0, 2, 0, 3), mode="replicate")
    found = network.predict(image).output_image
    assert torch.equal(found, network.predict(continued).output_image[..., :13, :18])
    assert torch.equal(found[:, :1], image)


def test_volumes_of_thick_slices_have_a_scale_for_each_axis(pyramid, noise):
    network = pyramid(2, scales=[(4, 4, 1), (2, 2, 1), 1][::2], steps=(2, 2), of={"dims": 3})
    image = noise(1, 1, 12, 8, 5)
    assert network.predict(image).output_image.shape == (1, 5, 12, 8, 5)
    coarse = network.record(image, keep=[0])[0].image_channels[:, :, ::4, ::4]
    torch.testing.assert_close(coarse, nn.functional.avg_pool3d(image, (4, 4, 1)))


# Steps and randomness -----------------------------------------------------------------------------------------------


def test_the_last_of_a_record_is_the_prediction_and_all_are_as_large_as_the_image(pyramid, noise):
    network, image = pyramid(of={"fire_rate": 0.5}), noise(2, 1, 11, 12)
    record = network.record(image, seed=3)
    assert [p.steps for p in record] == [1, 2, 3, 4, 5, 6, 7]
    assert {tuple(p.output_image.shape) for p in record} == {(2, 5, 11, 12)}
    assert torch.equal(record[-1].output_image, network.predict(image, seed=3).output_image)
    assert torch.equal(record[-1].output_image, network(image, seed=3).output_image)
    assert not torch.equal(record[-1].output_image, network.predict(image, seed=4).output_image)


def test_levels_of_one_size_draw_other_masks(pyramid, noise):
    network = pyramid(2, scales=[(2, 1), (1, 1)], steps=(1, 1), of={"fire_rate": 0.5, "dims": 2})
    fired = []
    for number, model in enumerate(network.models):
        model.rule.last.weight.data.zero_()
        model.rule = nn.Sequential(model.rule, _One(fired, number))
    network.record(noise(1, 1, 8, 8), keep="all")
    assert fired == [0, 1]
    coarse, fine = (p.output_image for p in network.record(noise(1, 1, 8, 8), keep=[1, 2]))
    first, second = coarse[0, 1, ::2].bool(), (fine - coarse)[0, 1].bool()
    assert 0 < first.float().mean() < 1
    assert not torch.equal(first.flatten(), second.flatten()[: first.numel()])


class _One(nn.Module):
    def __init__(self, log, number):
        super().__init__()
        self.log, self.number = log, number

    def forward(self, update):
        self.log.append(self.number)
        return update + 1


def test_a_callers_steps_are_done_or_refused_and_numpy_scales_are_taken(pyramid, noise, refuses):
    network, image = pyramid(), noise(1, 1, 8, 8)
    assert network.predict(image, [1, 1, 5]).steps == 7
    assert not torch.equal(network.predict(image, [1, 1, 5]).pred, network.predict(image).pred)
    for steps in (10, [1, 2], [1, 2, 0], [1, 2, 2.5], "123"):
        refuses(ConfigError, r"steps of a pyramid must be 3 whole numbers.*, not ", network.predict, image, steps)
    assert pyramid(scales=np.array([4, 2, 1])).scales == ((4, 4), (2, 2), (1, 1))
    with pytest.raises(ConfigError, match=r"cannot keep the states after \[8\] of 7 steps"):
        pyramid().record(noise(1, 1, 8, 8), keep=[1, 8])


def test_steps_are_jittered_in_training_only(pyramid, noise):
    network, batch = pyramid(steps=(10, 10, 20), jitter=0.2), {"data": noise(1, 1, 8, 8)}
    taken = {network.forward_batch(batch, seed=seed, train=True)[0].steps for seed in range(30)}
    assert len(taken) > 4
    assert min(taken) >= 32
    assert max(taken) <= 48
    assert {network.forward_batch(batch, seed=seed)[0].steps for seed in range(5)} == {40}
    assert {network.predict(batch["data"], seed=seed).steps for seed in range(5)} == {40}
    once, again = (network.forward_batch(batch, seed=7, train=True)[0].steps for _ in range(2))
    assert once == again


# Patches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 24), (13, 18)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_training_on_a_patch_that_covers_the_image_is_the_test_path(pyramid, noise, levels, shape):
    image = noise(2, 1, *shape)
    network = pyramid(3, patch_size=shape, patch_levels=levels)
    state, parts = trained_state(network, image)
    assert torch.equal(state.detach(), network.predict(image).output_image)
    assert torch.equal(parts.get("label", image), image)


def test_a_patch_is_cut_of_the_image_the_label_and_the_states_alike(pyramid, noise):
    image, network = noise(3, 1, 16, 24), pyramid(scales=(4, 1), steps=(3, 1), patch_size=(8, 6))
    state, parts = trained_state(network, image, seed=2)
    assert state.shape == (3, 5, 8, 6)
    assert torch.equal(parts["label"], state[:, :1].detach())
    assert torch.equal(parts["data"], parts["image"])
    places = [_place_of(patch[0], whole[0]) for patch, whole in zip(parts["label"], image, strict=True)]
    assert len(set(places)) > 1
    # one step of 3 x 3 filters: inside the patch, all but its border is what the whole image has there
    whole = network.predict(image).output_image
    for sample, (row, column) in enumerate(places):
        part = whole[sample, :, row : row + 8, column : column + 6]
        torch.testing.assert_close(state[sample, :, 1:-1, 1:-1].detach(), part[:, 1:-1, 1:-1])


def test_patches_of_two_levels_carry_the_states_of_their_place(pyramid, noise):
    image = noise(6, 1, 32, 48)
    network = pyramid(3, steps=(2, 1, 1), patch_size=8, patch_levels=2)
    state, parts = trained_state(network, image, seed=1)
    whole, places = network.predict(image).output_image, []
    for sample, patch in enumerate(parts["label"]):
        row, column = _place_of(patch[0], image[sample, 0])
        places.append(row)
        part = whole[sample, :, row : row + 8, column : column + 8]
        same = torch.isclose(state[sample], part, atol=1e-5).all(0)[1:-1, 1:-1]
        assert same.sum() >= 16  # of 36: cells at the border of the coarse patch have seen less
    assert max(places) > 8


def _place_of(patch, whole):
    rows, columns = patch.shape
    return next(
        (row, column)
        for row in range(whole.shape[0] - rows + 1)
        for column in range(whole.shape[1] - columns + 1)
        if torch.equal(whole[row : row + rows, column : column + columns], patch)
    )


def test_patches_are_a_function_of_the_seed_and_reach_every_corner(pyramid, noise):
    image, network = noise(4, 1, 8, 8), pyramid(scales=(2, 1), steps=(1, 1), patch_size=5)
    labels = [trained_state(network, image, seed)[1]["label"] for seed in (0, 0, 1)]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])
    drawn = [trained_state(network, image, seed)[1]["label"] for seed in range(30)]
    places = {_place_of(patch[0], whole[0]) for label in drawn for patch, whole in zip(label, image, strict=True)}
    assert {row for row, _ in places} == {column for _, column in places} == {0, 1, 2, 3}


def test_what_has_not_the_shape_of_the_image_is_not_cut(pyramid, noise):
    batch = {"data": noise(2, 1, 8, 8), "label": torch.arange(2 * 64).view(2, 8, 8), "class": torch.tensor([3, 4])}
    _, parts = pyramid(patch_size=6).forward_batch(batch, train=True)
    assert parts["label"].shape == (2, 6, 6)
    assert parts["label"].dtype == torch.int64
    assert "class" not in parts
    assert pyramid(patch_size=6).forward_batch(batch)[0].output_image.shape == (2, 5, 8, 8)


# Weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single", [True, False])
def test_every_parameter_is_used_and_counted_once(randomise, noise, single):
    wrapped = level()
    network = CascadeNCA(wrapped, [4, 2, 1], [2, 2, 2], single)
    one = wrapped.num_trainable_parameters()
    assert network.num_trainable_parameters() == one * (1 if single else 3)
    assert len({id(p) for p in network.parameters()}) == len(list(network.parameters())) == (5 if single else 15)
    randomise(network)
    used = set()
    for module in network.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(lambda module, *_: used.update(map(id, module.parameters(recurse=False))))
    network(noise(1, 1, 16, 16)).output_image.square().sum().backward()
    assert used == {id(p) for p in network.parameters()}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_head_stays_with_the_finest_level_and_copies_go_their_own_ways(noise, pyramid):
    head = nn.Conv2d(3, 2, 1)
    network = CascadeNCA(level(head=head), [2, 1], [1, 1], single_model=False)
    coarse, fine = network.models
    assert coarse.head is None
    assert fine.head is not None
    assert torch.equal(coarse.perception.learned[0][0].weight, fine.perception.learned[0][0].weight)
    assert coarse.perception.learned[0][0].weight is not fine.perception.learned[0][0].weight
    assert network.predict(noise(1, 1, 8, 8)).pred.shape == (1, 2, 8, 8)
    network = pyramid(3).to(torch.float64)
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    assert {name.split(".")[1] for name in network.state_dict()} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("preset", "changes", "number"),
    [
        ("med_nca", {}, 25920),
        ("med_nca", {"image_rows": False}, 25664),
        ("m3d_nca", {}, 12480),
        ("m3d_nca", {"num_levels": 3}, 12480 + 3712),
        ("octree_nca", {}, 5 * 3296),
    ],
)
def test_the_medical_presets_have_the_published_sizes(preset, changes, number):
    network = build_model(preset, changes)
    assert type(network) is PyramidNCA
    assert network.num_trainable_parameters() == number
    assert {(m.num_channels, m.num_fixed_channels, m.fire_rate) for m in network.models} == {(16, 1, 0.5)}


def test_the_medical_presets_are_the_published_ones():
    med, m3d, octree = (build_model(name) for name in ("med_nca", "m3d_nca", "octree_nca"))
    assert (med.scales, med.steps) == (((4, 4), (1, 1)), (64, 64))
    assert [m.perception.radius for m in m3d.models] == [3, 1]
    assert (m3d.dims, m3d.scales[0], m3d.steps) == (3, (2, 2, 2), (10, 10))
    norms = [m for m in m3d.modules() if isinstance(m, nn.BatchNorm3d)]
    assert [norm.track_running_stats for norm in norms] == [False, False]
    assert [scale[0] for scale in octree.scales] == [16, 8, 4, 2, 1]
    assert (octree.steps, octree.patch_levels) == ((20, 5, 5, 5, 5), 2)
    for preset in (presets.med_nca, presets.m3d_nca, presets.octree_nca):
        recipe = presets.recipe(preset.__name__)
        assert recipe.steps == PyramidNCA(**preset()).steps


def test_rows_for_the_image_change_nothing(randomise, noise):
    whole = randomise(build_model("med_nca", {"steps": (2, 2)}))
    lean = build_model("med_nca", {"steps": (2, 2), "image_rows": False})
    weights = whole.state_dict()
    lean.load_state_dict({k: v[1:] if k.endswith("rule.last.weight") else v for k, v in weights.items()})
    image = noise(1, 1, 16, 16)
    for backend in ("reference", "auto"):
        with using_backend(backend):
            found = [net.predict(image, seed=1).output_image for net in (whole, lean)]
        assert torch.equal(*found)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": (4, 2)}, r"scales descend to 1, the image itself: \[4, 2\] end at 2"),
        ({"scales": (2, 4, 1)}, r"scales descend, and each is a multiple of the next: .* from \(2, 2\) to \(4, 4\)"),
        ({"scales": (3, 2, 1)}, r"multiple of the next: \[3, 2, 1\] go from \(3, 3\) to \(2, 2\)"),
        ({"scales": (1, 1, 1)}, r"scales descend"),
        ({"scales": (4, 0, 1)}, r"a scale must be a whole number of at least 1, or 2 of them, not 0"),
        ({"scales": (4, (2, 2, 2), 1)}, r"a scale must be a whole number of at least 1, or 2 of them"),
        ({"scales": (4, 1.5, 1)}, r"a scale must be a whole number"),
        ({"scales": ()}, r"a pyramid has at least one scale"),
        ({"steps": (1, 1)}, r"steps of a pyramid must be 3 whole numbers of at least 1, not \(1, 1\)"),
        ({"patch_size": (4, 4, 4)}, r"patch_size must be a whole number of at least 1, or 2 of them, not \(4, 4, 4\)"),
        ({"patch_size": 0}, r"patch_size must be"),
        ({"patch_levels": 4}, r"patch_levels must be a whole number from 1 to 3, not 4"),
        ({"jitter": 1.0}, r"jitter must be a number of at least 0 and below 1, not 1.0"),
        ({"models": 2}, r"a pyramid has one model, or one for each of its 3 levels, not 2"),
    ],
)
def test_arguments_that_cannot_work_are_refused_with_their_numbers(pyramid, changes, message, refuses):
    refuses(ConfigError, message, pyramid, **changes)


def test_models_that_do_not_fit_each_other_are_refused(refuses):
    same, two = level(), ([2, 1], [1, 1])
    with_head = [level(head=nn.Conv2d(3, 1, 1)), level()]
    for models, message in (
        ([level(), level(num_hidden_channels=4)], r"not \[\(2, 1, 3, 1\), \(2, 1, 4, 1\)\]"),
        (nn.Conv2d(1, 1, 1), "a level of a pyramid must be of type BasicNCAModel, not Conv2d"),
        (with_head, "the head of level 0 would never be asked"),
        ([same, same], "a model stands at several levels"),
    ):
        refuses(ConfigError, message, PyramidNCA, models, *two)
    message = r"CascadeNCA takes no argument 'patchsize'.*Did you mean 'patch_size'"
    refuses(UnknownKeywordError, message, CascadeNCA, level(), *two, patchsize=4)
    message = "unknown way to shrink an image 'bilinaer'.*Did you mean 'bilinear'"
    refuses(UnknownNameError, message, CascadeNCA, level(), *two, downscale="bilinaer")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 1, 4, 16),
            r"an image of \(4, 16\) is \(1, 4\) cells at scale \(4, 4\), .* at least 2 .* at least \(5, 5\)",
        ),
        (
            (1, 1, 3, 16),
            r"an image of \(3, 16\) is smaller than one cell of the coarsest level, which is \(4, 4\): .* \(5, 5\)",
        ),
        ((1, 2, 16, 16), r"an image of this pyramid is \(B, 1, 2 spatial axes\), not \(1, 2, 16, 16\)"),
        ((1, 5, 16, 16), r"not \(1, 5, 16, 16\)"),
        ((1, 1, 16), r"not \(1, 1, 16\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_their_numbers(pyramid, shape, message, refuses):
    for run in (pyramid(), pyramid().predict, lambda x: pyramid().forward_batch({"data": x})):
        refuses(ShapeError, message, run, torch.zeros(shape))


def test_without_reflection_one_coarse_cell_is_enough(pyramid, noise):
    network = pyramid(of={"filter_padding": "zeros"})
    assert network.predict(noise(1, 1, 4, 4)).pred.shape == (1, 1, 4, 4)
    with pytest.raises(ShapeError, match=r"\(3, 4\) is smaller than one cell .* \(4, 4\): .* at least \(4, 4\)"):
        network.predict(noise(1, 1, 3, 4))


@pytest.mark.parametrize(
    ("scales", "kernel", "least"),
    [((4, 2, 1), 3, (5, 5)), ((4, 2, 1), 7, (13, 13)), (((4, 1), 1), 3, (5, 2)), (((2, 4), (1, 2), 1), 5, (5, 9))],
)
def test_the_smallest_image_that_a_message_names_is_taken_and_no_smaller_one(pyramid, noise, scales, kernel, least):
    network = pyramid(scales=scales, steps=(1,) * len(scales), of={"kernel_size": kernel})
    assert network.predict(noise(1, 1, *least)).pred.shape[2:] == least
    for axis in (0, 1):
        small = [size - (axis == place) for place, size in enumerate(least)]
        with pytest.raises(ShapeError, match=rf"this pyramid takes images of at least \({least[0]}, {least[1]}\)"):
            network.predict(noise(1, 1, *small))


def test_patches_that_do_not_fit_are_refused_with_their_numbers(pyramid, noise, refuses):
    wide = {"perception": Perception("identity", LearnedFilters(1, 5), padding="reflect")}
    for size, of, message in (
        (14, {}, r"a patch of \(14, 14\) cells is larger than the image of \(12, 16\)"),
        ((1, 8), {}, r"a patch has at least 2 cells along each axis, not \(1, 8\)"),
        (2, wide, "a patch has at least 3 cells"),
    ):
        network = pyramid(patch_size=size, of=of)
        refuses(ShapeError, message, network.forward_batch, {"data": noise(1, 1, 12, 16)}, train=True)


# In company ---------------------------------------------------------------------------------------------------------


def test_a_prediction_leaves_modes_and_image_as_they_were_and_is_validated_by_the_finest_model(pyramid, noise):
    network, image = pyramid(), noise(1, 1, 8, 8)
    network.models[0].rule.eval()
    before = [m.training for m in network.modules()], image.clone()
    network.predict(image)
    assert [m.training for m in network.modules()] == before[0]
    assert torch.equal(image, before[1])
    network, image = pyramid(), noise(1, 1, 8, 8)
    metrics, prediction = network.validate(image, torch.zeros(1, 1, 8, 8))
    assert metrics == {"mse": float(mse(prediction.pred, torch.zeros(1, 1, 8, 8)))}
    assert network.loss_names == ("total", "mse")
    assert network.loss(prediction, torch.zeros(1, 1, 8, 8))["total"].item() == metrics["mse"]


class _OwnLoss(BasicNCAModel):
    def loss(self, prediction, label):
        error = mse(prediction.pred, label)
        return {"total": 2 * error, "doubled": error}


class _NamedLoss(_OwnLoss):
    loss_names = ("total", "doubled")


class _PyramidOfItsOwnLoss(PyramidNCA):
    def loss(self, prediction, label):
        return {"total": mse(prediction.pred, label), "own": mse(prediction.pred, label)}


@pytest.mark.parametrize(
    ("model", "pyramid", "names", "losses"),
    [
        (BasicNCAModel, PyramidNCA, ("total", "mse"), {"mse"}),
        (_OwnLoss, PyramidNCA, None, {"doubled"}),
        (_NamedLoss, PyramidNCA, ("total", "doubled"), {"doubled"}),
        (BasicNCAModel, _PyramidOfItsOwnLoss, None, {"own"}),
    ],
)
def test_a_pyramid_says_of_its_losses_what_its_finest_model_says(noise, model, pyramid, names, losses):
    network = pyramid(model(**level().init_kwargs), [2, 1], [1, 1])
    assert declared_loss_names(network) == names
    batch = {"data": noise(1, 1, 8, 8), "label": noise(1, 1, 8, 8)}
    _, found, _ = network.closure(network, batch, {}, {}, {})
    assert set(found) == {"loss", *losses}
    trainer = PyTorchNetworkTrainer(network, None)
    trainer.train(1, [batch])
    assert set(trainer.history[0]) == {"epoch", "loss", *losses}


def test_only_the_last_layers_of_all_levels_are_finetuned_and_none_if_a_rule_cannot_freeze_itself(pyramid, refuses):
    network = pyramid(3)
    network.eval().finetune()
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert free == {name for name, _ in network.named_parameters() if ".rule.last." in name}
    assert len({name.split(".")[1] for name in free}) == 3
    assert all(module.training for module in network.modules())
    assert network.num_trainable_parameters() == 3 * network.models[0].rule.last.weight.numel()
    network = pyramid(2, scales=(2, 1), steps=(1, 1))
    network.models[1].rule = nn.Sequential(network.models[1].rule)
    refuses(ConfigError, r"rule Sequential of level 1 has no freeze\(\)", network.finetune)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("freeze_head", [False, True])
def test_the_head_of_the_finest_level_is_finetuned_unless_it_is_frozen(freeze_head):
    network = CascadeNCA(level(head=nn.Conv2d(3, 2, 1)), [2, 1], [1, 1], single_model=False)
    network.finetune(freeze_head)
    assert {p.requires_grad for p in network.models[1].head.parameters()} == {not freeze_head}


def test_the_cost_of_a_pyramid_is_that_of_its_levels(pyramid):
    network = pyramid(3, of={"fire_rate": 0.5})
    cost = network.cost((13, 18), batch_size=2)
    assert [found.shape for found in cost.levels] == [(4, 5), (8, 10), (16, 20)]
    assert [found.steps for found in cost.levels] == [3, 2, 2]
    alone = [network.model_of(n).cost(c.shape, c.steps, batch_size=2) for n, c in enumerate(cost.levels)]
    assert list(cost.levels) == alone
    per_cell = alone[0].forward_operations
    assert cost.operations(every_cell=True) == per_cell * 2 * (3 * 20 + 2 * 80 + 2 * 320)
    assert cost.operations(training=True) == sum(c.steps * c.step_operations(training=True) for c in alone)
    assert cost.inference_bytes("reference") == alone[2].memory["reference"].inference
    assert cost.kept_bytes("native") == sum(c.memory["native"].kept for c in alone)
    assert cost.num_parameters == network.num_trainable_parameters() == 3 * alone[0].num_parameters
    assert network.cost((16, 16), [1, 1, 9]).steps == 11
    lines = str(cost).splitlines()
    assert lines[0] == f"3 levels, 7 steps of 2 x (13 x 18) cells, {cost.num_parameters:,} parameters"
    assert lines[1].startswith("level 0: 3 steps of 2 x (4 x 5) cells")


def test_the_cost_of_a_training_on_patches_is_that_of_the_patches_and_shared_weights_cost_once(pyramid, refuses):
    network = pyramid(3, patch_size=8, patch_levels=2)
    assert [found.shape for found in network.cost((64, 64), patches=True).levels] == [(16, 16), (8, 8), (8, 8)]
    assert [found.shape for found in network.cost((64, 64)).levels] == [(16, 16), (32, 32), (64, 64)]
    refuses(ConfigError, "it has no patch_size", pyramid().cost, (64, 64), patches=True)
    network = pyramid()
    assert network.cost((16, 16)).num_parameters == network.models[0].num_trainable_parameters()


def test_a_cost_that_cannot_be_counted_is_refused_with_its_level(refuses):
    with pytest.raises(ConfigError, match="level 0 of the pyramid: the cost of this BasicNCAModel cannot be counted"):
        build_model("m3d_nca").cost((32, 32, 32))
    refuses(ConfigError, r"steps of a pyramid must be 2 whole numbers", build_model("med_nca").cost, (32, 32), [4])
    refuses(ShapeError, r"has 2 spatial axes, not 3: \(32, 32, 32\)", build_model("med_nca").cost, (32, 32, 32))
    refuses(ShapeError, r"\(3, 32\) is smaller than one cell", build_model("med_nca").cost, (3, 32))


def test_a_pyramid_is_an_architecture_for_a_head(pyramid, noise):
    model = Model(pyramid(), nn.Conv2d(5, 2, 1))
    assert model.output_shape == (32, 32)
    prediction, _ = model.forward_batch({"data": noise(1, 1, 12, 12)})
    assert prediction.pred.shape == (1, 2, 12, 12)


def test_all_back_ends_agree(pyramid, noise):
    network, image = pyramid(2, scales=(4, 1), steps=(4, 3), of={"fire_rate": 0.5}), noise(2, 1, 16, 12)
    found = []
    for backend in ("reference", "auto"):
        with using_backend(backend):
            network.zero_grad()
            state = network(image, seed=1).output_image
            state.square().sum().backward()
            found.append([state.detach(), *(p.grad.clone() for p in network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_part_of_a_batch_has_the_patches_and_the_masks_of_the_whole(pyramid, noise):
    network, image = pyramid(patch_size=9, of={"fire_rate": 0.5, "pad_noise": True}), noise(5, 1, 16, 16)
    whole, parts = trained_state(network, image, seed=3)
    part = BatchPart.of(1, 2, 5)
    with at_part(part):
        state, cut = trained_state(network, image[part.rows], seed=3)
    assert torch.equal(cut["label"], parts["label"][part.rows])
    torch.testing.assert_close(state, whole[part.rows], rtol=0, atol=1e-6)


def test_volumes_are_trained_on_patches_as_they_are_tested(pyramid, noise):
    image = noise(1, 1, 8, 9, 12)
    for size, shape in (((8, 9, 12), (8, 9, 12)), ((4, 9, 6), (4, 9, 6))):
        network = pyramid(2, scales=(2, 1), steps=(2, 2), patch_size=size, of={"dims": 3})
        state, parts = trained_state(network, image)
        assert state.shape == (1, 5, *shape)
        assert torch.equal(parts["image"].detach(), parts["label"] if shape != image.shape[2:] else image)
    whole = pyramid(2, scales=(2, 1), steps=(2, 2), patch_size=(8, 9, 12), of={"dims": 3})
    assert torch.equal(trained_state(whole, image)[0].detach(), whole.predict(image).output_image)
