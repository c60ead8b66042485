import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    GoalEmbedding,
    MLPRule,
    Model,
    Perception,
    build_model,
    make_seed,
)
from delira_nca.rollout import rollout, using_backend
from delira_nca.training import SamplePool

pytestmark = pytest.mark.processor


@pytest.fixture
def model(randomise):
    return randomise(build_model("conditional"), 0.2)


@pytest.fixture
def seeds():
    return make_seed(21, (9, 9)).repeat(3, 1, 1, 1)


def test_two_goals_make_two_states_of_one_seed(model, seeds):
    states = model.predict(seeds, 6, seed=1, goal=torch.tensor([0, 1, 2]), masks=lambda t: None).output_image
    assert (states[0] - states[1]).abs().max() > 0.01
    assert (states[1] - states[2]).abs().max() > 0.01
    again = model.predict(seeds, 6, seed=1, goal=torch.tensor([1, 1, 1]), masks=lambda t: None).output_image
    assert torch.equal(again[0], again[2])
    assert torch.allclose(again[1], states[1], atol=1e-6)


def test_dead_cells_are_told_nothing_and_stay_empty(model, seeds):
    cell = model.with_goal(torch.tensor([0, 1, 2]), 3)
    added = cell.with_goal(seeds) - seeds
    assert added[:, :5].abs().max() == 0
    near = torch.zeros(9, 9, dtype=torch.bool)
    near[3:6, 3:6] = True
    assert added[:, :, ~near].abs().max() == 0
    assert torch.equal(added[1, 5:, 3, 5], model.conditioning.table.weight[1])
    grown = model.predict(seeds, 2, goal=torch.tensor([0, 1, 2])).output_image
    far = grown.clone()
    far[:, :, 2:7, 2:7] = 0  # two steps reach two cells
    assert far.abs().max() == 0
    assert model.predict(torch.zeros(1, 21, 6, 6), 9, goal=1).output_image.abs().max() == 0


def test_the_state_keeps_nothing_of_what_was_told_and_without_an_alive_mask_all_cells_are_told(model, noise, randomise):
    x = noise(2, 21, 6, 6).abs()
    assert torch.equal(model.predict(x, 3, goal=1, masks=torch.zeros(3, 2, 1, 6, 6, dtype=torch.bool)).output_image, x)
    model = randomise(build_model("conditional", {"alive": None}))
    x = torch.zeros(1, 21, 4, 4)
    assert (model.with_goal(1, 1).with_goal(x)[:, 5:] != 0).all()
    assert AliveMask().num_spared == 0


def test_what_is_told_is_an_offset_of_the_hidden_channels(noise, randomise):
    told = BasicNCAModel(
        num_image_channels=2, num_hidden_channels=3, num_output_channels=1, perception=Perception("identity"),
        rule=MLPRule(8), conditioning=GoalEmbedding(2),
    )  # fmt: skip
    randomise(told, 0.5)
    untold = BasicNCAModel(**{**told.init_kwargs, "conditioning": None})
    untold.rule.load_state_dict(told.rule.state_dict())
    x = noise(1, 6, 5, 5)
    moved = x.clone()
    moved[:, 2:5] += told.conditioning.table.weight[1].detach().view(1, 3, 1, 1)
    found = told.predict(x, 1, goal=1, masks=lambda t: None).output_image - x
    expected = untold.predict(moved, 1, masks=lambda t: None).output_image - moved
    assert torch.allclose(found, expected, atol=1e-6)


def test_space_without_life_is_left_out_with_the_same_result(model, noise):
    seed = make_seed(21, (20, 20)).repeat(2, 1, 1, 1).requires_grad_()
    cell = model.with_goal(torch.tensor([0, 2]), 2)
    assert cell.skips_dead_space
    whole = model.with_goal(torch.tensor([0, 2]), 2)
    type(whole).skips_dead_space.fget  # noqa: B018  # a property of the class: replaced in a class of its own
    slow = type("Slow", (type(whole),), {"skips_dead_space": False})(model, torch.tensor([0, 2]), 2)
    with using_backend("reference"):
        fast, slow = (rollout(seed, each, 5, seed=7) for each in (cell, slow))
    assert torch.allclose(fast, slow, atol=1e-6)


