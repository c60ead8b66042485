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


def _call(function, *shapes, integer=False, **options):
    pred = torch.zeros(shapes[0], requires_grad=True)
    label = torch.zeros(shapes[1], dtype=torch.long if integer else torch.float32)
    return checked({"x": function}, {}, what="criterion", **options)["x"](pred, label)


IMAGES = [((4, 1), (4,)), ((4, 1, 8, 8), (4, 8, 8))]
OF_TORCH = [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), nn.BCEWithLogitsLoss(), F.mse_loss]
WRITTEN_OUT = [square, lambda p, q: (p - q).abs().sum(), lambda p, q: (p == q).float().mean()]
OTHER_OPERATIONS = [
    lambda p, q: 1 - F.cosine_similarity(p, q, dim=0).mean(),
    lambda p, q: nn.PairwiseDistance()(p, q).mean(),
    lambda p, q: torch.fmax(p, q).mean(),
    lambda p, q: torch.lerp(p, q, 0.5).mean(),
    lambda p, q: torch.addcmul(p, p, q).mean(),
    lambda p, q: torch.isclose(p, q).float().mean(),
    lambda p, q: torch.sub(p, other=q).square().mean(),
]
BY_ACCIDENT = r"broadcasts its arguments: pred .*Give them one shape; if this is meant"
OR_CANNOT = r"criterion 'x' (broadcasts its arguments: pred|cannot be computed of pred)"
CHANNELS_OR_SAMPLES = [((4, 3, 8, 8), (4, 1, 8, 8)), ((4, 1, 8, 8), (1, 1, 8, 8)), ((4, 1), (4, 3))]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("functions", "several", "text"),
    [
        (
            OF_TORCH,
            [*IMAGES, ((4, 2, 8, 8), (4, 1, 8, 8))],
            r"criterion 'x' (broadcasts its arguments: pred|cannot be)",
        ),
        (WRITTEN_OUT, [*IMAGES, ((4, 1), (1, 4))], BY_ACCIDENT),
        (OTHER_OPERATIONS, IMAGES[:1], "broadcasts its arguments: "),
        ([square], CHANNELS_OR_SAMPLES, "broadcasts its arguments: pred"),
        ([square], [((4, 3), (4, 2))], r"criterion 'x' cannot be computed of pred \(4, 3\), label \(4, 2\)"),
    ],
    ids=["torch", "written out", "other operations", "channels or samples", "no broadcast"],
)
def test_what_fits_only_by_broadcasting_is_refused(functions, several, text):
    for function in functions:
        for shapes in several:
            with pytest.raises(ShapeError, match=text):
                _call(function, *shapes)


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
        (lambda pred, label: (pred[:, None] - pred[None, :]).square().mean(), ((4, 3), (4, 3)), False),
        (nn.CrossEntropyLoss(), ((4, 4), (4,)), True),
        (nn.CrossEntropyLoss(), ((4, 4, 8, 8), (4, 8, 8)), True),
        (F.cross_entropy, ((4, 4), (4,)), True),
    ],
)
def test_what_fits_is_computed(function, shapes, integer):
    assert _call(function, *shapes, integer=integer, differentiated=True).shape == ()


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_function_may_declare_that_it_broadcasts():
    for loss in (lambda pred, label: square(pred, label), nn.MSELoss()):
        loss.broadcasts = True
        assert _call(loss, (4, 1), (4,)).item() == 0.0


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


def test_types_and_labels_that_do_not_suit_a_loss_are_an_error_with_its_name():
    text = r"criterion 'x' cannot be computed of pred \(2, 1\), label \(2, 1\) of float32 and int64: "
    with pytest.raises(ConfigError, match=text):
        _call(nn.BCEWithLogitsLoss(), (2, 1), (2, 1), integer=True)
    with pytest.raises(ConfigError, match="criterion 'x' .*between 0 and 1"):
        checked({"x": nn.BCELoss()}, {}, what="criterion")["x"](torch.full((2, 1), 0.5), torch.full((2, 1), 255.0))


class MineError(Exception):
    pass


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError])
def test_an_error_of_the_function_names_it_and_its_arguments_and_one_of_its_own_class_is_kept(error):
    def fails(pred, label):
        raise error("mine")

    def fails_in_its_own_way(pred, label):
        raise MineError("mine")

    with pytest.raises(ConfigError, match=rf"criterion 'x' .*pred \(2, 1\), label \(2, 1\).*{error.__name__}.*mine"):
        _call(fails, (2, 1), (2, 1))
    with pytest.raises(MineError, match="^mine$"):
        _call(fails_in_its_own_way, (2, 1), (2, 1))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("scripted", [square, nn.L1Loss()], ids=["function", "module"])
def test_arguments_of_torchscript_that_broadcast_are_refused(scripted):
    loss = checked({"x": torch.jit.script(scripted)}, {}, what="criterion")["x"]
    with pytest.raises(ShapeError, match="broadcasts its arguments"):
        loss(torch.zeros(4, 1, 8, 8), torch.zeros(4, 8, 8))
    assert loss(torch.zeros(4, 1), torch.ones(4, 1)) == 1.0


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
