import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError, UnknownKeywordError, UnknownNameError
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    FullFilters,
    LearnedFilters,
    MLPRule,
    Perception,
    presets,
)
from delira_nca.rollout import fire_mask, rollout


def small(**changes):
    arguments = {"num_image_channels": 2, "num_hidden_channels": 4, "num_output_channels": 1, "hidden_size": 8}
    return BasicNCAModel(**{**arguments, "filter_padding": "zeros", **changes})


# Sizes of published models ------------------------------------------------------------------------------------------


def texture():
    perception = Perception("identity", "sobel", "laplacian", padding="circular")
    return BasicNCAModel(
        num_image_channels=3,
        num_hidden_channels=9,
        immutable_image_channels=False,
        perception=perception,
        rule=MLPRule(96, final_bias=False),
    )


def self_classifying_digits():
    return BasicNCAModel(
        num_image_channels=1,
        num_hidden_channels=9,
        num_output_channels=10,
        perception=Perception(FullFilters(num=1, out_channels=80, relu=True)),
        rule=MLPRule(80),
    )


def med_nca(immutable):
    return BasicNCAModel(
        num_image_channels=1,
        num_hidden_channels=14,
        num_output_channels=1,
        immutable_image_channels=immutable,
        perception=Perception("identity", FullFilters(2), padding="reflect"),
        rule=MLPRule(128, final_bias=False),
    )


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([lambda: BasicNCAModel(**presets.growing())], 8336),
        ([texture], 5856),
        ([self_classifying_digits], 22499),
        # the published 25 920 count rows for the image channel; a channel that is fixed here has none: 2 x 128 fewer
        ([lambda: med_nca(False)] * 2, 25920),
        ([lambda: med_nca(True)] * 2, 25664),
    ],
)
def test_numbers_of_parameters_are_the_published_ones(models, expected):
    assert sum(model().num_trainable_parameters() for model in models) == expected


@pytest.mark.parametrize(
    ("changes", "per_cell"),
    [
        ({}, 7 * 3),
        ({"num_learned_filters": 3}, 7 * 4),
        ({"num_learned_filters": 0}, 7 * 3),
        ({"num_learned_filters": 0, "use_laplace": True}, 7 * 4),
        ({"num_learned_filters": 0, "dims": 3}, 7 * 4),
        ({"use_temporal_encoding": True}, 7 * 3 + 1),
    ],
)
def test_what_the_rule_sees(changes, per_cell):
    model = small(**changes)
    assert model.input_vector_size == per_cell
    assert model.rule.hidden[0].in_channels == per_cell
    assert model.rule.last.bias is None  # as in NCALab
    assert model.rule.last.out_channels == 5  # of 7 channels, 2 are fixed


# Roll-outs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(randomise):
    return randomise(small(pad_noise=True, use_temporal_encoding=True, training_timesteps=(4, 9)))


@pytest.fixture
def image(noise):
    return noise(2, 2, 7, 9)


def test_the_last_of_a_record_is_the_prediction_and_it_keeps_what_is_asked_for(model, image, refuses):
    record = model.record(image, 6, seed=3)
    assert [p.steps for p in record] == [1, 2, 3, 4, 5, 6]
    assert torch.equal(record[-1].output_image, model.predict(image, 6, seed=3).output_image)
    timeless = small(pad_noise=True, use_temporal_encoding=False)
    assert len(timeless.record(image, 2)) == 2
    assert not torch.equal(record[0].output_image, record[1].output_image)
    every = model.record(image, 5, seed=1)
    chosen = model.record(image, 5, seed=1, keep=[4, 0, 2])
    assert [p.steps for p in chosen] == [0, 2, 4]
    assert torch.equal(chosen[2].output_image, every[3].output_image)
    assert torch.equal(chosen[0].image_channels, image)
    assert [p.steps for p in model.record(image, 5, keep="last")] == [5]
    assert [p.steps for p in model.record(image, 0, keep="last")] == [0]
    refuses(UnknownNameError, "Did you mean 'last'", model.record, image, 5, keep="lats")
    refuses(ConfigError, "choose from 0 to 5", model.record, image, 5, keep=[6])