def test_embeddings_learn_each_its_goal(model, seeds):
    model(seeds, 4, seed=0, goal=torch.tensor([0, 2, 2])).output_image.square().sum().backward()
    moved = model.conditioning.table.weight.grad.abs().sum(1)
    assert moved[0] > 0
    assert moved[1] == 0
    assert moved[2] > 0


def test_a_batch_and_a_pool_carry_the_goals(model, seeds, refuses):
    batch = {"data": seeds, "goal": torch.tensor([2, 0, 1])}
    prediction, parts = model.forward_batch(batch, seed=4)
    expected = model.predict(seeds, seed=4, goal=batch["goal"]).output_image
    assert torch.allclose(parts["state"], expected, atol=1e-6)
    assert prediction.steps == 96
    pool = SamplePool(seeds[0], capacity=6, slots={"goal": torch.arange(6) % 3})
    draw = pool.sample(3)
    assert torch.equal(draw.slots["goal"], draw.indices % 3)
    model.forward_batch({"data": draw.states, **draw.slots}, train=True)
    refuses(UnknownNameError, "'goal', which is not there", model.forward_batch, {"data": seeds})


def test_a_module_of_the_users_own_may_encode_images(noise, randomise):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, picture):
            return self.layer(picture.mean((2, 3)))

    model = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, conditioning=Encoder(), rule=MLPRule(8))
    randomise(model, 0.5)
    x, pictures = noise(2, 5, 6, 6), noise(2, 3, 8, 8)
    first, second = (model.predict(x, 2, goal=p).output_image for p in (pictures, pictures + 1))
    assert not torch.equal(first, second)
    with pytest.raises(ConfigError, match="conditioning is a .*Encoder, which a description cannot hold"):
        BasicNCAModel.from_dict(model.to_dict())
    wide = BasicNCAModel(num_image_channels=1, num_hidden_channels=3, conditioning=Encoder(), rule=MLPRule(8))
    with pytest.raises(ShapeError, match=r"vectors for at most 3 hidden channels, not \(2, 4\)"):
        wide.predict(noise(2, 4, 6, 6), 1, goal=pictures)


def test_a_backbone_with_goals_knows_its_shapes_and_a_recording_ends_with_the_prediction(model, seeds):
    whole = Model(model, nn.Conv2d(21, 2, 1), input_shape=(9, 9))
    assert (whole.num_out_channels, whole.output_shape) == (2, (9, 9))
    assert whole(seeds, steps=2, seed=0, goal=1).shape == (3, 2, 9, 9)
    frames = model.record(seeds, 4, goal=2, seed=3)
    assert torch.equal(frames[-1].output_image, model.predict(seeds, 4, goal=2, seed=3).output_image)


def test_goals_that_do_not_fit_are_refused(model, seeds, noise, refuses):
    for error, message, goal in (
        (ConfigError, r"goals \[3, 7\] are none of the 3 goals, 0 to 2", torch.tensor([7, 0, 3])),
        (ConfigError, r"goals \[-1\] are none of the 3 goals", -1),
        (ShapeError, r"goals of 3 samples are 3, not of shape \(2,\)", torch.tensor([0, 1])),
        (ShapeError, r"goals are \(B,\) whole numbers, not torch.float32", torch.zeros(3)),
        (ConfigError, "this BasicNCAModel needs goals: give goal=", None),
    ):
        refuses(error, message, model.predict, seeds, 1, goal=goal)
    refuses(ConfigError, r"has no goal here: roll out its with_goal\(goal, batch_size\)", rollout, seeds, model, 1)
    growing, too_long = build_model("growing"), {"conditioning": GoalEmbedding(2, 18)}
    refuses(ConfigError, "has no conditioning: it takes no goals", growing.predict, noise(1, 16, 5, 5), 1, goal=0)
    refuses(ConfigError, "num_goals must be a whole number of at least 1, not 0", GoalEmbedding, 0)
    refuses(ConfigError, "18 do not fit into the 17 there are", build_model, "conditional", too_long)
    refuses(ConfigError, "cost of this BasicNCAModel cannot be counted: its cells have a goal", model.cost, (8, 8), 2)
