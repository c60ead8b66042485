"""Expressions of predictions and targets: values, names, and what they refuse."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.assembly import l1_penalty, l2_penalty, lp_penalty, over_states, pred, target, term
from delira_nca.assembly.nodes import addends
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.training.callbacks import RolloutLoss

NAMED = {"pred": torch.tensor([1.0, 4.0]), "label": torch.tensor([0.0, 2.0]), "other": torch.tensor([3.0, 3.0])}
ERROR = term(mse)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (ERROR, 2.5),
        (ERROR + 1, 3.5),
        (1 + ERROR, 3.5),
        (ERROR - 1, 1.5),
        (1 - ERROR, -1.5),
        (2 * ERROR, 5.0),
        (ERROR * 2, 5.0),
        (ERROR / 2, 1.25),
        (5 / ERROR, 2.0),
        (ERROR**2, 6.25),
        (-ERROR, -2.5),
        (ERROR**0.5 + 0.1 * term(F.l1_loss, pred(), target("other")), 2.5**0.5 + 0.15),
        (term(torch.mean, pred() - target()), 1.5),
        (term(torch.add, ERROR, 1.0), 3.5),
        ((ERROR + 1) * (ERROR - 1), 5.25),
    ],
    ids=repr,
)
def test_an_expression_has_the_value_of_its_formula(node, value):
    assert float(node.value(NAMED)) == pytest.approx(value)


def test_expressions_are_written_as_formulas_and_gradients_flow_to_the_prediction():
    a, b = term(mse, name="a"), term(mse, name="b")
    assert repr((a + b) * 2 - a / (b + 1)) == "((a + b) * 2) - (a / (b + 1))"
    assert repr(a + b + a) == "a + b + a"
    assert (a + 0.5 * b).needed_keys() == ("label", "pred")
    x = torch.tensor([1.0, 4.0], requires_grad=True)
    (ERROR**0.5).value({**NAMED, "pred": x}).backward()
    assert x.grad.abs().sum() > 0


def test_a_missing_tensor_is_named_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"no entry of the batch 'lable'.* Did you mean 'label'"):
        term(mse, pred(), target("lable")).value(NAMED)
    with pytest.raises(UnknownNameError, match="no part of the prediction 'logits'"):
        term(mse, pred("logits"), target()).value(NAMED)


def test_shapes_that_fit_only_by_broadcasting_are_an_error():
    column = {"pred": torch.ones(3, 1), "label": torch.zeros(3)}
    with pytest.raises(ShapeError, match=r"shapes \(3, 1\) and \(3,\) fit only by broadcasting"):
        term(F.mse_loss).value(column)
    with pytest.warns(UserWarning, match="target size"):
        assert term(F.mse_loss, broadcast=True).value(column) == 1.0
    classes = {"pred": torch.zeros(3, 3, 2, 2), "label": torch.zeros(3, 2, 2, dtype=torch.int64)}
    assert term(F.cross_entropy).value(classes).item() == pytest.approx(torch.tensor(3.0).log().item())


def test_penalties_are_sums_over_the_matching_parameters_also_in_a_copy():
    module = nn.Linear(2, 1)
    copied = copy.deepcopy(l1_penalty(module))
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, -4.0]]))
        module.bias.fill_(2.0)
    assert l1_penalty(module).value({}).item() == copied.value({}).item() == 9.0
    assert l2_penalty(module, "weight").value({}).item() == 25.0
    assert lp_penalty(module, 3.0).value({}).item() == pytest.approx(27 + 64 + 8)
    with pytest.raises(UnknownNameError, match="Did you mean 'weight'"):
        l2_penalty(module, "weigth")


def test_terms_over_states_are_added_and_scaled_only():
    overflow = over_states(RolloutLoss(torch.mean, name="overflow"))
    parts = addends(ERROR + 0.5 * overflow - overflow / 4)
    assert [type(part).__name__ for part in parts] == ["Term", "StateTerm", "StateTerm"]
    assert [part.factor for part in parts[1:]] == [0.5, -0.25]
    for wrong in (lambda: overflow**2, lambda: overflow * ERROR, lambda: 1 / overflow):
        with pytest.raises(ConfigError, match="only be scaled and added"):
            wrong()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: term("mse"), "the function of a term must be callable, not 'mse'"),
        (lambda: term(nn.MSELoss), "MSELoss is a class: give an object of it"),
        (lambda: term(mse, "pred"), "an expression has nodes and numbers"),
        (lambda: pred(""), "takes the name of a tensor"),
        (lambda: pred("logits", "model"), "must be a torch.nn.Module, not str"),
        (lambda: ERROR + "label", "an expression has nodes and numbers"),
        (lambda: ERROR * float("nan"), "finite"),
        (lambda: over_states(mse), "takes a loss term such as RolloutLoss"),
        (lambda: 1 if ERROR else 0, "cannot be a condition"),
    ],
)
def test_what_is_no_expression_is_refused(make, text):
    with pytest.raises(ConfigError, match=text):
        make()
