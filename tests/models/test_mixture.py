import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import BasicNCAModel, MixtureRule, MLPRule, Perception, build_model
from delira_nca.rollout import rollout
from delira_nca.rollout.job import BatchPart, at_part
from delira_nca.rollout.masks import cell_draws


def make(choice="categorical", num_rules=3, **changes):
    return build_model("mixture", {"rule": MixtureRule(num_rules, MLPRule(8), choice=choice), "alive": None, **changes})


def insist_on(rule, number):
    with torch.no_grad():
        rule.selector.last.weight.zero_()
        rule.selector.last.bias.fill_(-1e4)
        rule.selector.last.bias[number] = 1e4


@pytest.mark.parametrize("choice", ["categorical", "mean"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_selector_that_is_sure_takes_one_rule(noise, randomise, choice, number):
    model = randomise(make(choice))
    insist_on(model.rule, number)
    x = noise(2, 16, 8, 8)
    alone = BasicNCAModel(
        num_image_channels=4, num_hidden_channels=12, immutable_image_channels=False,
        perception=Perception("identity", "sobel", padding="zeros"), rule=MLPRule(8),
    )  # fmt: skip
    alone.rule.load_state_dict(model.rule.rules[number].state_dict())
    found, expected = (m.predict(x, 4, seed=2).output_image for m in (model, alone))
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_mean_weighs_all_rules_by_their_probability_and_a_model_shows_the_maps(noise, randomise):
    rule = randomise(MixtureRule(3, MLPRule(8), choice="mean").build(5, 4))
    seen = noise(2, 5, 6, 6)
    maps = rule.probabilities(seen)
    expected = sum(maps[:, k : k + 1] * rule.rules[k](seen) for k in range(3))
    assert torch.allclose(rule(seen), expected, atol=1e-6)
    assert torch.allclose(maps.sum(1), torch.ones(2, 6, 6))
    model = randomise(make(num_rules=4))
    x = noise(2, 16, 7, 5)
    maps = model.rule.probabilities(model.perceive(x, 0))
    assert maps.shape == (2, 4, 7, 5)
    assert maps.std(0).max() > 0


def test_cells_choose_as_often_as_the_maps_say_and_a_draw_of_almost_one_takes_the_last_rule(randomise):
    rule = MixtureRule(3, MLPRule(4)).build(1, 1)
    chances = torch.tensor([0.2, 0.5, 0.3])
    with torch.no_grad():
        rule.selector.last.bias.copy_(chances.log())
        for number, each in enumerate(rule.rules):
            each.last.bias.fill_(float(number + 1))
    seen = torch.ones(1, 1, 200, 200)
    assert torch.allclose(rule.probabilities(seen)[0, :, 3, 5], chances)
    update = rule(seen, cell_draws(1, 0, 1, 1, (200, 200)))
    assert sorted(set(update.flatten().tolist())) == [1.0, 2.0, 3.0]
    shares = [(update == number).float().mean().item() for number in (1, 2, 3)]
    assert shares == pytest.approx(chances.tolist(), abs=0.01)
    rule = MixtureRule(3, MLPRule(4)).build(1, 1)
    with torch.no_grad():
        for number, each in enumerate(rule.rules):
            each.last.bias.fill_(float(number))
    draws = torch.tensor([0.0, 0.32, 0.34, 0.65, 0.67, 1 - 2**-24]).view(1, 1, 1, 6)
    assert rule(torch.ones(1, 1, 1, 6), draws).flatten().tolist() == [0, 0, 1, 1, 2, 2]


def test_the_same_seed_makes_the_same_choices_and_gradients_however_it_is_cut(noise, randomise):
    model = randomise(make())
    x = noise(4, 16, 8, 8)
    whole = rollout(x, model, 6, seed=3)
    assert torch.equal(rollout(x, model, 6, seed=3, segment=2), whole)
    assert torch.equal(rollout(rollout(x, model, 4, seed=3), model, 2, start=4, seed=3), whole)
    assert not torch.equal(rollout(x, model, 6, seed=4), whole)
    with at_part(BatchPart(2, 2, 4)):
        assert torch.allclose(rollout(x[2:], model, 6, seed=3), whole[2:], atol=1e-6)
    gradients = []
    for segment in (6, 2):
        model.zero_grad()
        rollout(x, model, 6, seed=3, segment=segment).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_selector_learns_through_the_choice(noise, randomise):
    rule = randomise(MixtureRule(2, MLPRule(4)).build(3, 2))
    seen, draw = noise(1, 3, 4, 4), torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    rule(seen, draw).sum().backward()
    found = rule.selector.last.bias.grad.clone()
    rule.zero_grad()
    maps = rule.probabilities(seen)
    sum((maps[:, k : k + 1] * rule.rules[k](seen).detach()).sum() for k in range(2)).backward()
    assert torch.allclose(found, rule.selector.last.bias.grad, atol=1e-5)
    assert found.abs().max() > 0


def test_a_forward_pass_draws_its_seed_as_dropout_would(noise, randomise):
    model = randomise(make(fire_rate=1.0))
    x = noise(1, 16, 8, 8)
    torch.manual_seed(0)
    first, second = model(x, 2).output_image, model(x, 2).output_image
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(model(x, 2).output_image, first)


def test_finetuning_freezes_all_but_the_last_layers(randomise):
    model = make(num_rules=2)
    model.finetune()
    left = [name for name, p in model.named_parameters() if p.requires_grad]
    assert left == [f"rule.rules.{k}.last.{part}" for k in range(2) for part in ("weight", "bias")]


def test_what_cannot_work_is_refused(noise, refuses):
    refuses(ConfigError, "num_rules must be a whole number of at least 1, not 0", MixtureRule, 0)
    refuses(UnknownNameError, "Did you mean 'categorical'", MixtureRule, 2, choice="categorial")
    refuses(ConfigError, "the rules of a mixture are MLPRules", MixtureRule, 2, torch.nn.Identity())
    refuses(ConfigError, "needs a draw for each cell", MixtureRule(2).build(3, 2), noise(1, 3, 4, 4))
