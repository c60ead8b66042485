"""A backbone and a head: what they give together, and that making a model touches neither."""

import copy
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import AbstractPyTorchNetwork, BasicNCAModel, Model, Prediction, presets
from delira_nca.models.dry_run import channels_taken, dimensions_taken, dry_run
from delira_nca.training import PyTorchNetworkTrainer


def nca(**changes):
    arguments = {"num_image_channels": 3, "num_hidden_channels": 5, "hidden_size": 8, **changes}
    return BasicNCAModel(**arguments)


def convolutions():
    """A backbone with everything that a forward pass in training mode would change."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.ReLU())


def modes(module):
    return {name: part.training for name, part in module.named_modules()}


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


# What a model is ------------------------------------------------------------------------------------------------------


def test_the_attributes_of_the_page_are_there_and_an_architecture_may_say_its_input():
    backbone, head, activation = convolutions(), nn.Conv2d(6, 2, 1), nn.Sigmoid()
    model = Model(backbone, head, activation)
    assert (model.architecture, model.prediction_head, model.eval_activation) == (backbone, head, activation)
    assert list(model.chain) == [backbone, head]
    assert isinstance(model.chain, nn.Sequential)
    assert (model.num_in_channels, model.input_shape, model.eval_input_shape) == (3, (32, 32), (32, 32))
    assert (model.num_out_channels, model.output_shape, model.dims) == (2, (30, 30), 2)
    assert Model(backbone, head).eval_activation is None
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3))
    backbone.input_shape, backbone.eval_shape_increase, backbone.num_in_channels = (20, 16), (8, 4), 3
    model = Model(backbone, nn.Identity())
    assert (model.input_shape, model.eval_input_shape, model.output_shape) == ((20, 16), (28, 20), (18, 14))
    model = Model(backbone, nn.Identity(), input_shape=[10, 12])
    assert (model.input_shape, model.eval_input_shape, model.output_shape) == ((10, 12), (18, 16), (8, 10))


class Silent(nn.Module):
    """Says nothing of its input, and takes any."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight * x


def test_what_nobody_says_has_to_be_given():
    with pytest.raises(ConfigError, match="Silent does not say how many spatial axes it takes: give input_shape"):
        Model(Silent(), nn.Identity())
    with pytest.raises(ConfigError, match="Silent does not say how many channels it takes: give num_in_channels"):
        Model(Silent(), nn.Identity(), input_shape=(4,))
    model = Model(Silent(), nn.Identity(), input_shape=(4,), num_in_channels=7)
    assert (model.dims, model.num_in_channels, model.num_out_channels, model.output_shape) == (1, 7, 7, (4,))
    flat = Model(nn.Linear(5, 4), nn.Linear(4, 2), input_shape=())
    assert (flat.num_in_channels, flat.num_out_channels, flat.output_shape) == (5, 2, ())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_an_automaton_may_be_the_backbone_in_any_dimension(dims, noise):
    head = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](8, 2, 1)
    model = Model(nca(dims=dims, filter_padding="zeros"), head)
    assert (model.num_in_channels, model.dims, model.input_shape) == (3, dims, (32,) * dims)
    assert (model.num_out_channels, model.output_shape) == (2, (32,) * dims)
    shape = (5, 6, 7)[:dims]
    assert model.compute_output_shape(shape) == (2, shape)
    assert model(noise(2, 3, *shape), steps=2).shape == (2, 2, *shape)


def test_a_function_that_makes_the_backbone_is_called_once():
    made = []
    model = Model(lambda: made.append(convolutions()) or made[0], nn.Conv2d(6, 1, 1))
    assert len(made) == 1
    assert model.architecture is made[0]
    assert Model(BasicNCAModel, nn.Conv2d(16, 1, 1)).num_in_channels == 4


def test_the_weights_are_in_the_state_once_and_a_head_that_is_replaced_is_used():
    model = Model(convolutions(), nn.Conv2d(6, 2, 1))
    names = [name for name in model.state_dict() if name.endswith("weight")]
    assert names == ["architecture.0.weight", "architecture.1.weight", "prediction_head.weight"]
    other = Model(convolutions(), nn.Conv2d(6, 2, 1))
    other.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(other.eval()(x), model.eval()(x))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(x), model(x))
    model = Model(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1))
    model.prediction_head = nn.Conv2d(6, 4, 1)
    x = torch.rand(1, 3, 8, 8)
    assert model(x).shape[1] == model.chain(x).shape[1] == model.compute_output_shape((8, 8))[0] == 4


