import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import BasicNCAModel, NormedRule
from delira_nca.rollout import UnsupportedCellError


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_hidden_layer_is_normalised_before_its_nonlinearity(dims, norm, randomise, noise):
    rule = randomise(NormedRule(8, norm=norm, num_groups=4, spare_rows=1).build(5, 3, dims), 0.5)
    x = noise(2, 5, *(6,) * dims)
    hidden = rule.hidden[0](x).flatten(2)
    if norm == "batch":
        normed = (hidden - hidden.mean((0, 2), keepdim=True)) / (hidden.var((0, 2), False, keepdim=True) + 1e-5).sqrt()
    else:
        groups = hidden.view(2, 4, -1)
        normed = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, False, keepdim=True) + 1e-5).sqrt()
        normed = normed.view_as(hidden)
    normed = normed * rule.norms[0].weight[:, None] + rule.norms[0].bias[:, None]
    expected = rule.last(F.relu(normed).view(2, 8, *x.shape[2:]))[:, 1:]
    torch.testing.assert_close(rule(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rule.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_a_fresh_rule_changes_nothing_keeps_no_statistics_and_refuses_norms_that_cannot_be(noise, refuses):
    rule = NormedRule(8).build(5, 3)
    assert not rule(noise(2, 5, 4, 4)).any()
    assert sorted(name for name, _ in rule.named_buffers()) == []
    refuses(UnknownNameError, "unknown norm 'bacth'.*Did you mean 'batch'", NormedRule, 8, norm="bacth")
    with pytest.raises(ConfigError, match=r"num_groups=3 does not divide the numbers of neurons \(8,\)"):
        NormedRule(8, norm="group", num_groups=3)


def test_a_model_with_it_is_described_trained_and_left_to_the_reference(randomise, noise, refuses):
    rule = NormedRule(8, norm="group", num_groups=2)
    model = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, rule=rule)
    again = BasicNCAModel.from_dict(model.to_dict())
    assert again.to_dict() == model.to_dict()
    assert type(again.rule) is NormedRule
    assert (again.rule.norm, again.rule.num_groups) == ("group", 2)
    refuses(UnsupportedCellError, "the rule is a NormedRule, not MLPRule itself", model.to_arrays)
    randomise(model)
    model.predict(noise(1, 1, 6, 6), 2)
    model.finetune()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["rule.last.weight", "rule.last.bias"]
