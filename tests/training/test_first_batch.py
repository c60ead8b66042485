"""Checks of losses and metrics on the first batch."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.training.first_batch import checked


def square(pred, label):
    return ((pred - label) ** 2).mean()


def unsqueezes(pred, label):
    return F.mse_loss(pred, label.unsqueeze(1))


def weighted(pred, label):
    return (torch.ones(1, pred.shape[1], 1, 1) * (pred - label) ** 2).mean()


def pairs(pred, label):
    return (pred[:, None] - pred[None, :]).square().mean() + square(pred, label)


def _call(function, *shapes, integer=False, **options):
    pred = torch.zeros(shapes[0], requires_grad=True)
    label = torch.zeros(shapes[1], dtype=torch.long if integer else torch.float32)
    return checked({"x": function}, {}, what="criterion", **options)["x"](pred, label)


@pytest.mark.parametrize("function", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), nn.BCEWithLogitsLoss(), F.mse_loss])
@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4, 1, 8, 8), (4, 8, 8)), ((4, 2, 8, 8), (4, 1, 8, 8))])
def test_a_loss_of_torch_that_broadcasts_is_refused(function, shapes):
    with pytest.raises(ShapeError, match=r"criterion 'x' (broadcasts its arguments: pred|cannot be computed of pred)"):
        _call(function, *shapes)


@pytest.mark.parametrize("function", [square, lambda p, q: (p - q).abs().sum(), lambda p, q: (p == q).float().mean()])
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4, 1, 8, 8), (4, 8, 8)), ((4, 1), (1, 4))])
def test_a_function_that_broadcasts_by_accident_is_refused(function, shapes):
    with pytest.raises(ShapeError, match=r"broadcasts its arguments: pred .*Give them one shape; if this is meant"):
        _call(function, *shapes)


@pytest.mark.parametrize(
    "function",
    [
        lambda p, q: 1 - F.cosine_similarity(p, q, dim=0).mean(),
        lambda p, q: nn.PairwiseDistance()(p, q).mean(),
        lambda p, q: torch.fmax(p, q).mean(),
        lambda p, q: torch.lerp(p, q, 0.5).mean(),
        lambda p, q: torch.addcmul(p, p, q).mean(),
        lambda p, q: torch.isclose(p, q).float().mean(),
    ],
)
def test_other_operations_are_watched_too(function):
    with pytest.raises(ShapeError, match="broadcasts its arguments: "):
        _call(function, (4, 1), (4,))


@pytest.mark.parametrize("shapes", [((4, 3, 8, 8), (4, 1, 8, 8)), ((4, 1, 8, 8), (1, 1, 8, 8)), ((4, 1), (4, 3))])
def test_a_difference_of_pred_and_label_of_other_channels_or_samples_is_refused(shapes):
    with pytest.raises(ShapeError, match="broadcasts its arguments: pred"):
        _call(square, *shapes)


def test_a_mask_of_one_channel_may_weight_a_loss_of_several():
    def masked(pred, label, mask):
        return (mask * (pred - label) ** 2).sum() / mask.sum()

    keys = {"x": ("pred", "label", "mask")}
    loss = checked({"x": masked}, keys, what="criterion")["x"]
    assert loss(torch.ones(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, 1, 4)).item() == 3.0


@pytest.mark.parametrize(
    ("function", "shapes", "integer"),
    [
        (square, ((4, 1), (4, 1)), False),
        (unsqueezes, ((4, 1, 8, 8), (4, 8, 8)), False),
        (weighted, ((4, 3, 8, 8), (4, 3, 8, 8)), False),
        (nn.CrossEntropyLoss(), ((4, 4), (4,)), True),
        (nn.CrossEntropyLoss(), ((4, 4, 8, 8), (4, 8, 8)), True),
        (F.cross_entropy, ((4, 4), (4,)), True),
    ],
)
def test_what_fits_is_computed(function, shapes, integer):
    assert _call(function, *shapes, integer=integer, differentiated=True).shape == ()


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_function_may_declare_that_it_broadcasts():
    def outer(pred, label):
        return square(pred, label)

    outer.broadcasts = True
    assert _call(outer, (4, 1), (4,)).item() == 0.0
    loss = nn.MSELoss()
    loss.broadcasts = True
    assert _call(loss, (4, 1), (4,)).item() == 0.0


def test_explicit_pairs_are_no_accident():
    assert _call(pairs, (4, 3), (4, 3)).item() == 0.0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, q: (p - q).square(), r"has to return a tensor with one number, not a tensor of shape \(4, 1\)"),
        (lambda p, q: 1.0, "has to return a tensor with one number, not 1.0"),
        (lambda p, q: p.mean() * 1j, "has to return a real number, not a complex one"),
        (lambda p, q: None, "has to return a tensor with one number, not None"),
        (lambda p, q: p.detach().mean(), "returns a tensor without a gradient"),
        (
            lambda p, q, weight: p.mean(),
            r"takes \(p, q, weight\), but is called with pred \(4, 1\), label \(4, 1\): missing .* 'weight'",
        ),
        (lambda p: p.mean(), r"is called with pred \(4, 1\), label \(4, 1\): too many positional arguments"),
    ],
)
def test_a_criterion_that_cannot_be_minimised_is_named(function, words):
    with pytest.raises(ConfigError, match=f"criterion 'x' {words}|criterion 'x' .*{words}"):
        _call(function, (4, 1), (4, 1), differentiated=True)


def test_a_metric_may_be_any_number():
    for value in (1, 0.5, np.float32(0.5), torch.ones(1), None):
        checked({"x": lambda p, v=value: v}, {"x": ("pred",)}, what="metric")["x"](torch.zeros(2))
    with pytest.raises(ConfigError, match=r"metric 'x' has to return one number, not a tensor of shape \(2,\)"):
        checked({"x": lambda p: p}, {"x": ("pred",)}, what="metric")["x"](torch.zeros(2))


def test_shapes_that_do_not_fit_at_all_are_named():
    with pytest.raises(ShapeError, match=r"criterion 'x' cannot be computed of pred \(4, 3\), label \(4, 2\)"):
        _call(square, (4, 3), (4, 2))


def test_types_that_do_not_fit_are_named():
    loss = checked({"x": nn.BCEWithLogitsLoss()}, {}, what="criterion")["x"]
    with pytest.raises(
        ConfigError, match=r"criterion 'x' cannot be computed of pred \(2, 1\), label \(2, 1\) of float32 and int64: "
    ):
        loss(torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.int64))


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError])
def test_an_error_of_the_function_names_it_and_its_arguments(error):
    def fails(pred, label):
        raise error("mine")

    with pytest.raises(ConfigError, match=rf"criterion 'x' .*pred \(2, 1\), label \(2, 1\).*{error.__name__}.*mine"):
        _call(fails, (2, 1), (2, 1))


def test_an_exception_class_of_the_function_stays_what_it_is():
    class MineError(Exception):
        pass

    def fails(pred, label):
        raise MineError("mine")

    with pytest.raises(MineError, match="^mine$"):
        _call(fails, (2, 1), (2, 1))


def test_labels_that_do_not_suit_a_loss_are_an_error_with_its_name():
    with pytest.raises(ConfigError, match="criterion 'x' .*between 0 and 1"):
        checked({"x": nn.BCELoss()}, {}, what="criterion")["x"](torch.full((2, 1), 0.5), torch.full((2, 1), 255.0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("scripted", [square, nn.L1Loss()], ids=["function", "module"])
def test_arguments_of_torchscript_that_broadcast_are_refused(scripted):
    loss = checked({"x": torch.jit.script(scripted)}, {}, what="criterion")["x"]
    with pytest.raises(ShapeError, match="broadcasts its arguments"):
        loss(torch.zeros(4, 1, 8, 8), torch.zeros(4, 8, 8))
    assert loss(torch.zeros(4, 1), torch.ones(4, 1)) == 1.0


def test_operands_by_keyword_are_seen():
    with pytest.raises(ShapeError, match="broadcasts its arguments"):
        _call(lambda p, y: torch.sub(p, other=y).square().mean(), (4, 1), (4,))


def test_a_trainer_checks_its_first_batches_only(make_trainer, batches):
    calls = []

    def loss(pred, label):
        calls.append(torch.overrides._get_current_function_mode_stack() != [])
        return square(pred, label)

    make_trainer(criterions={"own": loss}).train(2, batches(2, 2), batches(2, 2))
    assert calls == [True, False, True, False, False, False, False, False]


def test_nothing_is_trained_where_the_first_batch_fails(make_trainer, batches):
    data = batches(3, 3)
    for batch in data:
        batch["label"] = batch["label"][:, 0]
    trainer = make_trainer(criterions={"own": square})
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    with pytest.raises(ShapeError, match="criterion 'own'"):
        trainer.train(1, data)
    assert all(torch.equal(before[k], v) for k, v in trainer.network.state_dict().items())