# What it gives --------------------------------------------------------------------------------------------------------


def test_the_activation_is_applied_in_evaluation_only_and_asking_for_the_chain_changes_no_mode(noise):
    model = Model(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1), nn.Sigmoid())
    x = noise(1, 3, 8, 8)
    logits = model.prediction_head(model.architecture(x))
    assert torch.equal(model(x), logits)
    assert torch.equal(model.eval()(x), torch.sigmoid(logits))
    assert torch.equal(model.chain(x), logits)
    assert torch.equal(model.train()(x), logits)
    model = Model(convolutions(), nn.Conv2d(6, 2, 1))
    model.architecture[1].eval()
    before = modes(model)
    assert model.chain.training
    model.training = False
    assert not model.chain.training
    assert {**modes(model), "": True} == before


def test_arguments_of_forward_go_to_the_backbone(randomise, noise, refuses):
    backbone = randomise(nca(fire_rate=0.5))
    model = Model(backbone, nn.Conv2d(8, 2, 1))
    state = noise(2, 8, 6, 6)
    found = model(state, steps=3, seed=5, start=1)
    assert torch.equal(found, model.prediction_head(backbone(state, 3, seed=5, start=1).output_image))
    assert torch.equal(model.chain(state, steps=3, seed=5, start=1), found)
    assert not torch.equal(model(state, steps=3, seed=6, start=1), found)
    assert not torch.equal(model(state, steps=2, seed=5, start=1), found)
    masks = torch.zeros(3, 2, 1, 6, 6, dtype=torch.bool)
    assert torch.equal(model(state, steps=3, masks=masks), model.prediction_head(state))
    refuses(TypeError, "stepz", model, state, stepz=3)
    refuses(TypeError, "steps", Model(nn.Conv2d(3, 6, 1), nn.Identity()), noise(1, 3, 4, 4), steps=3)


class Shifted(BasicNCAModel):
    def __init__(self, image, hidden, **kwargs):
        super().__init__(num_image_channels=image, num_hidden_channels=hidden, **kwargs)

    def prepare_input(self, x):
        return x + 0.5


@pytest.mark.parametrize("pad_noise", [False, True])
def test_an_image_becomes_the_state_that_prediction_starts_from(randomise, noise, pad_noise):
    backbone = randomise(Shifted(3, 5, hidden_size=8, pad_noise=pad_noise))
    model = Model(backbone, nn.Conv2d(8, 2, 1)).eval()
    image = noise(2, 3, 6, 6)
    state = backbone.predict(image, 4, seed=3).output_image
    assert torch.equal(model(image, steps=4, seed=3), model.prediction_head(state))


def test_a_head_of_the_automaton_comes_before_the_one_of_the_model(noise):
    backbone = nca(head=nn.Conv2d(5, 4, 1))
    model = Model(backbone, nn.Conv2d(4, 2, 1))
    x = noise(1, 8, 6, 6)
    assert torch.equal(model(x), model.prediction_head(backbone(x).head_prediction))


# What it leaves alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_neither_making_a_model_nor_asking_for_a_shape_changes_anything(training):
    backbone, head = convolutions().train(training), nn.Sequential(nn.Conv2d(6, 2, 1), nn.BatchNorm2d(2))
    backbone[1].eval()  # frozen statistics stay frozen
    weights, states = [copy.deepcopy(m.state_dict()) for m in (backbone, head)], generators()
    versions = [[t._version for t in (*m.parameters(), *m.buffers())] for m in (backbone, head)]
    before = [modes(backbone), modes(head)]
    model = Model(backbone, head, nn.Dropout(0.5))
    assert model.compute_output_shape((9, 12)) == (2, (7, 10))
    assert [modes(backbone), modes(head)] == before
    assert generators() == states
    assert [[t._version for t in (*m.parameters(), *m.buffers())] for m in (backbone, head)] == versions
    for module, former in zip((backbone, head), weights, strict=True):
        assert module.state_dict().keys() == former.keys()
        assert all(torch.equal(value, former[name]) for name, value in module.state_dict().items())
    assert int(backbone[1].num_batches_tracked) == 0
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_zero_initialised_last_layer_stays_zero():
    backbone = BasicNCAModel(**presets.growing())
    head = nn.Conv2d(16, 4, 1)
    nn.init.zeros_(head.weight)
    states = generators()
    model = Model(backbone, head)
    assert all(p.abs().max() == 0 for p in backbone.rule.last.parameters())
    assert model.prediction_head.weight.abs().max() == 0
    assert generators() == states


