import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import AttentionRule, BasicNCAModel, Perception, build_model

GRID = {1: (9,), 2: (7, 6), 3: (4, 5, 4)}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_fresh_attention_rule_changes_nothing(noise, dims):
    model = BasicNCAModel(
        num_image_channels=1, num_hidden_channels=7, dims=dims, perception=Perception("identity"), rule=AttentionRule(8)
    )
    x = noise(2, 8, *GRID[dims])
    assert torch.equal(model.predict(x, 5).output_image, x)
    assert model.radius == 1


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_cell_sees_its_neighbours_and_nobody_else(noise, randomise, dims):
    rule = randomise(AttentionRule(8, num_heads=2, hidden_size=6).build(3, 2, dims), 0.7)
    x = noise(1, 3, *GRID[dims])
    other = x.clone()
    middle = tuple(size // 2 for size in GRID[dims])
    other[(0, slice(None), *middle)] += 1.0
    changed = (rule(x) != rule(other)).any(1)[0].nonzero()
    distance = (changed - torch.tensor(middle)).abs().amax(1)
    assert distance.max() == 1
    assert len(changed) == 3**dims


def test_one_head_is_the_softmax_of_scaled_products(noise, randomise):
    rule = randomise(AttentionRule(4, num_heads=1, padding="circular").build(4, 2), 0.5)
    x = noise(1, 4, 5, 5)
    query, key, value = rule.query_key_value(x).chunk(3, 1)
    keys = torch.stack([key[0, :, (1 + a) % 5, (2 + b) % 5] for a in (-1, 0, 1) for b in (-1, 0, 1)], 1)
    values = torch.stack([value[0, :, (1 + a) % 5, (2 + b) % 5] for a in (-1, 0, 1) for b in (-1, 0, 1)], 1)
    weights = (query[0, :, 1, 2] @ (keys + rule.places) / 2).softmax(0)
    assert torch.allclose(rule._attend(x)[0, :, 1, 2], values @ weights, atol=1e-5)


def test_heads_work_side_by_side(noise, randomise):
    rule = randomise(AttentionRule(6, num_heads=3, padding="circular").build(6, 2), 0.5)
    x = noise(1, 6, 5, 5)
    whole = rule._attend(x)
    with torch.no_grad():
        rule.query_key_value.weight[:2] += 1.0  # the query of the first head
    changed = (rule._attend(x) - whole).abs().amax((0, 2, 3)) > 1e-6
    assert changed.tolist() == [True, True, False, False, False, False]


def test_places_beyond_the_border_are_not_attended_to(noise, randomise):
    rule = randomise(AttentionRule(4, num_heads=1).build(4, 2), 0.5)
    with torch.no_grad():
        rule.places.zero_()
        rule.query_key_value.weight[:8] = 0  # all keys alike: the mean of the values
    x = noise(1, 4, 3, 3)
    value = rule.query_key_value(x)[:, 8:]
    assert torch.allclose(rule._attend(x)[..., 0, 0], value[..., :2, :2].mean((2, 3)), atol=1e-6)
    assert torch.allclose(rule._attend(x)[..., 1, 1], value.mean((2, 3)), atol=1e-6)


def test_a_shifted_state_is_attended_to_alike(noise, randomise):
    rule = randomise(AttentionRule(8, padding="circular").build(3, 2), 0.5)
    x = noise(1, 3, 6, 7)
    assert torch.allclose(rule(x.roll((2, 3), (2, 3))), rule(x).roll((2, 3), (2, 3)), atol=1e-5)


@pytest.mark.processor
def test_it_learns_to_fill_in_what_is_missing(noise):
    torch.manual_seed(0)
    model = build_model("attention", {"rule": AttentionRule(8, num_heads=2, hidden_size=16), "num_hidden_channels": 6})
    image = torch.zeros(4, 1, 8, 8)
    image[:, :, :, ::2] = 1.0
    given = image * (noise(4, 1, 8, 8) > 0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for i in range(30):
        loss = (model(model.initial_state(given, 0), 6, seed=i).pred - image).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == 0.5
    assert losses[-1] < 0.2


def test_freezing_leaves_the_last_layer():
    rule = AttentionRule(8).build(4, 2)
    rule.freeze()
    assert [name for name, p in rule.named_parameters() if p.requires_grad] == ["last.weight", "last.bias"]
    rule.freeze(freeze_last=True)
    assert not any(p.requires_grad for p in rule.parameters())


def test_what_cannot_work_is_refused(refuses):
    refuses(ConfigError, "width is a multiple of num_heads, and 30 is none of 4", AttentionRule, 30)
    refuses(ConfigError, "num_heads must be a whole number of at least 1, not 0", AttentionRule, 8, num_heads=0)
    refuses(UnknownNameError, "Did you mean 'zeros'", AttentionRule, 8, padding="zero")