def test_the_time_plane_holds_the_share_of_the_training_steps():
    model = small(use_temporal_encoding=True, training_timesteps=(4, 8))
    seen = model.perceive(torch.zeros(2, 7, 3, 3), 6)
    assert (seen[:, -1] == 0.75).all()
    seen = small(use_temporal_encoding=True, training_timesteps=5).perceive(torch.zeros(1, 7, 3, 3), 7)
    assert (seen[:, -1] == torch.tensor(1.4)).all()


def test_a_prediction_is_a_function_of_its_seed_and_so_is_the_noise_in_hidden_channels(model, image):
    first = model.predict(image, 6, seed=3).output_image
    assert torch.equal(model.predict(image, 6, seed=3).output_image, first)
    assert not torch.equal(model.predict(image, 6, seed=4).output_image, first)
    assert torch.equal(model.predict(image[:1], 6, seed=3).image_channels, first[:1, :2])
    steps = {model.predict(image, (2, 30), seed=seed).steps for seed in range(8)}
    assert len(steps) > 3
    assert model.predict(image, (2, 30), seed=5).steps == model.predict(image, (2, 30), seed=5).steps
    first, again, other = (model.predict(image, 0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.hidden_channels, again.hidden_channels)
    assert not torch.equal(first.hidden_channels, other.hidden_channels)
    assert (small(pad_noise=False).predict(image, 0).hidden_channels == 0).all()


def test_a_prediction_leaves_everything_as_it_was_also_if_it_fails(model, image):
    model.train()
    model.rule.hidden[0].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    given, states = image.clone(), (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    prediction = model.predict(image, 5, seed=1)
    model.record(image, 5, seed=1)
    assert not prediction.output_image.requires_grad
    assert torch.equal(image, given)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    model.train()
    with pytest.raises(ShapeError):
        model.predict(image[:, :1], 3)
    assert model.training
    assert model.rule.training


def test_prediction_is_in_evaluation_mode(image):
    class Dropping(nn.Module):
        out_channels = 7

        def forward(self, x):
            return nn.functional.dropout(x, 0.9, self.training)

    model = small(perception=Dropping(), fire_rate=1.0)
    model.train()
    with torch.no_grad():
        model.rule.last.weight.fill_(1.0)
    assert torch.equal(model.predict(image, 2).output_image, model.predict(image, 2).output_image)


def test_forward_draws_its_seed_like_dropout_and_takes_masks_and_a_start(model, noise):
    state = noise(2, 7, 6, 6)
    torch.manual_seed(1)
    first, second = (model(state, 3).output_image for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(model(state, 3).output_image, first)
    before = torch.get_rng_state()
    assert torch.equal(model(state, 3, seed=5).output_image, model(state, 3, seed=5).output_image)
    model(state, 2, masks=lambda t: None)
    assert torch.equal(torch.get_rng_state(), before)
    whole = model(state, 5, seed=9).output_image
    half = model(state, 2, seed=9).output_image
    assert torch.equal(model(half, 3, start=2, seed=9).output_image, whole)
    masks = torch.stack([fire_mask(9, t, 2, (6, 6), 0.5) for t in range(5)])
    assert torch.equal(model(state, 5, masks=masks).output_image, whole)
    assert torch.equal(model.predict(state, 5, masks=masks).output_image, whole)


def test_one_sample_is_a_batch_and_training_and_inference_draw_their_own_numbers_of_steps(model, image):
    batch = model.predict(image[:1], 4, seed=2)
    assert batch.output_image.shape == (1, 7, 7, 9)
    assert model.loss(batch, torch.zeros(1, 1, 7, 9))["total"].shape == ()
    prediction, parts = model.forward_batch({"data": image[:1]}, seed=1, train=True)
    parts["pred"].square().mean().backward()
    assert prediction.steps in range(4, 9)
    model = small(training_timesteps=(4, 9), inference_timesteps=3)
    steps = {model.forward_batch({"data": image}, seed=seed, train=True)[0].steps for seed in range(30)}
    assert steps == {4, 5, 6, 7, 8}
    assert model.forward_batch({"data": image})[0].steps == 3
    assert model.predict(image).steps == 3


def test_a_small_budget_gives_the_same_gradients(randomise, noise):
    gradients = []
    for budget in (2**30, 50_000):
        model = randomise(small(memory_budget=budget))
        model(noise(2, 7, 8, 8), 9, seed=1).output_image.square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_steps_by_hand_are_those_of_a_roll_out(randomise, noise):
    model = randomise(small(fire_rate=1.0, use_temporal_encoding=True, alive=AliveMask(channel=2)))
    x = noise(1, 7, 6, 6)
    by_hand = model._forward_step(model._forward_step(x, 0), 1)
    assert torch.allclose(by_hand, rollout(x, model, 2), rtol=1e-5, atol=1e-6)
    assert torch.equal(model._alive(x), AliveMask(channel=2)(x))
    assert small()._alive(x).all()
    assert model._update(x, 0).shape == (1, 5, 6, 6)


class Prepared(BasicNCAModel):
    def prepare_input(self, x):
        return x + 1.0


def test_an_input_can_be_prepared_but_a_roll_out_goes_on_unprepared(noise):
    model = Prepared(num_image_channels=2, num_hidden_channels=2)
    image = noise(1, 2, 5, 5)
    assert torch.equal(model.predict(image, 0).image_channels, image + 1)
    state = noise(1, 4, 5, 5)
    assert torch.equal(model(state, 0).output_image, state)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, hidden):
        return self.linear(hidden.mean((2, 3)))


def test_a_head_reads_the_hidden_channels(image):
    model = small(head=Head())
    prediction = model.predict(image, 2)
    assert torch.equal(prediction.pred, model.head(prediction.hidden_channels))
    assert prediction.pred.shape == (2, 3)


@pytest.mark.parametrize("freeze_head", [False, True])
def test_finetuning_trains_the_last_layer_and_the_head(freeze_head):
    model = small(head=Head(), num_learned_filters=2).eval()
    model.finetune(freeze_head=freeze_head)
    head = [] if freeze_head else ["head.linear.weight", "head.linear.bias"]
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["rule.last.weight", *head]
    assert model.training
    assert model.num_trainable_parameters() == 5 * 8 + (0 if freeze_head else 15)


class Doubling(nn.Module):
    """A perception without weights."""

    out_channels = 7

    def forward(self, x):
        return 2 * x


class Negating(nn.Module):
    def forward(self, perception):
        return -perception[:, 2:]


def test_any_module_can_be_perception_and_rule_and_a_rule_type_makes_the_rule(noise, refuses):
    model = small(perception=Doubling(), rule=Negating(), fire_rate=1.0)
    assert model.device == torch.device("cpu")
    state = noise(1, 7, 5, 5)
    expected = torch.cat([state[:, :2], -state[:, 2:]], 1)
    assert torch.equal(model.predict(state, 1).output_image, expected)
    refuses(ConfigError, "Negating has no freeze", model.finetune)
    refuses(ConfigError, "Identity needs an attribute out_channels", small, perception=nn.Identity())
    made = []

    def rule_type(hidden_size, final_bias):
        made.append((hidden_size, final_bias))
        return MLPRule(hidden_size, final_bias=final_bias, nonlinearity="tanh")

    assert small(rule_type=rule_type).rule.nonlinearity == "tanh"
    assert made == [(8, False)]


def test_the_device_follows_the_module():
    model = small(device="meta")
    assert model.device.type == "meta"
    model = small()
    assert model.device.type == "cpu"
    assert model.to("meta").device.type == "meta"
    assert model.perception.kernels.device.type == "meta"


def test_validation_predicts_and_measures(model, image, noise):
    label = noise(2, 1, 7, 9)
    metrics, prediction = model.validate(image, label, 4, seed=2)
    assert torch.equal(prediction.output_image, model.predict(image, 4, seed=2).output_image)
    expected = (prediction.output_channels - label).square().mean().item()
    assert metrics == {"mse": pytest.approx(expected)}
    losses = model.loss(prediction, label)
    assert set(losses) == set(model.loss_names)
    assert losses["total"].item() == pytest.approx(expected)


# Description --------------------------------------------------------------------------------------------------------

DESCRIBED = [
    {},
    {"dims": 1},
    {"dims": 3, "num_learned_filters": 0},
    {"fire_rate": 0.25},
    {"hidden_size": 5},
    {"use_alive_mask": True},
    {"alive": AliveMask(channel=2, threshold=0.3, before=False)},
    {"immutable_image_channels": False},
    {"num_learned_filters": 1, "kernel_size": 5},
    {"num_learned_filters": 0, "use_laplace": True},
    {"filter_padding": "circular"},
    {"pad_noise": True},
    {"use_temporal_encoding": True},
    {"training_timesteps": (3, 7), "inference_timesteps": [2, 6]},
    {"memory_budget": 100_000},
    {"validation_metric": "dice"},
    {"num_image_channels": 3, "num_hidden_channels": 2, "num_output_channels": 2},
    {"perception": Perception("identity", LearnedFilters(1, 5, True), "laplacian", padding="replicate")},
    {"perception": Perception("sobel", padding="reflect", angle=0.5)},
    {"rule": MLPRule((6, 5), nonlinearity="gelu", final_bias=True)},
]


@pytest.mark.parametrize("changes", DESCRIBED, ids=lambda changes: ",".join(changes) or "defaults")
def test_a_description_makes_the_same_model(randomise, noise, changes):
    model = randomise(small(**changes))
    description = json.loads(json.dumps(model.to_dict()))
    other = BasicNCAModel.from_dict(description)
    other.load_state_dict(model.state_dict())
    assert json.loads(json.dumps(other.to_dict())) == description
    image = noise(2, model.num_image_channels, *[6] * model.dims)
    found, expected = other.predict(image, seed=3), model.predict(image, seed=3)
    assert found.steps == expected.steps
    assert torch.equal(found.output_image, expected.output_image)
    assert other.num_trainable_parameters() == model.num_trainable_parameters()
    a, b = (m.forward_batch({"data": image}, seed=4, train=True)[0] for m in (model, other))
    assert torch.equal(a.output_image, b.output_image)


def test_a_description_names_the_modules_of_the_user_and_asks_for_them(refuses):
    model = small(head=Head(), rule=Negating(), perception=Doubling())
    description = json.loads(json.dumps(model.to_dict()))
    assert description["head"].endswith("Head")
    refuses(ConfigError, "pass perception=", BasicNCAModel.from_dict, description)
    other = BasicNCAModel.from_dict(description, head=Head(), rule=Negating(), perception=Doubling(), fire_rate=0.75)
    assert isinstance(other.head, Head)
    assert other.fire_rate == 0.75


class Wider(BasicNCAModel):
    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor


class Fixed(BasicNCAModel):
    def __init__(self, fire_rate=0.5):
        super().__init__(num_image_channels=1, num_hidden_channels=2, fire_rate=fire_rate)


def test_subclasses_are_described_by_the_arguments_that_they_take(refuses):
    model = Wider(factor=3, num_image_channels=1, num_hidden_channels=5, fire_rate=0.25)
    other = Wider.from_dict(model.to_dict(), factor=3)
    assert (other.num_channels, other.fire_rate, other.factor) == (6, 0.25, 3)
    with pytest.raises(UnknownKeywordError, match="Wider takes no argument 'facto'.*Did you mean 'factor'"):
        Wider.from_dict({"facto": 3})
    model = Fixed(fire_rate=0.25)
    assert model.init_kwargs == {"fire_rate": 0.25}
    refuses(UnknownKeywordError, "Known: 'fire_rate'", Fixed.from_dict, {"hidden_size": 3})


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_hidden_channels": 0, "num_output_channels": 0}, ConfigError, "nothing could change: all 2"),
        ({"num_image_channels": -1}, ConfigError, "must be a whole number of at least 0"),
        ({"num_hidden_channels": 2.0}, ConfigError, "must be a whole number of at least 0"),
        ({"num_output_channels": True}, ConfigError, "must be a whole number of at least 0"),
        ({"alive": AliveMask(channel=7)}, ConfigError, "alive channel 7 is none of the 7"),
        ({"alive": AliveMask(channel=-1)}, ConfigError, "alive channel -1"),
        ({"fire_rate": 1.5}, ConfigError, "from 0 to 1, not 1.5"),
        ({"training_timesteps": (9, 4)}, ConfigError, "low < high"),
        ({"inference_timesteps": -1}, ConfigError, "at least 0"),
        ({"inference_timesteps": "10"}, TypeError, "whole number"),
        ({"use_laplace": True}, ConfigError, "num_learned_filters=0"),
        ({"kernel_size": 4}, ConfigError, "odd kernel"),
        ({"filter_padding": "zero"}, UnknownNameError, "Did you mean 'zeros'"),
        ({"hidden_size": 0}, ConfigError, "at least 1"),
        ({"dims": 4}, UnknownNameError, "number of spatial dimensions 4"),
        ({"dims": 4, "perception": Doubling(), "rule": Negating()}, UnknownNameError, "dimensions 4"),
        ({"use_alive_maks": True}, UnknownKeywordError, "Did you mean 'use_alive_mask'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(changes, error, message, refuses):
    refuses(error, message, small, **changes)


def test_unknown_entries_of_a_description_and_batches_without_data_are_refused():
    description = {**small().to_dict(), "fire_rat": 0.5}
    with pytest.raises(UnknownKeywordError, match="no argument 'fire_rat'.*Did you mean 'fire_rate'"):
        BasicNCAModel.from_dict(description)
    with pytest.raises(UnknownNameError, match="Known: 'dta', 'label'. Did you mean 'dta'"):
        small().forward_batch({"dta": torch.zeros(1, 2, 5, 5), "label": 0})


@pytest.mark.parametrize("shape", [(1, 6, 5, 5), (1, 7, 5), (1, 7, 5, 5, 5)])
def test_states_that_do_not_fit_are_refused(shape, refuses):
    model = small(perception=Doubling(), rule=Negating())  # which would not notice
    refuses(ShapeError, r"\(B, 7, 2 spatial axes\), not .*; pad_input\(\)", model, torch.zeros(shape), 2)
    refuses(ShapeError, r"not \(1, ", model.predict, torch.zeros(shape), 2)


@pytest.mark.parametrize("channels", [2, 7])
def test_images_of_a_wider_dtype_and_of_whole_numbers_are_refused(channels, refuses):
    x = torch.zeros(1, channels, 5, 5, dtype=torch.float64)
    refuses(ConfigError, r"torch\.float64 does not go with weights of torch\.float32: convert", small().predict, x, 2)
    assert small().double().predict(x, 2).pred.dtype == torch.float64
    x = torch.zeros(1, channels, 5, 5, dtype=torch.uint8)
    refuses(ConfigError, r"a state is of floats, not torch\.uint8: .* converted and scaled", small().predict, x, 2)
    refuses(ConfigError, r"not torch\.uint8", small().forward_batch, {"data": x}, train=True)