class First(nn.Module):
    """An activation that leaves one channel."""

    def forward(self, x):
        return x.argmax(1, keepdim=True)


class Stubborn(nn.Module):
    """Draws, counts, asks for numbers and changes a buffer: nothing of this works without numbers."""

    in_channels = 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.register_buffer("mean", torch.zeros(3))
        self.calls = Counter()

    def forward(self, x):
        self.calls["forward"] += 1
        self.mean += 1.0
        torch.rand(3), np.random.rand(), random.random()
        return self.layer(x) if float(x.sum()) >= 0 else x


def test_a_module_that_cannot_do_without_numbers_is_run_as_a_copy():
    backbone, head = Stubborn(), nn.Conv2d(4, 2, 1)
    states = generators()
    model = Model(backbone, head, First())
    assert (model.num_out_channels, model.output_shape) == (1, (32, 32))
    assert backbone.calls == Counter()
    assert backbone.mean.tolist() == [0.0] * 3
    assert generators() == states


def test_lazy_layers_stay_lazy_double_ones_are_fed_doubles_and_shapes_are_found_without_numbers():
    lazy = nn.LazyConv2d(2, 1)
    assert Model(nn.Conv2d(3, 6, 1), lazy).num_out_channels == 2
    assert isinstance(lazy.weight, nn.parameter.UninitializedParameter)
    assert Model(nn.Conv2d(3, 6, 1).double(), nn.Conv2d(6, 2, 1).double()).num_out_channels == 2
    seen = []
    model = Model(nca(), nn.Conv2d(8, 2, 1))
    dry_run(model, lambda copied, x: seen.append((copied(x, seed=0).device.type, x.shape)), (1, 3, 8, 8))
    assert seen == [("meta", (1, 3, 8, 8))]


class Fixed(nn.Module):
    """Cannot be copied."""

    in_channels, dims = 3, 2

    def __deepcopy__(self, memo):
        raise TypeError("there is only one")


def test_what_cannot_be_copied_is_refused():
    with pytest.raises(ConfigError, match="Model cannot be copied to find out its shapes: there is only one"):
        Model(Fixed(), nn.Identity())


# Shapes and voxels ----------------------------------------------------------------------------------------------------


def test_output_shapes_are_those_of_a_forward_pass(noise):
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 4, stride=3))
    model = Model(backbone, nn.Conv2d(4, 5, 1))
    for shape in ((8, 8), (11, 7), torch.Size([9, 20]), [np.int64(12), 5]):
        found = model(noise(1, 3, *shape))
        assert model.compute_output_shape(shape) == (found.shape[1], tuple(found.shape[2:]))


def test_output_shapes_are_those_of_evaluation_and_may_have_no_axes():
    model = Model(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), First())
    assert model.training
    assert model.num_out_channels == 1
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    model = Model(nca(), head)
    assert (model.num_out_channels, model.output_shape) == (10, ())


@pytest.mark.parametrize("shape", [(8,), (8, 8, 8), (8, 0), (-1, 8), (8.0, 8), 8, "88", None, (True, None)])
def test_a_shape_of_other_axes_is_refused(shape, refuses):
    model = Model(nn.Conv2d(3, 6, 1), nn.Identity())
    refuses(ShapeError, "a spatial shape .* 2 (whole )?numbers", model.compute_output_shape, shape)


def test_voxels_keep_their_size_unless_a_part_says_otherwise():
    assert Model(nca(), nn.Conv2d(8, 1, 1)).scale((4, 0.5)) == (4, 0.5)
    up = Model(nn.Conv2d(1, 8, 3), nn.Upsample(scale_factor=2))
    assert up.scale([4, 0.5]) == (2.0, 0.25)
    up.architecture.scale_factor = (1, 2)
    assert up.scale((4, 0.5)) == (2.0, 0.125)
    up.architecture.scale = lambda sizes: [3 * size for size in sizes]
    assert up.scale((4, 0.5)) == (6.0, 0.75)


