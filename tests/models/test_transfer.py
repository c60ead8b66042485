import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.models import BasicNCAModel, Model
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.models.transfer import finetune, graft


def automaton(**changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    return BasicNCAModel(**{**arguments, **changes})


def flags(model):
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


# Finetuning -----------------------------------------------------------------------------------------------------------


def test_all_but_the_last_layer_is_frozen_as_by_the_model_itself():
    model, other = automaton(head=nn.Conv2d(3, 2, 1)), automaton(head=nn.Conv2d(3, 2, 1))
    model.eval()
    found = finetune(model)
    other.finetune()
    assert flags(model) == flags(other)
    assert list(found) == ["rule.last.weight", "head.weight", "head.bias"]
    assert model.training
    finetune(model, freeze_head=True)
    other.finetune(freeze_head=True)
    assert flags(model) == flags(other)


@pytest.mark.parametrize("freeze", ["perception", "rule", "head", "rule.hidden.0", "rule.hidden.0.bias"])
def test_a_part_is_frozen_and_the_rest_is_trained(freeze):
    model = automaton(head=nn.Conv2d(3, 2, 1))
    finetune(model, "rule")
    found = finetune(model, [freeze])
    frozen = {name for name, _ in model.named_parameters() if name == freeze or name.startswith(freeze + ".")}
    assert frozen
    assert set(found) == set(flags(model)) - frozen
    assert all(parameter.requires_grad == (name in found) for name, parameter in model.named_parameters())


def test_nothing_is_frozen_by_an_empty_list():
    model = automaton()
    finetune(model)
    assert set(finetune(model, [])) == {name for name, free in flags(model).items() if free} == set(flags(model))


def test_frozen_parts_do_not_change_in_a_step(randomise, noise):
    model = randomise(automaton(fire_rate=1.0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(finetune(model, ["perception", "rule.hidden"]).values(), lr=0.1)
    model(model.predict(noise(2, 1, 6, 6), 1).output_image, 3).pred.square().mean().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"rule.last.weight"}


def test_parts_of_a_pyramid_are_those_of_all_levels_and_a_model_has_those_of_its_automaton():
    pyramid = PyramidNCA([automaton(), automaton()], scales=(2, 1), steps=(2, 2))
    assert list(finetune(pyramid)) == ["models.0.rule.last.weight", "models.1.rule.last.weight"]
    assert not any("perception" in name for name in finetune(pyramid, "perception"))
    assert all(name.startswith("models.1") for name in finetune(pyramid, "models.0"))
    model = Model(automaton(), nn.Conv2d(5, 2, 1))
    assert list(finetune(model)) == ["architecture.rule.last.weight", "prediction_head.weight", "prediction_head.bias"]
    assert list(finetune(model, freeze_head=True)) == ["architecture.rule.last.weight"]


@pytest.mark.parametrize(
    ("freeze", "error", "message"),
    [
        ("percepton", UnknownNameError, "unknown part 'percepton' to freeze.*Did you mean 'perception'"),
        ("rule.hiden.0", UnknownNameError, "Did you mean 'rule.hidden.0'"),
        ("head", ConfigError, "BasicNCAModel has no head to freeze"),
        (("perception", "rule"), ConfigError, "nothing would be left to train: 'perception', 'rule' is everything"),
    ],
)
def test_what_cannot_be_frozen_is_refused_and_changes_nothing(freeze, error, message, refuses):
    model = automaton()
    finetune(model, "perception")
    model.eval()
    before = flags(model)
    refuses(error, message, finetune, model, freeze)
    assert flags(model) == before
    assert not model.training


def test_a_rule_that_cannot_freeze_itself_is_refused(refuses):
    model = automaton(rule=nn.Conv2d(15, 4, 1))
    refuses(ConfigError, r"rule Conv2d has no freeze\(\): name the layers", finetune, model)
    assert all(flags(model).values())
    assert "rule.weight" not in finetune(model, "rule.weight")
    refuses(ConfigError, "Linear has no rule to freeze", finetune, nn.Linear(1, 1))


# Grafting -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(randomise):
    return randomise(automaton(), seed=1), randomise(automaton(), seed=2)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_lie_between_the_two(pair, share):
    first, second = pair
    before = [{k: v.clone() for k, v in model.state_dict().items()} for model in pair]
    child = graft(first, second, share).state_dict()
    for name, value in child.items():
        expected = (1 - share) * before[0][name] + share * before[1][name]
        if share in (0.0, 1.0):
            assert torch.equal(value, expected)
        assert torch.allclose(value, expected, atol=1e-6)
    for model, kept in zip(pair, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_equal_models_have_an_equal_child_and_counters_are_those_of_the_first(pair):
    child = graft(pair[0], pair[0], 0.3)
    assert all(torch.equal(v, pair[0].state_dict()[k]) for k, v in child.state_dict().items())
    child.rule.last.weight.data.zero_()
    assert pair[0].rule.last.weight.abs().min() > 0
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second.num_batches_tracked.fill_(9)
    second.running_mean.fill_(4.0)
    child = graft(first, second)
    assert int(child.num_batches_tracked) == 0
    assert child.running_mean.tolist() == [2.0, 2.0]


def test_parts_have_shares_of_their_own_and_the_longest_name_counts(pair):
    first, second = (model.state_dict() for model in pair)
    child = graft(*pair, {"rule": 1.0, "rule.last": 0.0, "rule.hidden.0.bias": 0.5}).state_dict()
    assert torch.equal(child["rule.hidden.0.weight"], second["rule.hidden.0.weight"])
    assert torch.equal(child["rule.last.weight"], first["rule.last.weight"])
    middle = (first["rule.hidden.0.bias"] + second["rule.hidden.0.bias"]) / 2
    assert torch.allclose(child["rule.hidden.0.bias"], middle)
    others = [name for name in child if not name.startswith("rule")]
    assert others
    assert all(torch.equal(child[name], first[name]) for name in others)


@pytest.mark.parametrize(
    ("other", "share", "error", "message"),
    [
        ({"hidden_size": 9}, 0.5, ShapeError, r"'rule.hidden.0.weight' is \(8, .*\) in one model and \(9, .*\) in the"),
        ({"num_learned_filters": 3}, 0.5, ShapeError, "tensor"),
        ({"head": nn.Conv2d(3, 2, 1)}, 0.5, ShapeError, "the other model has a tensor 'head.bias' more"),
        ({}, 1.5, ConfigError, "a share must be a number from 0 to 1, not 1.5"),
        ({}, {"rul": 0.5}, UnknownNameError, "unknown part 'rul' to graft.*Did you mean 'rule'"),
    ],
)
def test_what_does_not_fit_is_refused(other, share, error, message, refuses):
    refuses(error, message, graft, automaton(), automaton(**other), share)


def test_a_missing_tensor_is_named():
    with pytest.raises(ShapeError, match="the other model has no tensor 'head.weight'"):
        graft(automaton(head=nn.Conv2d(3, 2, 1)), automaton())