@pytest.mark.parametrize(
    ("voxels", "error", "message"),
    [
        ((1, 1, 1), ShapeError, "2 numbers, one for each axis, not 3"),
        ((1,), ShapeError, "not 1"),
        ((1, 0), ConfigError, r"positive along each axis, not \(1, 0\)"),
        ((-1, 1), ConfigError, "positive"),
        ((1, float("nan")), ConfigError, "positive"),
        ((1, float("inf")), ConfigError, "positive"),
        ((1, "2"), ConfigError, "positive"),
    ],
)
def test_voxels_that_cannot_be_are_refused(voxels, error, message, refuses):
    refuses(error, message, Model(nca(), nn.Conv2d(8, 1, 1)).scale, voxels)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head", [nn.Conv2d(16, 2, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(16, 2, 1)), nn.BatchNorm2d(16)]
)
def test_channels_that_do_not_fit_are_refused_with_both_numbers(head, refuses):
    refuses(ShapeError, "the prediction head takes 16 channels, the architecture gives 8", Model, nca(), head)
    refuses(ShapeError, "the prediction head takes 16 channels, the architecture gives 6", Model, convolutions(), head)


def test_inputs_and_heads_of_other_numbers_or_dimensions_are_refused(refuses):
    message = r"cannot take an input of shape \(1, 4, 32, 32\): .*3 channels.*4 channels"
    refuses(ShapeError, message, Model, convolutions(), nn.Conv2d(6, 2, 1), num_in_channels=4)
    message = r"shape \(1, 4, 32, 32\): input is \(B, 3, \*spatial\) image or \(B, 8"
    refuses(ShapeError, message, Model, nca(), nn.Conv2d(8, 2, 1), num_in_channels=4)
    assert Model(nca(), nn.Conv2d(8, 2, 1), num_in_channels=8).num_out_channels == 2
    message = r"the prediction head cannot take what the architecture gives, \(1, 8, 32, 32"
    refuses(ShapeError, message, Model, nca(), nn.Conv3d(8, 2, 1))
    model, message = Model(nn.Conv2d(3, 6, 5), nn.Identity()), r"cannot take an input of shape \(1, 3, 2, 2\)"
    refuses(ShapeError, f"the architecture {message}", model.compute_output_shape, (2, 2))


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "3"])
def test_a_number_of_channels_is_whole_and_positive(number):
    with pytest.raises(ConfigError, match="num_in_channels must be a whole number of at least 1, not"):
        Model(convolutions(), nn.Conv2d(6, 2, 1), num_in_channels=number)


def test_parts_that_are_no_modules_or_give_no_tensor_are_refused(refuses):
    refuses(ConfigError, "architecture must be of type Module, not str", Model, "unet", nn.Identity())
    refuses(ConfigError, "architecture must be of type Module, not int", Model, lambda: 3, nn.Identity())
    refuses(ConfigError, "prediction_head must be of type Module, not NoneType", Model, convolutions(), None)
    with pytest.raises(ConfigError, match="eval_activation must be of type Module or NoneType, not builtin"):
        Model(convolutions(), nn.Identity(), torch.sigmoid)
    refuses(ConfigError, "gives a tensor, which the head takes, not a dict", Model, Parts(3, 6, 1), nn.Identity())
    refuses(ConfigError, "a prediction head gives .* tensor, not dict", Model, convolutions(), Parts(6, 2, 1))


class Parts(nn.Conv2d):
    def forward(self, x):
        return {"features": super().forward(x)}


def test_what_a_module_says_of_its_input():
    assert channels_taken(nn.ReLU()) is None
    assert channels_taken(nn.Sequential(nn.Flatten(), nn.Linear(7, 2))) == 7
    assert channels_taken(nn.Sequential(Silent(), nn.Conv2d(3, 2, 1))) is None
    assert dimensions_taken(nn.Linear(7, 2)) is None
    assert [dimensions_taken(layer(1, 1, 1)) for layer in (nn.Conv1d, nn.ConvTranspose3d)] == [1, 3]


# Training -------------------------------------------------------------------------------------------------------------


def test_the_parts_of_an_automaton_can_be_wired_and_logits_are_there_in_both_modes(randomise, noise):
    backbone = randomise(nca(training_timesteps=(2, 5), inference_timesteps=3))
    model = Model(backbone, nn.Conv2d(8, 2, 1), nn.Sigmoid())
    batch = {"data": noise(2, 3, 6, 6)}
    for train in (True, False):
        model.train(train)
        prediction, parts = model.forward_batch(batch, seed=4, train=train)
        inner, inner_parts = backbone.forward_batch(batch, seed=4, train=train)
        assert isinstance(prediction, Prediction)
        assert prediction.steps == inner.steps
        assert torch.equal(parts["state"], inner.output_image)
        assert set(parts) == {*inner_parts, "head", "logits"}
        logits = model.prediction_head(inner.output_image)
        assert torch.equal(parts["logits"], logits)
        expected = logits if train else torch.sigmoid(logits)
        assert all(torch.equal(part, expected) for part in (prediction.pred, parts["pred"], parts["head"]))


def test_other_backbones_give_a_tensor_and_its_logits(noise):
    model = Model(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 1, 1), nn.Sigmoid()).eval()
    x = noise(2, 3, 4, 4)
    prediction, parts = model.forward_batch({"data": x})
    assert set(parts) == {"pred", "logits"}
    assert torch.equal(prediction, model(x))
    assert torch.equal(parts["pred"], torch.sigmoid(parts["logits"]))


def test_a_model_is_a_network_that_needs_criterions(refuses):
    model = Model(convolutions(), nn.Conv2d(6, 2, 1))
    assert isinstance(model, AbstractPyTorchNetwork)
    assert model.init_kwargs["prediction_head"] is model.prediction_head
    refuses(ConfigError, "Model has no loss; give criterions", PyTorchNetworkTrainer, model, None)


def segmentation_batches(count, side=10):
    """Noise with a bright square, and where it is."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        label = np.zeros((4, 1, side, side), np.float32)
        for sample, (row, column) in zip(label, rng.integers(0, side - 4, (4, 2)), strict=True):
            sample[0, row : row + 4, column : column + 4] = 1.0
        data = label.repeat(3, 1) + rng.normal(0, 0.3, (4, 3, side, side)).astype(np.float32)
        batches.append({"data": data, "label": label})
    return batches


@pytest.mark.processor
@pytest.mark.parametrize("kind", ["automaton", "convolutions"])
def test_the_trainer_trains_it_as_it_is(kind):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        backbone = {
            "automaton": lambda: nca(fire_rate=1.0, training_timesteps=(2, 4), inference_timesteps=3),
            "convolutions": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        }[kind]()
        model = Model(backbone, nn.Conv2d(8, 1, 1), nn.Sigmoid())
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = PyTorchNetworkTrainer(
        model,
        None,
        {"bce": F.binary_cross_entropy_with_logits},
        optimizer_params={"lr": 0.02},
        metrics={"error": lambda pred, label: ((pred > 0.5) != (label > 0.5)).float().mean()},
        metric_keys={"bce": ("logits", "label")},
    )
    batches = segmentation_batches(4)
    trainer.train(8, batches, batches)
    first, last = trainer.history[0], trainer.history[-1]
    assert last["bce"] < 0.3 * first["bce"]
    assert last["val_bce"] < 0.3  # of logits, although the model activates there: of probabilities it is at least 0.31
    assert last["val_error"] < 0.05
    predictions = trainer.predict(batches[:2])[0]
    assert predictions.shape == (8, 1, 10, 10)
    assert 0 <= predictions.min() < predictions.max() <= 1
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])]
    assert {"prediction_head.weight", "prediction_head.bias"} <= set(changed)
    assert any(name.startswith("architecture") for name in changed)


def test_a_training_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    def trainer():
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = Model(nca(training_timesteps=(2, 4)), nn.Conv2d(8, 1, 1), nn.Sigmoid())
        return PyTorchNetworkTrainer(
            model, None, {"bce": F.binary_cross_entropy_with_logits}, metric_keys={"bce": ("logits", "label")}
        )

    batches = segmentation_batches(2)
    straight, first, second = trainer(), trainer(), trainer()
    straight.train(3, batches)
    first.train(1, batches)
    first.save_state(tmp_path / "state.pt")
    second.update_state(tmp_path / "state.pt").train(3, batches)
    theirs = second.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in straight.network.state_dict().items())
